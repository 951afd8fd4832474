"""Claims about kernels in a whole model: every instruction set says the same tokens."""

import json
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from runtime.bundle.reader import Bundle, load_bundle
from runtime.engine.engine import Engine
from runtime.engine.generate import generate
from runtime.engine.scheduler import Scheduler
from runtime.engine.sequence import Request
from runtime.kernels.library import Kernels
from runtime.progress import SILENT
from runtime.sampling.params import SamplingParams
from runtime.sessions import open_session
from toolchain.choices import Choices
from toolchain.compiler import compile_bundle

NUM_PROMPTS = int(os.environ.get("PROMPTS", "2"))  # from the start and from the middle of documents
NUM_TOKENS = 64
BOUND = 0.5  # of logits, whose range is about 20; 0.12 was seen, and 0 but for few rows


@pytest.fixture
def kernels() -> Iterator[Kernels]:
    """The library, which takes the fastest again afterwards."""
    library = Kernels()
    yield library
    library.select(None)


def prompts(shared_data: Path) -> list[list[int]]:
    documents = json.loads((shared_data / "alpaca2-mini" / "held_out_ids.json").read_text())
    long = [ids for ids in documents if len(ids) > 100]
    starts = [ids[:40] for ids in long]
    middles = [ids[len(ids) // 2 :][:40] for ids in long]
    return [prompt for pair in zip(starts, middles, strict=True) for prompt in pair][:NUM_PROMPTS]


def answers(bundle: Bundle, asked: list[list[int]]) -> tuple[list[int], np.ndarray]:
    """Tokens of all answers one after the other, and their logits."""
    params = SamplingParams(max_tokens=NUM_TOKENS, ignore_eos=True)
    with closing(open_session(bundle)) as session:
        scheduler = Scheduler(Engine(session))
        tokens = [
            token
            for ids in asked
            for token in generate(
                scheduler, Request(prompt_ids=ids, params=params, keep_logits=True)
            )
        ]
    logits = [token.logits for token in tokens if token.logits is not None]
    return [token.id for token in tokens], np.stack(logits)


@pytest.mark.parametrize("weights", ["int4", "int8"])
def test_every_instruction_set_says_the_same_tokens(
    weights: str, kernels: Kernels, mini_exported: Path, shared_data: Path, tmp_path: Path
) -> None:
    """The products are the same bits. ONNX Runtime's sums depend in the last bit on where an array
    happens to lie, with one thread too. Where an input of a product lies on the edge between two
    levels of int8, that makes up to a tenth."""
    exported = load_bundle(mini_exported)
    bundle = compile_bundle(exported, tmp_path / "out", Choices(weights=weights), progress=SILENT)
    assert bundle.manifest.kernels is not None
    asked = prompts(shared_data)
    fastest, *others = kernels.instruction_sets
    kernels.select(fastest)
    tokens, logits = answers(bundle, asked)
    assert len(tokens) == NUM_PROMPTS * NUM_TOKENS
    for name in others:
        kernels.select(name)
        again, same = answers(bundle, asked)
        assert again == tokens, name
        np.testing.assert_allclose(same, logits, rtol=0, atol=BOUND)
