"""Progress on stderr says what is done, and about how long the rest takes."""

import pytest

from toolchain.console import ConsoleProgress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds, as a test sets them."""
    time = [100.0]
    monkeypatch.setattr("toolchain.console.now", lambda: time[0])
    return time


def said(clock: list[float], steps: list[tuple[float, str]]) -> None:
    progress = ConsoleProgress()
    for seconds, text in steps:
        clock[0] = 100 + seconds
        progress.step(text)


@pytest.mark.parametrize("kind", ["graph ", "atc ", ""])
def test_a_numbered_step_tells_about_how_long_the_rest_takes(
    kind: str, clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"{kind}{i}/4: g{i}" for i in (1, 2, 3, 4)]
    said(clock, [(7, "weights: 3 tensors"), *zip((10, 40, 60, 100), names, strict=True)])
    assert capsys.readouterr().err.splitlines() == [
        "weights: 3 tensors",
        names[0],
        f"{names[1]}, about 2 min left",
        f"{names[2]}, about 50 s left",
        f"{names[3]}, about 30 s left",
    ]


@pytest.mark.parametrize(
    "text", ["checking out/2/4", "checking a 2/4", "graph 0/4: g", "graph 2/0: g", "1,5/2"]
)
def test_numbers_of_other_texts_are_no_steps(
    text: str, clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    said(clock, [(9, text)])
    assert capsys.readouterr().err == f"{text}\n"
