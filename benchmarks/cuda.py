"""One prepared run on a machine with an NVIDIA GPU: a Markdown table with its date and its card.

It needs Python alone to start. It makes an environment with torch's CUDA build where there is none,
and says what is lacking where it cannot. Every part is caught and reported by itself, and what is
left when the time is up is reported as not run. `--device cpu` runs the same on a tiny model.

Usage: cuda.py [--device cuda|cpu] [--output FILE.md] [--minutes 7.5] [--work DIR] [--part NAME ...]
"""

import argparse
import sys
import tempfile
from pathlib import Path

from cuda_parts import PARTS, Part
from cuda_steps import SETTINGS, Steps
from cuda_table import Line, table

__all__ = ["run_parts"]


def run_parts(parts: dict[str, Part], steps: Steps) -> list[Line]:
    """What every part found, in its order; a failure is a line and never the end."""
    lines = list[Line]()
    for name, part in parts.items():
        steps.tell(name)
        try:
            lines += part(steps)
        except Exception as error:  # whatever it is: the other parts are still worth their time
            lines.append(Line(part=name, what="", measured=f"failed: {_one_line(error)}"))
    return lines


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def main() -> None:
    """Runs the parts that the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=SETTINGS, default="cuda")
    parser.add_argument("--output", type=Path, default=Path("cuda.md"))
    parser.add_argument("--minutes", type=float, default=7.5)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--part", action="append", choices=PARTS)
    asked = parser.parse_args()
    parts = {name: part for name, part in PARTS.items() if name in (asked.part or PARTS)}
    with tempfile.TemporaryDirectory(dir=asked.work) as work:
        steps = Steps(SETTINGS[asked.device], Path(work), asked.minutes * 60)
        try:
            lines = run_parts(parts, steps)
        finally:
            steps.close()
    text = table(lines, SETTINGS[asked.device], steps.card)
    asked.output.write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
