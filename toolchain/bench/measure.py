"""Runs one case once and says where its time went.

The loop is the scheduler's, all prompts first: greedy, stop tokens ignored, random ids, so that
nothing depends on what the model says; no rows are reused and nothing is drafted.
"""

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from runtime.engine.engine import Engine
from runtime.engine.scheduler import Policy, Scheduler
from runtime.engine.sequence import Request, Sequence
from runtime.sampling.params import SamplingParams
from runtime.text.tokenizer import StreamingDetokenizer, Tokenizer
from runtime.timing import now
from toolchain.bench.grid import Case
from toolchain.bench.timed_session import TimedSession

__all__ = ["Runner", "TimedRun"]

POLICY = Policy(prefill_first=True, speculate=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedRun:
    """Seconds of one run; means over its sequences and over its further tokens.

    Of a step of several sequences, forward_*, pre_next and post_next are for all of them.
    gaps: between the tokens of each sequence.
    """

    ttft: float
    tpot: float
    gaps: tuple[float, ...]
    response: float
    forward_first: float
    forward_next: float
    pre_next: float
    post_next: float
    tokenize: float
    sample: float
    detokenize: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Seconds of one decode step: making its inputs, the model, copying and choosing."""

    pre: float
    forward: float
    post: float


@dataclass(slots=True)
class Stream:
    """A sequence on its way: what turns its tokens into text, and when each was chosen."""

    prompt_ids: list[int]
    detokenizer: StreamingDetokenizer
    text_ids: int
    marks: list[float] = field(default_factory=list)
    sample_s: float = 0.0
    detokenize_s: float = 0.0

    def take(self, sequence: Sequence) -> None:
        """Makes the text of what was chosen."""
        for token in sequence.take():
            started = now()
            if token.id < self.text_ids:  # a padded vocabulary has ids without text
                self.detokenizer.add(token.id)
            self.marks.append(token.sampled_at)
            self.sample_s += token.sampled_at - token.logits_at
            self.detokenize_s += now() - started


class Runner:
    """Makes prompts for one bundle and runs them, always from empty cache slots."""

    def __init__(self, session: TimedSession, tokenizer: Tokenizer) -> None:
        self._session = session
        self._engine = Engine(session, reuse_prefix=False)
        self._scheduler = Scheduler(self._engine, POLICY)
        self._tokenizer = tokenizer
        self._num_ids = min(self._engine.vocab_size, tokenizer.vocab_size)
        self._rng = np.random.default_rng(0)
        self._num_prompts = 0

    def prepare(self, case: Case) -> None:
        """Loads the graphs of a case."""
        self._engine.prepare(case.input_tokens)

    def warm_up(self, case: Case) -> TimedRun:
        """Runs a case that does not count, and touches as many rows of every slot as it has.

        Prompts go to the slot that has been free for longest, and memory that was never written
        is cleared by the system at its first use: a second of the first prompt of each slot, with
        8 layers of the 7B.
        """
        run = self.run(case, case.output_tokens)
        for slot in range(1, self._session.manifest.num_slots):
            self._session.copy_rows(0, slot, case.rows)
        return run

    def run(self, case: Case, output_tokens: int) -> TimedRun:
        """Runs the prompts of a case, for as many tokens as are asked for."""
        streams = [self._stream(case.input_tokens) for _ in range(case.batch_size)]
        texts = [self._tokenizer.decode(stream.prompt_ids) for stream in streams]
        self._session.forwards.clear()
        started = now()
        for text in texts:
            self._tokenizer.encode(text)
        tokenized = now()
        params = SamplingParams(ignore_eos=True, max_tokens=output_tokens)
        running = [
            (self._scheduler.add(Request(prompt_ids=stream.prompt_ids, params=params)), stream)
            for stream in streams
        ]
        while not all(stream.marks for stream in streams):
            self._scheduler.step()
            for sequence, stream in running:
                stream.take(sequence)
        num_first = len(self._session.forwards)
        steps = [self._step(running) for _ in range(output_tokens - 1)]
        ended = now()
        gaps = [b - a for stream in streams for a, b in pairwise(stream.marks)]
        num_tokens = output_tokens * case.batch_size
        return TimedRun(
            ttft=_mean([stream.marks[0] - started for stream in streams]),
            tpot=_mean(gaps),  # every sequence has as many
            gaps=tuple(gaps),
            response=ended - tokenized,
            forward_first=_total(self._session.forwards[:num_first]),
            forward_next=_mean([step.forward for step in steps]),
            pre_next=_mean([step.pre for step in steps]),
            post_next=_mean([step.post for step in steps]),
            tokenize=tokenized - started,
            sample=sum(stream.sample_s for stream in streams) / num_tokens,
            detokenize=sum(stream.detokenize_s for stream in streams) / num_tokens,
        )

    def _step(self, running: SequenceOf[tuple[Sequence, Stream]]) -> Step:
        """One more token of every sequence."""
        before = len(self._session.forwards)
        started = now()
        self._scheduler.step()
        ended = now()
        for sequence, stream in running:
            stream.take(sequence)
        forwards = self._session.forwards[before:]
        return Step(
            pre=forwards[0][0] - started, forward=_total(forwards), post=ended - forwards[-1][1]
        )

    def _stream(self, num_tokens: int) -> Stream:
        """A prompt of random ids that begins as none in the cache does, so no prefix is found."""
        ids = self._rng.integers(0, self._num_ids, num_tokens).tolist()
        ids[0] = self._num_prompts % self._num_ids
        self._num_prompts += 1
        return Stream(
            prompt_ids=ids,
            detokenizer=StreamingDetokenizer(self._tokenizer, at_start=False),
            text_ids=self._tokenizer.vocab_size,
        )


def _total(spans: SequenceOf[tuple[float, float]]) -> float:
    return sum(end - begun for begun, end in spans)


def _mean(values: SequenceOf[float]) -> float:
    """Zero for none: a run of one token has no further ones."""
    return sum(values) / len(values) if values else 0.0
