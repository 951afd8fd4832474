"""Claims about planned times of long prompts and contexts."""

import pytest

from profiles import load_profile
from runtime.bundle.rope import LinearRope
from tests.models import SEVEN_B
from toolchain.plan.planner import Plan, make_plan

LINEAR = {"rope_scaling": LinearRope(factor=4.0), "max_position_embeddings": 16_384}
LONG = SEVEN_B.model_copy(update=LINEAR)  # Alpaca-2-7B-16K


def seconds(plan: Plan) -> dict[str, float]:
    return {part.name: part.value for part in plan.speed}


@pytest.mark.parametrize(("name", "longest"), [("310p3", 2048), ("910b3-16k", 16_384)])
def test_times_are_said_up_to_what_the_cache_holds(name: str, longest: int) -> None:
    named = seconds(make_plan(LONG, load_profile(name)))
    contexts = [int(part.split()[2]) for part in named if part.startswith("per token")]
    assert max(contexts) == longest


def test_a_long_prompt_on_a_cpu_takes_more_than_its_share_and_so_does_a_token_behind_it() -> None:
    """Attention grows with the rows that are there; the products do not."""
    short = load_profile("cpu")
    graphs = tuple(spec.model_copy(update={"cache_len": 16_384}) for spec in short.graphs)
    named = seconds(make_plan(LONG, short.model_copy(update={"graphs": graphs})))
    first, token = "first token, {} tokens of prompt", "per token, {} tokens of context"
    assert 16 * named[first.format(1024)] < named[first.format(16_384)]
    assert named[token.format(512)] < named[token.format(16_384)]
