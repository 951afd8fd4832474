"""What the compiler makes of the sources."""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from runtime.kernels.build import THIS_MACHINE, build, compile_sources, find_compiler, has_compiler
from runtime.kernels.layout import BITS, BLOCK_SIZES
from runtime.kernels.library import Kernels
from tests.runtime.kernels.rows import random_rows
from tests.runtime.kernels.weights import random_weight

pytestmark = pytest.mark.skipif(not has_compiler(), reason="makes libraries")

# Compiles avx_vnni.cpp for the same instruction in the encoding of AVX-512VL.
IN_AVX512VL = ("-O1", "-mno-avxvnni", "-mavx512vl", "-mavx512vnni")


def shared_names(object_file: Path) -> Iterator[str]:
    """Symbols of which the linker keeps one for all files: weak or unique, and defined here.

    The layout is that of ELF-64: a header, section headers, tables of 24-byte symbols.
    """
    data = object_file.read_bytes()
    (start,) = struct.unpack_from("<Q", data, 0x28)
    size, count = struct.unpack_from("<HH", data, 0x3A)
    sections = [struct.unpack_from("<IIQQQQII", data, start + i * size) for i in range(count)]
    for _, kind, _, _, offset, num_bytes, link, _ in sections:
        if kind != 2:  # SHT_SYMTAB
            continue
        names = sections[link][4]
        for at in range(offset, offset + num_bytes, 24):
            name, info, _, section = struct.unpack_from("<IBBH", data, at)
            if info >> 4 in (2, 10) and section:  # STB_WEAK, STB_GNU_UNIQUE
                yield data[names + name : data.index(b"\0", names + name)].decode()


def test_no_file_takes_code_that_another_one_compiled(tmp_path: Path) -> None:
    """Without optimization, since that hides what another compiler might not inline."""
    objects = compile_sources(find_compiler(), THIS_MACHINE, tmp_path, ["-O0"])
    assert len(objects) > 3
    assert {file.name: names for file in objects if (names := list(shared_names(file)))} == {}


def test_avx_vnni_gives_the_bits_of_the_others(kernels: Kernels, tmp_path: Path) -> None:
    if "avx_vnni" in kernels.instruction_sets:
        pytest.skip("other tests run it as it is")
    if "avx512_vnni" not in kernels.instruction_sets:
        pytest.skip("this CPU has vpdpbusd in no encoding")
    twin = Kernels(build(tmp_path / "twin.so", IN_AVX512VL))
    twin.select("avx_vnni")
    rng = np.random.default_rng(3)
    for bits in BITS:
        for block_size in BLOCK_SIZES:
            for num_x in (1, 2, 3, 4, 5, 11):
                num_rows, num_columns = map(int, rng.integers(1, 150, 2))
                weight = random_weight(rng, num_rows, num_columns, bits, block_size)
                x = random_rows(rng, num_x, num_columns)
                assert weight.multiply(twin, x).tobytes() == weight.multiply(kernels, x).tobytes()
