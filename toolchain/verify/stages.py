"""torch float32 -> ONNX -> compiled: how close each stage is, and where it leaves the path.

Each bundle is a stage. Every graph of it is compared, row by row, with the float32 reference on
the same tokens.
"""

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.config import load_config
from export.reference import Reference
from profiles import Limits, Profile
from runtime.bundle.manifest import Graph
from runtime.bundle.reader import Bundle
from runtime.engine.engine import Engine
from runtime.engine.generate import generate
from runtime.errors import PromptError, SessionError
from runtime.json_file import read_json
from runtime.progress import SILENT, Progress
from runtime.sampling.params import SamplingParams
from runtime.sessions import Session, open_session
from runtime.text.template import Message, encode_chat
from runtime.text.tokenizer import open_tokenizer
from toolchain.verify.origin import check_origin
from toolchain.verify.parity import Agreement, AgreementSum, match_length
from toolchain.verify.replay import replay
from toolchain.verify.taps import WatchedSession, tapped

__all__ = ["Divergence", "GraphReport", "StageReport", "default_sequences", "read_ids", "verify"]

Rows = NDArray[np.float32]
Opener = Callable[[Bundle], Session]
GREEDY_TOKENS = 32

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
class GraphReport:
    """One graph of one stage."""

    graph: str
    agreement: Agreement
    failures: list[str]
    divergence: Divergence | None = None  # looked for only after a failure


@dataclass(frozen=True, slots=True, kw_only=True)
class StageReport:
    """One bundle. greedy_match is the mean share of greedy tokens before the first mismatch."""

    bundle: str
    target: str
    weights: str
    graphs: list[GraphReport]
    greedy_match: float
    greedy_limit: float

    @property
    def passed(self) -> bool:
        """Whether every graph and the greedy text are within their limits."""
        within = self.greedy_match >= self.greedy_limit
        return within and not any(report.failures for report in self.graphs)


def default_sequences(bundle: Bundle) -> list[list[int]]:
    """The built-in dialogues as token ids of the bundle's tokenizer."""
    tokenizer = open_tokenizer(bundle)
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
    sequences: list[list[int]] = read_json(file, PromptError)
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
    progress: Progress = SILENT,
    opener: Opener = open_session,
) -> list[StageReport]:
    """Compares bundles with the checkpoint that they were made from.

    Args:
        bundles: the stages, exported before compiled.
        model: the checkpoint directory.
        profile: holds the limits per precision.
        sequences: token ids, each at most cache_len long.
        progress: told each step.
        opener: opens a bundle's session.
    """
    for bundle in bundles:
        profile.limits_for(bundle.manifest.weights)  # refused before the long work
        _check_ids(bundle, sequences)
    check_origin(bundles, model, load_config(model))
    reference = Reference(model)
    progress.step("reference: torch float32")
    hidden = reference.hidden(sequences)
    return [
        _verify_stage(bundle, reference, hidden, profile, sequences, progress, opener)
        for bundle in bundles
    ]


def _check_ids(bundle: Bundle, sequences: Sequence[Sequence[int]]) -> None:
    vocab_size = bundle.manifest.model.vocab_size
    for token_id in (token_id for ids in sequences for token_id in ids):
        if not 0 <= token_id < vocab_size:
            raise PromptError(
                "a token id is not in the vocabulary",
                got=token_id,
                allowed=f"0 to {vocab_size - 1}",
            )


def _verify_stage(
    bundle: Bundle,
    reference: Reference,
    hidden: list[list[Rows]],
    profile: Profile,
    sequences: Sequence[Sequence[int]],
    progress: Progress,
    opener: Opener,
) -> StageReport:
    manifest = bundle.manifest
    limits = profile.limits_for(manifest.weights)
    reports: list[GraphReport] = []
    with closing(opener(bundle)) as session:
        for graph in manifest.graphs:
            progress.step(f"{bundle.path.name}: {graph.spec.name}")
            agreement = _compare(reference, hidden[-1], sequences, session, graph)
            failures = agreement.failures(limits)
            reports.append(
                GraphReport(graph=graph.spec.name, agreement=agreement, failures=failures)
            )
        progress.step(f"{bundle.path.name}: greedy text")
        try:
            greedy_match = _greedy_match(Engine(session), reference, sequences)
        except SessionError:  # logits that are not numbers: no token can be chosen
            greedy_match = 0.0
    # A graph compiled for a chip cannot be opened up.
    if manifest.device is None and any(found.failures for found in reports):
        progress.step(f"{bundle.path.name}: looking for the first layer that diverges")
        reports = [
            _locate(bundle, found, hidden, sequences, limits, opener) if found.failures else found
            for found in reports
        ]
    return StageReport(
        bundle=str(bundle.path),
        target=manifest.target,
        weights=manifest.weights,
        graphs=reports,
        greedy_match=greedy_match,
        greedy_limit=limits.greedy,
    )


def _compare(
    reference: Reference,
    last_hidden: list[Rows],
    sequences: Sequence[Sequence[int]],
    session: Session,
    graph: Graph,
) -> Agreement:
    total = AgreementSum()
    for ids, hidden_SE in zip(sequences, last_hidden, strict=True):
        expected = reference.logits(hidden_SE)
        for row, got in replay(session, graph, ids):
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
    found: GraphReport,
    hidden: list[list[Rows]],
    sequences: Sequence[Sequence[int]],
    limits: Limits,
    opener: Opener,
) -> GraphReport:
    """Runs the graph again on the first sequence with every layer's output made visible."""
    beside = bundle.path.parent  # where weights can be linked instead of copied
    with (
        tempfile.TemporaryDirectory(dir=beside if os.access(beside, os.W_OK) else None) as taps,
        closing(opener(tapped(bundle, Path(taps)))) as session,
    ):
        watched = WatchedSession(session, [streams[0] for streams in hidden])
        graph = next(g for g in watched.manifest.graphs if g.spec.name == found.graph)
        for _ in replay(watched, graph, sequences[0]):
            pass  # what counts is what the watched session saw
    over = [i for i, error in enumerate(watched.errors) if not error <= limits.hidden]
    layer = over[0] if over else None
    divergence = Divergence(
        layer=layer,
        relative_error=watched.errors[-1 if layer is None else layer],
        limit=limits.hidden,
    )
    return replace(found, divergence=divergence)
