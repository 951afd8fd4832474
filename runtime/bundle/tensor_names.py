"""Names of graph inputs and outputs, one spelling for every side."""

from collections.abc import Callable

__all__ = [
    "ATTENTION_MASK",
    "INPUT_IDS",
    "LENGTHS",
    "LOGITS",
    "LOGIT_ROWS",
    "POSITION_IDS",
    "START",
    "Namer",
    "hidden_name",
    "new_key",
    "new_value",
    "past_key",
    "past_value",
]

Namer = Callable[[int], str]  # layer -> tensor name

INPUT_IDS = "input_ids"
POSITION_IDS = "position_ids"
START = "start"  # rows that each sequence has already; of graphs that make positions and mask
LENGTHS = "lengths"  # rows that each has after the call, without padding
ATTENTION_MASK = "attention_mask"
LOGIT_ROWS = "logit_rows"
LOGITS = "logits"


def past_key(layer: int) -> str:
    """Name of the input that holds the cached keys of a layer."""
    return f"past_key.{layer}"


def past_value(layer: int) -> str:
    """Name of the input that holds the cached values of a layer."""
    return f"past_value.{layer}"


def new_key(layer: int) -> str:
    """Name of the output with the new key rows of a layer."""
    return f"key.{layer}"


def new_value(layer: int) -> str:
    """Name of the output with the new value rows of a layer."""
    return f"value.{layer}"


def hidden_name(layer: int) -> str:
    """Name of the residual stream after a layer, (B, S, hidden_size)."""
    return f"hidden.{layer}"
