"""The models that are asked, and what: beginnings and middles of documents."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from export.exporter import export_bundle
from profiles import load_profile
from runtime.bundle.reader import Bundle
from runtime.progress import SILENT
from tests.acceptance.rounding import on_chip
from tests.ascend.memoriser import SEQUENCES
from tests.paths import DATA

__all__ = ["Asked", "grouped", "mini"]

PART = 10  # prompts of each kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """An exported bundle, prompts, and how many tokens each is answered with.

    levels: the same model with the linear weights that int8 makes of them.
    """

    name: str
    bundle: Bundle
    levels: Bundle
    prompts: list[list[int]]
    num_tokens: int

    @property
    def title(self) -> str:
        """What was asked, in a line."""
        return f"{self.name}: {len(self.prompts)} prompts, {self.num_tokens} tokens each"


def mini(checkpoint: Path, directory: Path) -> Asked:
    """The small trained checkpoint of the shared data: ten prompts begin a document that it has not
    seen, ten stand in the middle of one, where it is less sure."""
    documents: list[list[int]] = json.loads((checkpoint / "held_out_ids.json").read_text())
    long = [ids for ids in documents if len(ids) >= 60]
    begun = [ids[:48] for ids in long[:PART]]
    inside = [ids[len(ids) // 2 :][:24] for ids in long[PART : 2 * PART]]
    return _asked("alpaca2-mini", checkpoint, directory, "talk", begun + inside, 64)


def grouped(checkpoint: Path, directory: Path) -> Asked:
    """What make_memoriser makes: heads of queries share keys and values."""
    begun = [ids[:11] for ids in SEQUENCES[:PART]]
    inside = [ids[8:21] for ids in SEQUENCES[PART : 2 * PART]]
    return _asked("grouped queries", checkpoint, directory, "small", begun + inside, 27)


def _asked(
    name: str,
    checkpoint: Path,
    directory: Path,
    graphs: str,
    prompts: list[list[int]],
    num_tokens: int,
) -> Asked:
    """With the settings of a chip, in graphs of a profile of the tests."""
    family = load_profile(str(DATA / f"{graphs}.toml")).graphs
    specs = [spec for spec in family if spec.phase != "score" and spec.batch_size == 1]
    profile = load_profile("310p3").model_copy(update={"graphs": tuple(specs), "short_caches": ()})
    stem = directory / name.replace(" ", "-")
    levels = stem.with_suffix(".levels")
    _quantise(checkpoint, levels)
    bundles = [
        export_bundle(source, profile, output, SILENT)
        for source, output in ((checkpoint, stem), (levels, stem.with_suffix(".levels-exported")))
    ]
    return Asked(
        name=name,
        bundle=bundles[0],
        levels=bundles[1],
        prompts=prompts,
        num_tokens=num_tokens,
    )


def _quantise(checkpoint: Path, output: Path) -> None:
    """A copy of a checkpoint with its linear weights rounded to int8 and back."""
    shutil.copytree(checkpoint, output)
    for file in output.glob("*.bin"):
        tensors: dict[str, Tensor] = torch.load(file, weights_only=True)
        for name, weight in tensors.items():
            if name.endswith("_proj.weight") or name == "lm_head.weight":
                tensors[name] = on_chip(name, weight)
        torch.save(tensors, file)
