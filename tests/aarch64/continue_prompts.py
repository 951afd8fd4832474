"""python -m tests.aarch64.continue_prompts BUNDLE ASKED NUM_TOKENS OUTPUT, on either machine.

Writes OUTPUT/NAME.npz with the ids and the logits of each instruction set that multiplies in it.
Needs the runtime only.
"""

import json
import sys
from pathlib import Path

import numpy as np

from runtime.bundle.reader import load_bundle
from runtime.kernels.library import Kernels
from tests.continuations import continuations

__all__ = ["ONNXRUNTIME"]

ONNXRUNTIME = "onnxruntime"  # multiplies by itself


def main(source: str, asked_file: str, num_tokens: str, output: str) -> None:
    bundle, asked = load_bundle(Path(source)), json.loads(Path(asked_file).read_text())
    kernels = Kernels()
    own = bundle.manifest.kernels is not None
    Path(output).mkdir()
    for name in kernels.instruction_sets if own else (ONNXRUNTIME,):
        kernels.select(name if own else None)
        ids, logits = continuations(bundle, asked, int(num_tokens))
        np.savez(Path(output, f"{name}.npz"), ids=ids, logits=logits)


if __name__ == "__main__":
    main(*sys.argv[1:])
