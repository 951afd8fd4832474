"""install.sh: lines for the shell, and behind them a zip of the sources in `box`."""

import io
import zipfile
from pathlib import Path

__all__ = ["installer"]

BOX = Path(__file__).parent / "box"
PACKAGE = "toolchain/pack/box"
SHELL = """\
#!/bin/sh
# Installs a pack on a box without a network: sh install.sh PACK
# Behind these lines lies a zip archive of Python sources, which Python reads.
python=${PYTHON:-python3.N}
command -v "$python" >/dev/null || {
  echo "error: no $python on this box; install it, or name it: PYTHON=/a/python3.N sh $0" >&2
  exit 1
}
exec "$python" -I "$0" "$@"
"""
MAIN = "from toolchain.pack.box.install import main\n\nmain()\n"


def installer(python: str) -> bytes:
    """The file for boxes with such a Python, for example 3.11; the same bytes every time."""
    file = io.BytesIO()
    file.write(SHELL.replace("3.N", python).encode())
    sources = {f"{PACKAGE}/{source.name}": source.read_bytes() for source in BOX.glob("*.py")}
    packages = ("toolchain/__init__.py", "toolchain/pack/__init__.py")
    sources |= {"__main__.py": MAIN.encode(), **dict.fromkeys(packages, b"")}
    with zipfile.ZipFile(file, "a") as archive:  # not compressed: an editor shows what it does
        for name, source in sorted(sources.items()):
            archive.writestr(zipfile.ZipInfo(name), source)
    return file.getvalue()
