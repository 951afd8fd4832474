"""The bundles that the suites run on, all made from one miniature checkpoint.

`python -m tests.bundles DIR` makes them where torch is, for an environment without it.
"""

import sys
from pathlib import Path

from runtime.progress import SILENT
from tests.chatml import write_chatml
from tests.paths import DATA
from toolchain.choices import Choices


def make_bundles(directory: Path) -> None:
    """Writes checkpoint, *-exported, small-fp32, crowd-int4 and talk-{fp32,int8,int4,int4-kv8}.

    And chatml-checkpoint, chatml-exported and chatml-fp32, of another tokenizer and template.
    """
    from export.exporter import export_bundle
    from export.miniature import make_miniature
    from profiles import load_profile
    from toolchain.compiler import compile_bundle

    directory.mkdir(parents=True, exist_ok=True)
    if not (directory / "checkpoint").exists():
        make_miniature(directory / "checkpoint", progress=SILENT)
    compiled = {"small": ["fp32"], "crowd": ["int4"], "talk": ["fp32", "int8", "int4"]}
    for name, precisions in compiled.items():
        profile = load_profile(str(DATA / f"{name}.toml"))
        output = directory / f"{name}-exported"
        exported = export_bundle(directory / "checkpoint", profile, output, SILENT)
        for weights in precisions:
            compile_bundle(
                exported, directory / f"{name}-{weights}", Choices(weights=weights), progress=SILENT
            )
    cached = directory / "talk-int4-kv8"
    compile_bundle(exported, cached, Choices(weights="int4", kv_cache="int8"), progress=SILENT)
    write_chatml(directory / "chatml-checkpoint")
    talk = load_profile(str(DATA / "talk.toml"))
    chatml = directory / "chatml-exported"
    exported = export_bundle(directory / "chatml-checkpoint", talk, chatml, SILENT)
    compile_bundle(exported, directory / "chatml-fp32", Choices(weights="fp32"), progress=SILENT)


def export_mini(shared_data: Path, output: Path) -> None:
    from export.exporter import export_bundle
    from profiles import load_profile

    export_bundle(shared_data / "alpaca2-mini", load_profile("cpu"), output, SILENT)


if __name__ == "__main__":
    make_bundles(Path(sys.argv[1]))
