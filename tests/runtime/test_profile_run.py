"""Where the time went: every run and every layer is in the report, and the parts add up."""

from contextlib import closing
from pathlib import Path

import pytest

from runtime.bundle.reader import TOKENIZER, Bundle, load_bundle
from runtime.completion import Completion, complete
from runtime.engine.engine import Engine
from runtime.engine.scheduler import Policy, Scheduler
from runtime.kernels.layout import OPERATOR
from runtime.profile_run import GraphRun, describe, read_trace
from runtime.sampling.params import SamplingParams
from runtime.sessions import SessionOptions, open_session
from runtime.text.sentencepiece_tokenizer import SentencePieceTokenizer

NEW_TOKENS = 5
PLAIN = Policy(speculate=False)  # so that every run is of one row
PROMPT = "北京是中国的首都" * 8


def traced(bundle: Bundle, directory: Path) -> tuple[list[GraphRun], Completion]:
    tokenizer = SentencePieceTokenizer(bundle.file(TOKENIZER))
    params = SamplingParams(max_tokens=NEW_TOKENS, ignore_eos=True)
    with closing(open_session(bundle, SessionOptions(trace=directory))) as session:
        completion = complete(Scheduler(Engine(session), PLAIN), tokenizer, PROMPT, params)
    return read_trace(directory), completion


@pytest.mark.parametrize("name", ["talk-int4", "talk-int4-kv8", "talk-exported"])
def test_every_run_and_every_layer_is_traced(name: str, bundles: Path, tmp_path: Path) -> None:
    bundle = load_bundle(bundles / name)
    runs, completion = traced(bundle, tmp_path)
    rows = sorted(run.num_rows for run in runs)
    padded = max(g.spec.seq_len for g in bundle.manifest.graphs if g.spec.phase == "prefill")
    longest = completion.prompt_tokens if bundle.manifest.stage == "compiled" else padded
    assert rows == [*[1] * (NEW_TOKENS - 1), longest]
    layers = bundle.manifest.model.num_hidden_layers
    for run in runs:
        assert {kernel.layer for kernel in run.kernels} == {None, *range(layers)}
        if bundle.manifest.stage == "compiled":  # else ONNX Runtime casts in the first one only
            by_layer = [[k.operator for k in run.kernels if k.layer == i] for i in range(layers)]
            assert by_layer == [by_layer[0]] * layers
        assert sum(kernel.ms for kernel in run.kernels) <= run.ms


def test_the_report_names_what_a_layer_computes_and_its_shares_add_up(
    bundles: Path, tmp_path: Path
) -> None:
    bundle = load_bundle(bundles / "talk-int4")
    runs, completion = traced(bundle, tmp_path)
    lines = list(describe(runs, completion))
    assert lines[0].startswith(f"1 runs of {completion.prompt_tokens} rows together, ")
    assert lines[0].endswith(f", {NEW_TOKENS - 1} of one row")
    kernels, layers = (i for i, line in enumerate(lines) if line.endswith("share"))
    product = "MatMulNBits" if bundle.manifest.kernels is None else OPERATOR
    for part in ("qkv_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"):
        assert any(f"{product} {part}" in line for line in lines[kernels:layers])
    last = layers + 1 + bundle.manifest.model.num_hidden_layers
    for first, end in ((kernels + 1, layers), (layers + 1, last + 1)):
        for column in (-3, -1):
            shares = [float(line.split()[column].removesuffix("%")) for line in lines[first:end]]
            assert sum(shares) == pytest.approx(100, abs=0.1 * len(shares))


def test_nothing_is_traced_unless_wanted(
    bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(open_session(load_bundle(bundles / "talk-int4"))) as session:
        engine = Engine(session)
        with engine.slot([5, 6]) as slot:
            engine.prefill(slot, [5, 6])
    assert list(tmp_path.iterdir()) == []
