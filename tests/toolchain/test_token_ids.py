"""Claims about files of token ids."""

from pathlib import Path

import pytest

from runtime.errors import PromptError
from toolchain.token_ids import check_ids, read_ids


@pytest.mark.parametrize(
    "text", ["{", "{}", "[]", "[[1, 2]]", '[[1, 2, 3, "4"]]', "[1, 2, 3, 4]", "[" * 100_000]
)
def test_ids_that_are_no_list_of_sequences_are_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "ids.json"
    file.write_text(text)
    with pytest.raises(PromptError, match=r"ids\.json"):
        read_ids(file)


def test_ids_of_a_good_file_come_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "ids.json"
    file.write_text("[[1, 2, 3, 4], [5, 6, 7, 8, 9]]")
    assert read_ids(file) == [[1, 2, 3, 4], [5, 6, 7, 8, 9]]


@pytest.mark.parametrize("token_id", [-1, 640, 10**30])
def test_an_id_that_the_model_lacks_is_named(token_id: int) -> None:
    with pytest.raises(PromptError, match=f"got {token_id}; allowed: 0 to 639"):
        check_ids(640, [[1, 2], [token_id]])
