"""What a target is: facts, and what compiling and running will take. Imports no compiler."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from profiles import HostCPU, Kernels, KVCache, Precision, Profile, Via
from runtime.bundle.manifest import Backend, Device, Graph, GraphSpec, ModelConfig
from runtime.bundle.reader import Bundle
from runtime.bundle.writer import BundleWriter
from runtime.progress import Progress
from toolchain.costs.calls import Counted
from toolchain.costs.quantity import BuildCosts, Quantity

__all__ = ["Compile", "Compiled", "Count", "DryRun", "Footprint", "Lazy", "Target"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """What a target made: the graphs, what runs them, and the chip that they are bound to.

    source_files: what it read besides the exported bundle, name -> sha256.
    """

    graphs: tuple[Graph, ...]
    backend: Backend
    kernels: int | None = None  # version of ours that the graphs call
    device: Device | None = None
    source_files: Mapping[str, str] = field(default_factory=dict)


# The profile says the target and the precisions; the names are of passes to disable.
Compile = Callable[[Bundle, Profile, Sequence[str], BundleWriter], Compiled]
# What the graphs move as they are lowered. The profile has facts of the chip. Needs torch.
Count = Callable[[ModelConfig, Profile, Progress], dict[GraphSpec, Counted]]
DryRun = Callable[[Bundle, Profile, Sequence[str], Path], list[str]]


@dataclass(frozen=True, slots=True)
class Lazy:
    """A thing by its module and name, imported when it is asked for: it needs its packages."""

    module: str
    name: str

    def load(self) -> Any:
        """The thing."""
        return getattr(import_module(self.module), self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What a target will take, from the model and the profile alone.

    compile: on the host.
    weights: one copy of the weights on the device.
    sharing: whether all graphs use that one copy, always or where the runtime can do it.
    state: the rest of the device memory.
    weights_read: bytes of weights read for every token.
    call_costs: of each graph of the profile; see Graph.cost.
    """

    compile: Callable[[ModelConfig, Profile], BuildCosts]
    weights: Callable[[ModelConfig, Profile], Quantity]
    sharing: Literal["always", "optional"]
    state: Callable[[ModelConfig, Profile], list[Quantity]]
    weights_read: Callable[[ModelConfig, Profile], int]
    call_costs: Callable[[ModelConfig, Profile], dict[GraphSpec, float]]
    cache_bytes: Callable[[Profile], int]  # of one number in the KV cache
    needs_chip: bool  # facts of the chip in the profile; else this machine's are taken
    static_shapes: bool  # every row of a chunk and of the cache costs time, valid or not


def _as_it_is(profile: Profile) -> Profile:
    return profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A way to lower the portable graphs. Of precisions and block sizes the first is the default.

    backend: what runs the bundles.
    check: raises TargetError for a model or a graph that it cannot lower.
    compiler: a `Compile`.
    passes: its ordered list of `Pass`.
    count: a `Count`; None where a kernel's traffic is not known.
    dry_run: a `DryRun`, lines that tell what compile would start; None where it starts no other
        program.
    soc_name: of the chip that it is for; None for any machine.
    series: of that chip, as package names and kernel folders spell it.
    calibrates: precisions whose weights it can round with the help of texts.
    kernels: what of a profile's kernels it can take.
    vias: ways to its graphs, of a profile's or --via.
    settle: replaces what a profile leaves open by what it stands for on this host.
    host_cpus: of the boxes that it compiles for; none where every box takes the same bundle.
    """

    backend: Backend
    weights: tuple[Precision, ...]
    kv_caches: tuple[KVCache, ...]
    block_sizes: tuple[int, ...]
    check: Callable[[ModelConfig, Sequence[GraphSpec]], None]
    compiler: Lazy
    passes: Lazy
    footprint: Footprint
    count: Lazy | None = None
    dry_run: Lazy | None = None
    calibrates: tuple[Precision, ...] = ()
    kernels: tuple[Kernels, ...] = ("auto",)
    vias: tuple[Via, ...] = ("auto",)
    settle: Callable[[Profile], Profile] = _as_it_is
    host_cpus: tuple[HostCPU, ...] = ()
    soc_name: str | None = None
    series: str = ""
