"""What crosses the bus, what fits the card, and which card it is."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from runtime.bundle.reader import Bundle, load_bundle
from runtime.engine.engine import Engine
from runtime.errors import SessionError
from runtime.progress import SILENT
from runtime.sessions import SESSIONS, SessionOptions, open_session
from runtime.sessions.base import Chunk, Logits, Session
from tests.ascend.conftest import Toolkit, put_toolkit
from tests.emulator.device import Emulator
from toolchain.choices import Choices
from toolchain.compiler import compile_bundle
from toolchain.targets import TARGETS

Card = Callable[..., Emulator]
PROMPT = list(range(5, 25))


@pytest.fixture(scope="module")
def talk(bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    directory = tmp_path_factory.mktemp("talk")
    exported = load_bundle(bundles / "talk-exported")
    with pytest.MonkeyPatch.context() as patch:
        put_toolkit(directory / "cann", patch)
        return compile_bundle(
            exported, directory / "om", Choices(target="310p3", weights="fp16"), progress=SILENT
        )


def row_bytes(bundle: Bundle) -> int:
    """Keys and values of one token in every layer, float16."""
    model = bundle.manifest.model
    return 2 * 2 * model.num_hidden_layers * model.num_key_value_heads * model.head_dim


def test_a_token_sends_two_numbers_and_fetches_logits(talk: Bundle, card: Card) -> None:
    emulator = card()
    vocab_size = talk.manifest.model.vocab_size
    with closing(open_session(talk)) as session:
        engine = Engine(session)
        with engine.slot(PROMPT) as slot:
            engine.prefill(slot, PROMPT)
            for _ in range(3):
                emulator.reset_counters()
                engine.decode([slot], [7])
                sent = emulator.transfers
                assert sent["H2D"] == 8 + 8  # its id, and how many rows there are already
                assert sent["D2H"] == 4 * vocab_size
                assert "D2D" not in sent
                # Nothing is allocated, created or copied within the device while a token is made.
                layers = talk.manifest.model.num_hidden_layers
                assert emulator.calls == {
                    "rt.set_context": 1,
                    "rt.memcpy_async": 2 + 1,
                    "update_data_buffer": 2 * layers,  # where the new rows go
                    "mdl.execute_async": 1,
                    "rt.synchronize_stream": 1,
                }


def test_a_check_of_drafts_fetches_the_logits_of_every_row(talk: Bundle, card: Card) -> None:
    emulator = card()
    vocab_size = talk.manifest.model.vocab_size
    with closing(open_session(talk)) as session:
        engine = Engine(session)
        with engine.slot(PROMPT) as slot:
            engine.prefill(slot, PROMPT)
            emulator.reset_counters()
            [rows] = engine.verify([slot], [[7, 8, 9]])
            assert rows.shape == (3, vocab_size)
            assert emulator.transfers == {
                "H2D": 64 * 8 + 8,
                "D2H": 64 * 4 * vocab_size,
            }


def test_in_gears_a_token_runs_in_the_gear_of_one_row(
    bundles: Path, toolkit: Toolkit, card: Card, tmp_path: Path
) -> None:
    """With no gear chosen the longest would run: the same token, for the time of a prompt."""
    toolkit(cann_version="8.3.RC1")
    exported = load_bundle(bundles / "talk-exported")
    bundle = compile_bundle(
        exported, tmp_path / "om", Choices(target="310p3", weights="fp16"), progress=SILENT
    )
    emulator = card(cann="8.3.RC1", external_weight_api=False)
    with closing(open_session(bundle)) as session:
        engine = Engine(session)
        with engine.slot(PROMPT) as slot:
            engine.prefill(slot, PROMPT)
            emulator.reset_counters()
            engine.decode([slot], [7])
            assert emulator.calls["mdl.set_input_dynamic_dims"] == 1
            [model] = emulator.state.models.values()
            assert model.gear is not None
            assert model.gear.values == (1, 1, 1, bundle.manifest.cache_len + 1)


def test_at_the_end_of_a_slot_rows_are_copied_without_their_padding(
    talk: Bundle, card: Card
) -> None:
    """A graph of 64 rows may write 64 rows where they lie; behind the slot others may lie."""
    emulator, graphs = card(), {graph.spec.name: graph for graph in talk.manifest.graphs}
    with closing(open_session(talk)) as session:
        for start, copied in ((talk.manifest.cache_len - 64, 0), (talk.manifest.cache_len - 63, 3)):
            chunk = Chunk(slot=0, start=start, token_ids=PROMPT[:3])
            emulator.reset_counters()
            session.run(graphs["prefill_s64"], [chunk])
            assert emulator.transfers.get("D2D", 0) == copied * row_bytes(talk)


def test_rows_that_are_copied_are_those_that_a_graph_writes_in_place(
    talk: Bundle, card: Card
) -> None:
    """The last rows of a full slot, by a prefill graph and one by one, then what follows them."""
    card()
    graphs = {graph.spec.name: graph for graph in talk.manifest.graphs}
    full = (PROMPT * 20)[: talk.manifest.cache_len]
    first, known, rest, last = full[:-20], len(full) - 20, full[-20:-1], full[-1]
    following = []
    with closing(open_session(talk)) as session:
        for start in range(0, known, 64):
            chunk = Chunk(slot=0, start=start, token_ids=first[start : start + 64])
            session.run(graphs["prefill_s64"], [chunk])
        for graph, size in (("prefill_s64", len(rest)), ("decode_b1", 1)):
            for i in range(0, len(rest), size):
                chunk = Chunk(slot=0, start=known + i, token_ids=rest[i : i + size])
                session.run(graphs[graph], [chunk])
            end = Chunk(slot=0, start=known + len(rest), token_ids=[last])
            following.append(session.run(graphs["decode_b1"], [end]).copy())
            other = Chunk(slot=0, start=known, token_ids=[7] * 20)
            session.run(graphs["prefill_s64"], [other])
    copied, in_place = following
    assert np.abs(copied - in_place).max() < 0.05


def test_weights_go_to_the_card_once(talk: Bundle, card: Card) -> None:
    emulator = card()
    files = {name for graph in talk.manifest.graphs for name in graph.weights}
    with closing(open_session(talk)):
        assert emulator.transfers["H2D"] == sum(talk.manifest.files[name].size for name in files)
        # No model has taken memory of its own for weights or to work in.
        assert [model.own for model in emulator.state.models.values()] == [[], [], []]


def test_another_chip_is_refused(talk: Bundle, card: Card) -> None:
    card(soc_name="Ascend910B3")
    with pytest.raises(SessionError, match=r"device 0 is another chip .* got Ascend910B3; allowed"):
        open_session(talk)


def test_a_device_that_is_not_there_is_refused(talk: Bundle, card: Card) -> None:
    card(num_devices=2)
    with pytest.raises(SessionError, match="no such device; got 2; allowed: 0 to 1"):
        open_session(talk, SessionOptions(device=2))


def two_rows(session: Session) -> Logits:
    """Logits after a prompt and after one token more, (2, V)."""
    engine = Engine(session, reuse_prefix=False)
    with engine.slot(PROMPT) as slot:
        first = engine.prefill(slot, PROMPT).copy()
        return np.concatenate([first[None], engine.decode([slot], [7])])


def test_two_devices_serve_side_by_side(talk: Bundle, card: Card) -> None:
    card(num_devices=2)
    with closing(open_session(talk, SessionOptions(device=0))) as first:
        expected = two_rows(first)
        with closing(open_session(talk, SessionOptions(device=1))) as second:
            assert (two_rows(second) == expected).all()
        assert (two_rows(first) == expected).all()  # closing the second one left the first alone


def test_an_om_of_other_sizes_than_its_manifest_says_is_refused(talk: Bundle, card: Card) -> None:
    card()
    graph = talk.manifest.graphs[0]
    logits = graph.outputs[0].model_copy(update={"dtype": "float16"})
    outputs = (logits, *graph.outputs[1:])
    changed = graph.model_copy(update={"outputs": outputs})
    manifest = talk.manifest.model_copy(update={"graphs": (changed, *talk.manifest.graphs[1:])})
    with pytest.raises(SessionError, match="output logits is not what the manifest says; got 2560"):
        open_session(Bundle(talk.path, manifest))


def test_a_card_that_is_too_small_is_refused_before_anything_is_put_on_it(
    talk: Bundle, card: Card
) -> None:
    emulator = card(memory_bytes=3_000_000, reserved_bytes=0)
    with pytest.raises(SessionError, match="does not fit the memory of the device") as caught:
        open_session(talk)
    assert "weights" in str(caught.value)
    assert "KV cache (slots 1) 0.00" in str(caught.value)
    assert "--weights int8, or export with a profile of fewer slots" in str(caught.value)
    assert emulator.calls["rt.malloc_align32"] == 0


def test_a_machine_without_the_driver_says_what_to_install(talk: Bundle) -> None:
    with pytest.raises(SessionError, match=r"acl cannot be imported; .*`toolchain doctor` says"):
        open_session(talk)


def test_the_runtime_opens_every_backend_that_is_compiled_for() -> None:
    backends = {target.backend for target in TARGETS.values()}
    assert {*backends, "portable"} == set(SESSIONS)


def test_no_trace_and_no_second_device_where_there_is_none(
    talk: Bundle, bundles: Path, tmp_path: Path, toolkit: Toolkit
) -> None:
    with pytest.raises(SessionError, match=r"backend acl leaves no trace; run it under .* msprof"):
        open_session(talk, SessionOptions(trace=tmp_path))
    with pytest.raises(SessionError, match="onnxruntime has one device; got device 1; allowed: 0"):
        open_session(load_bundle(bundles / "talk-fp32"), SessionOptions(device=1))
