"""Any call of the driver fails: the error is named, all is given back, the next session works."""

import json
import sys
from collections import Counter
from contextlib import closing
from functools import partial

import numpy as np
import pytest

from export.exporter import export_bundle
from profiles import Profile, load_profile
from runtime.bundle.reader import Bundle, load_bundle
from runtime.engine.engine import Engine
from runtime.errors import SessionError
from runtime.progress import SILENT
from runtime.sessions import open_session
from runtime.sessions.base import Chunk, Session
from tests.ascend.any_fault import assert_clean, check_any_fault
from tests.ascend.conftest import put_toolkit
from tests.emulator.device import Emulator
from tests.paths import DATA
from toolchain.compiler import compile_bundle

pytestmark = pytest.mark.slow

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 300,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
}
PROMPT = [5, 6, 7, 8, 9, 10]
FORMS = {"graphs": "8.5.0", "gears": "8.3.RC1", "batches": "8.5.0"}


def profile(form: str) -> Profile:
    two = load_profile(str(DATA / "two.toml"))
    changes: dict[str, object] = {"target": "310p3", "weights": "fp16"}
    if form == "batches":
        decode = two.graphs[1].model_copy(update={"batch_size": 2})
        changes |= {"graphs": (*two.graphs, decode), "short_caches": (10,)}
    return two.model_copy(update=changes)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """A model so small that it can be loaded a thousand times: as two OMs, in gears, and as four
    OMs, one for two sequences and one for a shorter cache."""
    directory = tmp_path_factory.mktemp("tiny")
    (directory / "model").mkdir()
    (directory / "model" / "config.json").write_text(json.dumps(CONFIG))
    compiled = {}
    for form, cann in FORMS.items():
        source = directory / f"exported-{form}"
        exported = export_bundle(directory / "model", profile(form), source, SILENT, "dummy")
        with pytest.MonkeyPatch.context() as patch:
            put_toolkit(directory / f"cann-{form}", patch, cann_version=cann)
            compile_bundle(exported, directory / form, progress=SILENT)
        compiled[form] = load_bundle(directory / form)
    return compiled


def script(bundle: Bundle) -> np.ndarray:
    """Load, generate, copy a prefix, write rows whose padding a slot has no room for, close."""
    with closing(open_session(bundle)) as session:
        engine = Engine(session)
        with engine.slot(PROMPT) as slot:
            logits = engine.prefill(slot, PROMPT)
            for _ in range(2):
                logits = engine.decode([slot], [int(logits.argmax())])[0]
        session.copy_rows(0, 0, 2)
        end = Chunk(slot=0, start=bundle.manifest.cache_len - 1, token_ids=[5])
        session.run(bundle.manifest.graphs[0], [end])
    return logits


def new_card(form: str, patch: pytest.MonkeyPatch) -> Emulator:
    emulator = Emulator(cann=FORMS[form], external_weight_api=form != "gears")
    emulator.install(patch)
    return emulator


def work(session: Session) -> np.ndarray:
    """Two prompts, tokens of both and of one: by copies, in place, and on the shorter cache."""
    engine = Engine(session, reuse_prefix=False)
    with engine.slot(PROMPT) as first, engine.slot(PROMPT[:2]) as second:
        engine.prefill(first, PROMPT * 2)
        engine.prefill(second, PROMPT[:2])
        for tokens in ([7, 8], [9, 10]):
            engine.decode([first, second], tokens)
        ends = [engine.decode([slot], [11])[0] for slot in (first, second)]
    return np.array(ends)


def test_any_call_of_a_run_may_fail_and_the_session_goes_on(tiny: dict[str, Bundle]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        emulator = new_card("batches", patch)
        with closing(open_session(tiny["batches"])) as session:
            emulator.reset_counters()
            expected = work(session)
            calls = Counter(emulator.calls)
    assert emulator.transfers["D2D"] == 4 * 2 * 16 * 2  # rows of the two batches alone
    assert {"rt.memcpy_async", "update_data_buffer", "mdl.execute_async"} <= set(calls)
    for function, count in calls.items():
        for k in range(1, count + 1):
            with pytest.MonkeyPatch.context() as patch:
                emulator = new_card("batches", patch)
                with closing(open_session(tiny["batches"])) as session:
                    emulator.fail_at(function, k)
                    with pytest.raises(SessionError, match=function):
                        work(session)
                    assert np.array_equal(work(session), expected), (function, k)
                assert_clean(emulator)


@pytest.mark.parametrize("form", ["graphs", "gears"])
def test_any_call_may_fail(form: str, tiny: dict[str, Bundle]) -> None:
    calls = check_any_fault(partial(new_card, form), partial(script, tiny[form]))
    assert {"rt.malloc_align32", "mdl.load_with_config", "rt.synchronize_stream"} <= set(calls)


def test_a_call_that_keeps_failing_is_reported_after_the_rest_is_given_back(
    tiny: dict[str, Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator = new_card("graphs", monkeypatch)
    session = open_session(tiny["graphs"])
    monkeypatch.setattr(sys.modules["acl"].mdl, "destroy_dataset", lambda dataset: 507899)
    with pytest.raises(SessionError, match=r"destroy_dataset failed; got 507899, the driver"):
        session.close()
    assert [leak.split()[0] for leak in emulator.leaks()] == ["Dataset"] * 4
