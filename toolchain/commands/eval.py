"""toolchain eval BENCHMARK COMPILED, or --url URL."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from runtime.commands.options import Devices, RayAddress, check_place, device_numbers
from toolchain.options import APIKeyFile, AsJson

if TYPE_CHECKING:
    from toolchain.evals.evaluation import Evaluation
    from toolchain.evals.examine import Effort
    from toolchain.evals.examinee import Examinee
    from toolchain.evals.results import ChoiceComparison, EvalResult

__all__ = ["command"]

StyleName = Literal["sdk", "alpaca2", "alpaca2-official"]  # the keys of STYLES
COLUMNS = ("", "correct", "questions", "accuracy", "95 % interval")
SILENCE = 600.0  # seconds that a server may think

Style = Annotated[
    StyleName,
    typer.Option(
        help="sdk: atb_speed_sdk's; alpaca2: chat template, choice by logits; "
        "alpaca2-official: that of the model's makers."
    ),
]
Compiled = Annotated[
    Path | None, typer.Argument(metavar="[COMPILED]", help="Compiled bundle; none with --url.")
]
URL = Annotated[
    str | None, typer.Option(metavar="URL", help="Ask a server of OpenAI's API instead.")
]
Model = Annotated[str | None, typer.Option(help="With --url: default is the server's first.")]
TokenizerPath = Annotated[
    Path | None, typer.Option(help="With --url: tokenizer.model of the model, or a bundle of it.")
]
Concurrency = Annotated[
    int, typer.Option(min=1, max=1024, help="With --url: questions asked together.")
]
ContextLen = Annotated[
    int | None,
    typer.Option(min=1, help="With --url: tokens of a prompt and its answer, if it does not say."),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Who is examined: a bundle, or a server with what has to be known of it."""

    bundle: Path | None
    devices: tuple[int, ...]
    ray: str | None
    url: str | None
    model: str | None
    tokenizer: Path | None
    concurrency: int
    context_len: int | None
    api_key_file: Path | None


def command(
    benchmark: Annotated[Literal["ceval", "mmlu"], typer.Argument(help="Which benchmark.")],
    data: Annotated[Path, typer.Option(help="Directory with dev/ and val/.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Results; an unfinished run there is resumed.")
    ],
    bundle: Compiled = None,
    style: Style = "sdk",
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
    device: Devices = "0",
    ray: RayAddress = None,
    url: URL = None,
    model: Model = None,
    tokenizer: TokenizerPath = None,
    concurrency: Concurrency = 1,
    context_len: ContextLen = None,
    api_key_file: APIKeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Count the right answers of a compiled bundle, or of a server, on C-Eval or MMLU.

    Every answer is written when it is given. An interrupted run goes on when it is started again.
    """
    from toolchain.evals.evaluation import BENCHMARKS, Evaluation

    evaluation = Evaluation(
        benchmark=BENCHMARKS[benchmark],
        data=data,
        style=style,
        shots=shots,
        subjects=tuple(filter(None, subjects.split(","))),
        limit=limit,
        prefix_reuse=prefix_reuse,
    )
    asked = Asked(
        bundle=bundle,
        devices=device_numbers(device),
        ray=ray,
        url=url,
        model=model,
        tokenizer=tokenizer,
        concurrency=concurrency,
        context_len=context_len,
        api_key_file=api_key_file,
    )
    result, effort = _examine(evaluation, asked, output, compare_to)
    if as_json:
        _print_json(result, effort)
    else:
        place = url or str(bundle)
        _print(f"{place}: {benchmark}, style {style}, {shots} examples", result, effort)


def _examine(
    evaluation: "Evaluation", asked: Asked, output: Path, compare_to: Path | None
) -> "tuple[EvalResult, Effort]":
    from runtime.console import note
    from toolchain.console import ConsoleProgress
    from toolchain.evals.examine import check_examination, examine

    _check(evaluation, asked)
    check_examination(evaluation, output, compare_to)  # before gigabytes are read and hashed
    opened = _opening(asked)(evaluation, asked)
    with opened as examinee, ConsoleProgress() as progress:
        try:
            return examine(evaluation, examinee, output, compare_to, progress)
        except KeyboardInterrupt:
            note(f"stopped; answers are kept in {output}, and the same command goes on from there")
            raise


def _check(evaluation: "Evaluation", asked: Asked) -> None:
    """Refuses what cannot be examined.

    Raises:
        ParameterError: neither a bundle nor a server, or both, or a server without a tokenizer.
        EvalError: the style cannot be read from a server.
    """
    from runtime.console import note
    from runtime.errors import ParameterError

    if (asked.bundle is None) == (asked.url is None):
        raise ParameterError("give a compiled bundle or --url, one of them", param="url")
    check_place(asked.ray, asked.devices)
    if asked.url is None:
        return
    if asked.tokenizer is None:
        raise ParameterError(
            "prompts go to a server as token ids",
            next_step="give the --tokenizer of its model: tokenizer.model, or a bundle",
            param="tokenizer",
        )
    from toolchain.evals.over_http import check_readable

    check_readable(evaluation.prompt_style)
    if not evaluation.prefix_reuse:
        note("--no-prefix-reuse has no effect on a server")
    if asked.devices != (0,):
        note("--device has no effect on a server")
    if asked.ray is not None:
        note("--ray has no effect on a server")


def _opening(asked: Asked) -> "Callable[[Evaluation, Asked], AbstractContextManager[Examinee]]":
    """What opens the examinee."""
    if asked.url is not None:
        return _on_server
    return _on_devices if asked.ray is None else _on_ray


@contextmanager
def _on_devices(evaluation: "Evaluation", asked: Asked) -> "Iterator[Examinee]":
    from runtime.bundle.reader import load_bundle, read_manifest
    from runtime.console import LongWork
    from runtime.engine.engine import Engine
    from runtime.engine.scheduler import Scheduler
    from runtime.sessions import check_devices
    from runtime.sessions.elsewhere import open_sessions
    from runtime.text.from_bundle import open_tokenizer
    from toolchain.evals.examinee import OnBundle, describe_bundle
    from toolchain.evals.on_devices import OnDevices

    assert asked.bundle is not None, "it was checked"
    check_devices(read_manifest(asked.bundle).backend, asked.devices)
    loaded = load_bundle(asked.bundle, LongWork())
    tokenizer = open_tokenizer(loaded)
    sessions = open_sessions(loaded, asked.devices)
    with ExitStack() as opened:
        for session in sessions:
            opened.callback(session.close)
        examinees = [
            OnBundle(
                scheduler=Scheduler(Engine(session, reuse_prefix=evaluation.prefix_reuse)),
                tokenizer=tokenizer,
                described=describe_bundle(loaded),
            )
            for session in sessions
        ]
        yield OnDevices(examinees)


@contextmanager
def _on_ray(evaluation: "Evaluation", asked: Asked) -> "Iterator[Examinee]":
    from runtime.bundle.reader import load_bundle
    from runtime.console import LongWork
    from toolchain.evals.on_ray import open_on_ray

    assert asked.bundle is not None, "it was checked"
    assert asked.ray is not None, "it was checked"
    progress = LongWork()
    loaded = load_bundle(asked.bundle, progress)
    reuse = evaluation.prefix_reuse
    with open_on_ray(asked.ray, loaded, progress, reuse_prefix=reuse) as examinee:
        yield examinee


@contextmanager
def _on_server(_: "Evaluation", asked: Asked) -> "Iterator[Examinee]":
    import time

    from toolchain.evals.over_http import examine_server, read_tokenizer
    from toolchain.remote.address import read_address
    from toolchain.remote.server import open_server

    assert asked.url is not None, "it was checked"
    assert asked.tokenizer is not None, "it was checked"
    address = read_address(asked.url, asked.api_key_file, SILENCE)
    tokenizer = read_tokenizer(asked.tokenizer)
    with open_server(address, time.sleep) as server:
        yield examine_server(server, asked.model, tokenizer, asked.context_len, asked.concurrency)


def _print_json(result: "EvalResult", effort: "Effort") -> None:
    from runtime.console import show_json

    document = {**result.model_dump(mode="json"), "effort": effort.model_dump()}
    show_json(json.dumps(document, ensure_ascii=False, indent=2))


def _print(title: str, result: "EvalResult", effort: "Effort") -> None:
    from runtime.console import show

    _print_table(title, result)
    for line in [*_remarks(result, effort), *_compared(result.comparison)]:
        show(line)


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
    computed = ""
    if effort.computed_tokens is not None:
        computed = (
            f"; {effort.reused_tokens} prompt tokens reused, {effort.computed_tokens} computed"
        )
    lines = [
        f"{effort.asked} asked in {effort.seconds:.1f} s, {effort.resumed} taken from the log"
        f"{computed}",
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
