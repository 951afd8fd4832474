"""What `toolchain export` takes; apart from the targets, which export need not load."""

from profiles import Profile
from runtime.bundle.manifest import ModelConfig
from runtime.threads import usable_threads
from toolchain.costs.quantity import BuildCosts, Quantity
from toolchain.costs.sizes import num_parameters

__all__ = ["export_costs"]

FLOAT16 = 2
# As measured by benchmarks/build_memory.py.
GRAPH_BYTES, GRAPH_BYTES_PER_LAYER = 10_300, 18_950  # a portable graph, its part of the manifest
EXPORT_BYTES, EXPORT_BYTES_PER_LAYER = 315e6, 1.2e6  # Python and torch; one graph in memory
EXPORT_BYTES_PER_CORE = 8e6  # pieces of a weight
TRACE_SECONDS, TRACE_SECONDS_PER_LAYER = 3.0, 0.06
STREAM_BYTES_PER_SECOND = 2.4e8  # read, hashed and written


def export_costs(config: ModelConfig, profile: Profile) -> BuildCosts:
    """What `toolchain export` reads, writes and takes on the host."""
    layers, graphs = config.num_hidden_layers, len(profile.graphs)
    weights = FLOAT16 * num_parameters(config)
    graph_bytes = graphs * (GRAPH_BYTES + layers * GRAPH_BYTES_PER_LAYER)
    return BuildCosts(
        read=Quantity(
            name="read",
            value=weights,
            unit="B",
            formula=f"{num_parameters(config):,} parameters x 2 B, if the checkpoint is 16-bit",
        ),
        write=Quantity(
            name="write",
            value=weights + graph_bytes,
            unit="B",
            formula=f"weights in fp16 {weights:,} + {graphs} graphs {graph_bytes:,}",
        ),
        host_memory=Quantity(
            name="host memory",
            value=EXPORT_BYTES
            + layers * EXPORT_BYTES_PER_LAYER
            + usable_threads() * EXPORT_BYTES_PER_CORE,
            unit="B",
            formula=f"{EXPORT_BYTES / 1e6:.0f} MB + {layers} layers x "
            f"{EXPORT_BYTES_PER_LAYER / 1e6} MB of one graph + {usable_threads()} cores x "
            f"{EXPORT_BYTES_PER_CORE / 1e6:.0f} MB of pieces of weights",
            estimate=True,
        ),
        time=Quantity(
            name="time",
            value=3
            + max(
                weights / STREAM_BYTES_PER_SECOND,
                graphs * (TRACE_SECONDS + layers * TRACE_SECONDS_PER_LAYER),
            ),
            unit="s",
            formula=f"3 s + the longer of {weights:,} B / {STREAM_BYTES_PER_SECOND:.1e} B/s and "
            f"{graphs} graphs x ({TRACE_SECONDS:.0f} s + {layers} layers x "
            f"{TRACE_SECONDS_PER_LAYER} s); slower where the disk is",
            estimate=True,
        ),
    )
