"""Runs export.air, which imports torchair, in a process of its own."""

import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import BinaryIO

from export.air.job import AirJob
from runtime.bundle.manifest import Graph, ModelConfig
from runtime.bundle.reader import GRAPHS_DIR, WEIGHTS_DIR
from runtime.progress import Progress
from toolchain.errors import TargetError
from toolchain.host.system import System
from toolchain.host.torchair import HOME, VERSION, find_torchair, how_to_get

__all__ = ["make_airs", "require_torchair"]

OTHER_WAY = "or give --via onnx, the older way, which reads the cache more often"


def require_torchair() -> Path:
    """Where torchair is.

    Raises:
        TargetError: its wheel is not unzipped here, or the torch that it is made for is not there.
    """
    system = System.here()
    found = find_torchair(system)
    if found is None:
        raise TargetError(
            "graphs that write the cache are made by Huawei's torchair, and it is not here",
            got=system.environ.get(HOME) or f"no {HOME}",
            next_step=f"{' && '.join(how_to_get(system))}; {OTHER_WAY}",
        )
    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = "none"
    if torch.partition("+")[0] != VERSION:
        raise TargetError(
            f"torchair {VERSION} is made for the torch of the same version",
            got=torch,
            next_step=f"pip install '.[export]', {OTHER_WAY}",
        )
    return Path(found)


def make_airs(
    torchair: Path,
    config: ModelConfig,
    group_size: int | None,
    graphs: Sequence[Graph],
    directory: Path,
    log: Path,
    progress: Progress,
) -> None:
    """Writes {graph}.air of each below a directory, where its weights will lie too.

    Args:
        torchair: of require_torchair.
        config: the model.
        group_size: see AirJob.
        graphs: of chip_graph.
        directory: that ATC will run in.
        log: file for what torchair prints.
        progress: told each graph.

    Raises:
        TargetError: it fails.
    """
    files = [directory / GRAPHS_DIR / f"{graph.spec.name}.air" for graph in graphs]
    job = AirJob(
        wheel=str(torchair),
        model=config,
        group_size=group_size,
        graphs=tuple(
            graph.model_copy(update={"path": str(file)})
            for graph, file in zip(graphs, files, strict=True)
        ),
        weights=f"{GRAPHS_DIR}/{WEIGHTS_DIR}",
    )
    document = directory / "job.json"
    document.write_text(job.model_dump_json(), encoding="utf-8")
    log.parent.mkdir(parents=True, exist_ok=True)
    with document.open("rb") as given, log.open("wb") as said:
        code = _run(given, said, [graph.spec.name for graph in graphs], progress)
    if code != 0:
        raise _failure(code, log)


def _run(given: BinaryIO, said: BinaryIO, names: Sequence[str], progress: Progress) -> int:
    """The process from its start to its end, which prints a line for each graph."""
    with subprocess.Popen(
        [sys.executable, "-m", "export.air"],
        stdin=given,
        stdout=subprocess.PIPE,
        stderr=said,
        start_new_session=True,  # torchair catches the signals of a terminal
    ) as process:
        assert process.stdout is not None, "it is a pipe"
        try:
            for i, name in enumerate(names, 1):
                progress.step(f"torchair {i}/{len(names)}: {name}")
                if not process.stdout.readline():
                    break
            process.wait()
        finally:
            process.kill()
    return process.returncode


def _failure(code: int, log: Path) -> TargetError:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line.strip() for line in lines if "Error" in line]
    said = (errors or [line.strip() for line in lines if line.strip()] or ["no output"])[-1]
    return TargetError(
        "torchair failed",
        got=f"exit code {code}: {said}"[:300],
        next_step=f"report it with the log, {log}; {OTHER_WAY}",
    )
