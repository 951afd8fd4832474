"""llama.cpp's server, built from the sources that llama-cpp-python brings, and a model for it.

The model has the shape and the tokenizer of ours and random weights, q4_0: as many bits as ours.
"""

import json
import subprocess
import sys
from pathlib import Path

from build_peers import COMPLETE, write_model
from environments import ENVIRONMENTS, install
from sentencepiece import SentencePieceProcessor

__all__ = ["build_server", "make_gguf"]

HERE = Path(__file__).parent
TARGETS = ("llama-server", "llama-quantize")
# Nothing is downloaded while it is built, and it is for this CPU.
CMAKE = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DGGML_NATIVE=ON",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_OPENSSL=OFF",
)
UNKNOWN, CONTROL, NORMAL, BYTE = 2, 3, 1, 6  # kinds of pieces as GGUF numbers them


def build_server(directory: Path) -> Path:
    """The server below a directory, built at its first use; its quantizer lies beside it."""
    binaries = directory / "build" / "bin"
    if not (binaries / TARGETS[-1]).is_file():
        print(f"building llama.cpp in {directory}", file=sys.stderr)
        directory.mkdir(parents=True, exist_ok=True)
        tools = install("cmake", directory / "environments") / "bin"
        [package] = ENVIRONMENTS["llama.cpp"].packages
        options = ["--quiet", "--no-deps", "--no-binary", ":all:", "-d", str(directory)]
        _run(tools / "pip", "download", *options, package)
        [archive] = directory.glob("llama_cpp_python-*.tar.gz")
        _run("tar", "-xzf", archive, "-C", directory, "--strip-components", "1")
        source, ninja = (
            directory / "vendor" / "llama.cpp",
            f"-DCMAKE_MAKE_PROGRAM={tools / 'ninja'}",
        )
        made = directory / "build"
        _run(tools / "cmake", "-S", source, "-B", made, "-G", "Ninja", ninja, *CMAKE)
        _run(tools / "cmake", "--build", made, "--target", *TARGETS)
    return binaries / TARGETS[0]


def make_gguf(directory: Path, layers: int, quantizer: Path) -> Path:
    """Makes the model where it is not there yet."""
    models = directory / f"{layers}-layers"
    file = models / "q4_0.gguf"
    if not file.is_file():
        checkpoint = models / "model"
        if not (checkpoint / COMPLETE).is_file():
            write_model(checkpoint, layers)
        _write_pieces(checkpoint)
        python = install("gguf", directory / "environments") / "bin" / "python"
        _run(python, HERE / "engines" / "gguf_model.py", checkpoint, models, "float16")
        whole, partial = models / "float16.gguf", models / "q4_0.partial"
        _run(quantizer, whole, partial, "q4_0")
        partial.rename(file)
        whole.unlink()
    return file


def _write_pieces(checkpoint: Path) -> None:
    """Writes the tokenizer for gguf_model.py, whose environment has no SentencePiece."""
    processor = SentencePieceProcessor(model_file=str(checkpoint / "tokenizer.model"))
    pieces = [
        (processor.id_to_piece(i), processor.get_score(i), _kind(processor, i))
        for i in range(processor.vocab_size())
    ]
    (checkpoint / "pieces.json").write_text(json.dumps(pieces))


def _kind(processor: SentencePieceProcessor, token_id: int) -> int:
    if processor.is_unknown(token_id):
        return UNKNOWN
    if processor.is_control(token_id):
        return CONTROL
    return BYTE if processor.is_byte(token_id) else NORMAL


def _run(*command: str | Path) -> None:
    subprocess.run([str(part) for part in command], check=True, stdout=sys.stderr)
