"""Claims about plans that count the lowered graphs: never below the limit, and as they are cut."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from profiles import load_profile
from tests.models import SEVEN_B
from tests.paths import ROOT
from toolchain.plan.planner import NOT_COUNTED, Plan, count_graphs, make_plan

pytestmark = pytest.mark.slow

PROFILE = load_profile("310p3")


@pytest.fixture(scope="module")
def plan() -> Plan:
    counted = count_graphs(SEVEN_B, PROFILE)
    assert list(counted) == [*PROFILE.graphs, *PROFILE.short_graphs]
    return make_plan(SEVEN_B, PROFILE, counted=counted)


def test_every_line_as_lowered_is_that_of_the_limit_and_no_shorter(plan: Plan) -> None:
    for lowered, limit in zip(plan.lowered, plan.speed, strict=True):
        assert lowered.name == limit.name
        assert lowered.value >= limit.value
        assert "kernels" in lowered.formula


def test_the_lines_are_sums_of_the_calls_that_they_make(plan: Plan) -> None:
    times = {call.graph: call.lowered.seconds for call in plan.calls if call.lowered}
    lines = {line.name: line.value for line in plan.lowered}
    assert lines["first token, 128 tokens of prompt"] == times["prefill_s512_c0"]
    both = times["prefill_s512_c0"] + times["prefill_s512_c512"]
    assert lines["first token, 1024 tokens of prompt"] == both
    assert lines["per token, 512 tokens of context"] == times["decode_b1_c512"]
    assert lines["per token, 1024 tokens of context"] == times["decode_b1_c1024"]
    assert lines["per token, 2048 tokens of context"] == times["decode_b1"]
    assert lines["per check of 8 rows"] == times["score_s8"]
    for call in plan.calls:
        assert call.steps == pytest.approx(times[call.graph] / times["decode_b1"])


def test_a_graph_for_fewer_cached_rows_saves_their_reading_and_costs_a_graph(plan: Plan) -> None:
    """The rest of the cache is read at 60 % of the bandwidth. A token has few scores; those of 512
    rows of 32 heads are moved six times between the products, and the rows of the cache turned."""
    graphs = [(name, rows) for rows in (512, 1024) for name in ("prefill_s512", "decode_b1")]
    for each, (name, rows) in zip(plan.short_caches, graphs, strict=True):
        assert (each.graph, each.cached_rows) == (f"{name}_c{rows}", rows)
        fewer, bandwidth = 2048 - rows, 0.6 * 204.8e9
        reading, scores = fewer * 524_288 / bandwidth, 6 * 32 * 32 * 512 * fewer * 2 / bandwidth
        if name == "decode_b1":
            assert reading < each.saved_s < 1.2 * reading
        else:
            assert reading + scores < each.saved_s < 1.6 * (reading + scores)
        assert each.compile_s == 32 * 20
        assert each.device_bytes == 32e6  # buffers are shared


def test_a_call_moves_no_less_than_it_must_and_starts_a_kernel_for_every_product(
    plan: Plan,
) -> None:
    for call in plan.calls:
        assert call.lowered is not None
        assert call.lowered.num_bytes > call.least_bytes
        assert call.lowered.operations >= call.least_operations
        assert call.lowered.kernels > 7 * SEVEN_B.num_hidden_layers


def test_where_no_graph_is_without_a_cache_every_chunk_of_a_prompt_reads_all_of_it() -> None:
    graphs = [spec for spec in PROFILE.graphs if spec.cache_len]
    without_first = PROFILE.model_copy(update={"graphs": tuple(graphs), "short_caches": ()})
    config = SEVEN_B.model_copy(update={"num_hidden_layers": 2})
    plan = make_plan(config, without_first, counted=count_graphs(config, without_first))
    times = {call.graph: call.lowered.seconds for call in plan.calls if call.lowered}
    lines = {line.name: line.value for line in plan.lowered}
    assert lines["first token, 128 tokens of prompt"] == times["prefill_s512"]
    assert lines["first token, 1024 tokens of prompt"] == 2 * times["prefill_s512"]
    for lowered, limit in zip(plan.lowered, plan.speed, strict=True):
        assert lowered.value >= limit.value


def test_a_cpu_has_nothing_to_count() -> None:
    assert count_graphs(SEVEN_B, load_profile("cpu")) == NOT_COUNTED
    plan = make_plan(SEVEN_B, load_profile("cpu"))
    assert plan.lowered == []
    assert {call.lowered for call in plan.calls} == {None}
    [prefill] = [call for call in plan.calls if call.graph == "prefill_s128"]
    assert prefill.steps == pytest.approx((128 + 16) / 17)


def run(directory: Path, program: str, profile: Path) -> subprocess.CompletedProcess[str]:
    """`toolchain plan` on two layers of the 7B."""
    config = SEVEN_B.model_copy(update={"num_hidden_layers": 2})
    fields = config.model_dump(exclude={"rope_scaling", "head_dim"})
    kind = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    (directory / "config.json").write_text(json.dumps(fields | kind))
    command = [sys.executable, "-c", program, "plan", str(directory), "--profile", str(profile)]
    return subprocess.run(command, capture_output=True, text=True, check=True)


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    """That of a 310P3 with two graphs."""
    lines = (ROOT / "profiles/310p3.toml").read_text().splitlines()
    others = ('"score"', "cache_len = 0", "batch_size = 2", "batch_size = 4")
    kept = [line for line in lines if not any(other in line for other in others)]
    (tmp_path / "small.toml").write_text("\n".join(kept))
    return tmp_path / "small.toml"


def test_the_command_shows_both_columns_and_every_call(tmp_path: Path, profile: Path) -> None:
    printed = run(tmp_path, "from toolchain.cli import main; main()", profile)
    assert "counting graph 2/6: decode_b1\n" in printed.stderr
    assert "as lowered  the chip's limit" in printed.stdout
    lines = [line.split() for line in printed.stdout.splitlines()]
    [call] = [words for words in lines if words[:1] == ["decode_b1"]]
    assert sum(words[:1] == ["decode_b1_c512"] for words in lines) == 2  # a call; what it saves
    assert "what graphs for fewer cached rows cost" in printed.stdout
    assert call[-1] == "1.0"
    assert float(call[2]) > float(call[6])  # GB moved, and the least


def test_without_torch_the_limits_are_planned_all_the_same(tmp_path: Path, profile: Path) -> None:
    block = "import sys; sys.modules['torch'] = None; "
    printed = run(tmp_path, f"{block}from toolchain.cli import main; main()", profile)
    assert "the graphs are not counted, since torch is missing" in printed.stderr
    assert "speed at best" in printed.stdout
    assert "as lowered  the chip's limit" not in printed.stdout
