"""What quantising costs in quality: perplexity, KL divergence and first choices, by recipe.

Exports a checkpoint once and compiles it for the CPU by every recipe. Token ids come from a file of
documents that the model has not seen: every second one is measured, and the others are what
--calibrate takes where a recipe says `documents`. Every graph row is compared with the float32
reference of torch, as `toolchain verify` does it.

Usage: quantisation.py MODEL --ids FILE [--recipes NAME ...] [--documents N] [--directory DIR]
"""

import argparse
import json
import shutil
import sys
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from seven_b import write_config

from export.config import load_config
from export.exporter import export_bundle
from export.reference import Reference
from profiles import exported_profile, load_profile
from runtime.bundle.manifest import ModelConfig
from runtime.bundle.reader import Bundle
from runtime.kernels.library import Kernels
from runtime.progress import SILENT
from runtime.sessions import open_session
from toolchain.choices import Choices
from toolchain.compiler import compile_bundle
from toolchain.host.machine import cpu_name
from toolchain.targets import bits_per_weight
from toolchain.token_ids import read_ids
from toolchain.verify.parity import Agreement, AgreementSum
from toolchain.verify.replay import replay

Rows = NDArray[np.float32]

HEAD = {"lm_head": {"weights": "int8"}}


@dataclass(frozen=True, slots=True)
class Recipe:
    """A row of the table: what is asked over the profile cpu."""

    weights: str
    block_size: int = 128
    departures: dict[str, dict[str, Any]] = field(default_factory=lambda: HEAD)
    calibrate: str | None = None  # builtin, or documents: those that are not measured


RECIPES = {
    "fp32": Recipe("fp32"),
    **{f"int8-{size}": Recipe("int8", size, {}) for size in (128, 64, 32)},
    **{f"int4-{size}": Recipe("int4", size) for size in (128, 64, 32)},
    **{
        f"int4-{size}-{texts}": Recipe("int4", size, calibrate=texts)
        for size in (128, 64, 32)
        for texts in ("builtin", "documents")
    },
    **{
        f"int4-128-down-32{'' if texts is None else f'-{texts}'}": Recipe(
            "int4", 128, {**HEAD, "down_proj": {"block_size": 32}}, texts
        )
        for texts in (None, "builtin", "documents")
    },
    "int4-128-head-int4": Recipe("int4", 128, {}),
}


def compiled(recipe: Recipe, exported: Bundle, texts: Path, output: Path) -> Bundle:
    """The bundle that a recipe gives."""
    recipes = {recipe.weights: recipe.departures} if recipe.weights in ("int4", "int8") else {}
    profile = {**exported.manifest.profile, "block_size": recipe.block_size, "recipes": recipes}
    asked = replace(exported, manifest=exported.manifest.model_copy(update={"profile": profile}))
    calibrate = str(texts) if recipe.calibrate == "documents" else recipe.calibrate
    choices = Choices(weights=recipe.weights, calibrate=calibrate)
    return compile_bundle(asked, output, choices, progress=SILENT)


def measure(bundle: Bundle, documents: list[list[int]], logits: list[Rows]) -> Agreement:
    """Every row of the documents against the reference's logits, (S, V) for each."""
    total = AgreementSum()
    with closing(open_session(bundle)) as session:
        [graph] = [g for g in bundle.manifest.graphs if g.spec.phase == "score"]
        for ids, expected in zip(documents, logits, strict=True):
            for row, got in replay(session, graph, ids):
                next_ids = ids[row + 1 : row + 1 + len(got)]
                total.add(expected[row : row + len(got)], got, next_ids)
    return total.result()


def line(name: str, bundle: Bundle, agreement: Agreement, seven_b: ModelConfig) -> str:
    """A row of the table; bits a weight of this model, and of Chinese-Alpaca-2-7B."""
    profile = exported_profile(bundle)
    bits = [bits_per_weight(config, profile) for config in (bundle.manifest.model, seven_b)]
    change, error = agreement.perplexity_change, agreement.log_perplexity_error
    return (
        f"| {name} | {profile.described_weights} | "
        f"{bits[0]:.2f} | {bits[1]:.2f} | "
        f"{100 * change:+.2f} ± {100 * error:.2f} % | {1e3 * agreement.kl:.2f} | "
        f"{100 * agreement.argmax:.1f} % |"
    )


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--ids", type=Path, required=True)
    parser.add_argument("--recipes", nargs="+", choices=tuple(RECIPES), default=tuple(RECIPES))
    parser.add_argument("--documents", type=int, help="Measure only so many.")
    parser.add_argument("--directory", type=Path, default=Path("build/quantisation"))
    arguments = parser.parse_args()
    directory: Path = arguments.directory
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    documents = read_ids(arguments.ids)
    texts = directory / "documents.json"
    texts.write_text(json.dumps(documents[::2]))
    measured = documents[1::2][: arguments.documents]
    exported = export_bundle(arguments.model, load_profile("cpu"), directory / "exported", SILENT)
    reference = Reference(arguments.model)
    logits = [reference.logits(hidden) for hidden in reference.hidden(measured)]
    write_config(directory / "7b", layers=32)
    seven_b = load_config(directory / "7b")
    print(
        f"{cpu_name()}, kernels {Kernels().instruction_sets[0]}, Python {sys.version.split()[0]}, "
        f"{date.today().isoformat()}: {len(measured)} documents, {sum(map(len, measured))} tokens\n"
    )
    print(
        "| recipe | weights | bits a weight | of a 7B | perplexity | KL, 1e-3 nats | same first |"
    )
    print("|---|---|--:|--:|--:|--:|--:|")
    for name in arguments.recipes:
        output = directory / "compiled"
        bundle = compiled(RECIPES[name], exported, texts, output)
        print(line(name, bundle, measure(bundle, measured, logits), seven_b), flush=True)
        shutil.rmtree(output)
    shutil.rmtree(directory)


if __name__ == "__main__":
    main()
