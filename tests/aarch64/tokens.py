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
from numpy.typing import NDArray

from runtime.bundle.reader import load_bundle
from runtime.kernels.library import Kernels
from tests.aarch64.box import BUNDLES, Box
from tests.aarch64.continue_prompts import ONNXRUNTIME
from tests.continuations import prompts
from tests.dialogues import BOX, CAPITAL, LLAMA
from tests.paths import ROOT

__all__ = ["BOUND", "Compared", "compare", "continued", "generated"]

BOUND = 0.5  # of logits where levels of int8 are multiplied; see test_kernel_tokens.py
NUM_PROMPTS, NUM_TOKENS = int(os.environ.get("PROMPTS", "20")), 64
HERE = Path(sys.executable).with_name("runtime")
GENERATE = ("generate", "--json", "--temperature", "0")
CONTINUE = ("python", "-m", "tests.aarch64.continue_prompts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What a box and this machine said.

    by: what multiplied in the box.
    same: tokens before the first that differs of each answer, of `tokens`.
    difference: largest of any logit up to there; None where only tokens were seen.
    gaps: of each answer that differs, how far its two tokens are apart in this machine's logits.
    """

    bundle: str
    by: str
    answers: int
    same: int
    tokens: int
    difference: float | None = None
    gaps: tuple[float, ...] = ()

    @property
    def good(self) -> bool:
        """A token may differ where the logits cannot tell the best two apart."""
        if self.difference is None:
            return self.same == self.tokens
        return self.difference <= BOUND


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
    files = sorted(box.place(there).glob("*.npz"))
    return [compare(bundle.name, file, here / f"{fastest}.npz") for file in files]


def compare(bundle: str, found: Path, expected: Path) -> Compared:
    """What two of continue_prompts.py said, each answer as far as both said the same."""
    (ids, logits), (right_ids, right_logits) = map(_answers, (found, expected))
    same, difference, gaps = 0, 0.0, []
    for i in range(len(ids)):
        end = _same(ids[i], right_ids[i])
        rows = slice(end + 1)  # the logits of the first token that differs are of the same text
        difference = max(difference, float(np.abs(logits[i, rows] - right_logits[i, rows]).max()))
        same += end
        if end < len(ids[i]):
            gaps.append(float(np.diff(right_logits[i, end][[ids[i, end], right_ids[i, end]]])[0]))
    return Compared(
        bundle=bundle,
        by=found.stem,
        answers=len(ids),
        same=same,
        tokens=ids.size,
        difference=difference,
        gaps=tuple(gaps),
    )


def _answers(file: Path) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Ids (answers, tokens) and logits (answers, tokens, V)."""
    with np.load(file) as said:
        ids = said["ids"].reshape(-1, NUM_TOKENS)
        return ids, said["logits"].reshape(*ids.shape, -1)


def _same(found: Sequence[int], expected: Sequence[int]) -> int:
    """Tokens before the first that differs."""
    pairs = enumerate(zip(found, expected, strict=False))
    shorter = min(len(found), len(expected))
    return next((i for i, (ours, theirs) in pairs if ours != theirs), shorter)
