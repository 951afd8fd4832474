"""Reads a profile by name or path. Unknown keys and impossible graph grids are errors."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, ValidationError, model_validator

from profiles.recipe import BITS, DEFAULT_RECIPES, Departure, Fineness, LayerKind, Quantized, Recipe
from profiles.toml_file import parse_toml, read_toml
from runtime.bundle.manifest import GraphSpec, Rows
from runtime.bundle.reader import Bundle
from runtime.errors import BundleError, UserError
from runtime.record import Record, first_problem

__all__ = [
    "Chip",
    "ChipFact",
    "HostCPU",
    "KVCache",
    "Kernels",
    "Limits",
    "Precision",
    "Profile",
    "ProfileError",
    "Via",
    "exported_profile",
    "load_profile",
    "profile_names",
]

Precision = Literal["fp32", "fp16", "bf16", "int8", "int4"]
HostCPU = Literal["x86_64", "aarch64"]
Kernels = Literal["auto", "own", "onnxruntime"]
Via = Literal["auto", "air", "onnx"]
KVCache = Literal["float", "int8"]  # float: in the type that attention is computed in
Limited = Literal["fp32", "fp16", "bf16", "int8", "int4", "int8_cache"]  # has its own limits
MOST = 1000.0  # beyond any sensible limit
Tolerance = Annotated[float, Field(gt=0, le=MOST)]


class ProfileError(UserError):
    """The profile does not exist or says something that cannot be."""

    code = "invalid_profile"


class ChipFact(Record):
    """A number about the chip in bytes, bytes/s or operations/s, with where it is from."""

    value: float = Field(gt=0, le=1e20)
    source: str


class Share(ChipFact):
    """A part of one."""

    value: float = Field(gt=0, le=1)


class Chip(Record):
    """What the chip has. Efficiencies are the shares of the peaks that models reach on it."""

    soc_name: str  # as ATC and acl.get_soc_name spell it
    memory: ChipFact  # bytes that the driver shows
    reserved: ChipFact  # bytes of it in use before anything is loaded
    bandwidth: ChipFact  # bytes/s between memory and cores
    fp16: ChipFact  # float16 operations/s, a multiplication and an addition being two
    memory_efficiency: Share
    compute_efficiency: Share

    @model_validator(mode="after")
    def _check_reserved(self) -> Self:
        if self.reserved.value >= self.memory.value:
            raise ValueError("reserved must be less than memory")
        return self


class Limits(Record):
    """How far a stage may be from the float32 reference before `verify` fails.

    argmax and top10 are shares of rows; kl is the mean Kullback-Leibler divergence in nats;
    perplexity is how much worse it may be, relatively; greedy is the mean share of greedy tokens
    before the first mismatch; hidden is the relative error of what one layer adds to the residual
    stream, given the same input; head, if not that of hidden, the same of any one id's logits.
    """

    argmax: float = Field(ge=0, le=1)
    top10: float = Field(ge=0, le=1)
    kl: Tolerance
    perplexity: Tolerance
    greedy: float = Field(ge=0, le=1, default=0.0)
    hidden: Tolerance
    head: Tolerance | None = None

    def loosened(self, other: "Limits") -> "Limits":
        """With what a cache may do besides; the head is past the cache."""
        return Limits(
            argmax=max(0.0, self.argmax + other.argmax - 1),
            top10=max(0.0, self.top10 + other.top10 - 1),
            kl=min(MOST, self.kl + other.kl),
            perplexity=min(MOST, self.perplexity + other.perplexity),
            greedy=self.greedy * other.greedy,
            hidden=min(MOST, self.hidden + other.hidden),
            head=self.head or self.hidden,
        )


# Float32 differs by rounding only; float16 by its own rounding; the others by what they drop. An
# int8 cache adds its own to that of the weights. Chosen on the miniature and a small trained
# checkpoint, which stay well within.
DEFAULT_LIMITS: dict[Limited, Limits] = {
    "fp32": Limits(argmax=0.999, top10=0.999, kl=1e-6, perplexity=1e-4, greedy=0.95, hidden=1e-3),
    "fp16": Limits(argmax=0.98, top10=0.98, kl=1e-3, perplexity=0.005, greedy=0.7, hidden=0.02),
    # Eight times the rounding of float16.
    "bf16": Limits(argmax=0.93, top10=0.9, kl=8e-3, perplexity=0.02, greedy=0.3, hidden=0.06),
    "int8": Limits(argmax=0.95, top10=0.93, kl=5e-3, perplexity=0.01, greedy=0.3, hidden=0.1),
    "int4": Limits(  # the head is int8
        argmax=0.75, top10=0.7, kl=0.1, perplexity=0.05, greedy=0.1, hidden=0.3, head=0.1
    ),
    "int8_cache": Limits(
        argmax=0.97, top10=0.97, kl=1e-3, perplexity=0.01, greedy=0.7, hidden=0.05
    ),
}


class Profile(Record):
    """A deployment: the chip, the graph family to build and the precision."""

    name: str
    description: str
    target: str
    weights: Precision
    # Inputs of a linear layer that share one scale; 0: one scale for every output.
    block_size: Literal[0, 16, 32, 64, 128, 256] = 32
    # Kinds of layers that are quantised in another way, by the weights that are chosen.
    recipes: dict[Quantized, Recipe] = Field(default_factory=lambda: dict(DEFAULT_RECIPES))
    # Texts that the weights are rounded with: builtin, or a file; None: each to the nearest level.
    calibrate: str | None = None
    kv_cache: KVCache = "float"
    # What multiplies on a CPU: runtime/kernels, or ONNX Runtime; auto: the first that can.
    kernels: Kernels = "auto"
    # The way to a chip's graphs; auto: torchair's .air where torchair knows the chip.
    via: Via = "auto"
    graphs: tuple[GraphSpec, ...] = Field(max_length=100)
    # Cached rows for which a chip gets graphs of one sequence besides, from few to many.
    short_caches: Annotated[tuple[Rows, ...], Field(max_length=10)] = ()
    # Sequences that the cache holds; None: as many as the largest graph runs.
    slots: Annotated[int, Field(ge=1, le=1000)] | None = None
    passes: tuple[str, ...] = ()  # optional ones of the target's list
    host_cpu: HostCPU | None = None  # of the box that runs the bundle; None: like this machine
    chip: Chip | None = None  # None: the machine that the work runs on
    limits: dict[Limited, Limits] = Field(default_factory=lambda: dict(DEFAULT_LIMITS))

    @property
    def cache_len(self) -> int:
        """Rows of one cache slot: the longest sequence that fits."""
        return max(spec.cache_len for spec in self.graphs)

    @property
    def short_graphs(self) -> tuple[GraphSpec, ...]:
        """The prefill and decode graphs of one sequence on each of `short_caches`."""
        whole = [
            spec
            for spec in self.graphs
            if spec.batch_size == 1 and spec.cache_len and spec.phase != "score"
        ]
        lengths = [length for length in self.short_caches if length < self.cache_len]
        return tuple(
            spec.model_copy(update={"cache_len": length}) for length in lengths for spec in whole
        )

    @property
    def num_slots(self) -> int:
        """Sequences that the cache holds."""
        return self.slots or max(spec.batch_size for spec in self.graphs)

    def fineness(self, kind: LayerKind) -> Fineness:
        """How finely a kind of layer is quantised, where the weights are int4 or int8."""
        recipes = DEFAULT_RECIPES | self.recipes
        found = next((recipe for name, recipe in recipes.items() if name == self.weights), {})
        departure = found.get(kind, Departure())
        return Fineness(
            BITS[departure.weights or self.weights], departure.block_size or self.block_size
        )

    @property
    def described_weights(self) -> str:
        """Such as int4, one scale for 128 inputs; lm_head int8, 128; calibrated with builtin."""
        if self.weights not in BITS:
            return self.weights
        plain = Fineness(BITS[self.weights], self.block_size)
        kinds = ((kind, self.fineness(kind)) for kind in get_args(LayerKind))
        parts = [
            f"{self.weights}, one scale for {self.block_size or 'all'} inputs",
            *(f"{kind} int{each.bits}, {each.block_size}" for kind, each in kinds if each != plain),
        ]
        if self.calibrate is not None:
            parts.append(f"calibrated with {Path(self.calibrate).name}")
        return "; ".join(parts)

    @property
    def block_sizes(self) -> list[int]:
        """Of all kinds of layers, where the weights are int4 or int8."""
        return [self.fineness(kind).block_size for kind in get_args(LayerKind)]

    def limits_for(self, weights: str, kv_cache: KVCache) -> Limits:
        """The limits of a bundle with these precisions; the defaults where the profile has none.

        Raises:
            ProfileError: there are no such weights.
        """
        limits = DEFAULT_LIMITS | self.limits
        for name, found in limits.items():
            if name == weights:
                return found.loosened(limits["int8_cache"]) if kv_cache == "int8" else found
        raise ProfileError(f"there are no limits for {weights} weights", allowed=", ".join(limits))

    @model_validator(mode="after")
    def _check_grid(self) -> Self:
        names = [spec.name for spec in self.graphs]
        if len(set(names)) != len(names):
            raise ValueError(f"two graphs of one name among {', '.join(names)}")
        lengths = {spec.cache_len for spec in self.graphs} - {0}
        if len(lengths) != 1:
            raise ValueError("all graphs with a cache must have one cache_len")
        short = self.short_caches
        if list(short) != sorted(set(short)) or any(length >= self.cache_len for length in short):
            raise ValueError("short_caches must rise, and end below cache_len")
        batch_size = max(spec.batch_size for spec in self.graphs)
        if self.num_slots < batch_size:
            raise ValueError(f"slots must be at least {batch_size}, the largest batch_size")
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
        shipped = (files("profiles") / f"{name_or_path}.toml").read_bytes()
        values = parse_toml(shipped, f"profile {name_or_path}", ProfileError)
    elif name_or_path.endswith(".toml") and Path(name_or_path).is_file():
        values = read_toml(Path(name_or_path), ProfileError)
    else:
        raise ProfileError(
            "no such profile",
            got=name_or_path,
            allowed=f"{', '.join(profile_names())} or the path of a .toml file",
        )
    try:
        # Read as JSON, whose arrays may be tuples while every other type must be the right one.
        return Profile.model_validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        raise ProfileError(f"profile {name_or_path}: {first_problem(error)}") from error


def exported_profile(bundle: Bundle) -> Profile:
    """The profile that the bundle was exported with.

    Raises:
        BundleError: a version with other profiles wrote the bundle.
    """
    try:
        return Profile.model_validate(bundle.manifest.profile, strict=False)
    except ValidationError as error:
        raise BundleError(
            f"{bundle.path}: profile: {first_problem(error)}",
            next_step="export it again with this version",
        ) from error
