"""Writes an OM and the weight files beside it, whatever the model was made from."""

import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.emulator.atc import Settings
from tests.emulator.om import Om, OmWeight, num_bytes
from tests.emulator.weights import Constant, store, whole, write_sparse

__all__ = ["store_weights", "write_om"]

SMALL_BYTES: Final = 4096


def store_weights(
    constants: Sequence[Constant], options: Mapping[str, str], turned: frozenset[str]
) -> tuple[OmWeight, ...]:
    """Writes the weight files where --external_weight=1 asks for them, equal ones once.

    turned: the matrices that are stored transposed.
    """
    parent = Path(options["output"]).parent
    parent.mkdir(parents=True, exist_ok=True)
    external = options.get("external_weight") == "1"
    return tuple(_stored(constants, parent / "weight" if external else None, turned))


def write_om(
    om: Om,
    protobuf: bytes,
    constants: Sequence[Constant],
    options: Mapping[str, str],
    settings: Settings,
) -> None:
    """Writes the OM, with the weights that no file has."""
    with _output_path(options, settings).open("wb") as file:
        om.write_head(file, protobuf)
        file.flush()
        for constant, weight in zip(constants, om.weights, strict=True):
            if not weight.file:
                for block in _laid_out(constant, weight.layout):
                    write_sparse(file.fileno(), block)


def _stored(
    constants: Sequence[Constant], directory: Path | None, turned: frozenset[str]
) -> Iterator[OmWeight]:
    offset = 0
    written: dict[object, str] = {}  # what was hashed already
    for constant in constants:
        layout = "transposed" if constant.name in turned and not constant.is_hole else "nd"
        file = ""
        if directory is not None:
            key = _key(constant, layout)
            file = written.get(key, "") or store(_laid_out(constant, layout), directory)
            written.update({key: file} if key else {})
        yield OmWeight(
            name=constant.name,
            dtype=constant.dtype,
            dims=constant.dims,
            file=file,
            offset=offset if directory is None else 0,
            layout=layout,
        )
        offset += num_bytes(constant.dtype, constant.dims)


def _key(constant: Constant, layout: str) -> object:
    """What equal constants have in common, where it is cheap to say; else None."""
    size = num_bytes(constant.dtype, constant.dims)
    if constant.is_hole:
        return size
    return (layout, b"".join(constant.blocks())) if size <= SMALL_BYTES else None


def _laid_out(constant: Constant, layout: str) -> Iterator[bytes]:
    if layout == "nd":
        yield from constant.blocks()
    else:
        yield whole(constant).T.tobytes()


def _output_path(options: Mapping[str, str], settings: Settings) -> Path:
    # ge, base/common/helper/model_helper.cc: the host is named only when host code is embedded.
    suffix = ""
    if settings.host_in_name:
        system = options.get("host_env_os", "linux")
        suffix = f"_{system}_{options.get('host_env_cpu', platform.machine())}"
    return Path(f"{options['output']}{suffix}.om")
