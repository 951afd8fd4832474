"""Tables on a terminal: names as they are, text left, numbers right."""

import pytest

from toolchain.console import print_table

COLUMNS = ("name", "count", "of", "remark")


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    rows = [
        ("m[b]d", "12", "3.5 MB", "x[/y]"),
        ("a-name-that-must-be-copied-in-one-piece" * 4, "7", "12.0 kB", "\x1b[2Jboo"),
    ]
    print_table("[red]title[/] \x1b]0;t\x07" + "long " * 40, COLUMNS, rows)
    return capsys.readouterr().out.splitlines()


def test_markup_and_escape_sequences_of_names_are_shown(lines: list[str]) -> None:
    text = "\n".join(lines)
    assert "\x1b" not in text
    assert "\\x1b[2Jboo" in text
    assert lines[0].startswith("[red]title[/] \\x1b]0;t\\x07long")
    assert any(line.startswith(" m[b]d ") for line in lines)


def test_a_name_is_never_split(lines: list[str]) -> None:
    assert any("a-name-that-must-be-copied-in-one-piece" * 4 in line for line in lines)
    assert len(lines[0]) >= 200


def test_numbers_end_and_texts_begin_at_one_column(lines: list[str]) -> None:
    first = next(line for line in lines if " m[b]d " in line)
    second = next(line for line in lines if "a-name" in line)
    for number, other in (("12", "7"), ("3.5 MB", "12.0 kB")):
        assert first.index(number) + len(number) == second.index(f"{other} ") + len(other)
    assert first.index("x[/y]") == second.index("\\x1b[2Jboo")


def narrow_terminal(patch: pytest.MonkeyPatch) -> None:
    """Of 80 columns, without colours."""
    patch.setattr("sys.stdout.isatty", lambda: True)
    patch.setenv("COLUMNS", "80")
    patch.setenv("TERM", "dumb")


@pytest.mark.parametrize("num_columns", range(1, 12))
def test_a_word_is_never_split_though_the_table_is_wider_than_the_terminal(
    num_columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow_terminal(monkeypatch)
    columns = [f"heading{i}" for i in range(num_columns)]
    row = [f"{'005f01621ac1'[i:]}{i}" for i in range(num_columns)]
    print_table("bundles", columns, [row])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert columns in lines
    assert row in lines


def test_a_formula_that_begins_with_a_number_is_a_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow_terminal(monkeypatch)
    formulas = ("315 MB + 4 layers x 1.2 MB", "3 s + 2 cores")
    measured = ("14.8 ± 6.5", "-1.34 ± 1.68 %")
    ranges = ("8 to 90.25 %", "12.0 to 13 %")
    print_table(
        "",
        ("name", "formula", "time", "range"),
        list(zip("ab", formulas, measured, ranges, strict=True)),
    )
    first, second = capsys.readouterr().out.splitlines()[-3:-1]
    assert first.index(formulas[0]) == second.index(formulas[1])
    for one, other in (measured, ranges):
        assert first.index(one) + len(one) == second.index(other) + len(other)


def test_a_table_that_is_too_wide_folds_its_cells_and_loses_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As bench has it on a terminal of 80 columns."""
    narrow_terminal(monkeypatch)
    columns = ("case", "first token ms", "ms/token", "gap p99 ms", "response s", "tok/s")
    row = ("1 x 128 in, 32 out", "14.8 ± 6.5", "0.43 ± 0.04", "4.53", "0.028 ± 0.005", "2563.5")
    print_table("latency", columns, [row])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    words = " ".join(lines).split()
    assert all(word in words for cell in (*columns, *row) for word in cell.split())
