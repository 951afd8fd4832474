"""SIGTERM: what was taken is answered to its end, and the process ends with 0.

`DRAINS=20 pytest tests/runtime/server/test_drain.py` repeats it.
"""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import httpx2
import pytest

from tests.paths import ROOT
from tests.serving import PATIENCE, RUN, serve_command

DRAINS = int(os.environ.get("DRAINS", "2"))
LONG = {"prompt": "An edge", "max_tokens": 200, "ignore_eos": True, "stream": True, "seed": 1}


def answer(url: str, begun: Barrier, body: dict[str, Any]) -> str:
    """The text of a stream; the barrier opens when all have had their first token."""
    texts = []
    with (
        httpx2.Client(base_url=url, timeout=PATIENCE, trust_env=False) as http,
        http.stream("POST", "/v1/completions", json=body) as reply,
    ):
        assert reply.status_code == 200
        for line in reply.iter_lines():
            if line.startswith("data: {"):
                texts.append(json.loads(line[6:])["choices"][0]["text"])
                if len(texts) == 1:
                    begun.wait(PATIENCE)
            elif line == "data: [DONE]":
                texts.append("!")
    return "".join(texts)


@pytest.mark.parametrize("_", range(DRAINS))
def test_answers_that_were_taken_are_whole_after_sigterm(_: int, bundles: Path) -> None:
    bundle = bundles / "small-fp32"
    bodies = [LONG | {"seed": seed, "max_tokens": 30} for seed in range(3)]
    texts = []
    with serve_command(bundle) as (process, url), ThreadPoolExecutor(3) as pool:
        for stop in (False, True):
            begun = Barrier(4)
            answers = [pool.submit(answer, url, begun, body) for body in bodies]
            begun.wait(PATIENCE)
            if stop:
                process.send_signal(signal.SIGTERM)
            texts.append([each.result(PATIENCE) for each in answers])
        assert process.wait(PATIENCE) == 0
        with httpx2.Client(trust_env=False) as http, pytest.raises(httpx2.ConnectError):
            http.get(f"{url}/health")
    assert texts[0] == texts[1]
    assert all(text.endswith("!") for text in texts[1])


def test_answers_that_take_longer_than_the_drain_are_told_so(bundles: Path, tmp_path: Path) -> None:
    config = tmp_path / "serve.toml"
    config.write_text("drain_timeout = 0\n")
    with (
        serve_command(bundles / "talk-int4", "--config", str(config)) as (process, url),
        ThreadPoolExecutor(1) as pool,
    ):
        begun = Barrier(2)
        long = LONG | {"n": 16, "max_tokens": 380}
        late = pool.submit(answer, url, begun, long)
        begun.wait(PATIENCE)
        process.send_signal(signal.SIGTERM)
        with pytest.raises(KeyError):  # an event with an error has no choices
            late.result(PATIENCE)
        assert process.wait(PATIENCE) == 0


def test_a_second_signal_ends_at_once(bundles: Path) -> None:
    with serve_command(bundles / "talk-int4") as (process, url), ThreadPoolExecutor(1) as pool:
        begun = Barrier(2)
        late = pool.submit(answer, url, begun, LONG | {"n": 16, "max_tokens": 380})
        begun.wait(PATIENCE)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
        assert late.exception(PATIENCE) is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "0.0.0.0"], "anybody who reaches this computer could ask"),
        (["--api-key-file", "/nowhere"], "/nowhere is missing"),
        (["--config", "/nowhere"], "/nowhere is missing"),
        (["--port", "70000"], "port: Input should be less than or equal to 65535"),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_line(
    options: list[str], message: str, bundles: Path
) -> None:
    arguments = [sys.executable, "-c", RUN, "serve", str(bundles / "talk-int4"), *options]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {message}")
    assert len(done.stderr.splitlines()) == 1


def test_no_bundle_is_refused_before_listening(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", RUN, "serve", str(tmp_path)]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE)
    assert (done.returncode, "is not a bundle" in done.stderr) == (1, True)
