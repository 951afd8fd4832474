"""torch float32 -> ONNX -> compiled: how close each stage is, and where it leaves the path.

Each bundle is a stage, and the torch programs of an exported one are another. Every graph is
compared, row by row, with the float32 reference on the same tokens; then every layer and the head
by itself.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.config import load_config
from export.lora import open_adapter
from export.reference import Reference
from export.rope_settings import with_rope
from profiles import BITS, KVCache, Limits, Profile, exported_profile
from runtime.bundle.manifest import Graph
from runtime.bundle.reader import Bundle
from runtime.engine.engine import Engine
from runtime.engine.generate import generate
from runtime.engine.scheduler import Scheduler
from runtime.engine.sequence import Request
from runtime.errors import SessionError
from runtime.progress import SILENT, Progress
from runtime.sampling.params import SamplingParams
from runtime.sessions import Session, open_session
from toolchain.targets import bits_per_weight
from toolchain.token_ids import check_ids
from toolchain.verify.layers import Parts, check_parts
from toolchain.verify.origin import check_origin
from toolchain.verify.parity import Agreement, AgreementSum, match_length
from toolchain.verify.replay import replay
from toolchain.verify.report import GraphReport, StageReport
from toolchain.verify.taps import TAPPED

__all__ = ["Stage", "verify"]

Rows = NDArray[np.float32]
Opener = Callable[[Bundle], Session]
GREEDY_TOKENS = 32


@dataclass(frozen=True, slots=True)
class Stage:
    """A bundle and what runs it."""

    bundle: Bundle
    opener: Opener = open_session


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """The reference, and what it makes of the sequences: last residual streams, (S, E) each."""

    reference: Reference
    sequences: Sequence[Sequence[int]]
    hidden: Sequence[Rows]


def verify(
    stages: Sequence[Stage],
    model: Path,
    profile: Profile,
    sequences: Sequence[Sequence[int]],
    *,
    lora: Path | None = None,
    progress: Progress = SILENT,
) -> list[StageReport]:
    """Compares bundles with the checkpoint that they were made from.

    Args:
        stages: in order, exported before compiled.
        model: the checkpoint directory.
        profile: holds the limits per precision.
        sequences: token ids, each at most cache_len long.
        lora: directory of the adapter that was merged into it.
        progress: told each step.

    Raises:
        PromptError: an id is not in the vocabulary.
        TargetError: a bundle is not of this checkpoint.
        CheckpointError: the checkpoint's tokenizer is not its model's.
    """
    bundles = [stage.bundle for stage in stages]
    limits = [_limits(bundle, profile) for bundle in bundles]  # refused before the long work
    for bundle in bundles:
        check_ids(bundle.manifest.model.vocab_size, sequences)
    config = load_config(model)
    adapter = None if lora is None else open_adapter(lora, config)
    config = config if adapter is None else adapter.merged
    check_origin(bundles, model, config, adapter)
    manifest = bundles[0].manifest
    rope = manifest.provenance.options.get("rope")
    if isinstance(rope, str):
        config = with_rope(config, rope, manifest.cache_len)
    reference = Reference(model, config, adapter)
    progress.step("reference: torch float32")
    expected = Expected(
        reference=reference, sequences=sequences, hidden=reference.hidden(sequences)
    )
    return [
        _verify_stage(stage, expected, limit, progress)
        for stage, limit in zip(stages, limits, strict=True)
    ]


def _cache(bundle: Bundle) -> KVCache:
    return "int8" if bundle.manifest.cache_dtype == "int8" else "float"


def _limits(bundle: Bundle, profile: Profile) -> Limits:
    return profile.limits_for(bundle.manifest.weights, _cache(bundle))


def _verify_stage(
    stage: Stage, expected: Expected, limits: Limits, progress: Progress
) -> StageReport:
    bundle, agreements = stage.bundle, dict[str, Agreement]()
    with closing(stage.opener(bundle)) as session:
        manifest = session.manifest
        for graph in manifest.every_graph:
            name = graph.spec.name_beside(manifest.cache_len)
            progress.step(f"{bundle.path.name}: {name}")
            # Without its shorter ones, so that the session takes this very graph.
            alone = graph.model_copy(update={"shorter": ()})
            agreements[name] = _compare(expected, session, alone)
        progress.step(f"{bundle.path.name}: greedy text")
        try:
            greedy_match = _greedy_match(Scheduler(Engine(session)), expected)
        except SessionError:  # logits that are not numbers: no token can be chosen
            greedy_match = 0.0
    recipe, bits = _recipe(bundle)
    parts: dict[str, Parts] = {}
    if manifest.backend in TAPPED:
        progress.step(f"{bundle.path.name}: each layer by itself")
        parts = check_parts(bundle, expected.reference, expected.sequences, stage.opener)
    return StageReport(
        bundle=str(bundle.path),
        target=manifest.target,
        weights=manifest.weights,
        recipe=recipe,
        bits_per_weight=bits,
        kv_cache=_cache(bundle),
        limits=limits,
        graphs=[
            GraphReport(graph=name, agreement=found, parts=parts.get(name), limits=limits)
            for name, found in agreements.items()
        ],
        greedy_match=greedy_match,
    )


def _recipe(bundle: Bundle) -> tuple[str, float]:
    """How the weights are quantised, in words and in bits of a weight."""
    manifest = bundle.manifest
    if manifest.stage == "exported":
        return manifest.weights, 16.0
    profile = exported_profile(bundle)
    bits = bits_per_weight(manifest.model, profile)
    words = profile.described_weights
    return f"{words}; {bits:.2f} bits a weight" if profile.weights in BITS else words, bits


def _compare(expected: Expected, session: Session, graph: Graph) -> Agreement:
    total = AgreementSum()
    for ids, hidden_SE in zip(expected.sequences, expected.hidden, strict=True):
        right = expected.reference.logits(hidden_SE)
        for row, got in replay(session, graph, ids):
            rows = slice(row, row + len(got))
            total.add(right[rows], got, list(ids[row + 1 : row + 1 + len(got)]))
    return total.result()


def _greedy_match(scheduler: Scheduler, expected: Expected) -> float:
    """Mean share of greedy tokens, from the middle of each sequence, that the reference makes."""
    prompts = [list(ids[: len(ids) // 2]) for ids in expected.sequences]
    params = SamplingParams(max_tokens=GREEDY_TOKENS, ignore_eos=True)
    requests = [Request(prompt_ids=ids, params=params) for ids in prompts]
    answers = [[token.id for token in generate(scheduler, request)] for request in requests]
    pairs = list(zip(prompts, answers, strict=True))
    hidden = expected.reference.hidden([prompt + answer[:-1] for prompt, answer in pairs])
    shares = []
    for (prompt, answer), stream in zip(pairs, hidden, strict=True):
        rows = expected.reference.logits(stream[len(prompt) - 1 :])
        shares.append(match_length(rows, answer) / len(answer))
    return float(np.mean(shares))
