"""toolchain bench-serve URL."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolchain.options import APIKeyFile, AsJson, JsonFile

if TYPE_CHECKING:
    from toolchain.load.result import LoadResult
    from toolchain.load.run import Wanted
    from toolchain.remote.address import Address

__all__ = ["command"]

CLIENTS = (1, 4, 8)
LENGTHS = ("256,128",)

Concurrency = Annotated[
    list[int] | None,
    typer.Option(
        min=1,
        max=4096,
        help="Closed loop: clients that ask one thing after the other; repeatable. "
        "Default: 1, 4 and 8.",
    ),
]
RequestRate = Annotated[
    list[float] | None,
    typer.Option(help="Open loop: requests/s that arrive at random; repeatable."),
]
WarmUp = Annotated[
    int | None,
    typer.Option(min=0, help="Requests before each load that do not count. Default: one a client."),
]
Goodput = Annotated[
    list[str] | None,
    typer.Option(
        metavar="METRIC:MS", help="Limit of a good request: ttft, tpot or e2el; repeatable."
    ),
]


def command(
    url: Annotated[str, typer.Argument(metavar="URL", help="A server of OpenAI's API.")],
    model: Annotated[
        str | None, typer.Option(help="Name of the model. Default: the server's first.")
    ] = None,
    concurrency: Concurrency = None,
    request_rate: RequestRate = None,
    case: Annotated[
        list[str] | None,
        typer.Option(metavar="IN,OUT", help="Tokens in and out; repeatable. Default: 256,128."),
    ] = None,
    num_requests: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Requests of each load.")
    ] = 32,
    warm_up: WarmUp = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="Ask /v1/chat/completions, with text.")
    ] = False,
    goodput: Goodput = None,
    seed: Annotated[int, typer.Option(help="Of prompts and arrivals.")] = 0,
    timeout: Annotated[
        float, typer.Option(min=0.001, help="Seconds that the server may be silent.")
    ] = 600,
    api_key_file: APIKeyFile = None,
    report: Annotated[
        Path | None, typer.Option(help="Directory for an HTML page with plots, and all files.")
    ] = None,
    as_json: AsJson = False,
    output: JsonFile = None,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
) -> None:
    """Measure a server under load, with the definitions of `vllm bench serve`.

    Any server of OpenAI's API can be asked: this one, llama.cpp's, vLLM's.
    """
    from toolchain.bench.grid import case_pairs
    from toolchain.load.pattern import check_rates, loads
    from toolchain.load.run import Wanted, read_limits
    from toolchain.load.tables import print_result
    from toolchain.remote.address import read_address

    rates = check_rates(request_rate or [])
    clients = concurrency or ([] if rates else CLIENTS)
    wanted = Wanted(
        loads=loads(case_pairs(case or LENGTHS), clients, rates, num_requests, warm_up),
        model=model,
        chat=chat,
        seed=seed,
        limits=read_limits(goodput or []),
    )
    result = _measure(wanted, read_address(url, api_key_file, timeout), output, report)
    print_result(result, as_json=as_json, as_markdown=as_markdown)


def _measure(
    wanted: "Wanted", address: "Address", output: Path | None, report: Path | None
) -> "LoadResult":
    import time

    from runtime.console import note
    from runtime.result_files import require_directory, require_file
    from toolchain.console import ConsoleProgress
    from toolchain.load.run import run_loads
    from toolchain.remote.server import open_server

    if report is not None:
        from toolchain.load.report import write_report  # needs matplotlib; measuring is long

        require_directory(report)
    if output is not None:
        require_file(output)
    with open_server(address, time.sleep) as server, ConsoleProgress() as progress:
        result = run_loads(wanted, server, address, output, progress)
    if report is not None:
        write_report(result, report)
    for path in filter(None, (output, report)):
        note(f"wrote {path}")
    return result
