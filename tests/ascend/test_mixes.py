"""Many requests at once on the emulated card, in batches and with drafts.

`MIXES=1000 pytest tests/ascend/test_mixes.py` tries more mixes than the suite.

A call of several rows adds up in another order than a call of one, and float16 keeps what differs,
so the last bits of a logit may not be those of a request alone. That is bounded here; within the
bound every token is the one that the sampler takes.
"""

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from export.exporter import export_bundle
from profiles import Profile, load_profile
from runtime.bundle.manifest import GraphSpec, Phase
from runtime.bundle.reader import Bundle
from runtime.engine.engine import Engine
from runtime.engine.generate import generate
from runtime.engine.scheduler import Policy, Scheduler
from runtime.engine.sequence import Request
from runtime.progress import SILENT
from runtime.sampling.params import SamplingParams
from runtime.sessions import open_session
from runtime.sessions.base import Chunk, Logits, Session
from tests.ascend.conftest import put_toolkit
from tests.emulator.device import Emulator
from tests.mixes import NEVER, Asked, Mix, check_mix, mixes, run_mix
from tests.paths import DATA
from toolchain.bench.grid import Grid
from toolchain.bench.run import bench
from toolchain.choices import Choices
from toolchain.compiler import compile_bundle

CACHE_LEN, VOCAB = 40, 640
SPACINGS = 8  # of float16 at the largest logit; 2.5 were seen in 500 mixes

BATCHES: tuple[tuple[Phase, int, int], ...] = (("decode", 2, 1), ("decode", 4, 1), ("score", 4, 8))


def profile() -> Profile:
    """The graphs of 310p3 in small, more slots, and drafts of four sequences in one call."""
    small = load_profile(str(DATA / "small.toml"))
    batches = [
        GraphSpec(phase=phase, batch_size=size, seq_len=rows, cache_len=CACHE_LEN)
        for phase, size, rows in BATCHES
    ]
    graphs = (*(spec for spec in small.graphs if spec.batch_size == 1), *batches)
    chip = load_profile("310p3").chip
    changes = {"target": "310p3", "weights": "fp16", "graphs": graphs, "slots": 6, "chip": chip}
    return small.model_copy(update=changes)


@pytest.fixture(scope="module")
def exported(miniature_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    output = tmp_path_factory.mktemp("exported") / "small"
    return export_bundle(miniature_dir, profile(), output, SILENT)


@pytest.fixture(scope="module", params=["fp16", "int8"])
def bundle(
    request: pytest.FixtureRequest, exported: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    directory = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        put_toolkit(directory / "cann", patch)
        choices = Choices(weights=request.param)
        return compile_bundle(exported, directory / "om", choices, progress=SILENT)


@pytest.fixture(scope="module")
def emulator(bundle: Bundle) -> Iterator[Emulator]:
    with pytest.MonkeyPatch.context() as patch:
        emulator = Emulator()
        emulator.install(patch)
        yield emulator
        assert (emulator.violations, emulator.leaks()) == ([], [])


@pytest.fixture(scope="module")
def session(bundle: Bundle, emulator: Emulator) -> Iterator[Session]:
    with closing(open_session(bundle)) as session:
        yield session


def tolerance(alone: Logits) -> float:
    return SPACINGS * float(np.spacing(np.float16(np.abs(alone).max())))


def assert_close(logits: Logits, alone: Logits) -> None:
    assert np.abs(logits - alone).max() <= tolerance(alone)


@settings(
    max_examples=int(os.environ.get("MIXES", "60")),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(mix=mixes(VOCAB, CACHE_LEN))
def test_every_request_of_any_mix_has_the_logits_that_it_has_alone_and_their_tokens(
    mix: Mix, session: Session
) -> None:
    check_mix(session, mix, tolerance)


def test_a_batch_and_a_check_of_drafts_give_the_logits_of_one_row(session: Session) -> None:
    """Same rows in the cache, so that all that differs is the graph."""
    graphs = {graph.spec.name: graph for graph in session.manifest.graphs}
    rng = Random(0)
    for length in (1, 5, 17, 31):
        prompts = [rng.choices(range(VOCAB), k=length + 8) for _ in range(4)]
        chunks = [
            Chunk(slot=slot, start=length, token_ids=ids[length : length + 1])
            for slot, ids in enumerate(prompts)
        ]
        engine = Engine(session, reuse_prefix=False)
        for slot, ids in zip(engine.cache.slots, prompts, strict=False):
            engine.prefill(slot, ids[:length])
        alone = [session.run(graphs["decode_b1"], [chunk])[0].copy() for chunk in chunks]
        for size in (2, 4):
            rows = session.run(graphs[f"decode_b{size}"], chunks[:size])
            for row, expected in zip(rows, alone, strict=False):
                assert_close(row, expected)
        for chunk, ids, expected in zip(chunks, prompts, alone, strict=True):
            checked = session.run(
                graphs["score_s8"], [replace(chunk, token_ids=ids[length : length + 8])]
            )
            assert checked.shape == (1, 8, VOCAB)
            assert_close(checked[0, 0], expected)
        longer = [
            replace(chunk, token_ids=ids[length : length + 3])
            for chunk, ids in zip(chunks, prompts, strict=True)
        ]
        for rows, expected in zip(session.run(graphs["score_b4_s8"], longer), alone, strict=True):
            assert_close(rows[0], expected)


def test_drafts_are_checked_in_fewer_calls_and_change_no_token(session: Session) -> None:
    bias = dict.fromkeys((5, 6), 60.0)
    params = SamplingParams(max_tokens=24, logit_bias=bias)
    request = Request(prompt_ids=[5, 6, 7, 8] * 2, params=params)
    said, calls = [], []
    for speculate in (False, True):
        scheduler = Scheduler(Engine(session), Policy(speculate=speculate))
        said.append([token.id for token in generate(scheduler, request)])
        counters = scheduler.counters
        calls.append(counters.decode_calls + counters.verify_calls)
    assert said[0] == said[1]
    assert counters.accepted > 0
    assert calls[1] < calls[0] == 23


def test_a_fault_of_any_call_of_the_driver_ends_only_those_it_was_made_for(
    session: Session, emulator: Emulator
) -> None:
    """Parts of prompts, one by a score graph, batches, a prefix that is copied, a move down."""
    params = [SamplingParams(max_tokens=count) for count in (2, 5, 4)]
    requests = [
        Request(prompt_ids=[5, 6, 7, 8, 9], params=params[0]),
        Request(prompt_ids=[11, 12, 13], params=params[1], prompt_logprobs=0),
        Request(prompt_ids=[5, 6, 7, 8, 30], params=params[2]),
    ]
    asked = [Asked(request=request, arrives=0, aborted=NEVER) for request in requests]
    mix = Mix(asked=asked, policy=Policy(speculate=False, prefill_first=True), reuse_prefix=True)
    emulator.reset_counters()
    expected = [outcome.ids for outcome in run_mix(session, mix)]
    assert [len(ids) for ids in expected] == [2, 5, 4]
    calls = dict(emulator.calls)
    assert calls["mdl.execute_async"] == 3 + 1 + 3
    num_failed = 0
    for function, count in calls.items():
        for k in range(1, count + 1):
            emulator.reset_counters()
            emulator.fail_at(function, k)
            for outcome, ids in zip(run_mix(session, mix), expected, strict=True):
                if outcome.error is None:
                    assert outcome.ids == ids
                else:
                    num_failed += 1
                    assert f"acl.{function} failed" in str(outcome.error)
                    assert outcome.ids == ids[: len(outcome.ids)]
    # All but those of moves, which are not needed: then everybody goes on where they are.
    assert num_failed >= 0.8 * sum(calls.values())


def test_bench_runs_four_sequences_in_the_graph_of_four(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator = Emulator()
    emulator.install(monkeypatch)
    grid = Grid(pairs=((8, 4),), batch_sizes=(1, 4))
    cases, _ = grid.cases(bundle.manifest.cache_len, bundle.manifest.max_batch_size)
    result = bench(bundle, cases, model="small", mode="detail", repeats=1)
    assert [row.case.batch_size for row in result.rows] == [1, 4]
    # A run to warm up and one that counts: prompts one after the other, then three steps of all.
    assert emulator.calls["mdl.execute_async"] == 2 * (1 + 3) + 2 * (4 + 3)
