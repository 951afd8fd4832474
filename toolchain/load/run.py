"""All loads on a server, one after the other, into files as they come."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from runtime.errors import ParameterError
from runtime.progress import Progress
from runtime.result_files import write_named
from toolchain.bench.setup import this_machine
from toolchain.load.drive import Client, Driven, drive
from toolchain.load.figures import row_of
from toolchain.load.pattern import Load
from toolchain.load.prompts import find_prompts
from toolchain.load.result import LIMITED, LoadResult, LoadRow
from toolchain.load.tables import result_json
from toolchain.remote.address import Address
from toolchain.remote.failure import remote_error
from toolchain.remote.server import Server

__all__ = ["Wanted", "read_limits", "run_loads"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be measured.

    model: None for the server's first.
    limits: metric -> ms; none for no goodput.
    """

    loads: Sequence[Load]
    model: str | None
    chat: bool
    seed: int
    limits: Mapping[str, float]


def read_limits(texts: Sequence[str]) -> dict[str, float]:
    """Limits of a good request as they are typed: "ttft:500".

    Raises:
        ParameterError: no metric, or no positive number of milliseconds.
    """
    limits = {}
    for text in texts:
        name, _, number = text.partition(":")
        try:
            limits[name] = float(number)
        except ValueError:
            limits[name] = 0.0
        if name not in LIMITED or not 0 < limits[name] < float("inf"):
            raise ParameterError(
                "--goodput",
                got=text[:40],
                allowed=f"{', '.join(LIMITED)}, each with milliseconds, such as ttft:500",
                param="goodput",
            )
    return limits


def run_loads(
    wanted: Wanted, server: Server, address: Address, file: Path | None, progress: Progress
) -> LoadResult:
    """Puts every load on the server.

    Args:
        wanted: what is to be measured.
        server: that is asked what it serves.
        address: of the same server.
        file: written after every load.
        progress: told of every load.

    Raises:
        RemoteError: the server does not answer, or none of a load's requests.
        UserError: the file cannot be written.
    """
    client = Client(
        address=address,
        model=server.model(wanted.model).name,
        prompts=find_prompts(server, chat=wanted.chat),
        chat=wanted.chat,
        seed=wanted.seed,
    )
    result = _empty(wanted, client)
    for number, load in enumerate(wanted.loads, 1):
        progress.step(
            f"{number}/{len(wanted.loads)} {load.name}, {load.num_requests} requests of "
            f"{load.input_tokens} tokens in, {load.output_tokens} out"
        )
        driven = asyncio.run(drive(client, load))
        _check(driven, address)
        row = row_of(load, driven.exchanges, wanted.limits, driven.began, driven.ended)
        result = result.model_copy(update={"rows": (*result.rows, row)})
        if file is not None:
            write_named(file, result_json(result) + "\n")
    return result


def _check(driven: Driven, address: Address) -> None:
    """Refuses a load of which nothing can be said.

    Raises:
        RemoteError: the warm-up failed, or every request.
    """
    for exchanges in driven.warm_up, driven.exchanges:
        failures = [exchange.failure for exchange in exchanges if exchange.failure is not None]
        hopeless = exchanges is driven.warm_up or len(failures) == len(exchanges)
        if failures and hopeless:
            raise remote_error(address.root, failures[0])


def _empty(wanted: Wanted, client: Client) -> LoadResult:
    api: Literal["completions", "chat"] = "chat" if wanted.chat else "completions"
    rows: tuple[LoadRow, ...] = ()
    return LoadResult(
        url=client.address.root,
        model=client.model,
        api=api,
        prompts=client.prompts.kind,
        seed=wanted.seed,
        limits=dict(wanted.limits),
        date=date.today().isoformat(),
        tool=f"alpaca2-toolchain {version('alpaca2-toolchain')}",
        client=this_machine(),
        rows=rows,
    )
