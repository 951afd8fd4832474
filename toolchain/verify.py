"""torch float32 -> ONNX -> compiled: how close each stage is, and where it leaves the path.

Each bundle is a stage. Its prefill, score and decode graphs are compared apart, row by row, with
the float32 reference on the same tokens.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from export.reference import Reference
from profiles import Limits, Profile
from runtime.bundle import TOKENIZER, Bundle
from runtime.engine import Engine
from runtime.errors import PromptError
from runtime.generate import generate
from runtime.sampling import SamplingParams
from runtime.sessions import Session, open_session
from runtime.template import Message, encode_chat
from runtime.tokenizer import Tokenizer
from toolchain.parity import Agreement, AgreementSum, match_length
from toolchain.taps import WatchedSession, tapped

__all__ = ["Divergence", "PhaseReport", "StageReport", "default_sequences", "read_ids", "verify"]

Rows = NDArray[np.float32]
Opener = Callable[[Bundle], Session]
PhaseName = Literal["prefill", "score", "decode"]
GREEDY_TOKENS = 32
PREFILL_LENGTHS = 16  # prompts per sequence, evenly spaced in length

# What is run when no ids are given: a question through the template, then plain text.
DIALOGUES = (
    ("请用一句话介绍你自己。", "我是一个运行在边缘设备上的助手，可以回答问题，也可以帮助你写作。"),
    ("Why is the sky blue?", "Because air scatters blue light more strongly than red light."),
    ("把下面的句子翻译成英文：今天天气很好。", "The weather is very nice today."),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """The first layer whose residual stream is further from the reference than allowed."""

    layer: int | None  # None: every layer is within the limit, so the norm or the LM head is off
    relative_error: float
    limit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseReport:
    """One kind of graph of one stage."""

    phase: PhaseName
    agreement: Agreement
    failures: list[str]
    divergence: Divergence | None = None  # looked for only after a failure


@dataclass(frozen=True, slots=True, kw_only=True)
class StageReport:
    """One bundle. greedy_match is the mean share of greedy tokens before the first mismatch."""

    bundle: str
    target: str
    weights: str
    phases: list[PhaseReport]
    greedy_match: float
    greedy_limit: float

    @property
    def passed(self) -> bool:
        """Whether every phase and the greedy text are within their limits."""
        within = self.greedy_match >= self.greedy_limit
        return within and not any(phase.failures for phase in self.phases)


def default_sequences(bundle: Bundle) -> list[list[int]]:
    """The built-in dialogues as token ids of the bundle's tokenizer."""
    tokenizer = Tokenizer(bundle.file(TOKENIZER))
    sequences = []
    for question, answer in DIALOGUES:
        prompt = encode_chat(tokenizer, [Message(role="user", content=question)])
        sequences.append(prompt + tokenizer.encode(answer))
    return [ids[: bundle.manifest.cache_len] for ids in sequences]


def read_ids(file: Path) -> list[list[int]]:
    """Token ids from a JSON list of lists.

    Raises:
        PromptError: the file is not such a list, or a sequence is shorter than 4 tokens.
    """
    try:
        sequences: list[list[int]] = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise PromptError(f"{file} cannot be read: {error}") from error
    well_formed = isinstance(sequences, list) and all(
        isinstance(ids, list) and len(ids) >= 4 and all(type(i) is int for i in ids)
        for ids in sequences
    )
    if not well_formed or not sequences:
        raise PromptError(f"{file} is no list of token id lists", allowed="[[id, id, ...], ...]")
    return sequences


def verify(
    bundles: Sequence[Bundle],
    model: Path,
    profile: Profile,
    sequences: Sequence[Sequence[int]],
    *,
    report: Callable[[str], None],
    opener: Opener = open_session,
) -> list[StageReport]:
    """Compares bundles with the checkpoint that they were made from.

    Args:
        bundles: the stages, exported before compiled.
        model: the checkpoint directory.
        profile: holds the limits per precision.
        sequences: token ids, each at most cache_len long.
        report: told one line per step.
        opener: opens a bundle's session.
    """
    for bundle in bundles:
        profile.limits_for(bundle.manifest.weights)  # refused before the long work
    reference = Reference(model)
    report("reference: torch float32")
    hidden = reference.hidden(sequences)
    return [
        _verify_stage(bundle, reference, hidden, profile, sequences, report, opener)
        for bundle in bundles
    ]


def _verify_stage(
    bundle: Bundle,
    reference: Reference,
    hidden: list[list[Rows]],
    profile: Profile,
    sequences: Sequence[Sequence[int]],
    report: Callable[[str], None],
    opener: Opener,
) -> StageReport:
    manifest = bundle.manifest
    limits = profile.limits_for(manifest.weights)
    phases: list[PhaseReport] = []
    with closing(opener(bundle)) as session:
        engine = Engine(session)
        for phase, rows_of in PHASES.items():
            if not engine.has(phase):
                continue
            report(f"{bundle.path.name}: {phase}")
            agreement = _compare(reference, hidden[-1], sequences, rows_of, engine)
            failures = agreement.failures(limits)
            phases.append(PhaseReport(phase=phase, agreement=agreement, failures=failures))
        report(f"{bundle.path.name}: greedy")
        greedy_match = _greedy_match(engine, reference, sequences)
    if any(phase.failures for phase in phases):
        report(f"{bundle.path.name}: looking for the first layer that diverges")
        phases = [
            _locate(bundle, phase, hidden, sequences, limits, opener) if phase.failures else phase
            for phase in phases
        ]
    return StageReport(
        bundle=str(bundle.path),
        target=manifest.target,
        weights=manifest.weights,
        phases=phases,
        greedy_match=greedy_match,
        greedy_limit=limits.greedy,
    )


# A phase yields (row, logits (n, V) of rows row, row + 1, ...) for a sequence.
RowsOf = Callable[[Engine, Sequence[int]], Iterator[tuple[int, Rows]]]


def _prefill_rows(engine: Engine, ids: Sequence[int]) -> Iterator[tuple[int, Rows]]:
    """Logits after prompts of several lengths, each from an empty slot."""
    step = max(1, len(ids) // PREFILL_LENGTHS)
    for length in range(1, len(ids), step):
        with engine.slot([]) as slot:
            slot.truncate(0)
            yield length - 1, engine.prefill(slot, ids[:length])[None]


def _score_rows(engine: Engine, ids: Sequence[int]) -> Iterator[tuple[int, Rows]]:
    """Logits of every row."""
    with engine.slot([]) as slot:
        slot.truncate(0)
        row = 0
        for rows in engine.score(slot, ids[:-1]):
            yield row, rows
            row += len(rows)


def _decode_rows(engine: Engine, ids: Sequence[int]) -> Iterator[tuple[int, Rows]]:
    """Logits token by token, after a prefilled first half."""
    with engine.slot([]) as slot:
        slot.truncate(0)
        half = len(ids) // 2
        engine.prefill(slot, ids[:half])
        for row in range(half, len(ids) - 1):
            yield row, engine.decode([slot], [ids[row]])


PHASES: dict[PhaseName, RowsOf] = {
    "prefill": _prefill_rows,
    "score": _score_rows,
    "decode": _decode_rows,
}


def _compare(
    reference: Reference,
    last_hidden: list[Rows],
    sequences: Sequence[Sequence[int]],
    rows_of: RowsOf,
    engine: Engine,
) -> Agreement:
    total = AgreementSum()
    for ids, hidden_SE in zip(sequences, last_hidden, strict=True):
        expected = reference.logits(hidden_SE)
        for row, got in rows_of(engine, ids):
            rows = slice(row, row + len(got))
            total.add(expected[rows], got, list(ids[row + 1 : row + 1 + len(got)]))
    return total.result()


def _greedy_match(
    engine: Engine, reference: Reference, sequences: Sequence[Sequence[int]]
) -> float:
    """Mean share of greedy tokens, from the middle of each sequence, that the reference makes."""
    prompts = [list(ids[: len(ids) // 2]) for ids in sequences]
    params = SamplingParams(max_tokens=GREEDY_TOKENS, ignore_eos=True)
    answers = [[token.id for token in generate(engine, ids, params)] for ids in prompts]
    pairs = list(zip(prompts, answers, strict=True))
    hidden = reference.hidden([prompt + answer[:-1] for prompt, answer in pairs])[-1]
    shares = []
    for (prompt, answer), stream in zip(pairs, hidden, strict=True):
        rows = reference.logits(stream[len(prompt) - 1 :])
        shares.append(match_length(rows, answer) / len(answer))
    return float(np.mean(shares))


def _locate(
    bundle: Bundle,
    phase: PhaseReport,
    hidden: list[list[Rows]],
    sequences: Sequence[Sequence[int]],
    limits: Limits,
    opener: Opener,
) -> PhaseReport:
    """Runs the phase again on the first sequence with every layer's output made visible."""
    with (
        tempfile.TemporaryDirectory(dir=bundle.path.parent, prefix=".taps-") as directory,
        closing(opener(tapped(bundle, Path(directory)))) as session,
    ):
        watched = WatchedSession(session, [streams[0] for streams in hidden])
        for _ in PHASES[phase.phase](Engine(watched), sequences[0]):
            pass  # what counts is what the watched session saw
    over = [i for i, error in enumerate(watched.errors) if not error <= limits.hidden]
    layer = over[0] if over else None
    found = Divergence(
        layer=layer,
        relative_error=watched.errors[-1 if layer is None else layer],
        limit=limits.hidden,
    )
    return replace(phase, divergence=found)
