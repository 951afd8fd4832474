"""Where the suites find things."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
DATA = ROOT / "tests/data"
SHARED = ROOT.parent / "shared/data"  # real data that is no part of the repository
