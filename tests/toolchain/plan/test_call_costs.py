"""Claims about what a call costs: it is that of a count by hand, and chooses rightly."""

from pathlib import Path

import pytest

from profiles import load_profile
from runtime.bundle.reader import load_bundle
from runtime.engine.chunks import plan_chunks
from tests.models import SEVEN_B
from toolchain.choices import Choices
from toolchain.plan.planner import make_plan
from toolchain.targets import find_target

# Of the 7B: numbers in the linear layers of all layers, and in the head.
LAYERS, HEAD = 32 * (4 * 4096**2 + 3 * 4096 * 11008), 55296 * 4096
NUMBERS_PER_ROW = 2 * 32 * 4096  # keys and values of a row of the cache
# Bytes/s and operations/s that the profiles say are reached.
REACHED = {"310p3": (0.6 * 204.8e9, 0.7 * 69.5e12), "910b3": (0.6 * 1.6e12, 0.7 * 294.9e12)}


def prefill_in_steps(name: str, bytes_per_weight: float) -> float:
    """A prefill graph of 512 rows beside a decode graph, each the longer of its two."""
    (bandwidth, rate), cached = REACHED[name], load_profile(name).cache_len
    num_bytes = bytes_per_weight * (LAYERS + HEAD) + 2 * NUMBERS_PER_ROW * cached
    operations = 2 * (512 * LAYERS + HEAD) + 4 * 32 * 4096 * 512 * (cached + 512)
    return max(num_bytes / bandwidth, operations / rate) / (num_bytes / bandwidth)


@pytest.mark.parametrize(("weights", "num_bytes"), [("fp16", 2.0), ("int8", 1.0)])
@pytest.mark.parametrize("name", REACHED)
def test_the_cost_on_a_chip_follows_from_its_bandwidth_and_arithmetic(
    name: str, weights: str, num_bytes: float
) -> None:
    profile = Choices(weights=weights).apply(load_profile(name))
    costs = find_target(profile).footprint.call_costs(SEVEN_B, profile)
    by_name = {s.name: cost for s, cost in costs.items() if s.cache_len == profile.cache_len}
    assert by_name["decode_b1"] == 1
    assert by_name["prefill_s512"] == pytest.approx(prefill_in_steps(name, num_bytes), rel=1e-3)
    assert 1 < by_name["decode_b4"] < 2  # it reads the weights once and four caches


@pytest.mark.parametrize(
    ("name", "weights", "first"),
    [("310p3", "fp16", 2), ("310p3", "int8", 3), ("910b3", "fp16", 3), ("910b3", "int8", 5)],
)
def test_a_chip_takes_its_prefill_graph_for_prompts_of_a_few_tokens(
    name: str, weights: str, first: int
) -> None:
    """31 tokens took 31 steps, 3.6 s on a 310P3, where one call of 512 rows takes 0.15 s."""
    plan = make_plan(SEVEN_B, load_profile(name), Choices(weights=weights))
    profile = Choices(weights=weights).apply(load_profile(name))
    costs = find_target(profile).footprint.call_costs(SEVEN_B, profile)
    calls = {s: costs[s] for s in profile.graphs if s.name in ("prefill_s512", "decode_b1")}
    plans = [plan_chunks(n, calls, static_shapes=True) for n in range(1, 32)]
    lengths = [[spec.seq_len for spec in each] for each in plans]
    assert lengths == [[1] * n if n < first else [512] for n in range(1, 32)]
    [prefill] = [call for call in plan.calls if call.graph == "prefill_s512"]
    assert prefill.steps == max(calls.values())


def test_without_facts_of_the_chip_bytes_alone_count() -> None:
    profile = Choices(target="910b1").apply(load_profile("910b3"))
    costs = find_target(profile).footprint.call_costs(SEVEN_B, profile)
    by_name = {s.name: cost for s, cost in costs.items() if s.cache_len == profile.cache_len}
    assert by_name["prefill_s512"] == pytest.approx(1)


@pytest.mark.parametrize("name", ["talk-exported", "talk-int4", "talk-fp32"])
def test_on_a_cpu_a_call_costs_16_rows_besides_its_own(name: str, bundles: Path) -> None:
    graphs = load_bundle(bundles / name).manifest.graphs
    rows = [graph.spec.batch_size * graph.spec.seq_len for graph in graphs]
    assert [graph.cost for graph in graphs] == pytest.approx([(n + 16) / 17 for n in rows])
