"""Claims about manifests whose hashes are right: parts that do not fit each other are refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.bundle.reader import digest_line, load_bundle
from runtime.errors import BundleError

Edit = Callable[[dict[str, Any]], object]


def past(manifest: dict[str, Any], graph: int) -> dict[str, Any]:
    """The first cache input of a graph."""
    inputs = manifest["graphs"][graph]["inputs"]
    return next(tensor for tensor in inputs if tensor["name"] == "past_key.0")


def set_shape(manifest: dict[str, Any], at: int, size: int) -> None:
    past(manifest, 0)["shape"][at] = size


EDITS: dict[str, tuple[Edit, str]] = {
    "more layers": (
        lambda m: m["model"].update(num_hidden_layers=8),
        "its cache is not that of 8 layers",
    ),
    "wider heads": (lambda m: m["model"].update(head_dim=64), "the model's heads do not have"),
    "more heads": (
        lambda m: m["model"].update(num_key_value_heads=2),
        "the model's heads do not have",
    ),
    "more tokens": (lambda m: m["model"].update(vocab_size=641), "not those of 641 tokens"),
    "a longer cache of one graph": (
        lambda m: m["graphs"][0]["spec"].update(cache_len=41),
        "caches of several lengths",
    ),
    "a shorter cache that is as long": (
        lambda m: m["graphs"][0].update(shorter=[{**m["graphs"][0]}]),
        "is not the same with fewer cached rows",
    ),
    "a longer cache of all graphs": (
        lambda m: [graph["spec"].update(cache_len=10_000) for graph in m["graphs"]],
        "the model's heads do not have",
    ),
    "another batch": (
        lambda m: m["graphs"][0]["spec"].update(batch_size=2),
        "the model's heads do not have",
    ),
    "no graphs": (lambda m: m.update(graphs=[]), "no graph that answers one request"),
    "no decode graph": (
        lambda m: m.update(graphs=[g for g in m["graphs"] if g["spec"]["phase"] == "prefill"]),
        "no graph that answers one request token by token",
    ),
    "a decode graph of two tokens": (
        lambda m: [g["spec"].update(seq_len=2) for g in m["graphs"]],
        "a decode graph of several tokens",
    ),
    "a decode graph without a cache": (
        lambda m: [
            g["spec"].update(cache_len=0) for g in m["graphs"] if g["spec"]["phase"] == "decode"
        ],
        "or without a cache",
    ),
    "only scores": (
        lambda m: m.update(graphs=[g for g in m["graphs"] if g["spec"]["phase"] == "score"]),
        "no graph that answers one request",
    ),
    "a cache of another shape": (lambda m: set_shape(m, 3, 31), "which the model's heads do not"),
    "a cache of three sizes": (
        lambda m: past(m, 0)["shape"].pop(),
        "which the model's heads do not have",
    ),
    "a cache of another name": (
        lambda m: past(m, 0).update(name="past_key.9"),
        "its cache is not that of 4 layers",
    ),
    "no logits": (lambda m: m["graphs"][0].update(outputs=[]), "its logits are not those of"),
    "layers without end": (
        lambda m: m["model"].update(num_hidden_layers=10**9),
        "less than or equal to 1000",
    ),
    "rows without end": (
        lambda m: m["graphs"][0]["spec"].update(cache_len=10**15),
        "less than or equal to 100000000",
    ),
}


@pytest.mark.parametrize("kind", EDITS)
@pytest.mark.parametrize("name", ["small-exported", "small-fp32"])
def test_a_manifest_that_contradicts_itself_is_refused_by_what_does_not_fit(
    bundles: Path, tmp_path: Path, name: str, kind: str
) -> None:
    """Of 600 altered manifests with right hashes 31 ended in a traceback or never."""
    bundle = shutil.copytree(bundles / name, tmp_path / "bundle", copy_function=shutil.copy)
    manifest = json.loads((bundle / "manifest.json").read_text())
    edit, said = EDITS[kind]
    edit(manifest)
    data = json.dumps(manifest).encode()
    (bundle / "manifest.json").write_bytes(data)
    (bundle / "manifest.sha256").write_bytes(digest_line(data))
    with pytest.raises(BundleError) as caught:
        load_bundle(bundle)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[]", "{}", "null", '{"format_version": [3]}', "[" * 100_000])
def test_a_manifest_of_another_form_is_refused_in_one_line(
    bundles: Path, tmp_path: Path, text: str
) -> None:
    bundle = shutil.copytree(bundles / "small-fp32", tmp_path / "bundle")
    (bundle / "manifest.json").write_text(text)
    (bundle / "manifest.sha256").write_bytes(digest_line(text.encode()))
    with pytest.raises(BundleError, match=r"^[^\n]*bundle[^\n]*$"):
        load_bundle(bundle)
