"""Portable graphs -> graphs that ATC takes, lowered and checked; no weight is read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import onnx_ir as ir

from profiles import Profile
from runtime.bundle.manifest import CacheLayout, CacheWrite, Graph, GraphSpec, TensorSpec
from runtime.bundle.reader import Bundle
from toolchain.costs.calls import in_steps
from toolchain.costs.rates import chip_rates
from toolchain.errors import TargetError
from toolchain.targets.ascend.chips import AscendChip
from toolchain.targets.ascend.open_seq_len import OpenSeqLen
from toolchain.targets.ascend.passes import IN_GEARS, ascend_passes, cache_layout
from toolchain.targets.ascend.rules.graph_rules import check_model
from toolchain.targets.ascend.shorter_cache import ShorterCache
from toolchain.targets.ascend.traffic import kernels, seconds
from toolchain.targets.pass_list import Pass, named, run_passes, tidy
from toolchain.targets.weights import StoredTensor, promise_weights, tensor_spec

__all__ = ["Lowered", "lower", "lower_in_gears"]

GEARS = "decoder"  # name of the one graph for all lengths
READ_SHORTER = {"rows_first_cache", "rewrite_attention"}  # without them there is no shorter cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Lowered:
    """One ONNX file that ATC will get: an AtcSource.

    members: graphs of the family that it computes; more than one where it has gears.
    weights: initializers that lie in files, by name.
    """

    name: str
    model: ir.Model
    members: tuple[Graph, ...]
    weights: dict[str, StoredTensor]
    layout: CacheLayout
    suffix: Literal[".onnx"] = ".onnx"
    cache_write: CacheWrite = "session"

    @property
    def gears(self) -> tuple[tuple[TensorSpec, ...], ...]:
        """See AtcSource.gears."""
        return tuple(member.inputs for member in self.members)

    @property
    def weight_bytes(self) -> int:
        """See AtcSource.weight_bytes."""
        return sum(tensor.nbytes for tensor in self.weights.values())


def lower(
    bundle: Bundle, profile: Profile, without: Sequence[str], chip: AscendChip
) -> list[Lowered]:
    """Every graph of the bundle by itself, checked against the rules of the chip.

    Raises:
        TargetError: a pass that cannot be disabled or does not find its nodes, or a rule that a
            graph breaks.
    """
    chosen = ascend_passes(profile, without)
    graphs = {graph.spec: graph for graph in bundle.manifest.graphs}
    lowered = [_lower(bundle, graph, profile, chosen, chip) for graph in graphs.values()]
    if {each.name for each in chosen} >= READ_SHORTER:
        for spec in profile.short_graphs:
            longest = graphs[spec.model_copy(update={"cache_len": profile.cache_len})]
            short = longest.model_copy(update={"spec": spec})
            lowered.append(_lower(bundle, short, profile, chosen, chip))
    costs = _costs(lowered, profile, chip)
    return [replace(one, members=_priced(one.members, costs)) for one in lowered]


def _costs(
    lowered: Sequence[Lowered], profile: Profile, chip: AscendChip
) -> dict[GraphSpec, float]:
    """What a call of each graph costs beside the others, as they are lowered."""
    rates = chip_rates(profile.chip)
    return in_steps(
        {
            member.spec: seconds(kernels(one.model, chip), rates)
            for one in lowered
            for member in one.members
        }
    )


def _priced(members: Sequence[Graph], costs: Mapping[GraphSpec, float]) -> tuple[Graph, ...]:
    return tuple(graph.model_copy(update={"cost": costs[graph.spec]}) for graph in members)


def _lower(
    bundle: Bundle, graph: Graph, profile: Profile, chosen: Sequence[Pass], chip: AscendChip
) -> Lowered:
    model, spec = ir.load(bundle.file(graph.path)), graph.spec
    longest = bundle.manifest.cache_len
    if 0 < spec.cache_len < longest:
        with named("shorter_cache", "leave short_caches out of the profile"):
            ShorterCache(bundle.manifest.model, spec.cache_len)(model)
    run_passes(model, chosen, bundle.manifest, profile)
    check_model(model, chip, spec.name)
    member = graph.model_copy(
        update={
            "inputs": tuple(tensor_spec(value, {}) for value in model.graph.inputs),
            "outputs": tuple(tensor_spec(value, {}) for value in model.graph.outputs),
        }
    )
    return Lowered(
        name=spec.name_beside(longest),
        model=model,
        members=(member,),
        weights=promise_weights(model),
        layout=cache_layout(chosen),
    )


def lower_in_gears(
    bundle: Bundle, profile: Profile, without: Sequence[str], chip: AscendChip
) -> Lowered:
    """One graph instead of those of one sequence: a gear for every length.

    Graphs of more sequences and score graphs have other inputs or outputs and are left out.

    Raises:
        TargetError: fewer than two graphs to join, or one whose nodes are not found.
    """
    graphs = {graph.spec: graph for graph in bundle.manifest.graphs}
    served = [spec for spec in graphs if _serves_one(spec)]
    if len(served) < 2:
        raise TargetError(
            "gears need two graphs of one sequence with a cache",
            got=", ".join(spec.name for spec in graphs),
            next_step="add prefill and decode graphs of batch_size 1 to the profile",
        )
    chosen = ascend_passes(profile, without, IN_GEARS)
    lowered = {spec: _lower(bundle, graphs[spec], profile, chosen, chip) for spec in served}
    costs = _costs([*lowered.values()], profile, chip)
    longest = lowered[max(served, key=lambda spec: spec.seq_len)]
    rows_axis = 1 if longest.layout == "NHD" else 2
    model = longest.model
    with named("open_seq_len", "take CANN 8.5 or newer and a card that has room"):
        OpenSeqLen(bundle.manifest.model, rows_axis)(model)
    tidy(model)
    template = longest.members[0]
    return Lowered(
        name=GEARS,
        model=model,
        members=_priced([_member(template, spec, rows_axis) for spec in served], costs),
        weights=longest.weights,
        layout=longest.layout,
    )


def _serves_one(spec: GraphSpec) -> bool:
    return spec.phase != "score" and spec.batch_size == 1 and spec.cache_len > 0


def _member(template: Graph, spec: GraphSpec, rows_axis: int) -> Graph:
    """The longest graph's inputs and outputs in the sizes of another length."""
    rows, total = spec.seq_len, spec.cache_len + spec.seq_len
    shapes = {
        "input_ids": (1, rows),
        "position_ids": (1, rows),
        "attention_mask": (1, 1, rows, total),
    }

    def sized(tensor: TensorSpec) -> TensorSpec:
        shape = shapes.get(tensor.name, tensor.shape)
        return tensor.model_copy(update={"shape": shape})

    def new_rows(tensor: TensorSpec) -> TensorSpec:
        if len(tensor.shape) < 4:  # logits
            return tensor
        shape = [*tensor.shape]
        shape[rows_axis] = rows
        return tensor.model_copy(update={"shape": tuple(shape)})

    return Graph(
        spec=spec,
        path=template.path,
        cost=template.cost,
        inputs=tuple(map(sized, template.inputs)),
        outputs=tuple(map(new_rows, template.outputs)),
    )
