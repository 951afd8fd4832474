"""toolchain doctor on emulated machines: directory trees with programs that only print.

What it says is kept under tests/data/doctor. With DOCTOR_GOLDEN=write the suite
writes that anew; read the difference before keeping it.
"""

import json
import os
import re
import tempfile
import tomllib
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from profiles import load_profile
from runtime.errors import UserError
from tests.paths import DATA, ROOT
from toolchain.commands import doctor
from toolchain.doctor import Item, System, diagnose, is_lacking
from toolchain.doctor.host import NUMPY, ONNXRUNTIME
from toolchain.doctor.site import PYTHON
from toolchain.host.packages import NAMES, package_name
from toolchain.host.versions import at_least

GOLDEN = DATA / "doctor"
BOXES = tomllib.loads((GOLDEN / "boxes.toml").read_text())
WRITE = os.environ.get("DOCTOR_GOLDEN") == "write"
SITE_PACKAGES = "/usr/lib/python3.11/site-packages"
MACHINES = {"cpu": "910b3", "310p3": "310p3", "910b3": "910b3"}  # profile -> machine
# The first word of a case is the item, and some items have two or three.
ITEMS = ("device memory", "CANN toolkit", "CANN kernels", "memory and swap", "free disk")


def nothing(root: Path) -> System:
    return System(root=root, environ={}, python=None, python_path=())


def emulate(root: Path, machine: str, case: dict[str, Any]) -> System:
    """The complete machine with the case's changes."""
    words = {"health": "OK", **BOXES["machines"][machine], **case.get("words", {})}
    words["npu_smi"] = (GOLDEN / f"npu-smi-{machine}.txt").read_text()

    def fill(text: str) -> str:
        while match := re.search(r"@(\w+)@", text):
            text = text.replace(match[0], words[match[1]])
        return text

    files = {**BOXES["files"], **case.get("files", {})}
    for name, text in files.items():
        if text:
            path = root / fill(name).lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(fill(text).encode("latin-1"))
            path.chmod(0o755 if text.startswith("#!") else 0o644)
    environ = {**BOXES["environ"], **case.get("environ", {})}
    return System(
        root=root,
        environ={name: fill(value) for name, value in environ.items() if value},
        python=case.get("python", "3.11.9") or None,
        python_path=(SITE_PACKAGES,),
    )


def printed(system: System, profile: str, capture: pytest.CaptureFixture[str]) -> str:
    error = ""
    try:
        doctor.report(system, load_profile(profile), as_json=False)
    except UserError as caught:
        error = f"error: {caught}\n"
    lines = [line.rstrip() for line in capture.readouterr().out.splitlines()]
    return "\n".join(lines) + f"\n{error}"


def case_text(name: str, profile: str, root: Path) -> str:
    """The items that a case changes, and how many are lacking."""
    complete = diagnose(emulate(root / "complete", MACHINES[profile], {}), load_profile(profile))
    case = BOXES["cases"][name]
    items = diagnose(emulate(root / "case", MACHINES[profile], case), load_profile(profile))
    changed = [item for item, before in zip(items, complete, strict=True) if item != before]
    lines = []
    for item in changed:
        lines.append(f"{item.name} | {item.found} | {item.needed} | {item.verdict}")
        lines += [f"    {line}" for line in item.remedy.splitlines()]
    return "\n".join([*lines, f"{sum(map(is_lacking, items))} lacking"]) + "\n"


def item_of(case: str) -> str:
    return next((item for item in ITEMS if case.startswith(item)), case.split()[0])


def items_of(profile: str) -> list[str]:
    """Names of what is looked for."""
    with tempfile.TemporaryDirectory() as folder:
        return [item.name for item in diagnose(nothing(Path(folder)), load_profile(profile))]


CASES = [
    (profile, case)
    for profile in MACHINES
    for case in BOXES["cases"]
    if item_of(case) in items_of(profile)
]


def check_golden(name: str, text: str) -> None:
    if WRITE:
        (GOLDEN / name).write_text(text)
    assert text == (GOLDEN / name).read_text()


def check_golden_case(profile: str, case: str, text: str) -> None:
    """All cases of a profile lie in one file, in the order of boxes.toml."""
    file = GOLDEN / f"{profile}-cases.txt"
    kept = file.read_text() if file.exists() else ""
    texts = dict(re.findall(r"^== (.+)\n((?:(?!== ).*\n)*)", kept, re.MULTILINE))
    if WRITE:
        texts[case] = text
        known = [(name, texts[name]) for of, name in CASES if of == profile and name in texts]
        file.write_text("".join(f"== {name}\n{each}" for name, each in known))
    assert text == texts[case]


@pytest.mark.parametrize("profile", MACHINES)
def test_a_machine_with_nothing_lacks_everything(
    profile: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_golden(f"{profile}-nothing.txt", printed(nothing(tmp_path), profile, capsys))


@pytest.mark.parametrize("profile", MACHINES)
def test_a_complete_machine_lacks_nothing(
    profile: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    system = emulate(tmp_path, MACHINES[profile], {})
    check_golden(f"{profile}-complete.txt", printed(system, profile, capsys))
    assert {item.verdict for item in diagnose(system, load_profile(profile))} == {"ok"}


@pytest.mark.parametrize(("profile", "case"), CASES)
def test_one_thing_missing_or_wrong_is_named(profile: str, case: str, tmp_path: Path) -> None:
    text = case_text(case, profile, tmp_path)
    check_golden_case(profile, case, text)
    assert f"{item_of(case)} | " in text  # besides what depends on it


@pytest.mark.parametrize("profile", MACHINES)
def test_every_item_is_missing_once_and_wrong_once(profile: str) -> None:
    cases = {case for of, case in CASES if of == profile}
    assert {f"{item} {way}" for item in items_of(profile) for way in ("missing", "wrong")} <= cases


@pytest.mark.parametrize("profile", MACHINES)
def test_the_machine_at_hand_is_diagnosed(profile: str, capsys: pytest.CaptureFixture[str]) -> None:
    items: list[Item] = diagnose(System.here(), load_profile(profile))
    assert all(item.remedy for item in items if item.verdict != "ok")
    lacking = sum(map(is_lacking, items))
    expected = pytest.raises(UserError, match=f"lacks {lacking} of {len(items)} items")
    with expected if lacking else nullcontext():
        doctor.command(profile=profile, as_json=True)
    rows = json.loads(capsys.readouterr().out)["items"]
    assert [row["name"] for row in rows] == [item.name for item in items]


def test_what_python_packages_are_needed_is_what_the_project_says() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == f">={PYTHON}"
    assert f"numpy>={NUMPY}" in project["dependencies"]
    assert f"onnxruntime>={ONNXRUNTIME}" in project["optional-dependencies"]["cpu"]


def test_a_target_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    profile = load_profile("310p3").model_copy(update={"target": "410x"})
    with pytest.raises(UserError, match="no such target; got 410x; allowed: cpu, torch-cpu"):
        diagnose(nothing(tmp_path), profile)


@pytest.mark.parametrize(
    ("version", "minimum", "fits"),
    [
        ("8.5.0", "8.5.0", True),
        ("8.5.0.2.220", "8.5.0", True),
        ("8.5.RC1", "8.5.0", False),
        ("8.5.0-beta.1", "8.5.0", False),
        ("8.3.RC1", "8.5.0", False),
        ("9.0.0", "8.5.0", True),
        ("7.0.T10", "7.0.RC1", True),
        ("23.0.rc3.b060", "23.0.rc3", True),
        ("23.0.0", "23.0.rc3.b060", True),
        ("7.1.0.11.220", "7.0.t9.0.b221", True),
        ("2.9.0.post2", "2.9.0", True),
        ("2.13.0+cpu", "2.9.0", True),
        ("10.3.1", "7.5.0", True),
        ("3.8.17", "3.11", False),
    ],
)
def test_versions_are_ordered(version: str, minimum: str, fits: bool) -> None:
    assert at_least(version, minimum) is fits


def test_the_names_of_the_manual_are_all_made() -> None:
    """Every file name in the manual's tables, from the version that it prints."""
    made = set()
    for arch in ("aarch64", "x86_64"):
        for series in ("310p", "910b"):
            made.add(package_name("firmware", "7.0.t9.0.b221", series=series))
            made.add(package_name("driver", "23.0.rc3.b060", series=series, arch=arch))
            made.add(package_name("kernels", "7.0.T10", series=series))
        made.add(package_name("toolkit", "7.0.T10", arch=arch))
        for python in ("38", "39", "310"):
            made.add(package_name("torch", "2.0.1", arch=arch, python=python))
            made.add(package_name("torch_npu", "2.0.1", python=python))
        for abi in ("0", "1"):
            made.add(package_name("atb", "7.0.RC1", arch=arch, abi=abi))
    assert made == set((GOLDEN / "manual-names.txt").read_text().split())
    assert all(names[-1].since == "0" for names in NAMES.values())
