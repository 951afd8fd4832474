"""int8 on a chip beside float32: the short part of what `make tokens-test` tells."""

from contextlib import closing
from pathlib import Path

import pytest

from runtime.bundle.reader import load_bundle
from runtime.sessions import open_session
from tests.acceptance.agreement import agreement, greedy_tokens
from tests.acceptance.checkpoints import Asked, grouped
from tests.acceptance.ways import LEVELS, WAYS, opened
from toolchain.choices import Choices
from toolchain.compiler import compile_bundle

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def asked(memoriser_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    return grouped(memoriser_checkpoint, tmp_path_factory.mktemp("grouped"))


@pytest.fixture(scope="module")
def expected(asked: Asked, tmp_path_factory: pytest.TempPathFactory) -> list[list[int]]:
    """What its int8 weights say in float32."""
    output = tmp_path_factory.mktemp("levels") / "cpu"
    on_cpu = compile_bundle(asked.levels, output, Choices(target="cpu", weights="fp32"))
    return greedy_tokens(open_session(on_cpu), asked.prompts, asked.num_tokens)


def test_int8_on_a_chip_says_what_its_weights_say_in_float32(
    asked: Asked, expected: list[list[int]], tmp_path: Path
) -> None:
    way = next(way for way in WAYS if LEVELS in way.spacings)
    with opened(way, asked.bundle, tmp_path / "way") as session:
        assert greedy_tokens(session, asked.prompts, asked.num_tokens) == expected


def test_the_gap_is_that_of_the_logits_where_an_answer_parts(bundles: Path) -> None:
    """A token that float32 thinks least of is many spacings away, one that it says is none."""
    small = load_bundle(bundles / "small-fp32")
    prompts = [[5, 6, 7], [11, 12, 13, 14]]
    expected = greedy_tokens(open_session(small), prompts, 6)
    said = [list(tokens) for tokens in expected]
    with closing(open_session(small)) as reference:
        found = agreement(reference, prompts, expected, said)
        assert (found.same, found.tokens, found.gap) == (2, 12, 0.0)
        said[1][4] = (expected[1][4] + 1) % 640
        found = agreement(reference, prompts, expected, said)
        assert (found.same, found.tokens) == (1, 10)
        assert found.gap > 2
