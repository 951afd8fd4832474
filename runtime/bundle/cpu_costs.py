"""What a call of a graph costs where ONNX Runtime runs it on a CPU."""

from runtime.bundle.manifest import GraphSpec

__all__ = ["CALL_ROWS", "cost_on_cpu"]

# One more call costs as much as so many more rows: it reads all weights again. Chosen once.
CALL_ROWS = 16


def cost_on_cpu(spec: GraphSpec) -> float:
    """See Graph.cost."""
    return (spec.batch_size * spec.seq_len + CALL_ROWS) / (1 + CALL_ROWS)
