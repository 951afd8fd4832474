"""Wheels of a few lines: a runtime that only says what it is, and what its extras need."""

import ensurepip
import hashlib
import platform
import shutil
import zipfile
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

RUNTIME = f"alpaca2_toolchain-0.1.0-py3-none-linux_{platform.machine()}.whl"
PART = "box_part-2.0-py3-none-any.whl"
EXTRAS = "Provides-Extra: cpu\nProvides-Extra: serve\n"
NEEDS = 'Requires-Dist: box-part>=2; extra == "cpu"\n'
MAIN = "import box_part\n\ndef main():\n    print('runtime with part', box_part.VERSION)\n"
SCRIPTS = "[console_scripts]\nruntime = small_runtime:main\n"


def write_wheel(directory: Path, name: str, metadata: str, files: dict[str, str]) -> None:
    """A wheel of these files; `name` is its file name."""
    project, number, *_ = name.split("-")
    info = f"{project}-{number}.dist-info"
    tag = name.removesuffix(".whl").split("-", 2)[2]
    wheel = f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n"
    described = f"Metadata-Version: 2.1\nName: {project}\nVersion: {number}\n{metadata}"
    everything = files | {f"{info}/METADATA": described, f"{info}/WHEEL": wheel}
    record = "".join(
        f"{file},sha256={digest(text)},{len(text)}\n" for file, text in everything.items()
    )
    everything[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
    with zipfile.ZipFile(directory / name, "w") as archive:
        for file, text in everything.items():
            archive.writestr(zipfile.ZipInfo(file), text)


def digest(text: str) -> str:
    return urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


def write_wheels(directory: Path) -> None:
    """The wheels of a box: a runtime, the part that it needs, and the pip that Python brings."""
    bundled = sorted(Path(ensurepip.__file__).parent.glob("_bundled/pip-*.whl"))
    if not bundled:
        pytest.skip("this Python brings no wheel of pip")
    directory.mkdir()
    shutil.copy(bundled[0], directory)
    scripts = {"alpaca2_toolchain-0.1.0.dist-info/entry_points.txt": SCRIPTS}
    write_wheel(directory, RUNTIME, EXTRAS + NEEDS, {"small_runtime.py": MAIN} | scripts)
    write_wheel(directory, PART, "", {"box_part.py": "VERSION = '2.0'\n"})
