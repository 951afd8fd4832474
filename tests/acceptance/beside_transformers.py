"""How far a session's logits are from those of transformers, along its own greedy tokens."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from export.exporter import export_bundle
from profiles import load_profile
from runtime.bundle.reader import Bundle
from runtime.engine.engine import Engine
from runtime.engine.generate import generate
from runtime.engine.scheduler import Scheduler
from runtime.engine.sequence import Request
from runtime.progress import SILENT
from runtime.sampling.params import SamplingParams
from runtime.sessions import Session
from tests.export.families import VOCABULARY, save_family
from tests.paths import DATA

__all__ = ["NUM_TOKENS", "Family", "Said", "export_family", "export_small", "greedy"]

NUM_TOKENS, PROMPT_LENGTH, CACHE_LEN = 64, 13, 80
Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A checkpoint of an architecture: transformers' model of it, and what was exported."""

    name: str
    theirs: PreTrainedModel
    exported: Bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """Greedy tokens behind a prompt, and the logits that each was chosen from, (tokens, V)."""

    prompt: list[int]
    tokens: list[int]
    logits: Rows

    def theirs(self, model: PreTrainedModel) -> Rows:
        """What transformers makes of the same tokens, (tokens, V)."""
        with torch.no_grad():
            logits = model(torch.tensor([self.prompt + self.tokens])).logits[0]
        rows: Rows = logits[len(self.prompt) - 1 : -1].numpy()
        return rows

    def largest(self, expected: Rows) -> float:
        """The largest difference of a logit."""
        return float(np.abs(self.logits - expected).max())

    def relative(self, expected: Rows) -> float:
        """The root of the mean square of the differences, over that of the logits."""
        squares = np.square(self.logits - expected).mean() / np.square(expected).mean()
        return float(np.sqrt(squares))

    def same(self, expected: Rows) -> int:
        """Tokens that transformers would have chosen too."""
        return int((expected.argmax(-1) == self.tokens).sum())


def export_family(name: str, folder: Path, vocab_size: int = VOCABULARY) -> Family:
    """Writes FOLDER/model, and exports it."""
    theirs = save_family(name, folder / "model", vocab_size)
    return Family(name=name, theirs=theirs, exported=export_small(folder))


def export_small(folder: Path) -> Bundle:
    """FOLDER/model -> FOLDER/exported, in graphs of 8, 4 and 1 rows of one sequence."""
    small = load_profile(str(DATA / "small.toml")).graphs
    graphs = tuple(
        spec.model_copy(update={"cache_len": CACHE_LEN})
        for spec in small
        if spec.phase != "score" and spec.batch_size == 1
    )
    update = {"graphs": graphs, "short_caches": ()}
    profile = load_profile("310p3").model_copy(update=update)
    return export_bundle(folder / "model", profile, folder / "exported", SILENT)


def greedy(session: Session, num_tokens: int = NUM_TOKENS) -> Said:
    """The answer to a seeded prompt; the session is closed."""
    generator = torch.Generator().manual_seed(3)
    prompt: list[int] = torch.randint(3, VOCABULARY, (PROMPT_LENGTH,), generator=generator).tolist()
    params = SamplingParams(max_tokens=num_tokens, ignore_eos=True)
    with closing(session):
        request = Request(prompt_ids=prompt, params=params, keep_logits=True)
        tokens = list(generate(Scheduler(Engine(session)), request))
    logits = [token.logits for token in tokens if token.logits is not None]
    return Said(prompt=prompt, tokens=[token.id for token in tokens], logits=np.stack(logits))
