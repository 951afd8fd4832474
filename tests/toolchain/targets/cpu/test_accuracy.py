"""What quantising costs: perplexity on held-out text of a small trained model."""

import json
import math
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from runtime.bundle.reader import Bundle, load_bundle
from runtime.engine.engine import Engine
from runtime.progress import SILENT
from runtime.sessions import open_session
from toolchain.choices import Choices
from toolchain.compiler import compile_bundle

NUM_DOCUMENTS = 20


@pytest.fixture(scope="module")
def exported(mini_exported: Path) -> Bundle:
    return load_bundle(mini_exported)


@pytest.fixture(scope="module")
def documents(shared_data: Path) -> list[list[int]]:
    held_out = json.loads((shared_data / "alpaca2-mini" / "held_out_ids.json").read_bytes())
    chosen: list[list[int]] = held_out[:NUM_DOCUMENTS]
    return chosen


def perplexity(bundle: Bundle, documents: Iterable[list[int]]) -> float:
    """exp of the mean negative log-likelihood of every token but the first."""
    total, count = 0.0, 0
    with closing(open_session(bundle)) as session:
        engine = Engine(session)
        for ids in documents:
            with engine.slot([]) as slot:
                slot.truncate(0)
                rows = np.concatenate(list(engine.score(slot, ids[:-1]))).astype(np.float64)
            highest = rows.max(axis=1)
            normaliser = highest + np.log(np.exp(rows - highest[:, None]).sum(axis=1))
            total += float((normaliser - rows[np.arange(len(rows)), ids[1:]]).sum())
            count += len(rows)
    return math.exp(total / count)


@pytest.fixture(scope="module")
def reference(
    exported: Bundle, documents: list[list[int]], tmp_path_factory: pytest.TempPathFactory
) -> float:
    output = tmp_path_factory.mktemp("fp32") / "out"
    return perplexity(
        compile_bundle(exported, output, Choices(weights="fp32"), progress=SILENT), documents
    )


@pytest.mark.parametrize("kv_cache", ["float", "int8"])
@pytest.mark.parametrize(("weights", "limit"), [("fp32", 0.002), ("int8", 0.005), ("int4", 0.03)])
def test_perplexity_stays_close_to_float32(
    weights: str,
    kv_cache: str,
    limit: float,
    exported: Bundle,
    documents: list[list[int]],
    reference: float,
    tmp_path: Path,
) -> None:
    bundle = compile_bundle(
        exported, tmp_path / "out", Choices(weights=weights, kv_cache=kv_cache), progress=SILENT
    )
    assert abs(perplexity(bundle, documents) / reference - 1) < limit
