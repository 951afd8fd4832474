"""runtime batch COMPILED INPUT -o OUTPUT."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.commands.options import (
    AsJson,
    BundlePath,
    Devices,
    RayAddress,
    Threads,
    device_numbers,
)

if TYPE_CHECKING:
    from runtime.batch.answerer import Answerer, Opening
    from runtime.batch.input_file import BatchInput
    from runtime.batch.run import Tally
    from runtime.batch.work_file import WorkFile
    from runtime.bundle.reader import Bundle

__all__ = ["command"]


def command(
    bundle: BundlePath,
    requests: Annotated[
        Path,
        typer.Argument(metavar="INPUT", help="A request a line, as JSON; - reads standard input."),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Answers, a line each; there when all are."),
    ],
    keep_order: Annotated[
        bool, typer.Option("--keep-order", help="Answers in the order of the requests.")
    ] = False,
    model_name: Annotated[
        list[str] | None,
        typer.Option(help="Name that requests use; repeatable. Default: the directory's."),
    ] = None,
    device: Devices = "0",
    threads: Threads = None,
    ray: RayAddress = None,
    as_json: AsJson = False,
) -> None:
    """Answer a file of requests, in OpenAI's batch format.

    Every answer is kept when it is given. An interrupted run goes on when it is started again.
    """
    from runtime.batch.answerer import Opening
    from runtime.batch.input_file import open_input
    from runtime.batch.run import Tally
    from runtime.batch.work_file import WorkFile
    from runtime.bundle.reader import Bundle, read_manifest
    from runtime.commands.options import check_place
    from runtime.result_files import require_file
    from runtime.sessions import check_devices
    from runtime.timing import now

    devices = device_numbers(device)
    require_file(output)
    check_place(ray, devices)
    read = Bundle(path=bundle, manifest=read_manifest(bundle))
    check_devices(read.manifest.backend, devices)
    names = tuple(model_name or [bundle.resolve().name])
    opening = Opening(model_names=names, devices=devices, threads=threads)
    with open_input(requests, output.parent) as batch:
        key = {"input": batch.sha256, "bundle": read.digest, "--model-name": ", ".join(names)}
        with WorkFile(output, key) as work:
            tally = Tally(requests=batch.num_lines, resumed=len(work.done), started=now())
            if tally.resumed < tally.requests:
                _answer(_Place(read, opening, ray), batch, work, tally)
            work.finish(keep_order=keep_order)
    _sum_up(tally, output, as_json=as_json)


@dataclass(frozen=True, slots=True)
class _Place:
    """What answers, and the cluster where it does; None for this box."""

    bundle: "Bundle"
    opening: "Opening"
    ray: str | None


def _answer(place: _Place, batch: "BatchInput", work: "WorkFile", tally: "Tally") -> None:
    from runtime.batch.run import run_batch
    from runtime.commands.batch_progress import BatchProgress
    from runtime.console import note
    from runtime.timing import now

    if tally.resumed:
        note(f"{tally.resumed} of {tally.requests} are answered already")
    opened = _on_this_box(place) if place.ray is None else _on_ray(place, place.ray)
    try:
        with opened as answerer:
            tally.started = now()
            with BatchProgress(tally) as shown:
                run_batch(batch, work, answerer, tally, shown)
    except BaseException:
        if work.done:
            note(f"stopped; answers are kept in {work.path}, and the same command goes on")
        raise


@contextmanager
def _on_this_box(place: _Place) -> "Iterator[Answerer]":
    from contextlib import closing

    from runtime.batch.answerer import OnModel, open_for_batch
    from runtime.bundle.reader import load_bundle
    from runtime.console import LongWork

    progress = LongWork()
    checked = load_bundle(place.bundle.path, progress, trust_unchanged=True)
    with closing(open_for_batch(checked, place.opening, progress)) as model:
        yield OnModel(model)


@contextmanager
def _on_ray(place: _Place, address: str) -> "Iterator[Answerer]":
    from runtime.batch.on_ray import open_on_ray
    from runtime.console import LongWork

    with open_on_ray(address, place.bundle, place.opening, LongWork()) as answerer:
        yield answerer


def _sum_up(tally: "Tally", output: Path, *, as_json: bool) -> None:
    from runtime.console import note
    from runtime.documents import document, give_document

    if as_json:
        content = {
            "output": str(output),
            "requests": tally.requests,
            "resumed": tally.resumed,
            "answered": tally.answered,
            "refused": tally.refused,
            "prompt_tokens": tally.prompt_tokens,
            "completion_tokens": tally.completion_tokens,
            "seconds": tally.seconds,
            "tokens_per_s": tally.tokens_per_s,
        }
        give_document(document("batch", content), None)
        return
    earlier = f", {tally.resumed} earlier" if tally.resumed else ""
    note(
        f"[{output}: {tally.answered} answered, {tally.refused} refused{earlier}; "
        f"{tally.prompt_tokens} prompt + {tally.completion_tokens} new tokens in "
        f"{tally.seconds:.1f} s, {tally.tokens_per_s:.1f} tokens/s]"
    )
