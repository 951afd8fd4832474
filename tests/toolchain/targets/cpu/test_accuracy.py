"""What quantising costs: perplexity on held-out text of a small trained model."""

import json
import math
from collections.abc import Iterable, Iterator
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

NUM_DOCUMENTS, FEW_DOCUMENTS = 20, 6


@pytest.fixture(scope="module")
def exported(mini_exported: Path) -> Bundle:
    return load_bundle(mini_exported)


@pytest.fixture(scope="module")
def documents(shared_data: Path) -> list[list[int]]:
    held_out = json.loads((shared_data / "alpaca2-mini" / "held_out_ids.json").read_bytes())
    chosen: list[list[int]] = held_out[:NUM_DOCUMENTS]
    return chosen


def log_probabilities(bundle: Bundle, documents: Iterable[list[int]]) -> Iterator[np.ndarray]:
    """Of every token of the vocabulary after each token but the last, (S - 1, V)."""
    with closing(open_session(bundle)) as session:
        engine = Engine(session)
        for ids in documents:
            with engine.slot([]) as slot:
                slot.truncate(0)
                rows = np.concatenate(list(engine.score(slot, ids[:-1]))).astype(np.float64)
            highest = rows.max(axis=1, keepdims=True)
            yield rows - highest - np.log(np.exp(rows - highest).sum(axis=1, keepdims=True))


def perplexity(bundle: Bundle, documents: list[list[int]]) -> float:
    """exp of the mean negative log-likelihood of every token but the first."""
    total, count = 0.0, 0
    for ids, rows in zip(documents, log_probabilities(bundle, documents), strict=True):
        total -= float(rows[np.arange(len(rows)), ids[1:]].sum())
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


def test_calibrating_with_other_documents_takes_a_third_of_the_divergence_away(
    exported: Bundle, shared_data: Path, documents: list[list[int]], tmp_path: Path
) -> None:
    """KL divergence from float32; half of it goes with 30 documents, at the same bits."""
    held_out = json.loads((shared_data / "alpaca2-mini" / "held_out_ids.json").read_bytes())
    texts = tmp_path / "ids.json"
    texts.write_text(json.dumps(held_out[NUM_DOCUMENTS:]))
    choices = {
        "fp32": Choices(weights="fp32"),
        "nearest": Choices(weights="int4"),
        "calibrated": Choices(weights="int4", calibrate=str(texts)),
    }
    bundles = {
        name: compile_bundle(exported, tmp_path / name, choice, progress=SILENT)
        for name, choice in choices.items()
    }
    few = documents[:FEW_DOCUMENTS]
    expected, nearest, calibrated = (log_probabilities(bundle, few) for bundle in bundles.values())
    sums = np.zeros(2)
    for right, *found in zip(expected, nearest, calibrated, strict=True):
        sums += [(np.exp(right) * (right - rows)).sum() for rows in found]
    assert sums[1] < 2 / 3 * sums[0]
