"""What a chip's program is counted to take, beside what a person counts."""

from export.air.count import count_program
from export.air.weights import Quantisation
from export.graphs import chip_graph, program_rows
from runtime.bundle.manifest import GraphSpec
from tests.models import SEVEN_B

DECODE = GraphSpec(phase="decode", batch_size=4, seq_len=1, cache_len=2048)
PREFILL = GraphSpec(phase="prefill", batch_size=1, seq_len=512, cache_len=2048)
ONE = SEVEN_B.model_copy(update={"num_hidden_layers": 1})
TWO = SEVEN_B.model_copy(update={"num_hidden_layers": 2})
# A layer of the 7B: numbers of its weights, and of a row of its keys and values.
WEIGHTS, ROW = 4 * 4096**2 + 3 * 4096 * 11008, 2 * 4096


def layer(spec: GraphSpec, quantisation: Quantisation | None = None) -> tuple[int, int, int]:
    """Kernels, bytes and operations that the second layer adds."""
    counts = []
    for config in (ONE, TWO):
        graph = chip_graph(config, spec, program_rows([DECODE, PREFILL]), "", 1.0)
        found = count_program(config, graph, quantisation)
        counts.append(
            (len(found), sum(k.num_bytes for k in found), sum(k.operations for k in found))
        )
    (kernels, num_bytes, operations), (more, more_bytes, more_operations) = counts
    return more - kernels, more_bytes - num_bytes, more_operations - operations


def test_a_step_of_four_sequences_reads_weights_once_and_each_cache_once() -> None:
    kernels, num_bytes, operations = layer(DECODE)
    least = 2 * WEIGHTS + 2 * 4 * 2048 * ROW
    assert kernels == 12
    assert least < num_bytes < 1.01 * least
    assert operations == 4 * (2 * WEIGHTS + 4 * 4096 * 2048)


def test_int8_weights_are_half_of_the_bytes_and_a_scale_for_every_output() -> None:
    saved = layer(DECODE)[1] - layer(DECODE, Quantisation(group_size=0))[1]
    assert saved == WEIGHTS - 2 * (3 * 4096 + 4096 + 2 * 11008 + 4096)


def test_a_chunk_of_a_prompt_writes_no_scores() -> None:
    kernels, num_bytes, operations = layer(PREFILL)
    activations = 2 * 512 * (32 * 4096 + 6 * 11008)  # between the kernels, by hand
    expected = 2 * WEIGHTS + 2 * 2048 * ROW + activations
    assert kernels == 12
    assert expected < num_bytes < 1.001 * expected
    assert operations == 512 * (2 * WEIGHTS + 4 * 4096 * 2048)
