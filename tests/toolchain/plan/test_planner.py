"""Claims about plans: what they promise is what is then written, and a refusal can be acted on."""

import json
import math
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from export.config import load_config
from export.errors import ConfigError
from profiles import Profile, load_profile, profile_names
from profiles.profile import exported_profile
from runtime.bundle.manifest import GraphSpec
from runtime.bundle.reader import Bundle, load_bundle
from runtime.bundle.rope import LinearRope
from runtime.errors import UserError
from tests.models import SEVEN_B
from toolchain.choices import Choices
from toolchain.costs.quantity import Quantity, total
from toolchain.errors import TargetError
from toolchain.host import machine
from toolchain.plan.planner import Plan, make_plan

COMMAND = [sys.executable, "-c", "from toolchain.cli import main; main()"]
LINEAR = {"rope_scaling": LinearRope(factor=4.0), "max_position_embeddings": 16_384}
LONG = SEVEN_B.model_copy(update=LINEAR)  # Alpaca-2-7B-16K
PARAMETERS = 6_929_256_448  # of Chinese-Alpaca-2-7B
MIB = 1 << 20


def value(parts: list[Quantity], name: str) -> float:
    return next(part.value for part in parts if part.name.startswith(name))


def size(bundle: Bundle) -> int:
    return sum(file.stat().st_size for file in bundle.path.rglob("*") if file.is_file())


def command(*arguments: str, **limits: int) -> subprocess.CompletedProcess[str]:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (limits["addresses"],) * 2)

    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit if limits else None,
    )


def test_export_writes_what_was_planned(bundles: Path, miniature_dir: Path) -> None:
    for name in ("small-exported", "talk-exported"):
        bundle = load_bundle(bundles / name)
        plan = make_plan(load_config(miniature_dir), exported_profile(bundle))
        assert value(plan.build["export"], "write") == pytest.approx(size(bundle), rel=0.1)


@pytest.mark.parametrize("name", ["talk-int4", "talk-int4-kv8", "talk-int8", "talk-fp32"])
def test_compile_writes_what_was_planned(name: str, bundles: Path, miniature_dir: Path) -> None:
    bundle = load_bundle(bundles / name)
    plan = make_plan(load_config(miniature_dir), exported_profile(bundle))
    assert value(plan.build["compile"], "write") == pytest.approx(size(bundle), rel=0.1)


def test_the_sizes_of_the_7b_are_the_known_ones() -> None:
    plan = make_plan(SEVEN_B, load_profile("310p3"))
    assert value(plan.build["export"], "read") == 2 * PARAMETERS
    assert value(plan.device, "weights") == 2 * PARAMETERS
    assert value(plan.device, "KV cache") == 4 * 2048 * 524_288  # bytes per token in float16


def test_float16_fits_the_24_gb_card_with_shared_weights_only() -> None:
    profile = load_profile("310p3")
    shared = make_plan(SEVEN_B, profile, Choices(weights="fp16"), share_weights=True)
    unshared = make_plan(SEVEN_B, profile, Choices(weights="fp16"), share_weights=False)
    assert shared.available == pytest.approx((21_525 - 1_850) * MIB, rel=0.001)
    assert (shared.fits, unshared.fits) == (True, False)
    assert value(unshared.device, "weights") == 10 * value(shared.device, "weights")
    assert unshared.remedy is not None
    assert unshared.remedy.startswith("--share-weights")


def test_int8_weights_leave_room_for_more_slots_than_a_batch() -> None:
    profile = load_profile("310p3-int8")
    assert profile.num_slots == 2 * max(spec.batch_size for spec in profile.graphs)
    plan = make_plan(SEVEN_B, profile)
    assert plan.needs["shared"] + 3e9 < plan.available  # for what the estimates do not know


@pytest.mark.parametrize("name", ["910b3", "910b3-16k"])
def test_a_910b3_has_room_for_a_second_layout_of_the_weights(name: str) -> None:
    """Through ONNX, where nobody knows whether prefill and decode keep one."""
    plan = make_plan(LONG, load_profile(name), Choices(via="onnx"))
    assert plan.needs["shared"] + value(plan.device, "weights") < plan.available


@pytest.mark.parametrize(
    ("graph", "rows", "logit_rows"),
    [
        ({"phase": "decode", "batch_size": 8, "seq_len": 1}, 8, 8),
        ({"phase": "score", "batch_size": 1, "seq_len": 16}, 16, 16),
        ({"phase": "prefill", "batch_size": 1, "seq_len": 64}, 64, 1),
        ({"phase": "prefill", "batch_size": 1, "seq_len": 1024}, 1024, 1),
    ],
)
def test_every_graph_of_a_chip_is_counted(
    graph: dict[str, object], rows: int, logit_rows: int
) -> None:
    profile = load_profile("310p3").model_copy(update={"slots": 8})
    added = GraphSpec.model_validate({**graph, "cache_len": 2048})
    more = profile.model_copy(update={"graphs": (*profile.graphs, added)})
    before, after = (make_plan(SEVEN_B, each).device for each in (profile, more))

    def grown(name: str) -> float:
        return value(after, name) - value(before, name)

    more_rows, more_batch = max(0, rows - 512), max(0, added.batch_size - 4)
    assert grown("ids and new rows") == more_rows * (8 + 524_288) + 8 * more_batch
    assert grown("logits") == 4 * max(0, logit_rows - 8) * 55_296
    shorter = 2 * (added.phase == "prefill")  # six graphs, and four on two shorter caches
    assert grown("loaded graphs") == (1 + shorter) * value(before, "loaded graphs") / 10
    assert grown("KV cache") == grown("weights") == 0


def test_steps_of_many_read_the_weights_once() -> None:
    plan = make_plan(SEVEN_B, load_profile("310p3"))
    one, four = value(plan.speed, "per token, 2048"), value(plan.speed, "per step of 4")
    assert four - one == pytest.approx(3 * 2048 * 524_288 / (0.6 * 204.8e9))
    assert value(plan.speed, "per check of 8 rows") == one


def long_context(length: int) -> Profile:
    profile = load_profile("310p3")
    graphs = [spec for spec in profile.graphs if spec.batch_size == 1]
    long = tuple(spec.model_copy(update={"cache_len": length}) for spec in graphs)
    return profile.model_copy(update={"graphs": long})


def test_a_remedy_is_the_change_that_saves_the_most_and_it_fits() -> None:
    plan = make_plan(LONG, long_context(16_384))
    assert not plan.fits
    assert plan.remedy is not None
    assert plan.remedy.startswith("--weights int8")
    assert make_plan(LONG, long_context(16_384), Choices(weights="int8")).fits
    deep = LONG.model_copy(update={"num_hidden_layers": 64})
    both = make_plan(deep, long_context(16_384))
    assert both.remedy is not None
    assert both.remedy.startswith("--weights int8 and cache_len 4096 in the profile")
    assert make_plan(deep, long_context(4_096), Choices(weights="int8")).fits
    assert not make_plan(deep, long_context(8_192), Choices(weights="int8")).fits


def test_fewer_slots_are_a_remedy() -> None:
    plan = make_plan(SEVEN_B, load_profile("310p3-int8").model_copy(update={"slots": 12}))
    assert plan.remedy is not None
    assert plan.remedy.startswith("batch_size 1 and 1 slot in the profile")
    one = long_context(8_192).model_copy(update={"slots": 4, "weights": "int8"})
    remedy = make_plan(LONG, one).remedy
    assert remedy is not None
    assert remedy.startswith("slots 1 in the profile")


def test_what_no_setting_makes_fit_is_said() -> None:
    giant = SEVEN_B.model_copy(update={"num_hidden_layers": 320})
    remedy = make_plan(giant, load_profile("310p3")).remedy
    assert remedy is not None
    assert remedy.startswith("none")


def test_time_per_token_is_bytes_over_bandwidth() -> None:
    plan = make_plan(SEVEN_B, load_profile("310p3"))
    layer = 4 * 4096 * 4096 + 3 * 4096 * 11008
    for rows in (512, 1024, 2048):
        read = 2 * (32 * layer + 55296 * 4096) + rows * 524_288
        seconds = value(plan.speed, f"per token, {rows}")
        assert seconds == pytest.approx(read / (0.6 * 204.8e9))


def test_a_long_prompt_s_first_token_is_bound_by_arithmetic() -> None:
    plan = make_plan(SEVEN_B, load_profile("910b3"))
    seconds = value(plan.speed, "first token, 1024")
    assert seconds == pytest.approx(2 * 6.48e9 * 1024 / (0.7 * 294.9e12), rel=0.2)


def test_int8_halves_the_weights_that_are_read() -> None:
    plans = [
        make_plan(SEVEN_B, load_profile("310p3"), Choices(weights=weights))
        for weights in ("fp16", "int8")
    ]
    weights = [value(plan.device, "weights") for plan in plans]
    embedding = 2 * 55296 * 4096
    assert (weights[1] - embedding) / (weights[0] - embedding) == pytest.approx(0.5, abs=0.001)


def test_an_int8_cache_is_a_quarter_and_each_token_reads_less() -> None:
    plans = [
        make_plan(SEVEN_B, load_profile("cpu"), Choices(kv_cache=kind))
        for kind in ("float", "int8")
    ]
    caches = [value(plan.device, "KV cache") for plan in plans]
    assert caches[0] == 4 * caches[1] == 4 * 2049 * 32 * 2 * 4096 * 4
    calibrated = value(plans[1].build["compile"], "host memory")
    assert calibrated > value(plans[0].build["compile"], "host memory") + 2**28
    with pytest.raises(TargetError, match="no such KV cache; got int8; allowed: float"):
        make_plan(SEVEN_B, load_profile("310p3"), Choices(kv_cache="int8"))


def test_every_shipped_profile_can_be_planned_and_every_number_is_explained() -> None:
    for name in profile_names():
        plan: Plan = make_plan(LONG, load_profile(name))
        for part in [*plan.build["export"], *plan.build["compile"], *plan.device, *plan.speed]:
            assert part.formula
            assert math.isfinite(part.value)
            assert part.value > 0
        assert plan.fits == (total(plan.device) <= plan.available)


def test_what_export_or_compile_would_refuse_is_refused_before() -> None:
    with pytest.raises(ConfigError, match="caches more positions than the model has; got 16384"):
        make_plan(SEVEN_B, load_profile("910b3-16k"))
    narrow = SEVEN_B.model_copy(update={"head_dim": 24})
    with pytest.raises(TargetError, match="head_dim 24"):
        make_plan(narrow, load_profile("cpu"))
    for name, other in (("310p3", "cpu"), ("cpu", "310p3")):
        swapped = load_profile(name).model_copy(update={"chip": load_profile(other).chip})
        with pytest.raises(TargetError, match=f"profile {name}: chip"):
            make_plan(SEVEN_B, swapped)


def test_files_in_memory_are_not_counted_as_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an export the page cache fills a container's limit, which refused the compile."""
    own = Path("/proc/self/cgroup").read_text().splitlines()[0].split(":", 2)[2].strip("/")
    group = tmp_path / own
    group.mkdir(parents=True, exist_ok=True)
    (group / "memory.max").write_text("4000000000\n")
    (group / "memory.current").write_text("3900000000\n")
    (group / "memory.stat").write_text("anon 200000000\ninactive_file 3700000000\n")
    files = (f"{tmp_path}{{}}/memory.max", f"{tmp_path}{{}}/memory.current")
    monkeypatch.setattr(machine, "CGROUP_FILES", (files,))
    assert machine.available_memory() == 3_800_000_000
    assert machine.total_memory() == 4_000_000_000
    (group / "memory.stat").write_text("anon 3900000000\ninactive_file 0\n")
    with pytest.raises(UserError, match="too little free memory to build; got 0"):
        machine.require_memory(2e9, 0, "build")


@pytest.mark.parametrize(
    ("weights", "change", "message"),
    [
        ("int4", {}, "target 310p3 has no such weights; got int4; allowed: fp16, int8"),
        (None, {"target": "tpu"}, "no such target; got tpu; allowed: cpu, torch-cpu, "),
    ],
)
def test_what_a_target_lacks_is_refused(
    weights: str | None, change: dict[str, str], message: str
) -> None:
    profile = load_profile("310p3").model_copy(update=change)
    with pytest.raises(TargetError, match=message):
        make_plan(SEVEN_B, profile, Choices(weights=weights))


@pytest.fixture
def seven_b(tmp_path: Path) -> Path:
    """A directory with nothing but the 7B's config.json."""
    fields = SEVEN_B.model_dump(exclude={"rope_scaling", "head_dim"})
    kind = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    (tmp_path / "config.json").write_text(json.dumps(fields | kind))
    return tmp_path


def test_the_command_exits_1_when_the_model_does_not_fit(seven_b: Path) -> None:
    fits = command("plan", str(seven_b), "--profile", "310p3", "--explain", "--no-lowered")
    assert fits.returncode == 0
    assert "one copy of the weights: 19.2 of 20.6 GB, fits" in fits.stdout
    assert "one copy per graph: 144.0 of 20.6 GB, does not fit" in fits.stdout
    unshared = ("--no-share-weights", "--no-lowered")
    refused = command("plan", str(seven_b), "--profile", "310p3", *unshared, "--json")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: the model does not fit Ascend 310P3")
    assert "largest change that makes it fit: --share-weights" in refused.stderr
    assert json.loads(refused.stdout)["fits"] is False


def test_too_small_a_memory_limit_is_an_error_before_the_work(
    bundles: Path, miniature_dir: Path, tmp_path: Path
) -> None:
    output = tmp_path / "bundle"
    work = (["export", str(miniature_dir)], ["compile", str(bundles / "small-exported")])
    for step in work:
        run = command(*step, "-o", str(output), addresses=700_000_000)
        assert run.returncode == 1, run.stderr
        assert "too little address space (ulimit -v)" in run.stderr.splitlines()[-1]
        assert os.listdir(tmp_path) == []
