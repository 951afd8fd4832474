"""python -m tests.aarch64 WORK BUNDLES [PAGE]: the runtime in an emulated box of aarch64.

Makes the box in WORK, compares its tokens with this machine's and runs the runtime's tests in it.
Then it installs packs in a bare one and asks its server. Prints tables, and writes them into a page
where one is named. Ends with 1 where a token differs or a test fails. QEMU_AARCH64 names the static
QEMU, SUITES the tests, PROMPTS the number of prompts, WORKERS that of processes.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from functools import partial
from pathlib import Path

from runtime.bundle.reader import load_bundle
from runtime.kernels.build import LIBRARY
from runtime.progress import SILENT
from runtime.timing import now
from tests.aarch64.box import BUNDLES, CHECKOUT, PACKAGES, Box
from tests.aarch64.debian import BARE, SERVICES, make_root
from tests.aarch64.environment import EXTRAS, TEST_PACKAGES, install, load_wheels, megabytes
from tests.aarch64.pack import first_answer
from tests.aarch64.report import Found, report
from tests.aarch64.suites import SUITES, WORKERS, run_suites
from tests.aarch64.tokens import Compared, continued, generated
from tests.acceptance.page import write_tables
from tests.bundles import export_mini
from tests.paths import ROOT, SHARED
from toolchain.choices import Choices
from toolchain.compiler import compile_bundle

COPIED = (
    *("LICENSE", "README.md", "docs", "export", "hatch_build.py", "profiles", "pyproject.toml"),
    *("runtime", "tests", "toolchain"),
)
UNWANTED = shutil.ignore_patterns("__pycache__", "*.so")
GENERATED = ("talk-fp32", "talk-int8", "talk-int4", "talk-int4-kv8", "chatml-fp32")
# Those with several instruction sets first.
PRECISIONS: dict[str, Choices] = {
    "int8": Choices(weights="int8"),
    "int4": Choices(weights="int4"),
    "int4-kv8": Choices(weights="int4", kv_cache="int8"),
    "fp32": Choices(weights="fp32"),
}


def main(work: Path, bundles: Path, pages: list[Path]) -> int:
    work.mkdir(parents=True, exist_ok=True)
    seconds: dict[str, float] = {}
    with _timed("make the box, install the runtime", seconds):
        box = _box(work, "box")
        sizes = _installed(box, work)
        _copy(box, bundles)
    with _timed("compare tokens", seconds):
        compared = [*generated(box, bundles, GENERATED), *_continued(box, work)]
    with _timed("run the tests", seconds):
        outcome = run_suites(box, SUITES)
    with _timed("make two packs, install them, ask", seconds):
        asked = first_answer(_box(work, "bare-box"), bundles, work / "wheels")
    found = Found(
        title=_title(box),
        compared=compared,
        outcome=outcome,
        sizes=sizes,
        asked=asked,
        seconds=seconds,
    )
    lines = list(report(found))
    print("\n".join(lines), *outcome.failed, sep="\n")
    for page in pages:
        write_tables(page, "aarch64", lines)
    return int(bool(outcome.failed) or not all(each.good for each in compared))


@contextmanager
def _timed(step: str, seconds: dict[str, float]) -> Iterator[None]:
    begun = now()
    yield
    seconds[step] = now() - begun


def _title(box: Box) -> str:
    """When, where and with what."""
    qemu = subprocess.run([box.qemu, "--version"], check=True, capture_output=True, text=True)
    version = qemu.stdout.split("(")[0].removeprefix("qemu-aarch64 version").strip()
    python = box.run("python3.11", "-V").stdout.strip()
    return f"{date.today():%Y-%m-%d}, QEMU {version}, {python}, {os.cpu_count()} cores:"


def _box(work: Path, name: str) -> Box:
    """With a fresh copy of the root that is kept."""
    bare, directory = work / "bare", work / name
    if not bare.exists():
        make_root(bare, (*BARE, *SERVICES), work / "apt")
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(bare, directory, symlinks=True)
    return Box(directory=directory, qemu=Path(os.environ["QEMU_AARCH64"]))


def _installed(box: Box, work: Path) -> dict[str, float]:
    """Installs the runtime, measures it, and installs what its tests need."""
    wheels = work / "wheels"
    load_wheels(wheels)
    box.place(CHECKOUT).mkdir(parents=True)
    install(box, wheels, (f"alpaca2-toolchain[{EXTRAS}]",))
    sizes = megabytes(box)
    install(box, wheels, TEST_PACKAGES)
    return sizes


def _copy(box: Box, bundles: Path) -> None:
    """The checkout, with the library of the box; bundles; the data that lies beside it."""
    for name in COPIED:
        source, copy = ROOT / name, box.place(CHECKOUT / name)
        if source.is_dir():
            shutil.copytree(source, copy, ignore=UNWANTED)
        else:
            shutil.copy(source, copy)
    library = LIBRARY.relative_to(ROOT)
    shutil.copy(box.place(PACKAGES / library), box.place(CHECKOUT / library))
    shutil.copytree(bundles, box.place(BUNDLES))
    if SHARED.is_dir():
        shutil.copytree(SHARED, box.place(CHECKOUT.parent / "shared/data"))


def _continued(box: Box, work: Path) -> Iterator[Compared]:
    """The small trained checkpoint of the shared data, where there is one."""
    checkpoint = SHARED / "alpaca2-mini"
    if not checkpoint.is_dir():
        print(f"no trained checkpoint at {checkpoint}", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory(dir=work) as folder:
        export_mini(SHARED, Path(folder, "exported"))
        exported = load_bundle(Path(folder, "exported"))
        made = []
        for name, choices in PRECISIONS.items():
            made.append(Path(folder, f"mini-{name}"))
            compile_bundle(exported, made[-1], choices, progress=SILENT)
            shutil.copytree(made[-1], box.place(BUNDLES / made[-1].name))
        compare = partial(continued, box, checkpoint=checkpoint, work=Path(folder))
        with ThreadPoolExecutor(WORKERS) as pool:
            for compared in pool.map(compare, made):
                yield from compared


if __name__ == "__main__":
    work, bundles, *pages = map(Path, sys.argv[1:])
    sys.exit(main(work.absolute(), bundles.absolute(), pages))
