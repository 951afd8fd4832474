"""Claims about the .air itself: what a session and ATC find in it."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from runtime.bundle.manifest import TensorSpec
from runtime.bundle.reader import Bundle
from tests.export.air.conftest import SMALL, Airs, make_airs
from tests.export.air.interpreter import PROTO_TYPES

MODELS = ("miniature", "grouped", "int8")
# Nodes that start no kernel: what is there before, other shapes, and the end.
NO_KERNEL = {"Data", "RefData", "FileConstant", "Const", "Reshape", "Unsqueeze", "Squeeze"}
# The heads of the miniature are too small for the kernels that rotate.
KERNELS = {"miniature": 19, "grouped": 12, "int8": 19}
each_model = pytest.mark.parametrize("model", MODELS)
each_graph = pytest.mark.parametrize("graph", [spec.name for spec in SMALL])
Get = Callable[[str], Airs]


def of_type(graph: Any, *types: str) -> list[Any]:
    return [node for node in graph.op if node.type in types]


def readers(graph: Any, name: str) -> list[str]:
    return [node.type for node in graph.op if f"{name}:0" in node.input]


@each_model
@each_graph
def test_inputs_have_the_names_types_shapes_and_order_that_the_manifest_gives(
    model: str, graph: str, airs: Get
) -> None:
    made = airs(model)
    nodes = of_type(made.read(graph), "Data", "RefData")
    assert [node.attr["index"].i for node in nodes] == list(range(len(nodes)))
    described = tuple(
        TensorSpec(
            name=node.name,
            dtype=str(PROTO_TYPES[node.output_desc[0].dtype]).removeprefix("torch."),  # type: ignore[arg-type]
            shape=tuple(node.output_desc[0].shape.dim),
        )
        for node in nodes
    )
    assert described == made.graphs[graph].inputs


@each_model
@each_graph
def test_each_cache_is_written_in_place_once_and_nothing_but_attention_reads_it(
    model: str, graph: str, airs: Get
) -> None:
    made = airs(model)
    read = made.read(graph)
    caches = [spec.name for spec in made.graphs[graph].inputs if spec.name.startswith("past_")]
    assert [node.name for node in of_type(read, "RefData")] == caches
    assert [node.input[0] for node in of_type(read, "Scatter")] == [f"{name}:0" for name in caches]
    for cache, node in zip(caches, of_type(read, "Scatter"), strict=True):
        assert readers(read, cache) == ["Scatter"]
        assert readers(read, node.name) == ["FusedInferAttentionScore"]


@each_model
@each_graph
def test_the_logits_are_the_one_output_and_every_write_is_waited_for(
    model: str, graph: str, airs: Get
) -> None:
    read = airs(model).read(graph)
    [end] = of_type(read, "NetOutput")
    waited = {f"{node.name}:-1" for node in of_type(read, "Scatter")}
    assert len(set(end.input) - waited) == 1
    assert waited <= set(end.input)


@each_model
@each_graph
def test_a_layer_starts_few_kernels(model: str, graph: str, airs: Get) -> None:
    """A layer here goes from its write of keys to the next layer's."""
    nodes = list(airs(model).read(graph).op)
    keys = [i for i, node in enumerate(nodes) if node.input and "past_key." in node.input[0]]
    assert len(keys) > 1
    for first, end in pairwise(keys):
        started = [node.type for node in nodes[first:end] if node.type not in NO_KERNEL]
        assert len(started) == KERNELS[model]
        assert started.count("WeightQuantBatchMatmulV2") == (4 if model == "int8" else 0)


@each_model
def test_all_graphs_name_the_same_files_and_no_weight_is_in_them(model: str, airs: Get) -> None:
    made = airs(model)
    named = []
    for name in made.graphs:
        nodes = of_type(made.read(name), "FileConstant")
        named.append(sorted(node.attr["file_path"].s.decode() for node in nodes))
        assert all((made.folder / file).is_file() for file in named[-1])
        masks = 2048**2 if made.graphs[name].spec.seq_len > 1 else 0
        assert (made.folder / f"{name}.air").stat().st_size < 200_000 + masks
    assert all(files == named[0] for files in named)
    assert len(set(named[0])) == len(named[0])


def test_two_runs_in_two_places_give_the_same_bytes(
    torchair: Path, miniature: Bundle, airs: Get, tmp_path: Path
) -> None:
    """torchair names a cache for its address, and graphs for how many it made before."""
    again = make_airs(torchair, tmp_path, miniature, specs=SMALL[2:3])
    [name] = again.graphs
    first = airs("miniature").folder / f"{name}.air"
    assert (tmp_path / f"{name}.air").read_bytes() == first.read_bytes()
