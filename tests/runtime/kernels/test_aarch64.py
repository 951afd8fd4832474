"""The instruction sets of aarch64 under emulation: `make kernels-aarch64`."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.kernels.build import NATIVE, compile_sources, zig
from runtime.kernels.layout import BITS, BLOCK_SIZES
from runtime.kernels.library import Kernels
from tests.runtime.kernels.attention import random_case
from tests.runtime.kernels.rows import random_rows
from tests.runtime.kernels.weights import Weight, random_weight

QEMU = os.environ.get("QEMU_AARCH64", "")
pytestmark = pytest.mark.skipif(not QEMU, reason="QEMU_AARCH64 names no emulator")

NEW, OLDER, OLDEST = "max", "cortex-a76", "cortex-a57"  # CPUs with i8mm, with sdot, with neither
Products = list[tuple[Weight, NDArray[np.float32]]]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """products.cpp with our sources, for a CPU that is emulated; needs no library of that CPU."""
    directory = tmp_path_factory.mktemp("aarch64")
    compiler = zig("aarch64-linux-musl")
    objects = compile_sources(compiler, "aarch64", directory)
    source, made = Path(__file__).with_name("products.cpp"), directory / "products"
    command = [*compiler, "-std=c++17", "-O1", "-static", f"-I{NATIVE}", str(source)]
    command += map(str, objects)
    subprocess.run([*command, "-o", str(made)], check=True)
    return made


@pytest.fixture(scope="module")
def products() -> Products:
    """Every precision and block size, with numbers of rows and columns that divide by nothing."""
    rng = np.random.default_rng(17)
    made: Products = []
    for bits in BITS:
        for block_size in BLOCK_SIZES:
            for num_x in (1, 2, 3, 4, 5, 9, 14):
                num_rows, num_columns = int(rng.integers(1, 40)), int(rng.integers(1, 600))
                weight = random_weight(rng, num_rows, num_columns, bits, block_size)
                x = random_rows(rng, num_x, num_columns)
                x[rng.random(num_x) < 0.1, rng.integers(num_columns)] = np.inf
                made.append((weight, x))
    return made


def run(program: Path, cpu: str, *arguments: str, stdin: bytes = b"") -> bytes:
    command = [QEMU, "-cpu", cpu, str(program), *arguments]
    return subprocess.run(command, input=stdin, stdout=subprocess.PIPE, check=True).stdout


def written(products: Products) -> bytes:
    parts: list[bytes] = []
    for weight, x in products:
        sizes = (*x.shape, len(weight.centred), weight.block_size, weight.bits)
        arrays = (np.array(sizes, np.int64), x, weight.levels, weight.scales)
        parts += [array.tobytes() for array in arrays]
    return b"".join(parts)


@pytest.mark.parametrize(
    ("cpu", "names"),
    [
        (NEW, ["neon_i8mm", "neon_dotprod", "portable"]),
        (OLDER, ["neon_dotprod", "portable"]),
        (OLDEST, ["portable"]),
    ],
)
def test_the_cpu_decides_which_instruction_sets_there_are(
    program: Path, cpu: str, names: list[str]
) -> None:
    assert run(program, cpu).decode().split() == names


@pytest.mark.parametrize(
    ("cpu", "name"),
    [(NEW, "neon_i8mm"), (OLDER, "neon_dotprod"), (OLDEST, "portable")],
)
def test_aarch64_gives_the_bits_of_this_machine(
    program: Path, products: Products, kernels: Kernels, cpu: str, name: str
) -> None:
    data = run(program, cpu, name, stdin=written(products))
    for weight, x in products:
        expected = weight.multiply(kernels, x).tobytes()
        found, data = data[: len(expected)], data[len(expected) :]
        assert found == expected, (weight.bits, weight.block_size, x.shape)
    assert not data


@pytest.mark.parametrize(
    ("cpu", "name"),
    [(NEW, "neon_i8mm"), (OLDER, "neon_dotprod"), (OLDEST, "portable")],
)
def test_attention_of_aarch64_gives_the_bits_of_this_machine(
    program: Path, kernels: Kernels, cpu: str, name: str
) -> None:
    rng = np.random.default_rng(5)
    sizes = [([0], 1, (2, 2), 64), ([30, 600], 3, (4, 1), 80), ([500], 30, (2, 2), 128)]
    cases = [random_case(rng, *size) for size in sizes]
    cases[1].query[0, 0, 1, 5] = cases[2].query[0, 20, 1, 5] = np.inf
    written = b""
    for case in cases:
        B, S, H, D = case.query.shape
        shape = np.array([B, S, H, *case.keys.shape[1:2], D, case.keys.shape[2]], np.int64)
        written += shape.tobytes() + b"".join(a.tobytes() for a in case.arrays.values())
    data = run(program, cpu, name, "attend", stdin=written)
    assert data == b"".join(array.tobytes() for case in cases for array in case.run(kernels))
