"""Claims about the matrix: its lines of a CPU hold, and its bounds tell a wrong model apart.

The lines of chips: tests/ascend/test_architectures.py. All of them: `make matrix`.
"""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.acceptance.beside_transformers import Family, export_family
from tests.acceptance.matrix import LINES, Line, measured

ON_CPU = [line for line in LINES if line.way.name.startswith("cpu ")]
VOCABULARY = 128_256  # of Llama 3
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_torch_thread")]

each_line = pytest.mark.parametrize("line", ON_CPU, ids=lambda line: line.way.name)


@pytest.fixture(scope="module", params=["Qwen 2.5", "Qwen 3"])
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    return export_family(request.param, tmp_path_factory.mktemp("family"))


@each_line
def test_a_cpu_is_as_close_as_the_matrix_allows(line: Line, family: Family, tmp_path: Path) -> None:
    assert measured(line, family, tmp_path / "out").found <= line.allowed


@each_line
def test_what_an_architecture_adds_is_seen_where_it_is_left_out(
    line: Line, family: Family, tmp_path: Path
) -> None:
    """Transformers without the biases, or with norms of heads that change no size."""
    without = copy.deepcopy(family.theirs)
    with torch.no_grad():
        for name, parameter in without.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif name.endswith(("q_norm.weight", "k_norm.weight")):
                parameter.fill_(1)
    found = measured(line, replace(family, theirs=without), tmp_path / "out").found
    assert found > 1.5 * line.allowed


def test_the_vocabulary_of_llama_3_is_computed_and_said_whole(tmp_path: Path) -> None:
    [exact, *_] = ON_CPU
    large = export_family("Llama 3", tmp_path, VOCABULARY)
    cell = measured(exact, large, tmp_path / "out")
    assert cell.found <= exact.allowed
    assert cell.largest_id > 2**16
