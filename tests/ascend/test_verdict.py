"""Whether the card holds what was compiled, and what is said and done where it does not."""

from pathlib import Path

import pytest

from profiles import load_profile
from runtime.bundle.reader import Bundle, load_bundle
from runtime.progress import SILENT, Silent
from tests.ascend.conftest import Toolkit
from toolchain.choices import Choices
from toolchain.compiler import compile_bundle

CHOICES = Choices(target="310p3", weights="fp16")


@pytest.fixture(scope="module")
def exported(bundles: Path) -> Bundle:
    return load_bundle(bundles / "talk-exported")


def test_what_the_graphs_do_not_share_is_counted(
    exported: Bundle, toolkit: Toolkit, tmp_path: Path
) -> None:
    """A layout per graph: a card with room takes both copies, and the manifest says so."""
    toolkit(layout_per_graph=True)
    bundle = compile_bundle(exported, tmp_path / "om", CHOICES, progress=SILENT)
    device = bundle.manifest.device
    assert device is not None
    assert device.shared_bytes < 0.5 * device.weight_bytes
    assert f"share {device.shared_bytes / device.weight_bytes:.1%} of" in device.verdict
    assert len({graph.path for graph in bundle.manifest.graphs}) == 3


def test_where_the_card_cannot_hold_both_copies_one_om_in_gears_is_made(
    exported: Bundle, toolkit: Toolkit, tmp_path: Path
) -> None:
    toolkit(layout_per_graph=True)
    unshared = compile_bundle(
        exported, tmp_path / "probe", CHOICES, progress=SILENT
    ).manifest.device
    assert unshared is not None
    small = _with_memory(exported, unshared.needed_bytes - 1_000_000)
    told: list[str] = []

    class Listener(Silent):
        def step(self, text: str) -> None:
            told.append(text)

    bundle = compile_bundle(small, tmp_path / "om", progress=Listener())
    assert {graph.path for graph in bundle.manifest.graphs} == {"graphs/decoder.om"}
    [refused] = [text for text in told if text.endswith("; compiling one OM in gears")]
    assert ": does not fit: weights " in refused
    assert bundle.manifest.device is not None
    verdict = "one OM in gears, without score_s64, share 100.0% of "
    assert bundle.manifest.device.verdict.startswith(verdict)
    assert bundle.manifest.device.verdict.endswith(": fits")
    assert load_bundle(bundle.path).manifest == bundle.manifest  # no stray file of the first try


def test_gears_are_not_tried_where_they_cannot_help(
    exported: Bundle, toolkit: Toolkit, tmp_path: Path
) -> None:
    """All is shared already, and still too large: the bundle says so, and the loader will."""
    toolkit()
    bundle = compile_bundle(_with_memory(exported, 1_000_000), tmp_path / "om", progress=SILENT)
    assert len({graph.path for graph in bundle.manifest.graphs}) == 3
    assert bundle.manifest.device is not None
    verdict = bundle.manifest.device.verdict
    assert ": does not fit: weights 1.9 MB, KV cache (slots 1) 786.4 kB, all else " in verdict
    assert verdict.endswith("`toolchain plan` names the largest change that makes it fit")


def test_what_would_fit_is_named(bundles: Path, toolkit: Toolkit, tmp_path: Path) -> None:
    """Cards that lack one slot of five, and more than fewer slots can give."""
    toolkit()
    exported = _of_three_graphs(load_bundle(bundles / "small-exported"))
    device = compile_bundle(exported, tmp_path / "probe", CHOICES, progress=SILENT).manifest.device
    assert device is not None
    model = exported.manifest.model
    row = 2 * 2 * model.num_hidden_layers * model.num_key_value_heads * model.head_dim
    slot = exported.manifest.cache_len * row
    for missing, change in ((1, "with slots 4 in the profile"), (3, "without decode_b3")):
        size = device.needed_bytes - missing * slot
        bundle = compile_bundle(_with_memory(exported, size), tmp_path / "om", progress=SILENT)
        assert bundle.manifest.device is not None
        verdict = bundle.manifest.device.verdict
        assert "does not fit: weights " in verdict
        assert verdict.endswith(f"; would fit {change}")


def _of_three_graphs(exported: Bundle) -> Bundle:
    manifest = exported.manifest
    kept = [g for g in manifest.graphs if g.spec.name in ("prefill_s4", "decode_b1", "decode_b3")]
    specs = [graph.spec.model_dump(mode="json") for graph in kept]
    changes = {"graphs": tuple(kept), "profile": {**manifest.profile, "graphs": specs}}
    return Bundle(exported.path, manifest.model_copy(update=changes))


def _with_memory(exported: Bundle, size: int) -> Bundle:
    """The bundle as exported for a card that has so much free."""
    chip = load_profile("310p3").chip
    assert chip is not None
    memory = chip.memory.model_copy(update={"value": float(size) + 1})
    reserved = chip.reserved.model_copy(update={"value": 1.0})
    small = chip.model_copy(update={"memory": memory, "reserved": reserved})
    profile = {
        **exported.manifest.profile,
        "target": "310p3",
        "weights": "fp16",
        "chip": small.model_dump(mode="json"),
    }
    return Bundle(exported.path, exported.manifest.model_copy(update={"profile": profile}))
