"""Claims about recipes: which kinds of layers are quantised in another way."""

from pathlib import Path

import pytest

from profiles import Fineness, Profile, ProfileError, layer_kind, load_profile
from runtime.bundle.node_names import linears, module_of
from tests.paths import DATA

SMALL = (DATA / "small.toml").read_text()


def profile_with(directory: Path, text: str) -> Profile:
    file = directory / "mine.toml"
    file.write_text(f"{SMALL}\n{text}")
    return load_profile(str(file)).model_copy(update={"weights": "int4"})


def test_the_head_is_int8_where_a_profile_says_nothing(tmp_path: Path) -> None:
    profile = profile_with(tmp_path, "")
    assert profile.fineness("lm_head") == Fineness(8, 32)
    assert profile.fineness("down_proj") == Fineness(4, 32)
    assert profile.described_weights == "int4, one scale for 32 inputs; lm_head int8, 32"


def test_a_recipe_replaces_the_default_of_its_precision_only(tmp_path: Path) -> None:
    profile = profile_with(tmp_path, "[recipes.int4]\ndown_proj = { block_size = 64 }")
    assert profile.fineness("lm_head") == Fineness(4, 32)
    assert profile.fineness("down_proj") == Fineness(4, 64)
    int8 = profile.model_copy(update={"weights": "int8"})
    assert int8.fineness("down_proj") == int8.fineness("lm_head") == Fineness(8, 32)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[recipes.int4]\nmiddle = { block_size = 64 }", "recipes.int4.middle"),
        ("[recipes.int4]\ndown_proj = { block_size = 48 }", "got 48"),
        ('[recipes.int4]\ndown_proj = { weights = "fp16" }', "got 'fp16'"),
        ("[recipes.fp16]\ndown_proj = { block_size = 64 }", "recipes.fp16"),
    ],
)
def test_what_no_recipe_can_say_is_refused(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=says):
        profile_with(tmp_path, text)


def test_every_linear_layer_has_a_kind() -> None:
    kinds = [layer_kind(module_of(name)) for name in linears(1)]
    assert kinds == ["qkv_proj"] * 3 + ["o_proj"] + ["gate_up_proj"] * 2 + ["down_proj", "lm_head"]
