"""The list of what an emulated box leaves out is kept."""

import pytest

from tests.aarch64.suites import LEFT_OUT
from tests.paths import ROOT


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_is_left_out_is_there_to_be_run(name: str) -> None:
    file, _, test = name.partition("::")
    assert f"def {test.partition('[')[0]}" in (ROOT / file).read_text(encoding="utf-8")
