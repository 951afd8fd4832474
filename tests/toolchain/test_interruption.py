"""A compile that is killed leaves no readable but wrong bundle, and the next one succeeds."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from runtime.bundle import load_bundle
from runtime.errors import BundleError

COMMAND = [sys.executable, "-c", "from toolchain.cli import main; main()", "compile"]
NUM_KILLS = 12


def compile_command(bundles: Path, output: Path, weights: str) -> list[str]:
    return [*COMMAND, str(bundles / "small-exported"), "-o", str(output), "--weights", weights]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_compile_killed_at_a_random_moment_leaves_the_old_bundle_or_the_new(
    number: signal.Signals, bundles: Path, tmp_path: Path
) -> None:
    output = tmp_path / "bundle"
    started = time.monotonic()
    subprocess.run(compile_command(bundles, output, "fp32"), check=True, capture_output=True)
    duration = time.monotonic() - started
    for moment in np.random.default_rng(0).uniform(0, 1.1 * duration, NUM_KILLS // 2):
        process = subprocess.Popen(
            compile_command(bundles, output, "int8"), stderr=subprocess.DEVNULL
        )
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
            process.wait()
        try:
            assert load_bundle(output).manifest.weights in ("fp32", "int8")
        except BundleError:  # between the two renames only: the old one waits beside
            assert not output.exists()
            assert load_bundle(tmp_path / ".bundle.replaced").manifest.weights == "fp32"
        if number == signal.SIGTERM:
            assert list(tmp_path.iterdir()) == [output]
    subprocess.run(compile_command(bundles, output, "int8"), check=True, capture_output=True)
    assert load_bundle(output).manifest.weights == "int8"
    assert list(tmp_path.iterdir()) == [output]
