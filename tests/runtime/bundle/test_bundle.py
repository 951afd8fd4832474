"""Claims about bundles: whatever is not what was written is refused; half a bundle never appears.

Refusals are tried on copies of a compiled bundle, which loads before each alteration.
"""

import hashlib
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.bundle.hashing_writer import WeightJob
from runtime.bundle.manifest import FORMAT_VERSION, Manifest
from runtime.bundle.reader import Bundle, load_bundle
from runtime.bundle.work_directory import work_path
from runtime.bundle.writer import BundleWriter
from runtime.errors import BundleError, UserError

FIXED = ["manifest.json", "manifest.sha256"]
KINDS = ["flip_bit", "truncate", "extend", "swap", "link", "stray", "remove", *FIXED]
ROUNDS = 34  # of each kind of alteration: more than 300 in all


def contents(directory: Path) -> dict[str, bytes]:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}


def flip_bit(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def truncate(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def extend(data: bytes, rng: random.Random) -> bytes:
    return data + rng.randbytes(rng.randint(1, 9))


def any_edit(data: bytes, rng: random.Random) -> bytes:
    return rng.choice([flip_bit, truncate, extend])(data, rng)


def alter(kind: str, bundle: Path, rng: random.Random) -> list[str]:
    """Alters a bundle and returns the names of the files that are not as they were."""
    files = contents(bundle)
    name = kind if kind in files else rng.choice(list(files))
    file = bundle / name
    match kind:
        case "remove":
            file.unlink()
        case "stray":
            name = rng.choice(["stray", ".hidden", "graphs/stray.onnx", "graphs/weights/stray"])
            (bundle / name).write_bytes(rng.randbytes(rng.randrange(9)))
        case "link":
            file.symlink_to(file.rename(bundle.parent / f"outside {rng.random()}"))
        case "swap":
            other = rng.choice([each for each in files if files[each] != files[name]])
            file.write_bytes(files[other])
            (bundle / other).write_bytes(files[name])
            return [name, other]
        case _:
            edits = {"flip_bit": flip_bit, "truncate": truncate, "extend": extend}
            file.write_bytes(edits.get(kind, any_edit)(files[name], rng))
    return [name]


def write_manifest(bundle: Path, data: bytes) -> None:
    """Writes a manifest with the right digest, as somebody would who knows the format."""
    (bundle / "manifest.json").write_bytes(data)
    line = f"{hashlib.sha256(data).hexdigest()}  manifest.json\n"
    (bundle / "manifest.sha256").write_text(line, encoding="ascii")


def change_manifest(bundle: Path, change: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    change(manifest)
    write_manifest(bundle, json.dumps(manifest).encode())


def refusal(path: Path) -> str:
    with pytest.raises(BundleError) as error:
        load_bundle(path)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture(scope="module")
def original(bundles: Path) -> Path:
    return bundles / "small-fp32"


@pytest.fixture
def copied(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / "bundle")


@pytest.fixture(scope="module")
def manifest(original: Path) -> Manifest:
    """Of a bundle whose only file is tokenizer.model, which passes for the graphs too."""
    read = load_bundle(original).manifest
    graphs = [graph.model_copy(update={"path": "tokenizer.model"}) for graph in read.graphs]
    return read.model_copy(update={"graphs": tuple(graphs)})


def write(path: Path, manifest: Manifest, text: bytes) -> Bundle:
    with BundleWriter(path) as writer:
        writer.files.write("tokenizer.model", [text])
        return writer.finish(manifest.model_copy(update={"files": writer.files.entries}))


def test_a_bundle_loads_with_every_file_and_graph(original: Path) -> None:
    manifest = load_bundle(original).manifest
    assert {*manifest.files, *FIXED} == set(contents(original))
    names = ["prefill_s4", "prefill_s8", "score_s8", "decode_b1", "decode_b3"]
    assert [graph.spec.name for graph in manifest.graphs] == names
    assert (manifest.cache_len, manifest.num_slots, manifest.max_seq_len) == (40, 5, 8)


def test_a_path_that_is_no_bundle_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert f"no bundle at {tmp_path / 'absent'}" in refusal(tmp_path / "absent")
    assert f"no bundle at {tmp_path / 'file'}" in refusal(tmp_path / "file")
    assert "no regular file manifest.json" in refusal(tmp_path)


def test_another_format_version_is_refused_with_got_and_allowed(copied: Path) -> None:
    change_manifest(copied, lambda manifest: manifest.update(format_version=2))
    message = refusal(copied)
    assert str(copied) in message
    assert f"; got 2; allowed: {FORMAT_VERSION}; " in message


@pytest.mark.parametrize("kind", KINDS)
def test_every_random_alteration_is_refused_and_named(kind: str, copied: Path) -> None:
    pristine = contents(copied)
    for seed in range(ROUNDS):
        load_bundle(copied)
        altered = alter(kind, copied, random.Random(f"{kind} {seed}"))
        message = refusal(copied)
        assert str(copied) in message
        # A digest that does not fit is told of the file that it belongs to.
        assert any(name.removesuffix(".sha256") in message for name in altered), message
        for name in altered:
            (copied / name).unlink(missing_ok=True)
            if name in pristine:
                (copied / name).write_bytes(pristine[name])


def test_a_folder_moved_outside_and_linked_is_refused(copied: Path) -> None:
    (copied / "graphs").symlink_to((copied / "graphs").rename(copied.parent / "graphs"))
    assert refusal(copied).startswith(f"graphs in {copied} is a link")


@pytest.mark.parametrize("relative", ["../outside", "graphs/../../outside", "{absolute}"])
def test_a_listed_path_that_leaves_the_bundle_is_refused_though_the_digests_are_right(
    relative: str, copied: Path
) -> None:
    outside = copied.parent / "outside"
    outside.write_bytes(b"data")
    entry = {"size": 4, "sha256": hashlib.sha256(b"data").hexdigest()}
    listed = relative.format(absolute=outside)
    change_manifest(copied, lambda manifest: manifest["files"].update({listed: entry}))
    assert refusal(copied) == f"{copied / 'manifest.json'} leaves the bundle; got {listed}"


@pytest.mark.parametrize("relative", ["../outside.onnx", "graphs/absent.onnx"])
def test_a_graph_whose_file_is_not_listed_is_refused(relative: str, copied: Path) -> None:
    """With a right digest, a graph could name any file of the machine: only files was checked."""
    shutil.copy(copied / "graphs/decoder.onnx", copied.parent / "outside.onnx")
    change_manifest(copied, lambda manifest: manifest["graphs"][0].update(path=relative))
    assert relative in refusal(copied)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"{}", b"\xff", b'{"format_version": 8}', b"[" * 100_000]
)
def test_a_manifest_that_is_not_one_is_refused(data: bytes, copied: Path) -> None:
    """Brackets nested too deep used to end in a RecursionError."""
    write_manifest(copied, data)
    assert str(copied / "manifest.json") in refusal(copied)


def test_what_is_written_loads_and_nothing_else_remains(manifest: Manifest, tmp_path: Path) -> None:
    written = write(tmp_path / "new", manifest, b"text")
    assert load_bundle(tmp_path / "new") == written
    assert contents(tmp_path).keys() == {f"new/{name}" for name in (*FIXED, "tokenizer.model")}


def test_an_error_while_writing_changes_nothing(manifest: Manifest, tmp_path: Path) -> None:
    write(tmp_path / "old", manifest, b"old")
    before = contents(tmp_path)
    for name in ("old", "new"):
        with pytest.raises(ZeroDivisionError), BundleWriter(tmp_path / name) as writer:
            writer.files.write("tokenizer.model", (bytes([1 // n]) for n in (1, 0)))
    assert contents(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_a_bundle_is_replaced_at_the_end_and_not_before(manifest: Manifest, tmp_path: Path) -> None:
    old = write(tmp_path / "bundle", manifest, b"old")
    with BundleWriter(tmp_path / "bundle") as writer:
        writer.files.write("tokenizer.model", [b"new"])
        assert load_bundle(tmp_path / "bundle") == old
        new = writer.finish(manifest.model_copy(update={"files": writer.files.entries}))
    assert load_bundle(tmp_path / "bundle") == new
    assert new != old


@pytest.mark.parametrize("name", ["notes.txt", "manifest.json"])
def test_a_directory_that_is_not_a_bundle_is_refused_untouched(name: str, tmp_path: Path) -> None:
    """A manifest.json alone, as every web app has, passed for a bundle and was deleted."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text("{}")
    with pytest.raises(UserError, match="mine exists and is not a bundle"):
        BundleWriter(tmp_path / "mine")
    assert contents(tmp_path) == {f"mine/{name}": b"{}"}


def test_a_file_in_the_way_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="file exists and is not a bundle"):
        BundleWriter(tmp_path / "file")
    with pytest.raises(UserError, match="cannot write to"), BundleWriter(tmp_path / "file/below"):
        pass
    assert contents(tmp_path) == {"file": b"mine"}


def test_an_empty_directory_and_leftovers_of_an_interrupted_run_do_not_matter(
    manifest: Manifest, tmp_path: Path
) -> None:
    (tmp_path / "bundle").mkdir()
    left = work_path(tmp_path / "bundle", "a_killed")
    (left / "new/graphs").mkdir(parents=True)
    (left / "new/left.over").write_text("half")
    write(tmp_path / "bundle", manifest, b"text")
    assert load_bundle(tmp_path / "bundle").manifest.files.keys() == {"tokenizer.model"}
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_second_run_into_the_same_place_is_refused(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "bundle") as writer:
        with pytest.raises(UserError, match="another run"), BundleWriter(tmp_path / "bundle"):
            pass
        assert writer.place.directory.is_dir()


def test_a_run_that_ends_leaves_the_next_one_alone(bundles: Path, tmp_path: Path) -> None:
    manifest = load_bundle(bundles / "small-fp32").manifest.model_copy(
        update={"files": {}, "graphs": ()}
    )
    with BundleWriter(tmp_path / "bundle") as first:
        first.finish(manifest)
        second = BundleWriter(tmp_path / "bundle").__enter__()
    second.files.write("tokenizer.model", [b"text"])
    assert contents(second.place.directory) == {"tokenizer.model": b"text"}
    second.__exit__(None, None, None)


def test_a_bundle_that_a_killed_run_was_replacing_comes_back(bundles: Path, tmp_path: Path) -> None:
    left = work_path(tmp_path / "bundle", "a_killed")
    shutil.copytree(bundles / "small-fp32", left / "old")
    with BundleWriter(tmp_path / "bundle"):
        pass
    assert load_bundle(tmp_path / "bundle").manifest.weights == "fp32"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_tensors_of_one_job_are_written_together_and_a_failing_job_stops_the_run(
    tmp_path: Path,
) -> None:
    def fails() -> Iterator[tuple[bytes]]:
        yield (b"12",)
        raise UserError("no more")

    with BundleWriter(tmp_path / "bundle") as writer:
        chunks = [(b"12", b"1"), (b"34", b"23")]
        writer.files.start_weights([WeightJob(names=("b", "a"), chunks=lambda: iter(chunks))])
        writer.files.wait()
        assert contents(writer.place.directory) == {
            "graphs/weights/b": b"1234",
            "graphs/weights/a": b"123",
        }
        assert list(writer.files.entries) == ["graphs/weights/a", "graphs/weights/b"]
        writer.files.start_weights([WeightJob(names=("c",), chunks=fails)])
        with pytest.raises(UserError, match="no more"):
            writer.files.wait()
    assert list(tmp_path.iterdir()) == []
