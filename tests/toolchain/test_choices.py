"""Choices over a profile; another target brings its own chip, and defaults where it must."""

import pytest

from profiles import load_profile, profile_names
from toolchain.choices import Choices
from toolchain.errors import TargetError
from toolchain.targets import TARGETS, find_target


def test_nothing_chosen_changes_nothing() -> None:
    for name in profile_names():
        profile = load_profile(name)
        assert Choices().apply(profile) == profile
        assert Choices(target=profile.target).apply(profile) == profile


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", profile_names())
def test_every_profile_can_be_compiled_for_every_target(name: str, target: str) -> None:
    """A bundle exported for 310p3 had no option that compiled it for the CPU."""
    profile = Choices(target=target).apply(load_profile(name))
    chosen = find_target(profile)
    assert profile.target == target
    if profile.chip is not None:  # a target without a name is for several chips
        assert chosen.soc_name in (None, profile.chip.soc_name)
    assert profile.graphs == load_profile(name).graphs


def test_what_another_target_takes_is_kept_and_the_rest_is_its_default() -> None:
    on_cpu = Choices(target="cpu").apply(load_profile("310p3"))
    assert (on_cpu.weights, on_cpu.block_size, on_cpu.chip) == ("int4", 128, None)
    int8 = load_profile("310p3").model_copy(update={"weights": "int8", "block_size": 64})
    assert Choices(target="cpu").apply(int8).weights == "int8"
    assert Choices(target="cpu").apply(int8).block_size == 64
    on_chip = Choices(target="310p3").apply(load_profile("cpu"))
    assert (on_chip.weights, on_chip.kv_cache) == ("fp16", "float")
    assert on_chip.chip == load_profile("310p3").chip


def test_what_is_asked_for_by_name_is_never_replaced() -> None:
    chosen = Choices(target="310p3", weights="int4").apply(load_profile("cpu"))
    with pytest.raises(TargetError, match="310p3 has no such weights; got int4"):
        find_target(chosen)
    with pytest.raises(TargetError, match="no such target; got tpu"):
        Choices(target="tpu").apply(load_profile("cpu"))
