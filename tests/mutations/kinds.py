"""The kinds of files that others write, and what reads them."""

import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.mutations.mutate import mutate_bytes, mutate_json, mutate_toml
from tests.paths import DATA

__all__ = ["KINDS", "Kind"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of file.

    source: of the original, below the bundles.
    copy: what is copied as it is; the mutant replaces `place` in it.
    run: the arguments of a command, or a function of the directory.
    """

    source: str
    place: str
    mutate: Callable[[bytes, random.Random], bytes]
    run: Callable[[Path], None]
    copy: str | None = None


def command(*arguments: str) -> Callable[[Path], None]:
    """Becomes a command line; {} is the directory of the mutant."""

    def run(directory: Path) -> None:
        if arguments[0] == "runtime":
            from runtime.cli import main
        else:
            from toolchain.cli import main
        sys.argv = [part.format(directory, data=DATA) for part in arguments]
        main()

    return run


def read_checkpoint(model: Path) -> None:
    """Reads every weight of a checkpoint."""
    from export.checkpoint import open_checkpoint
    from export.config import load_config
    from export.parameters import parameters
    from runtime.console import run_app

    def read() -> None:
        config = load_config(model)
        checkpoint = open_checkpoint(model, config)
        for name in parameters(config):
            for _ in checkpoint.chunks(name):
                pass

    run_app(read)


def read_tokenizer(model: Path) -> None:
    """Encodes and decodes with a tokenizer."""
    from runtime.console import run_app
    from runtime.text.sentencepiece_tokenizer import SentencePieceTokenizer

    def use() -> None:
        tokenizer = SentencePieceTokenizer(model / "tokenizer.model")
        tokenizer.decode(tokenizer.encode("What is 北京? <s> \x00", add_bos=True))

    run_app(use)


def read_generation_config(model: Path) -> None:
    """Reads the settings of a checkpoint as export does."""
    from export.config import load_config
    from export.generation import read_generation
    from runtime.console import run_app

    def read() -> None:
        read_generation(model, load_config(model), eos_token_id=2)

    run_app(read)


MODEL, BUNDLE = "checkpoint", "talk-int4"
PLAN = command("toolchain", "plan", "{}", "--profile", "{data}/small.toml", "--json")
KINDS = {
    "config": Kind(
        source=f"{MODEL}/config.json", place="config.json", mutate=mutate_json, run=PLAN
    ),
    "profile": Kind(
        source="small.toml",
        place="profile.toml",
        copy=MODEL,
        mutate=mutate_toml,
        run=command("toolchain", "plan", "{}", "--profile", "{}/profile.toml", "--json"),
    ),
    "manifest": Kind(
        source=f"{BUNDLE}/manifest.json",
        place="manifest.json",
        copy=BUNDLE,
        mutate=mutate_json,
        run=command("runtime", "generate", "{}", "hi", "-n", "2"),
    ),
    "generation": Kind(
        source=f"{MODEL}/generation_config.json",
        place="generation_config.json",
        copy=MODEL,
        mutate=mutate_json,
        run=read_generation_config,
    ),
    "shard": Kind(
        source=f"{MODEL}/pytorch_model-00001-of-00002.bin",
        place="pytorch_model-00001-of-00002.bin",
        copy=MODEL,
        mutate=mutate_bytes,
        run=read_checkpoint,
    ),
    "index": Kind(
        source=f"{MODEL}/pytorch_model.bin.index.json",
        place="pytorch_model.bin.index.json",
        copy=MODEL,
        mutate=mutate_json,
        run=read_checkpoint,
    ),
    "tokenizer": Kind(
        source=f"{MODEL}/tokenizer.model",
        place="tokenizer.model",
        mutate=mutate_bytes,
        run=read_tokenizer,
    ),
    "result": Kind(
        source="result.json",
        place="result.json",
        mutate=mutate_json,
        run=command("toolchain", "compare", "{}/result.json", "manual:a100"),
    ),
}
