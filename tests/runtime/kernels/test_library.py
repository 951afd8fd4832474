import platform
import subprocess
from pathlib import Path

import pytest

from runtime.errors import SessionError
from runtime.kernels.build import find_compiler, has_compiler
from runtime.kernels.layout import KERNELS_VERSION
from runtime.kernels.library import Kernels


def test_a_missing_library_says_how_to_build_it(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match=r"not built.*python -m runtime\.kernels\.build"):
        Kernels(tmp_path / "none.so")


@pytest.mark.parametrize("data", [b"", b"no library", b"no library" * 100], ids=len)
def test_a_file_that_is_no_library_is_named(tmp_path: Path, data: bytes) -> None:
    broken = tmp_path / "broken.so"
    broken.write_bytes(data)
    with pytest.raises(SessionError, match=r"cannot be loaded.*broken\.so is no library.*build"):
        Kernels(broken)


@pytest.mark.parametrize("part", [0.01, 0.5, 0.99])
def test_a_library_that_was_cut_off_is_named(kernels: Kernels, tmp_path: Path, part: float) -> None:
    """The system loads such a file, and ends the process at the first missing page."""
    data = kernels.path.read_bytes()
    cut = tmp_path / "cut.so"
    cut.write_bytes(data[: int(part * len(data))])
    with pytest.raises(SessionError, match=r"cannot be loaded.*cut\.so was cut off.*build"):
        Kernels(cut)


@pytest.mark.skipif(not has_compiler(), reason="makes libraries")
@pytest.mark.parametrize(
    ("source", "said"),
    [
        pytest.param("int kernels_version() { return 0; }", "got version 0", id="too old"),
        pytest.param("int other() { return 0; }", "kernels_version", id="of something else"),
        pytest.param(
            f"int kernels_version() {{ return {KERNELS_VERSION}; }}",
            "kernels_instruction_set",
            id="a part",
        ),
    ],
)
def test_another_library_is_refused(tmp_path: Path, source: str, said: str) -> None:
    file, library = tmp_path / "other.cpp", tmp_path / f"{len(source)}.so"  # each name once
    file.write_text(f'extern "C" {source}')
    subprocess.run(
        [*find_compiler(), "-shared", "-fPIC", str(file), "-o", str(library)], check=True
    )
    with pytest.raises(SessionError, match=said):
        Kernels(library)


def test_an_instruction_set_that_the_cpu_has_not_is_refused(kernels: Kernels) -> None:
    with pytest.raises(ValueError, match=r"avx9: this CPU has .*portable"):
        kernels.select("avx9")


def test_the_portable_instruction_set_is_everywhere_and_last(kernels: Kernels) -> None:
    assert kernels.instruction_sets[-1] == "portable"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names of x86 flags")
def test_the_instruction_sets_are_those_that_the_system_names(kernels: Kernels) -> None:
    """A library that another compiler built took plain C++ everywhere."""
    flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    for name in ("avx2", "avx_vnni", "avx512_vnni"):
        assert (name in kernels.instruction_sets) == (name in flags)
