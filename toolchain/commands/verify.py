"""toolchain verify BUNDLE... --model MODEL."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from toolchain.verify.stages import StageReport

__all__ = ["command"]

COLUMNS = ("graphs", "rows", "argmax", "top 10", "KL", "max abs", "perplexity", "verdict")


def command(
    bundles: Annotated[
        list[Path], typer.Argument(metavar="BUNDLE...", help="Stages in order: exported, compiled.")
    ],
    model: Annotated[Path, typer.Option(help="Checkpoint that the bundles were made from.")],
    ids: Annotated[
        Path | None,
        typer.Option(help="JSON file, a list of token id lists. Default: built-in dialogues."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write the report here; - for stdout.")
    ] = None,
) -> None:
    """Compare every stage with the float32 checkpoint; exit 1 past the profile's limits."""
    from profiles import exported_profile
    from runtime.bundle.reader import load_bundle
    from runtime.console import note
    from toolchain.console import ConsoleProgress, print_table
    from toolchain.verify.stages import default_sequences, read_ids, verify

    progress = ConsoleProgress()
    loaded = [load_bundle(path) for path in bundles]
    sequences = read_ids(ids) if ids else default_sequences(loaded[0])
    context = min(bundle.manifest.cache_len for bundle in loaded)
    sequences = [sequence[:context] for sequence in sequences]
    profile = exported_profile(loaded[0])
    with progress:
        stages = verify(loaded, model, profile, sequences, progress=progress)
    passed = all(stage.passed for stage in stages)
    progress.done(f"compared {len(stages)} stages on {len(sequences)} sequences")
    if json_file is None or str(json_file) != "-":
        for stage in stages:
            name = f"{stage.bundle} ({stage.target} {stage.weights})"
            print_table(f"{name} against {model} in torch float32", COLUMNS, _rows(stage))
    for line in (line for stage in stages for line in _problems(stage)):
        note(line)
    if json_file is not None:
        document = {"passed": passed, "stages": [asdict(stage) for stage in stages]}
        text = json.dumps(document, indent=2)
        print(text) if str(json_file) == "-" else json_file.write_text(text + "\n")
    if not passed:
        raise typer.Exit(1)


def _rows(stage: "StageReport") -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for report in stage.graphs:
        agreement = report.agreement
        rows.append(
            (
                report.graph,
                str(agreement.rows),
                f"{agreement.argmax:.4f}",
                f"{agreement.top10:.4f}",
                f"{agreement.kl:.1e}",
                f"{agreement.max_abs:.1e}",
                f"{agreement.perplexity:.4g} ({agreement.perplexity_change:+.2%})",
                "FAIL" if report.failures else "pass",
            )
        )
    verdict = "pass" if stage.greedy_match >= stage.greedy_limit else "FAIL"
    blanks = ("",) * (len(COLUMNS) - 3)
    rows.append(("greedy text", f"{stage.greedy_match:.2f}", *blanks, verdict))
    return rows


def _problems(stage: "StageReport") -> list[str]:
    """One line per failed phase: what is past which limit, and where it starts."""
    name = f"{Path(stage.bundle).name} ({stage.target} {stage.weights})"
    lines = []
    for report in stage.graphs:
        if not report.failures:
            continue
        line = f"{name} {report.graph}: {', '.join(report.failures)}"
        if report.divergence is not None:
            found = report.divergence
            where = "the norm or lm_head" if found.layer is None else f"layer {found.layer}"
            error = f"relative error {found.relative_error:.3g}, limit {found.limit:g}"
            line += f"; first diverges at {where} ({error})"
        lines.append(line)
    if stage.greedy_match < stage.greedy_limit:
        lines.append(f"{name} text: greedy {stage.greedy_match:.2f} (limit {stage.greedy_limit})")
    return lines
