"""Claims about profiles: shipped ones load, and a wrong one is refused by the key that is wrong."""

import re
from pathlib import Path

import pytest

from profiles import Profile, ProfileError, load_profile, profile_names
from tests.paths import DATA

SMALL = (DATA / "small.toml").read_text()
DECODE = '{ phase = "decode", batch_size = 1, seq_len = 1, cache_len = 40 }'
FACTS = ("memory", "reserved", "bandwidth", "fp16", "memory_efficiency", "compute_efficiency")
CHIP = '[chip]\nsoc_name = "x"\n' + "\n".join(
    f'{fact} = {{ source = "x", value = {0.6 if fact == "memory_efficiency" else 1} }}'
    for fact in FACTS
)
PREFILL = '{ phase = "prefill", batch_size = 1, seq_len = 8, cache_len = 40 }'


def write(directory: Path, text: str) -> str:
    file = directory / "mine.toml"
    file.write_text(text)
    return str(file)


def changed(directory: Path, old: str, new: str) -> str:
    assert old in SMALL
    return write(directory, SMALL.replace(old, new, 1))


def refusal(name_or_path: str) -> str:
    """The message after the profile's name; it is one line, whatever is wrong."""
    with pytest.raises(ProfileError) as caught:
        load_profile(name_or_path)
    message = str(caught.value)
    assert "\n" not in message
    assert name_or_path in message
    return message.removeprefix(f"profile {name_or_path}: ")


def test_the_default_profile_ships() -> None:
    assert "cpu" in profile_names()


@pytest.mark.parametrize("name", profile_names())
def test_a_shipped_profile_loads_and_can_be_verified(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert profile.description
    assert profile.limits_for(profile.weights, profile.kv_cache).kl > 0


def test_a_profile_is_read_by_its_path(tmp_path: Path) -> None:
    profile = load_profile(write(tmp_path, SMALL))
    assert (profile.name, profile.block_size) == ("small", 32)
    assert [spec.name for spec in profile.graphs] == [
        "prefill_s4",
        "prefill_s8",
        "score_s8",
        "decode_b1",
        "decode_b3",
    ]


def test_a_profile_survives_the_manifest(tmp_path: Path) -> None:
    profile = load_profile(write(tmp_path, SMALL))
    assert Profile.model_validate(profile.model_dump(mode="json"), strict=False) == profile


@pytest.mark.parametrize("name", ["gpu", "cpu.toml", "../profiles/cpu", ".", "mine.TOML"])
def test_an_unknown_name_lists_the_known_ones(name: str) -> None:
    assert refusal(name) == (
        f"no such profile; got {name}; "
        f"allowed: {', '.join(profile_names())} or the path of a .toml file"
    )


def test_a_directory_is_no_profile(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").mkdir()
    assert "no such profile" in refusal(str(tmp_path / "mine.toml"))


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('name = "small"', 'name = "small"\nchipset = "x"', "chipset"),
        (PREFILL, PREFILL.replace("seq_len", "num_beams = 2, seq_len"), "graphs.1.num_beams"),
        ("[limits.fp32]", "[limits.fp32]\nspeed = 1", "limits.fp32.speed"),
        (
            "[limits.fp32]",
            f"{CHIP}\n[limits.fp32]".replace("0.6", "0.6, year = 2024"),
            "chip.memory_efficiency.year",
        ),
    ],
)
def test_an_unknown_key_is_named_with_its_place(
    tmp_path: Path, old: str, new: str, key: str
) -> None:
    message = refusal(changed(tmp_path, old, new))
    assert message == f"unknown key {key}; remove it or correct its spelling"


@pytest.mark.parametrize("data", [b"", b'{"name": "small"}', b"name = small", b"\xff\xfe\x00"])
def test_a_file_that_is_no_profile_is_named(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "mine.toml"
    file.write_bytes(data)
    assert refusal(str(file))


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (PREFILL, PREFILL.replace("8", "4"), "two graphs of one name among prefill_s4, prefill_s4"),
        (PREFILL, PREFILL.replace("40", "41"), "must have one cache_len"),
        (
            DECODE,
            DECODE.replace("seq_len = 1", "seq_len = 2"),
            "decode_b1_s2: decode has seq_len 1",
        ),
        (DECODE, DECODE.replace("40", "0"), "decode_b1_c0: decode has seq_len 1 and a cache"),
        (
            'weights = "',
            'short_caches = [8, 40]\nweights = "',
            "must rise, and end below cache_len",
        ),
        ('weights = "', 'short_caches = [9, 8]\nweights = "', "must rise, and end below cache_len"),
        (f"{DECODE},", "", "needs a prefill and a decode graph of batch_size 1 with a cache"),
        (
            DECODE,
            DECODE.replace("batch_size = 1", "batch_size = 2"),
            "needs a prefill and a decode",
        ),
    ],
)
def test_an_impossible_grid_is_refused_in_one_sentence(
    tmp_path: Path, old: str, new: str, problem: str
) -> None:
    message = refusal(changed(tmp_path, old, new))
    assert problem in message
    assert len(message) < 150, "the whole profile is no help"


def test_a_profile_without_prefill_is_refused(tmp_path: Path) -> None:
    grid = re.sub(r'(?m)^ .*"prefill".*\n', "", SMALL)
    assert refusal(write(tmp_path, grid)).startswith("needs a prefill and a decode graph")


@pytest.mark.parametrize("key", ["name", "description", "target", "weights", "graphs"])
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    values = {
        "name": 'name = "x"',
        "description": 'description = ""',
        "target": 'target = "cpu"',
        "weights": 'weights = "int4"',
        "graphs": f"graphs = [{PREFILL}, {DECODE}]",
    }
    assert (
        load_profile(write(tmp_path, "\n".join(values.values()))).limits_for("int4", "float").kl > 0
    )
    del values[key]
    assert refusal(write(tmp_path, "\n".join(values.values()))) == f"{key}: Field required"


@pytest.mark.parametrize("size", [-32, 8, 15, 33, 48, 257, '"32"', 32.5, "true"])
def test_a_block_size_that_the_kernels_lack_is_refused(tmp_path: Path, size: object) -> None:
    message = refusal(write(tmp_path, f"block_size = {size}\n{SMALL}"))
    assert message.startswith("block_size: Input should be 0, 16, 32, 64, 128 or 256; got ")


@pytest.mark.parametrize("size", [0, 16, 32, 64, 128, 256])
def test_a_block_size_of_the_kernels_is_taken(tmp_path: Path, size: int) -> None:
    assert load_profile(write(tmp_path, f"block_size = {size}\n{SMALL}")).block_size == size


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ('weights = "fp32"', 'weights = "int3"', "weights"),
        (PREFILL, PREFILL.replace("prefill", "train"), "graphs.1.phase"),
        (PREFILL, PREFILL.replace("8", "0"), "graphs.1.seq_len"),
        (PREFILL, PREFILL.replace("8", '"8"'), "graphs.1.seq_len"),
        (DECODE, DECODE.replace("batch_size = 1", "batch_size = true"), "graphs.3.batch_size"),
        ("argmax = 0.999", "argmax = 1.5", "limits.fp32.argmax"),
        ("kl = 1e-6", "kl = 0", "limits.fp32.kl"),
        ("kl = 1e-6", "kl = 1e9", "limits.fp32.kl"),
        (PREFILL, PREFILL.replace("8", str(10**9)), "graphs.1.seq_len"),
        (PREFILL, PREFILL.replace("40", str(10**12)), "graphs.1.cache_len"),
        (PREFILL, PREFILL.replace("1,", f"{10**6},"), "graphs.1.batch_size"),
        ("[limits.fp32]", "[limits.fp31]", "limits.fp31"),
    ],
)
def test_a_value_out_of_range_or_of_another_type_is_refused_by_its_key(
    tmp_path: Path, old: str, new: str, where: str
) -> None:
    message = refusal(changed(tmp_path, old, new))
    assert message.startswith(where)
    assert "; got " in message


def test_limits_that_a_profile_lacks_are_the_defaults(tmp_path: Path) -> None:
    profile = load_profile(write(tmp_path, SMALL))
    assert profile.limits_for("fp32", "float").kl == 1e-6
    assert profile.limits_for("int4", "float") == load_profile("cpu").limits_for("int4", "float")
    with pytest.raises(
        ProfileError, match=r"no limits for int3 weights; allowed: fp32, fp16, bf16, int8"
    ):
        profile.limits_for("int3", "float")


def test_an_int8_cache_loosens_the_limits_of_every_precision(tmp_path: Path) -> None:
    own = (
        "[limits.int8_cache]\nargmax = 0.9\ntop10 = 0.8\nkl = 0.5\nperplexity = 0.25\nhidden = 2\n"
    )
    profile = load_profile(write(tmp_path, f"{SMALL}\n{own}"))
    for weights in ("fp32", "fp16", "int8", "int4"):
        alone, both = (profile.limits_for(weights, cache) for cache in ("float", "int8"))
        assert both.argmax == pytest.approx(alone.argmax - 0.1)
        assert both.top10 == pytest.approx(alone.top10 - 0.2)
        assert (both.kl, both.perplexity) == (alone.kl + 0.5, alone.perplexity + 0.25)
        assert both.hidden == alone.hidden + 2
        assert both.head == (alone.head or alone.hidden)
        assert both.greedy == 0  # this table allows any


@pytest.mark.parametrize("key", ["kl = 1e-6", "perplexity = 1e-4", "hidden = 1e-3"])
@pytest.mark.parametrize("value", ["1e9", "0", "-1"])
def test_a_limit_is_a_number_that_can_be_met(tmp_path: Path, key: str, value: str) -> None:
    message = refusal(changed(tmp_path, key, f"{key.partition(' ')[0]} = {value}"))
    assert message.startswith(f"limits.fp32.{key.partition(' ')[0]}: ")
