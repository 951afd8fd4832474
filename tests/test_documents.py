"""The documents keep what they promise: their commands exist, their links lead somewhere."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import typer.main

import runtime.cli
import toolchain.cli
from tests.paths import ROOT

README, CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
DOCUMENTS = [README, CHINESE, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *DOCS]
PICTURES = [ROOT / "docs/overview.svg", ROOT / "docs/overview.zh-CN.svg"]

FENCED = re.compile(r"^```.*?\n(.*?)^```", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"`([^`]+)`")
LINK = re.compile(r'\]\(([^)\s]+)\)|\bsrc="([^"]+)"')
HEADING = re.compile(r"^(#+) (.*)", re.MULTILINE)
COMMENT = re.compile(r"(^|\s+)#.*", re.MULTILINE)
COMMAND = re.compile(r"(?:^|[\s/])(toolchain|runtime) ([a-z]+(?:-[a-z]+)*)\b([^\n|;&]*)")
OPTION = re.compile(r"(?<=\s)--?[a-z][a-z-]*")
MAKE = re.compile(r"^make ([a-z-]+)$", re.MULTILINE)
FOLDERS = ("toolchain", "export", "runtime", "profiles", "tests", "benchmarks", "docs")

each_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT))
)


def text_of(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def prose(document: Path) -> str:
    return FENCED.sub("", text_of(document))


def blocks(document: Path) -> list[str]:
    """The fenced blocks without comments and blank lines, spaces in a row as one."""
    lines = [COMMENT.sub("", block).splitlines() for block in FENCED.findall(text_of(document))]
    return ["\n".join(" ".join(line.split()) for line in block if line.strip()) for block in lines]


def code(document: Path) -> list[str]:
    """Fenced blocks and code within the text."""
    spans = [" ".join(span.split()) for span in SPAN.findall(prose(document))]
    return [*blocks(document), *spans]


def links(document: Path) -> list[str]:
    found = [link or source for link, source in LINK.findall(prose(document))]
    return [link for link in found if not link.startswith("https://")]


def anchors(document: Path) -> set[str]:
    """What GitHub makes of the headings."""
    titles = [title.lower() for _, title in HEADING.findall(prose(document))]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


def options() -> dict[tuple[str, str], set[str]]:
    """(program, command) -> its options."""
    apps = {"toolchain": toolchain.cli.app, "runtime": runtime.cli.app}
    found = {}
    for program, app in apps.items():
        group = typer.main.get_command(app)
        assert isinstance(group, typer.core.TyperGroup)
        for name, command in group.commands.items():
            given = [opt for each in command.params for opt in (*each.opts, *each.secondary_opts)]
            found[program, name] = {*given, "--help", "-h"}
    return found


def test_the_readme_is_short() -> None:
    assert len(text_of(README).split()) <= 900


def test_both_readmes_show_the_same_commands() -> None:
    assert blocks(README) == blocks(CHINESE)


def test_both_readmes_have_the_same_sections_and_links() -> None:
    levels = [[len(marks) for marks, _ in HEADING.findall(prose(d))] for d in (README, CHINESE)]
    assert levels[0] == levels[1]
    own = {"README.md", "README.zh-CN.md", "docs/overview.svg", "docs/overview.zh-CN.svg"}
    assert [x for x in links(README) if x not in own] == [x for x in links(CHINESE) if x not in own]


def test_the_readme_leads_to_every_document() -> None:
    linked = {(ROOT / link).resolve() for link in links(README)}
    assert set(DOCUMENTS) - linked == {README}


@each_document
def test_every_link_leads_to_a_file_and_a_heading_in_it(document: Path) -> None:
    broken = []
    for link in links(document):
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        if not target.is_file() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


@each_document
def test_every_command_exists_and_has_the_options_shown(document: Path) -> None:
    known = options()
    short = {name: program for program, name in known if program == "toolchain"}
    wrong = []
    for text in code(document):
        first = text.split()[0]
        line = f"{short[first]} {text}" if first in short else text
        for program, command, rest in COMMAND.findall(line):
            if (program, command) not in known:
                wrong.append(f"{program} {command}")
                continue
            allowed = known[program, command]
            wrong += [f"{command} {x}" for x in OPTION.findall(rest) if x not in allowed]
    assert not wrong


@each_document
def test_every_make_target_exists(document: Path) -> None:
    makefile = text_of(ROOT / "Makefile")
    named = {target for text in code(document) for target in MAKE.findall(text)}
    assert {target for target in named if f"\n{target}:" not in makefile} == set()


@each_document
def test_every_path_exists_and_has_what_is_named_after_it(document: Path) -> None:
    """`runtime/engine/engine.py: Engine.slot, prefill` names a file and two functions in it."""
    missing = []
    for span in SPAN.findall(prose(document)):
        path, _, names = " ".join(span.split()).partition(": ")
        if path.split("/")[0] not in FOLDERS or "/" not in path or " " in path:
            continue
        files = list(ROOT.glob(path))
        if not files:
            missing.append(path)
        for name in filter(None, names.split(", ")):
            if not re.search(rf"(def|class) {name.rpartition('.')[2]}\b", text_of(files[0])):
                missing.append(f"{path}: {name}")
    assert not missing


def test_both_pictures_are_one_drawing_with_other_words() -> None:
    drawings = []
    for picture in PICTURES:
        elements = list(ElementTree.parse(picture).iter())
        attributes = [{k: v for k, v in e.attrib.items() if k != "lang"} for e in elements]
        drawings.append([(e.tag, a) for e, a in zip(elements, attributes, strict=True)])
    assert drawings[0] == drawings[1]


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.name)
def test_a_picture_takes_nothing_from_elsewhere(picture: Path) -> None:
    text = text_of(picture).replace('xmlns="http://www.w3.org/2000/svg"', "", 1)
    assert not re.search(r"://|@import|@font-face|href|url\((?!#)", text)
