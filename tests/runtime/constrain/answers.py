"""Answers that follow a constraint by chance, on a real tokenizer and without a model."""

from typing import NamedTuple

import numpy as np

from runtime.constrain import open_compiler
from runtime.constrain.grammar import Grammar, GrammarCompiler
from runtime.sampling.constraint import Constraint, ConstraintKind, ConstraintSpec
from runtime.sampling.params import SamplingParams
from runtime.sampling.sampler import Sampler, make_rng
from runtime.text.tokenizer import StreamingDetokenizer, Tokenizer

PADDING = 5  # ids that a model has beyond those of its tokenizer
CLOSING = frozenset('"]},')
WARM = SamplingParams(temperature=1.0)


class Writer(NamedTuple):
    """What writes answers: a tokenizer, its compiler, and which ids bring an answer to its end."""

    tokenizer: Tokenizer
    compiler: GrammarCompiler
    closing: np.ndarray[tuple[int], np.dtype[np.bool_]]

    @property
    def vocab_size(self) -> int:
        return self.closing.size

    def grammar(self, kind: ConstraintKind, value: str | tuple[str, ...]) -> Grammar:
        return self.compiler.compile(ConstraintSpec(kind=kind, value=value))

    def write(self, constraint: Constraint, *, at_start: bool, seed: int) -> str | None:
        """What is shown of an answer sampled from random logits; None where it does not end."""
        rng = make_rng(seed)
        sampler = Sampler(WARM, [], self.vocab_size, make_rng(seed), constraint)
        token_ids = []
        for _ in range(300):
            row = 2 * rng.normal(size=self.vocab_size).astype(np.float32)
            row += 6 * self.closing * (rng.random() < 0.3)
            token_ids.append(sampler.sample(row))
            if sampler.ended:
                return shown(self.tokenizer, token_ids, at_start=at_start)
        return None


def make_writer(tokenizer: Tokenizer) -> Writer:
    vocab_size = tokenizer.vocab_size + PADDING
    closing = np.zeros(vocab_size, np.bool_)
    for token_id in range(tokenizer.vocab_size):
        text = tokenizer.token_bytes(token_id).decode(errors="replace")
        closing[token_id] = not CLOSING.isdisjoint(text)
    closing[tokenizer.eos_token_id] = True
    return Writer(tokenizer, open_compiler(tokenizer, vocab_size), closing)


def shown(tokenizer: Tokenizer, token_ids: list[int], *, at_start: bool) -> str:
    detokenizer = StreamingDetokenizer(tokenizer, at_start=at_start)
    texts = [detokenizer.add(token_id) for token_id in token_ids]
    return "".join(texts) + detokenizer.flush()
