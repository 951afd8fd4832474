"""The torch programs of an exported bundle, run by torch as they are: one operator at a time."""

from functools import partial

from export.graphs import FREQUENCIES, program_graph, program_rows
from export.positions import inverse_frequencies
from export.program import eager_program
from runtime.bundle.reader import Bundle
from runtime.sessions import Session, SessionOptions
from runtime.sessions.torch_devices import Cpu
from runtime.sessions.torch_program import TorchSession, mapped_weights

__all__ = ["open_eager"]


def open_eager(bundle: Bundle) -> Session:
    """A session over the programs of the bundle's graphs that have a cache, in float16."""
    config = bundle.manifest.model
    specs = [graph.spec for graph in bundle.manifest.graphs if graph.spec.cache_len]
    num_rows = program_rows(specs)
    graphs = tuple(program_graph(config, spec, num_rows, "float16", "") for spec in specs)
    manifest = bundle.manifest.model_copy(
        update={"backend": "torch", "target": "torch eager", "graphs": graphs}
    )
    weights = mapped_weights(bundle, graphs[0])
    weights[FREQUENCIES] = inverse_frequencies(config)

    load = partial(eager_program, config)
    return TorchSession(manifest, weights, load, Cpu(SessionOptions()))
