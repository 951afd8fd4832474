"""An exam on a cluster has the result of one machine, and goes on where another ended."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.cluster.conftest import actor_pids
from tests.paths import DATA
from tests.runtime.batch.test_resume import Changes, num_lines
from tests.serving import PATIENCE

MAIN = "from toolchain.cli import main; main()"
NUM_QUESTIONS = 12


def exam(bundle: Path, output: Path, *options: str) -> list[str | Path]:
    subjects = ",".join(sorted(file.stem[:-4] for file in (DATA / "ceval/val").iterdir()))
    chosen = ("--data", DATA / "ceval", "--shots", "2", "--subjects", subjects)
    return ["-c", MAIN, "eval", "ceval", bundle, *chosen, "-o", output, *options]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def result(output: Path) -> Any:
    return json.loads((output / "result.json").read_bytes())


def answers(output: Path) -> dict[tuple[str, int], Any]:
    [log] = output.glob("log-*.jsonl")
    _, *lines = map(json.loads, log.read_text().splitlines())
    found = {(line["subject"], line["id"]): line for line in lines}
    assert len(found) == len(lines), "each was asked once"
    return found


def test_a_cluster_gives_the_result_of_one_machine(
    cluster: Any, bundles: Path, tmp_path: Path
) -> None:
    bundle, ray = bundles / "talk-fp32", ("--ray", cluster.address)
    style = ("--style", "alpaca2", "--json")
    told = json.loads(run(*exam(bundle, tmp_path / "ray", *style, *ray)).stdout)
    alone = json.loads(run(*exam(bundle, tmp_path / "one", *style)).stdout)
    assert result(tmp_path / "ray") == result(tmp_path / "one")
    assert answers(tmp_path / "ray") == answers(tmp_path / "one")
    assert told["effort"]["asked"] == alone["effort"]["asked"] > NUM_QUESTIONS
    prompts = [told["effort"]["reused_tokens"] + told["effort"]["computed_tokens"]]
    assert prompts == [alone["effort"]["reused_tokens"] + alone["effort"]["computed_tokens"]]


def test_a_killed_actor_and_a_killed_command_change_no_result(
    cluster: Any, bundles: Path, tmp_path: Path
) -> None:
    bundle, output = bundles / "talk-fp32", tmp_path / "ray"
    output.mkdir()
    arguments = exam(bundle, output, "--ray", cluster.address)
    changes = Changes(output)
    process = subprocess.Popen([sys.executable, *arguments], stderr=subprocess.DEVNULL)
    for line, victim in ((2, None), (5, process.pid)):
        while sum(map(num_lines, output.glob("log-*.jsonl"))) < line:
            changes.wait()
        os.kill(victim or actor_pids()[0], signal.SIGKILL)
    process.wait(PATIENCE)
    changes.close()
    told = run(*arguments).stdout
    assert " taken from the log" in told
    assert " 0 taken from the log" not in told
    run(*exam(bundle, tmp_path / "one"))
    assert result(output) == result(tmp_path / "one")
    assert answers(output) == answers(tmp_path / "one")
