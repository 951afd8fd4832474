"""Token ids of a file that others wrote."""

from collections.abc import Sequence
from pathlib import Path

from runtime.errors import PromptError
from runtime.json_file import parse_json, read_file

__all__ = ["check_ids", "parse_ids", "read_ids"]


def read_ids(file: Path) -> list[list[int]]:
    """Token ids from a JSON list of lists.

    Raises:
        PromptError: the file is not such a list, or a sequence is shorter than 4 tokens.
    """
    return parse_ids(read_file(file, PromptError), str(file))


def parse_ids(data: bytes, name: str) -> list[list[int]]:
    """Token ids from the bytes of such a file.

    Raises:
        PromptError: as read_ids.
    """
    sequences: list[list[int]] = parse_json(data, name, PromptError)
    well_formed = isinstance(sequences, list) and all(
        isinstance(ids, list) and len(ids) >= 4 and all(type(i) is int for i in ids)
        for ids in sequences
    )
    if not well_formed or not sequences:
        raise PromptError(
            f"{name} is no list of token id lists",
            allowed="[[id, id, ...], ...], each with 4 ids or more",
        )
    return sequences


def check_ids(vocab_size: int, sequences: Sequence[Sequence[int]]) -> None:
    """Refuses ids that the model lacks.

    Raises:
        PromptError: an id is not in the vocabulary.
    """
    for token_id in (token_id for ids in sequences for token_id in ids):
        if not 0 <= token_id < vocab_size:
            raise PromptError(
                "a token id is not in the vocabulary",
                got=token_id,
                allowed=f"0 to {vocab_size - 1}",
            )
