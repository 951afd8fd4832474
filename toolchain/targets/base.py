"""What a target is: precisions that it has, how it compiles, and what that will take."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from profiles import HostCPU, KVCache, Profile
from runtime.bundle.manifest import Device, Graph, GraphSpec, ModelConfig
from runtime.bundle.reader import Bundle
from runtime.bundle.writer import BundleWriter
from toolchain.costs.quantity import Quantity

__all__ = ["Compiled", "Footprint", "Target"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """What a target made: the graphs, and the chip that they are bound to, if any."""

    graphs: tuple[Graph, ...]
    device: Device | None = None


# The profile says the precisions; the names are of rewrites to leave out.
Compile = Callable[[Bundle, Profile, Sequence[str], BundleWriter], Compiled]
DryRun = Callable[[Bundle, Profile, Sequence[str], Path], list[str]]
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
    """A way to lower the portable graphs.

    check: raises TargetError for a model or a graph that it cannot lower.
    dry_run: lines that tell what compile would start; None where it starts no other program.
    soc_name: of the chip that it is for; None for any machine.
    host_cpus: of the boxes that it compiles for; none where every box takes the same bundle.
    """

    weights: tuple[str, ...]
    kv_caches: tuple[KVCache, ...]
    block_sizes: tuple[int, ...]
    check: Callable[[ModelConfig, Sequence[GraphSpec]], None]
    compile: Compile
    footprint: Footprint
    dry_run: DryRun | None = None
    host_cpus: tuple[HostCPU, ...] = ()
    soc_name: str | None = None
