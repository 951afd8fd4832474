"""The Dockerfiles name what there is: files, packages, commands and options. None is built here."""

import json
import re
import tomllib

import typer.main

import runtime.cli
from tests.paths import ROOT
from toolchain.pack.box.archive import INSTALLER
from toolchain.pack.box.install import PREFIX
from toolchain.pack.box.releases import LINKS

CPU, ASCEND = (
    (ROOT / "docs/operate" / name).read_text(encoding="utf-8").replace("\\\n", "")
    for name in ("Dockerfile", "Dockerfile.ascend")
)


def instructions(text: str, name: str) -> list[str]:
    return re.findall(rf"^{name} +(.+)$", text, re.M)


def serve_options() -> set[str]:
    group = typer.main.get_command(runtime.cli.app)
    assert isinstance(group, typer.core.TyperGroup)
    return {option for each in group.commands["serve"].params for option in each.opts}


def test_everything_that_makes_the_wheel_is_copied_and_exists() -> None:
    copied = {path for line in instructions(CPU, "COPY") for path in line.split()[:-1]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    described = {project["project"]["readme"], *project["project"]["license-files"]}
    assert copied == {"pyproject.toml", "hatch_build.py", *packages, *described}
    assert [path for path in copied if not (ROOT / path).exists()] == []


def test_both_images_start_the_server_with_options_that_it_has() -> None:
    [entry] = instructions(CPU, "ENTRYPOINT")
    for text, first in ((CPU, json.loads(entry)), (ASCEND, [])):
        [rest] = instructions(text, "CMD")
        command = [*first, *json.loads(rest)]
        assert command[0].rpartition("/")[2] == "runtime"
        assert command[1] == "serve"
        assert {word for word in command if word.startswith("--")} <= serve_options()


def test_the_image_with_a_pack_starts_what_the_pack_installs() -> None:
    [line] = instructions(ASCEND, "RUN")
    assert line.endswith(f"sh /pack/{INSTALLER} /pack/box.tar")
    [command] = instructions(ASCEND, "CMD")
    program, _, bundle, *_ = json.loads(command)
    assert (program, bundle) == (f"{PREFIX}/bin/runtime", f"{PREFIX}/bundle")
    assert {"bin", "bundle"} <= set(LINKS)
