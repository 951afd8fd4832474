"""What a target is: precisions that it has, how it compiles, and what that will take."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from profiles import KVCache, Profile
from runtime.bundle import Bundle
from runtime.bundle_writer import BundleWriter
from runtime.manifest import Graph, GraphSpec, ModelConfig
from toolchain.quantity import Quantity

__all__ = ["Footprint", "Target"]

# The profile says the precisions; the names are of rewrites to leave out.
Compile = Callable[[Bundle, Profile, Sequence[str], BundleWriter], tuple[Graph, ...]]
Parts = Callable[[ModelConfig, Profile, str], list[Quantity]]  # the last is the precision


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What a target will take, from the model and the profile alone.

    compile: lines named "write", "host memory" and "time".
    weights: one copy of the weights on the device.
    sharing: whether all graphs use that one copy, always or where the runtime can do it.
    state: the rest of the device memory; "KV cache" is one line of it.
    weights_read: bytes of weights read for every token.
    """

    compile: Parts
    weights: Callable[[ModelConfig, Profile, str], Quantity]
    sharing: Literal["always", "optional"]
    state: Parts
    weights_read: Callable[[ModelConfig, Profile, str], int]
    cache_bytes: Callable[[Profile], int]  # of one number in the KV cache
    needs_chip: bool  # facts of the chip in the profile; else this machine's are taken
    static_shapes: bool  # every row of a chunk and of the cache costs time, valid or not


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A way to lower the portable graphs; compile is None where that is not built yet.

    check raises TargetError for a model or a graph that it cannot lower.
    """

    weights: tuple[str, ...]
    kv_caches: tuple[KVCache, ...]
    check: Callable[[ModelConfig, Sequence[GraphSpec]], None]
    compile: Compile | None
    footprint: Footprint
