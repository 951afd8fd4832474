"""The tokens of a box beside those of this machine."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runtime.bundle.reader import load_bundle
from runtime.kernels.library import Kernels
from tests.aarch64.box import BUNDLES, Box
from tests.aarch64.continue_prompts import ONNXRUNTIME
from tests.continuations import prompts
from tests.dialogues import BOX, CAPITAL, LLAMA
from tests.paths import ROOT

__all__ = ["BOUND", "Compared", "continued", "generated"]

BOUND = 0.5  # of logits where levels of int8 are multiplied; see test_kernel_tokens.py
NUM_PROMPTS, NUM_TOKENS = int(os.environ.get("PROMPTS", "20")), 64
HERE = Path(sys.executable).with_name("runtime")
GENERATE = ("generate", "--json", "--temperature", "0")
CONTINUE = ("python", "-m", "tests.aarch64.continue_prompts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What a box and this machine said.

    by: what multiplied in the box.
    same: tokens that are equal, of `tokens`.
    difference: largest of any logit; None where only tokens were seen.
    """

    bundle: str
    by: str
    answers: int
    same: int
    tokens: int
    difference: float | None

    @property
    def good(self) -> bool:
        return self.same == self.tokens and (self.difference or 0.0) <= BOUND


def generated(box: Box, bundles: Path, names: Sequence[str]) -> Iterator[Compared]:
    """`runtime generate` of dialogues that the miniature knows."""
    for name in names:
        expected, found = [], []
        for question, _ in (CAPITAL, BOX, LLAMA):
            command = [str(HERE), *GENERATE, str(bundles / name), question]
            ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            expected.append(json.loads(ran.stdout)["token_ids"])
            ran = box.run("runtime", *GENERATE, BUNDLES / name, question)
            found.append(json.loads(ran.stdout)["token_ids"])
        yield Compared(
            bundle=name,
            by="`runtime generate`",
            answers=len(expected),
            same=sum(_same(*pair) for pair in zip(found, expected, strict=True)),
            tokens=sum(map(len, expected)),
            difference=None,
        )


def continued(box: Box, bundle: Path, checkpoint: Path, work: Path) -> list[Compared]:
    """Prompts of 40 tokens, continued with every instruction set of the box, by one core.

    Args:
        box: has the bundle at BUNDLES.
        bundle: of the checkpoint.
        checkpoint: with documents.
        work: a directory for what is said, which takes 0.3 GB for each instruction set.
    """
    asked = work / f"{bundle.name}.json"
    asked.write_text(json.dumps(prompts(checkpoint, NUM_PROMPTS)))
    shutil.copy(asked, box.place(BUNDLES))
    here, there = work / f"{bundle.name}-said", Path(f"/tmp/{bundle.name}")
    number = str(NUM_TOKENS)
    command = [sys.executable, *CONTINUE[1:], str(bundle), str(asked), number, str(here)]
    subprocess.run(command, check=True, cwd=ROOT)
    there_command = (*CONTINUE, BUNDLES / bundle.name, BUNDLES / asked.name, number, there)
    box.run(*there_command, OMP_NUM_THREADS="1")  # a thread that waits takes a core of QEMU's
    own = load_bundle(bundle).manifest.kernels is not None
    fastest = Kernels().instruction_sets[0] if own else ONNXRUNTIME
    expected = np.load(here / f"{fastest}.npz")
    said = {file.stem: np.load(file) for file in sorted(box.place(there).glob("*.npz"))}
    return [
        Compared(
            bundle=bundle.name,
            by=by,
            answers=NUM_PROMPTS,
            same=int(np.sum(found["ids"] == expected["ids"])),
            tokens=len(expected["ids"]),
            difference=float(np.abs(found["logits"] - expected["logits"]).max()),
        )
        for by, found in said.items()
    ]


def _same(found: Sequence[int], expected: Sequence[int]) -> int:
    """Tokens that stand at the same place in both."""
    return sum(ours == theirs for ours, theirs in zip(found, expected, strict=False))
