"""Reads a profile by name or path. Unknown keys and impossible graph grids are errors."""

import json
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, PositiveFloat, ValidationError, model_validator

from runtime.errors import UserError
from runtime.manifest import GraphSpec, Record, first_problem

__all__ = ["ChipFact", "Limits", "Profile", "ProfileError", "Weights", "load_profile"]

Weights = Literal["fp32", "fp16", "int8", "int4"]


class ProfileError(UserError):
    """The profile does not exist or says something that cannot be."""


class ChipFact(Record):
    """A number about the chip, with where it is from."""

    value: float
    unit: str
    source: str


class Limits(Record):
    """How far a stage may be from the float32 reference before `verify` fails.

    argmax and top10 are shares of rows; kl is the mean Kullback-Leibler divergence in nats;
    perplexity is a relative difference; greedy is the mean share of greedy tokens before the
    first mismatch; hidden is the relative error |a - b| / |b| of the residual stream, by which
    the first diverging layer is found.
    """

    argmax: float = Field(ge=0, le=1)
    top10: float = Field(ge=0, le=1)
    kl: PositiveFloat
    perplexity: PositiveFloat
    greedy: float = Field(ge=0, le=1, default=0.0)
    hidden: PositiveFloat


class Profile(Record):
    """A deployment: the chip, the graph family to build and the precision."""

    name: str
    description: str
    target: str
    weights: Weights
    block_size: Literal[16, 32, 64, 128, 256] = 32  # what MatMulNBits takes
    graphs: tuple[GraphSpec, ...]
    chip: dict[str, ChipFact | str] = Field(default_factory=dict)
    limits: dict[Weights, Limits]

    def limits_for(self, weights: str) -> Limits:
        """The limits of a precision.

        Raises:
            ProfileError: the profile has none for it.
        """
        for name, limits in self.limits.items():
            if name == weights:
                return limits
        raise ProfileError(
            f"profile {self.name} has no limits for {weights} weights",
            next_step=f"add [limits.{weights}] to it and export again",
        )

    @model_validator(mode="after")
    def _check_grid(self) -> Self:
        names = [spec.name for spec in self.graphs]
        if len(set(names)) != len(names):
            raise ValueError(f"two graphs of one name among {', '.join(names)}")
        lengths = {spec.cache_len for spec in self.graphs} - {0}
        if len(lengths) != 1:
            raise ValueError("all graphs with a cache must have one cache_len")
        for spec in self.graphs:
            if spec.phase == "decode" and (spec.seq_len != 1 or spec.cache_len == 0):
                raise ValueError(f"graph {spec.name}: decode has seq_len 1 and a cache")
        kinds = {(spec.phase, spec.batch_size) for spec in self.graphs if spec.cache_len}
        if not {("prefill", 1), ("decode", 1)} <= kinds:
            raise ValueError("needs a prefill and a decode graph of batch_size 1 with a cache")
        return self


def profile_names() -> list[str]:
    """Names of the profiles that ship with the toolchain."""
    entries = files("profiles").iterdir()
    return sorted(entry.name[:-5] for entry in entries if entry.name.endswith(".toml"))


def load_profile(name_or_path: str) -> Profile:
    """Reads a shipped profile by name, or any by the path of its TOML file.

    Raises:
        ProfileError: no such profile, not TOML, an unknown key or an impossible value.
    """
    if name_or_path in profile_names():
        data = (files("profiles") / f"{name_or_path}.toml").read_bytes()
    elif name_or_path.endswith(".toml") and Path(name_or_path).is_file():
        data = Path(name_or_path).read_bytes()
    else:
        raise ProfileError(
            "no such profile",
            got=name_or_path,
            allowed=f"{', '.join(profile_names())} or the path of a .toml file",
        )
    try:
        values = tomllib.loads(data.decode())
        # Read as JSON, whose arrays may be tuples while every other type must be the right one.
        return Profile.model_validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        raise ProfileError(f"profile {name_or_path}: {first_problem(error)}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ProfileError(f"profile {name_or_path}: {error}") from error
