"""Which files of a checkpoint hold its weights: one set of them, or a refusal to choose. No torch.

A set is one file, or an index with its shards. transformers takes the first that is there; here
sets that are not whole are named, and a second whole set must hold the same numbers (see
checkpoint.py).
"""

from dataclasses import dataclass, field
from pathlib import Path

from export.errors import CheckpointError
from runtime.console import note_once
from runtime.json_file import LFS_POINTER, read_object

__all__ = ["SAFETENSORS", "ZIP", "WeightSet", "head_of", "unmapped_bytes", "weight_sets"]

SAFETENSORS = ".safetensors"
ZIP = b"PK\x03\x04"  # begins torch's format since 1.6; what it wrote before cannot be mapped

# A single file and an index of each format, in order of preference.
FORMATS = (
    ("model.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
)
MAX_NAME = 255  # bytes of a file's name
# Names of weights in these formats, and in others.
PATTERNS = ("*.safetensors", "pytorch_model*.bin")
OTHER_PATTERNS = ("*.bin", "*.gguf", "*.h5", "*.msgpack", "*.pt", "*.pth")


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightSet:
    """Files that together hold every tensor.

    name: of the file that stands for them, the single one or the index.
    weight_map: which file holds which tensor, where an index says.
    """

    name: str
    files: tuple[Path, ...]
    weight_map: dict[str, str] = field(default_factory=dict)

    @property
    def problem(self) -> str | None:
        """Why the set is not whole."""
        for file in self.files:
            if not file.is_file():
                return f"shard {file} is missing"
            if head_of(file).startswith(LFS_POINTER):
                return f"shard {file} is a git-lfs pointer, no weights"
        return None


def weight_sets(model: Path) -> list[WeightSet]:
    """The whole sets of a model directory, the one to take first.

    Raises:
        CheckpointError: no whole set, or a preferred one that is not whole.
    """
    found = [[*_single(model / single), *_indexed(model / index)] for single, index in FORMATS]
    sets = [each for of_format in found for each in of_format]
    whole = [each for each in sets if each.problem is None]
    first = next((of_format for of_format in found if of_format), None)
    if first is None:
        raise _no_weights(model)
    if not any(each in whole for each in first):
        raise _not_whole(first[0], whole)
    for each in sets:
        if each.problem is not None:
            note_once(f"{model / each.name} is not read: {each.problem}")
    _say_what_is_left(model, sets)
    return whole


def unmapped_bytes(model: Path) -> int:
    """Bytes of weights that must be in memory, all at once, since their files cannot be mapped."""
    files = {file for each in weight_sets(model) for file in each.files}
    return sum(
        file.stat().st_size
        for file in files
        if file.suffix != SAFETENSORS and not head_of(file).startswith(ZIP)
    )


def head_of(file: Path) -> bytes:
    """How a file begins, as far as it takes to tell what it is."""
    with file.open("rb") as stream:
        return stream.read(len(LFS_POINTER))


def _single(file: Path) -> list[WeightSet]:
    there = file.is_file() or file.is_symlink()
    return [WeightSet(name=file.name, files=(file,))] if there else []


def _indexed(index: Path) -> list[WeightSet]:
    if not index.is_file() and not index.is_symlink():
        return []
    weight_map = read_object(index, CheckpointError).get("weight_map")
    if not isinstance(weight_map, dict):
        raise CheckpointError(f"{index} is not a shard index: weight_map is not an object")
    for shard in weight_map.values():
        if not isinstance(shard, str):
            raise CheckpointError(f"{index} is not a shard index: not a shard", got=repr(shard))
        if Path(shard).name != shard or "\0" in shard:
            raise CheckpointError(f"{index} leaves its directory", got=shard)
        if len(shard.encode()) > MAX_NAME:
            raise CheckpointError(f"{index} is not a shard index: a name is too long")
    files = tuple(index.parent / shard for shard in sorted(set(weight_map.values())))
    return [WeightSet(name=index.name, files=files, weight_map=weight_map)]


def _not_whole(first: WeightSet, whole: list[WeightSet]) -> CheckpointError:
    """The error of the preferred set, which says what else could be taken."""
    others = ", ".join(each.name for each in whole)
    return CheckpointError(
        str(first.problem),
        next_step=f"fetch it, or remove {first.name} to take {others} instead"
        if whole
        else "fetch it; `git lfs pull` does that for a pointer",
    )


def _no_weights(model: Path) -> CheckpointError:
    names = [name for single, index in FORMATS for name in (index, single)]
    there = _named_like(model, (*PATTERNS, *OTHER_PATTERNS))
    shards = [name for name in there if "-of-" in name]
    return CheckpointError(
        f"no weights in {model}",
        got=", ".join(there[:5]) or None,
        allowed=f"one of {', '.join(names)}",
        next_step="fetch the index of the shards too" if shards else None,
    )


def _say_what_is_left(model: Path, sets: list[WeightSet]) -> None:
    known = {file.name for each in sets for file in each.files}
    left = [name for name in _named_like(model, PATTERNS) if name not in known]
    if left:
        more = f" and {len(left) - 3} more" if len(left) > 3 else ""
        note_once(f"{model}: not read: {', '.join(left[:3])}{more}")


def _named_like(model: Path, patterns: tuple[str, ...]) -> list[str]:
    return sorted({file.name for pattern in patterns for file in model.glob(pattern)})
