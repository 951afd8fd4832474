"""toolchain eval BENCHMARK COMPILED."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from toolchain.options import AsJson

if TYPE_CHECKING:
    from toolchain.evals.evaluation import Evaluation
    from toolchain.evals.examine import Effort
    from toolchain.evals.results import ChoiceComparison, EvalResult

__all__ = ["command"]

StyleName = Literal["sdk", "alpaca2", "alpaca2-official"]  # the keys of STYLES
COLUMNS = ("", "correct", "questions", "accuracy", "95 % interval")


def command(
    benchmark: Annotated[Literal["ceval", "mmlu"], typer.Argument(help="Which benchmark.")],
    bundle: Annotated[Path, typer.Argument(metavar="COMPILED", help="Compiled bundle.")],
    data: Annotated[Path, typer.Option(help="Directory with dev/ and val/.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Results; an unfinished run there is resumed.")
    ],
    style: Annotated[
        StyleName,
        typer.Option(
            help="sdk: atb_speed_sdk's; alpaca2: chat template, choice by logits; "
            "alpaca2-official: that of the model's makers."
        ),
    ] = "sdk",
    shots: Annotated[int, typer.Option(min=0, help="Solved examples before a question.")] = 5,
    subjects: Annotated[str, typer.Option(help="Only these subjects, comma-separated.")] = "",
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most this many questions of each subject.")
    ] = None,
    prefix_reuse: Annotated[
        bool, typer.Option(help="Reuse cached rows of a subject's examples; off only to measure.")
    ] = True,
    compare_to: Annotated[
        Path | None, typer.Option(help="Results of another run, to compare choices with.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Count the right answers of a compiled bundle on C-Eval or MMLU.

    Every answer is written when it is given. An interrupted run goes on when it is started again.
    """
    from runtime.console import show, show_json
    from toolchain.evals.evaluation import BENCHMARKS, Evaluation
    from toolchain.evals.examine import check_examination

    evaluation = Evaluation(
        benchmark=BENCHMARKS[benchmark],
        data=data,
        style=style,
        shots=shots,
        subjects=tuple(filter(None, subjects.split(","))),
        limit=limit,
        prefix_reuse=prefix_reuse,
    )
    check_examination(evaluation, output, compare_to)  # before gigabytes are read and hashed
    result, effort = _examine(evaluation, bundle, output, compare_to)
    if as_json:
        document = {**result.model_dump(mode="json"), "effort": effort.model_dump()}
        show_json(json.dumps(document, ensure_ascii=False, indent=2))
        return
    _print_table(f"{bundle}: {benchmark}, style {style}, {shots} examples", result)
    for line in [*_remarks(result, effort), *_compared(result.comparison)]:
        show(line)


def _examine(
    evaluation: "Evaluation", bundle: Path, output: Path, compare_to: Path | None
) -> "tuple[EvalResult, Effort]":
    from contextlib import closing

    from runtime.bundle.reader import load_bundle
    from runtime.console import LongWork, note
    from runtime.engine.engine import Engine
    from runtime.engine.scheduler import Scheduler
    from runtime.sessions import open_session
    from runtime.text.tokenizer import open_tokenizer
    from toolchain.console import ConsoleProgress
    from toolchain.evals.evaluation import describe_bundle
    from toolchain.evals.examine import examine

    loaded = load_bundle(bundle, LongWork())
    tokenizer = open_tokenizer(loaded)
    with closing(open_session(loaded)) as session, ConsoleProgress() as progress:
        scheduler = Scheduler(Engine(session, reuse_prefix=evaluation.prefix_reuse))
        described = describe_bundle(loaded)
        try:
            return examine(
                evaluation, scheduler, tokenizer, described, output, compare_to, progress
            )
        except KeyboardInterrupt:
            note(f"stopped; answers are kept in {output}, and the same command goes on from there")
            raise


def _print_table(title: str, result: "EvalResult") -> None:
    from toolchain.console import print_table
    from toolchain.evals.scores import wilson

    rows = []
    for name, tally in result.categories.items():
        low, high = wilson(tally)
        counts = (str(tally.correct), str(tally.total), f"{100 * tally.accuracy:.2f} %")
        rows.append((name, *counts, f"{100 * low:.1f} to {100 * high:.1f} %"))
    print_table(title, COLUMNS, rows)


def _remarks(result: "EvalResult", effort: "Effort") -> list[str]:
    lines = [
        f"{effort.asked} asked in {effort.seconds:.1f} s, {effort.resumed} taken from the log; "
        f"{effort.reused_tokens} prompt tokens reused, {effort.computed_tokens} computed",
        f"{result.shortened} with fewer examples, {result.without_choice} without a letter, "
        f"{len(result.too_long)} too long and counted as wrong",
    ]
    return lines + [f"too long: {name}" for name in result.too_long]


def _compared(found: "ChoiceComparison | None") -> list[str]:
    if found is None:
        return []
    differences = [f"not the same: {', '.join(found.differences)}"] if found.differences else []
    return [
        *differences,
        f"against {found.other}: {found.equal_choices} of {found.questions} choices equal "
        f"({100 * found.agreement:.2f} %), accuracy {100 * found.accuracy_delta:+.2f} points",
    ]
