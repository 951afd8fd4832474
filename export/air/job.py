"""What `python -m export.air` is asked for: a JSON document on its standard input."""

from runtime.bundle.manifest import Graph, ModelConfig
from runtime.record import Record

__all__ = ["AirJob"]


class AirJob(Record):
    """Graphs to make.

    wheel: where torch_npu's wheel was unzipped.
    group_size: of int8 weights; None for float16.
    graphs: as chip_graph describes them; each is written to its path.
    weights: folder of the weights, relative to where ATC will run.
    """

    wheel: str
    model: ModelConfig
    group_size: int | None
    graphs: tuple[Graph, ...]
    weights: str
