"""What a device reaches: bytes/s of a copy, and the time of a prompt's matrix products alone.

Prints one JSON document. Usage: cuda_rates.py DEVICE CONFIG_DIRECTORY PROMPT
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from export.config import load_config
from runtime.bundle.manifest import ModelConfig
from toolchain.costs.sizes import linear_shapes

REPEATS = 10
COPIED = {"cuda": 2 << 30, "cpu": 16 << 20}  # bytes: far beyond any cache of the device
DTYPES = {"cuda": torch.float16, "cpu": torch.float32}
WAIT: dict[str, Callable[[], None]] = {"cuda": torch.cuda.synchronize, "cpu": lambda: None}
CARD: dict[str, Callable[[], str]] = {
    "cuda": lambda: torch.cuda.get_device_name(),
    "cpu": lambda: "a CPU",
}


def seconds(device: str, run: Callable[[], object]) -> float:
    """The median of some runs."""
    run()
    times = []
    for _ in range(REPEATS):
        WAIT[device]()
        started = time.perf_counter()
        run()
        WAIT[device]()
        times.append(time.perf_counter() - started)
    return sorted(times)[REPEATS // 2]


def copy_rate(device: str) -> float:
    """Bytes read and written per second."""
    source = torch.ones(COPIED[device], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * COPIED[device] / seconds(device, lambda: target.copy_(source))


def products_ms(device: str, config: ModelConfig, rows: int) -> float:
    """All linear layers of a prompt, the head for its last row; each on weights of its own."""
    dtype = DTYPES[device]
    layers = [
        (
            torch.randn(
                1 if name.startswith("lm_head") else rows, inputs, device=device, dtype=dtype
            ),
            torch.randn(outputs, inputs, device=device, dtype=dtype),
        )
        for name, (outputs, inputs) in linear_shapes(config).items()
    ]

    def run() -> None:
        for x, weight in layers:
            torch.nn.functional.linear(x, weight)

    return 1e3 * seconds(device, run)


def main() -> None:
    """Measures what the command line asks for."""
    device, directory, prompt = sys.argv[1:]
    found = {
        "card": CARD[device](),
        "copy_bytes_per_s": copy_rate(device),
        "products_ms": products_ms(device, load_config(Path(directory)), int(prompt)),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
