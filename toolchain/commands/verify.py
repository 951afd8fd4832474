"""toolchain verify BUNDLE... --model MODEL."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolchain.options import AsJson, JsonFile, LoraOption

if TYPE_CHECKING:
    from toolchain.verify.report import GraphReport, StageReport

__all__ = ["command"]

COLUMNS = ("graphs", "rows", "argmax", "top 10", "KL", "perplexity", "by part", "verdict")
BLANKS = ("",) * (len(COLUMNS) - 3)


def command(
    bundles: Annotated[
        list[Path], typer.Argument(metavar="BUNDLE...", help="Stages in order: exported, compiled.")
    ],
    model: Annotated[Path, typer.Option(help="Checkpoint that the bundles were made from.")],
    lora: LoraOption = None,
    ids: Annotated[
        Path | None,
        typer.Option(help="JSON file, a list of token id lists. Default: built-in texts."),
    ] = None,
    eager: Annotated[
        bool,
        typer.Option(
            "--eager", help="Also run the torch programs of exported bundles, as they are."
        ),
    ] = False,
    as_json: AsJson = False,
    output: JsonFile = None,
) -> None:
    """Compare every stage with the float32 checkpoint; exit 1 unless all of them pass.

    A stage passes where its logits, each layer and the head are within the profile's limits, by
    64 rows or more of every graph.
    """
    from profiles import exported_profile
    from runtime.bundle.reader import load_bundle
    from runtime.console import LongWork, note, show
    from runtime.documents import give_document
    from runtime.result_files import require_file
    from toolchain.console import ConsoleProgress, print_table
    from toolchain.token_ids import read_ids
    from toolchain.verify.report import report_json
    from toolchain.verify.sequences import default_sequences
    from toolchain.verify.stages import Stage, verify

    if output is not None:
        require_file(output)
    sequences = read_ids(ids) if ids else None
    progress = ConsoleProgress()
    loaded = [load_bundle(path, LongWork()) for path in bundles]
    context = min(bundle.manifest.cache_len for bundle in loaded)
    sequences = [taken[:context] for taken in sequences or default_sequences(loaded[0])]
    profile = exported_profile(loaded[0])
    asked = [Stage(bundle) for bundle in loaded]
    if eager:
        from toolchain.verify.eager import open_eager

        exported = (bundle for bundle in loaded if bundle.manifest.stage == "exported")
        asked += [Stage(bundle, open_eager) for bundle in exported]
    with progress:
        stages = verify(asked, model, profile, sequences, lora=lora, progress=progress)
    progress.done(f"compared {len(stages)} stages on {len(sequences)} sequences")
    as_document = as_json or output is not None
    if as_document:
        give_document(report_json(stages), output)
    else:
        for stage in stages:
            print_table(f"{stage.name} against {model} in torch float32", COLUMNS, _rows(stage))
    for line in (line for stage in stages for line in stage.summary):
        note(line) if as_document else show(line)
    if any(stage.verdict != "pass" for stage in stages):
        raise typer.Exit(1)


def _rows(stage: "StageReport") -> list[tuple[str, ...]]:
    rows = [_row(report) for report in stage.graphs]
    return [*rows, ("greedy text", f"{stage.greedy_match:.2f}", *BLANKS, stage.text_verdict)]


def _row(report: "GraphReport") -> tuple[str, ...]:
    agreement = report.agreement
    change, error = agreement.perplexity_change, agreement.log_perplexity_error
    return (
        report.graph,
        str(agreement.rows),
        f"{agreement.argmax:.3f}",
        f"{agreement.top10:.3f}",
        f"{agreement.kl:.1e}",
        f"{100 * change:+.2f} ± {100 * error:.2f} %",
        "-" if report.parts is None else f"{report.parts.worst:.1e}",
        report.verdict,
    )
