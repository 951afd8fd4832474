"""What `toolchain plan` says of the sizes of Chinese-Alpaca-2, as two tables.

The first has all three on every profile, the second the 7B with a cache of 16,384 rows. The sizes
are those of their published config.json; positions are those of the 16K model, so that every
profile takes them. Times on a CPU follow from what this machine reaches just then: nothing else
should run.

--write makes a config.json instead, for `export --load-format dummy`.

Usage: model_sizes.py [--write SIZE --directory DIR]
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from seven_b import write_config

from export.config import load_config
from profiles import Profile, load_profile, profile_names
from runtime.bundle.manifest import ModelConfig
from toolchain.costs.sizes import num_parameters
from toolchain.plan.planner import Plan, make_plan

# What config.json has other than that of the 7B.
SIZES: dict[str, dict[str, int]] = {
    "1.3B": {"num_hidden_layers": 4},
    "7B": {},
    "13B": {
        "hidden_size": 5120,
        "intermediate_size": 13824,
        "num_hidden_layers": 40,
        "num_attention_heads": 40,
        "num_key_value_heads": 40,
    },
}
LAYERS = 32  # of the 7B
LONG = 16_384


def seven_b() -> ModelConfig:
    """The 7B, with the positions of the 16K model."""
    with TemporaryDirectory() as directory:
        write_config(Path(directory), LAYERS)
        config = load_config(Path(directory))
    return config.model_copy(update={"max_position_embeddings": LONG})


def row(name: str, config: ModelConfig, profile_name: str) -> str:
    """A line of the first table."""
    plan = make_plan(config, load_profile(profile_name))
    return (
        f"| {name} | {num_parameters(config) / 1e9:.2f} | {profile_name} "
        f"| {gigabytes(plan)} | {verdict(plan)} |"
    )


def gigabytes(plan: Plan) -> str:
    """What the device needs, of what it has."""
    return f"{plan.needs['shared'] / 1e9:.1f} of {plan.available / 1e9:.1f}"


def verdict(plan: Plan) -> str:
    """Whether it fits, and what would."""
    return "fits" if plan.fits else f"does not fit: {plan.remedy}"


def long_profiles() -> dict[str, Profile]:
    """Deployments with 16,384 rows: a CPU in int4 with an int8 cache, and a 910B3."""
    cpu = load_profile("cpu")
    graphs = tuple(spec.model_copy(update={"cache_len": LONG}) for spec in cpu.graphs)
    four = cpu.model_copy(update={"graphs": graphs, "kv_cache": "int8"})
    alone = tuple(spec for spec in graphs if spec.batch_size == 1)
    return {
        "cpu, int8 cache, 4 sequences": four,
        "cpu, int8 cache, 1 sequence": four.model_copy(update={"graphs": alone}),
        "910b3-16k": load_profile("910b3-16k"),
    }


def long_row(name: str, config: ModelConfig, profile: Profile) -> str:
    """A line of the second table."""
    plan = make_plan(config, profile)
    seconds = {part.name: part.value for part in plan.speed}
    first = seconds[f"first token, {LONG} tokens of prompt"]
    tokens = (seconds[f"per token, {rows} tokens of context"] for rows in (1024, 4096, LONG))
    cells = (f"{1000 * token:.1f}" for token in tokens)
    return f"| {name} | {gigabytes(plan)} | {verdict(plan)} | {first:.1f} | {' | '.join(cells)} |"


def main() -> None:
    """Prints the tables, or writes one config.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", choices=SIZES)
    parser.add_argument("--directory", type=Path, default=Path("build/model-size"))
    arguments = parser.parse_args()
    if arguments.write is None:
        print_tables()
    else:
        write_config(arguments.directory, LAYERS, **SIZES[arguments.write])


def print_tables() -> None:
    """All lines."""
    print("| model | 1e9 parameters | profile | GB of the device | |")
    print("|---|--:|---|--:|---|")
    base = seven_b()
    for name, changes in SIZES.items():
        for profile_name in profile_names():
            print(row(name, base.model_copy(update=changes), profile_name))
    lengths = "first token of 16,384, s | a token, ms, at 1,024 | 4,096 | 16,384"
    print(f"\n| 7B, 16,384 rows | GB of the device | | {lengths} |")
    print("|---|--:|---|--:|--:|--:|--:|")
    for name, profile in long_profiles().items():
        print(long_row(name, base, profile))


if __name__ == "__main__":
    main()
