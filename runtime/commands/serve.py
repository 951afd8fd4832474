"""runtime serve COMPILED."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.commands.options import BundlePath, Threads

if TYPE_CHECKING:
    from runtime.progress import Progress
    from runtime.server.served_model import ServedModel
    from runtime.server.settings import Settings

__all__ = ["command"]


def command(
    bundle: BundlePath,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Default: 8000; 0 takes a free one.")] = None,
    api_key_file: Annotated[
        Path | None, typer.Option(help="Keys of the clients, one a line.")
    ] = None,
    model_name: Annotated[
        list[str] | None,
        typer.Option(help="Name that requests use; repeatable. Default: the directory's."),
    ] = None,
    insecure: Annotated[
        bool | None, typer.Option("--insecure", help="Listen to others without a key.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file of settings; docs/serve.md lists them.")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(metavar="N[,N]...", help="Which device of the box, or several: 0,1,2,3."),
    ] = None,
    threads: Threads = None,
) -> None:
    """Answer over HTTP, as OpenAI's API does, until SIGTERM."""
    from runtime.bundle.reader import read_manifest
    from runtime.server.listen import serve
    from runtime.server.logs import log_as_json
    from runtime.server.settings import load_settings
    from runtime.sessions import check_devices

    given = {
        "host": host,
        "port": port,
        "api_key_file": api_key_file,
        "model_names": tuple(model_name) if model_name else None,
        "insecure": insecure,
        "device": device,
        "threads": threads,
    }
    settings = load_settings(config, {k: v for k, v in given.items() if v is not None})
    # Refused before anybody is told that it is loading.
    check_devices(read_manifest(bundle).backend, settings.devices)
    log_as_json()
    serve(settings, lambda progress: _load(bundle, settings, progress))


def _load(path: Path, settings: "Settings", progress: "Progress") -> "ServedModel":
    from runtime.bundle.reader import load_bundle
    from runtime.server.loading import open_model

    bundle = load_bundle(path, progress, trust_unchanged=True)
    return open_model(bundle, settings, progress)
