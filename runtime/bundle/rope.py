"""How the positions of a model are scaled: one record a kind, with the keys of Hugging Face.

What each of them means for the rotary frequencies is in export/positions.py.
"""

from typing import Annotated, Literal

from pydantic import Field

from runtime.record import Record

__all__ = [
    "DynamicRope",
    "LinearRope",
    "Llama3Rope",
    "NtkRope",
    "RopeScaling",
    "YarnRope",
    "attention_factor",
]

Factor = Annotated[float, Field(gt=0, le=1e12, allow_inf_nan=False)]
Positions = Annotated[int, Field(ge=1, le=100_000_000)]


class LinearRope(Record):
    """Positions are divided by the factor (arXiv:2306.15595)."""

    rope_type: Literal["linear"] = "linear"
    factor: Factor


class NtkRope(Record):
    """The base is multiplied by alpha^(D / (D - 2)), and positions are divided by the factor."""

    rope_type: Literal["ntk"] = "ntk"
    alpha: Factor
    factor: Factor = 1.0  # that of the linear scaling which the model was trained with


class DynamicRope(Record):
    """NTK by the length of each text: none up to the length that the model was trained for."""

    rope_type: Literal["dynamic"] = "dynamic"
    factor: Factor


class YarnRope(Record):
    """Slow frequencies are divided by the factor, fast ones stay (arXiv:2309.00071)."""

    rope_type: Literal["yarn"] = "yarn"
    factor: Factor
    original_max_position_embeddings: Positions
    attention_factor: Factor  # of the cosines and sines
    beta_fast: Factor = 32.0  # turns within the original length from which on a frequency stays
    beta_slow: Factor = 1.0  # turns up to which it is divided
    truncate: bool = True  # the bounds between are whole dimensions


class Llama3Rope(Record):
    """As Llama 3.1 has it: by wavelength, smooth between two of them."""

    rope_type: Literal["llama3"] = "llama3"
    factor: Factor
    low_freq_factor: Factor
    high_freq_factor: Factor
    original_max_position_embeddings: Positions


RopeScaling = Annotated[
    LinearRope | NtkRope | DynamicRope | YarnRope | Llama3Rope, Field(discriminator="rope_type")
]


def attention_factor(scaling: RopeScaling | None) -> float:
    """What cosines and sines are multiplied with."""
    return scaling.attention_factor if isinstance(scaling, YarnRope) else 1.0
