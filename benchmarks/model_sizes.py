"""What `toolchain plan` says of the three sizes of Chinese-Alpaca-2 on every profile, as a table.

The sizes are those of their published config.json; positions are those of the 16K model, so that
every profile takes them.

Usage: model_sizes.py
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from seven_b import write_config

from export.config import load_config
from profiles import load_profile, profile_names
from runtime.bundle.manifest import ModelConfig
from toolchain.costs.sizes import num_parameters
from toolchain.plan.planner import make_plan

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


def seven_b() -> ModelConfig:
    """The 7B, with the positions of the 16K model."""
    with TemporaryDirectory() as directory:
        write_config(Path(directory), layers=32)
        config = load_config(Path(directory))
    return config.model_copy(update={"max_position_embeddings": 16_384})


def row(name: str, config: ModelConfig, profile_name: str) -> str:
    """A line of the table."""
    plan = make_plan(config, load_profile(profile_name))
    verdict = "fits" if plan.fits else f"does not fit: {plan.remedy}"
    return (
        f"| {name} | {num_parameters(config) / 1e9:.2f} | {profile_name} "
        f"| {plan.needs['shared'] / 1e9:.1f} of {plan.available / 1e9:.1f} | {verdict} |"
    )


def main() -> None:
    """Prints the table."""
    print("| model | 1e9 parameters | profile | GB of the device | |")
    print("|---|--:|---|--:|---|")
    base = seven_b()
    for name, changes in SIZES.items():
        for profile_name in profile_names():
            print(row(name, base.model_copy(update=changes), profile_name))


if __name__ == "__main__":
    main()
