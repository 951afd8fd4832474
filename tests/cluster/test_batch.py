"""A batch on a cluster has the answers of one machine, whatever is killed meanwhile.

`KILLS=30 pytest tests/cluster/test_batch.py` kills the command more often than `make ray-test`.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

from runtime.bundle.reader import MANIFEST, MANIFEST_DIGEST
from tests.cluster.conftest import actor_pids
from tests.runtime import test_cli as command_line
from tests.runtime.batch.files import by_id, read_lines, request, same, write_lines
from tests.runtime.batch.test_resume import KILLS, Changes, killed_at, num_lines
from tests.runtime.server.test_sameness import case
from tests.runtime.test_cli import MAIN, Command, check_refusal
from tests.serving import PATIENCE

command = command_line.command  # a fixture
NUM_LINES = 150 + 50 * KILLS


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    """A file with a line that is refused, and one that has no answer of its own."""
    lines = [request(f"r{i}", **case(i)) for i in range(NUM_LINES)]
    lines[7] = request("r3", prompt="again")
    lines[9] = request("r9", temperature=-1)
    return write_lines(tmp_path / "in", lines)


def check_same(found: Path, expected: Path) -> None:
    """Line by line, but for the ids and times that each run makes."""
    assert len(read_lines(found)) == NUM_LINES
    ours, others = by_id(found), by_id(expected)
    assert ours.keys() == others.keys()
    for custom_id, line in ours.items():
        other = others[custom_id]
        assert line["error"] == other["error"]
        if line["error"] is None:
            assert line["response"]["status_code"] == other["response"]["status_code"]
            assert same(line["response"]["body"]) == same(other["response"]["body"])


def on_ray(cluster: Any, bundle: Path, file: Path, output: Path) -> list[str | Path]:
    arguments = ["batch", bundle, file, "-o", output, "--threads", "1", "--keep-order"]
    return [*arguments, "--ray", cluster.address]


def test_a_cluster_gives_the_answers_of_one_machine(
    cluster: Any, small: Path, requests: Path, tmp_path: Path, command: Command
) -> None:
    outcome = command(*on_ray(cluster, small, requests, tmp_path / "ray"), "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["requests"] == NUM_LINES
    one = ("batch", small, requests, "-o", tmp_path / "one", "--keep-order")
    assert command(*one).code == 0
    check_same(tmp_path / "ray", tmp_path / "one")
    order = [line["custom_id"] for line in read_lines(tmp_path / "one")]
    assert [line["custom_id"] for line in read_lines(tmp_path / "ray")] == order


def test_actors_that_are_killed_lose_no_line(
    cluster: Any, small: Path, requests: Path, tmp_path: Path, command: Command
) -> None:
    rng = Random(5)
    output, work = tmp_path / "ray", tmp_path / "ray.partial"
    changes = Changes(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, *on_ray(cluster, small, requests, output)],
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in (3, NUM_LINES // 4, NUM_LINES // 2):
        while num_lines(work) < line:
            changes.wait()
        os.kill(rng.choice(actor_pids()), signal.SIGKILL)
    _, told = process.communicate(timeout=PATIENCE)
    changes.close()
    assert process.returncode == 0, told
    assert command("batch", small, requests, "-o", tmp_path / "one").code == 0
    check_same(output, tmp_path / "one")


def test_a_command_that_is_killed_goes_on_with_every_answer_once(
    cluster: Any, small: Path, requests: Path, tmp_path: Path, command: Command
) -> None:
    rng = Random(19)
    output = tmp_path / "killed" / "out"
    output.parent.mkdir()
    arguments = on_ray(cluster, small, requests, output)
    so_far = 0
    for _ in range(KILLS):
        so_far = killed_at(arguments, output, so_far + rng.randint(1, 15))
        assert not output.exists()
    outcome = command(*arguments, "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["resumed"] == so_far - 1 > 0
    assert [each.name for each in output.parent.iterdir()] == ["out"]
    assert command("batch", small, requests, "-o", tmp_path / "one").code == 0
    check_same(output, tmp_path / "one")


def test_what_is_begun_on_a_cluster_goes_on_without_it(
    cluster: Any, small: Path, requests: Path, tmp_path: Path, command: Command
) -> None:
    arguments = on_ray(cluster, small, requests, tmp_path / "out")
    killed_at(arguments, tmp_path / "out", 20)
    outcome = command(*arguments[:-2], "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["resumed"] >= 19
    assert command("batch", small, requests, "-o", tmp_path / "one").code == 0
    check_same(tmp_path / "out", tmp_path / "one")


def test_a_bundle_that_a_node_has_not_whole_is_refused_with_the_node(
    cluster: Any, small: Path, requests: Path, tmp_path: Path, command: Command
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in (MANIFEST, MANIFEST_DIGEST):
        shutil.copy(small / name, bare)
    outcome = command(*on_ray(cluster, bare, requests, tmp_path / "out"))
    told = outcome.err.splitlines()[-1]
    assert (outcome.code, outcome.out) == (1, "")
    assert told.startswith("error: on node ")
    assert f" is missing from {bare}; " in told
    assert not (tmp_path / "out.partial").exists()


def test_devices_of_this_box_are_refused_beside_a_cluster(
    small: Path, requests: Path, tmp_path: Path, command: Command
) -> None:
    arguments = ("batch", small, requests, "-o", tmp_path / "out", "--device", "0,1")
    check_refusal(command(*arguments, "--ray", "auto"), "--device names devices of this box")
