"""A batch that was killed goes on: in the end every request is answered once, none is lost.

`KILLS=30 pytest tests/runtime/batch/test_resume.py` kills it more often than the suite.
"""

import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tracemalloc
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest

from runtime.batch.answerer import Outcome
from runtime.batch.input_file import BatchInput
from runtime.batch.request_line import BatchRequest
from runtime.batch.run import Tally, run_batch
from runtime.batch.work_file import WorkFile
from runtime.bundle.reader import MANIFEST, MANIFEST_DIGEST, Bundle, read_manifest
from runtime.errors import SessionError
from runtime.timing import now
from tests.runtime import test_cli as command_line
from tests.runtime.batch.files import by_id, read_lines, request, same, write_lines
from tests.runtime.server.test_sameness import case
from tests.runtime.test_cli import MAIN, Command, check_refusal
from tests.serving import PATIENCE

command = command_line.command  # a fixture
KILLS = int(os.environ.get("KILLS", "3"))
NUM_LINES = 300 + 100 * KILLS  # many more than are answered before a kill arrives
MODIFIED, MOVED_TO = 0x2, 0x80  # inotify(7)


@pytest.fixture
def bundle(bundles: Path) -> Path:
    return bundles / "small-fp32"


class Changes:
    """Waits for changes of files in a directory."""

    def __init__(self, directory: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_CLOEXEC)
        assert libc.inotify_add_watch(self._fd, bytes(directory), MODIFIED | MOVED_TO) >= 0

    def wait(self) -> None:
        assert select.select([self._fd], [], [], PATIENCE)[0], "something happens"
        os.read(self._fd, 1 << 16)

    def close(self) -> None:
        os.close(self._fd)


def num_lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


def killed_at(arguments: list[str | Path], output: Path, line: int) -> int:
    """Runs until the work file has so many lines, then kills; gives the lines that it has."""
    work = output.with_name(f"{output.name}.partial")
    changes = Changes(output.parent)
    process = subprocess.Popen([sys.executable, "-c", MAIN, *arguments], stderr=subprocess.PIPE)
    try:
        while num_lines(work) < line and not output.exists():
            changes.wait()
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        changes.close()
    return num_lines(work)


def test_a_killed_batch_ends_with_every_answer_once(
    bundle: Path, tmp_path: Path, command: Command
) -> None:
    rng = Random(19)
    lines = [request(f"r{i}", **case(i)) for i in range(NUM_LINES)]
    lines[7] = request("r3", prompt="again")
    write_lines(tmp_path / "in", lines)
    output = tmp_path / "killed" / "out"
    output.parent.mkdir()
    arguments: list[str | Path] = ["batch", bundle, tmp_path / "in", "-o", output]
    so_far = 0
    for _ in range(KILLS):
        so_far = killed_at(arguments, output, so_far + rng.randint(1, 15))
        assert not output.exists()
    with output.with_name("out.partial").open("ab") as work:
        work.write(b'17 {"id": "torn')  # as a kill in the middle of a line leaves it
    outcome = command(*arguments, "--json")
    document = json.loads(outcome.out)
    assert document["resumed"] == so_far - 1 > 0
    assert document["answered"] + document["refused"] == NUM_LINES - document["resumed"]
    assert [each.name for each in output.parent.iterdir()] == ["out"]

    whole = tmp_path / "whole"
    assert command("batch", bundle, tmp_path / "in", "-o", whole).code == 0
    expected, found = by_id(whole), by_id(output)
    assert found.keys() == expected.keys()
    assert len(read_lines(output)) == NUM_LINES
    for custom_id, line in found.items():
        other = expected[custom_id]
        assert line["error"] == other["error"]
        if line["error"] is None:
            assert same(line["response"]["body"]) == same(other["response"]["body"])


def begin(bundle: Path, directory: Path) -> list[str | Path]:
    """A batch that was killed after its first answer; gives its arguments."""
    write_lines(directory / "in", [request(str(i), prompt="a", max_tokens=3) for i in range(40)])
    arguments: list[str | Path] = ["batch", bundle, directory / "in", "-o", directory / "out"]
    killed_at(arguments, directory / "out", 2)
    return arguments


def test_what_was_begun_with_something_else_is_refused_by_name(
    bundle: Path, bundles: Path, tmp_path: Path, command: Command
) -> None:
    arguments = begin(bundle, tmp_path)
    work = tmp_path / "out.partial"
    before = work.read_bytes()
    named = command(*arguments, "--model-name", "other")
    check_refusal(named, f"{work} was begun with another --model-name; give what it was begun with")
    arguments[1] = bundles / "talk-int4"
    check_refusal(
        command(*arguments, "--model-name", bundle.name), f"{work} was begun with another bundle;"
    )
    arguments[1] = bundle
    with (tmp_path / "in").open("a") as file:
        file.write("{}\n")
    check_refusal(command(*arguments), f"{work} was begun with another input;")
    assert work.read_bytes() == before


def test_a_file_that_is_not_ours_is_refused_and_left_alone(
    bundle: Path, tmp_path: Path, command: Command
) -> None:
    write_lines(tmp_path / "in", [request("a", prompt="a")])
    work = tmp_path / "out.partial"
    for content in ("precious\n", '{"format": "other"}\n', "[]\n"):
        work.write_text(content)
        outcome = command("batch", bundle, tmp_path / "in", "-o", tmp_path / "out")
        check_refusal(outcome, f"{work} is not the work of a batch")
        assert work.read_text() == content


def test_a_kill_after_the_last_answer_needs_no_model(
    bundle: Path, tmp_path: Path, command: Command
) -> None:
    """Also where the output was put in its place already."""
    bare = tmp_path / bundle.name
    bare.mkdir()
    for name in (MANIFEST, MANIFEST_DIGEST):
        shutil.copy(bundle / name, bare)
    data = write_lines(tmp_path / "in", [request("a"), request("b")]).read_bytes()
    digest = Bundle(path=bare, manifest=read_manifest(bare)).digest
    key = {"input": sha256(data).hexdigest(), "bundle": digest, "--model-name": bundle.name}
    output = tmp_path / "out"
    with WorkFile(output, key) as work:
        work.add(2, b'{"custom_id": "b"}\n')
        work.add(1, b'{"custom_id": "a"}\n')
    output.write_text("as it was put there")
    (tmp_path / "out.partial-output").write_text("half")
    outcome = command("batch", bare, tmp_path / "in", "-o", output, "--keep-order")
    assert (outcome.code, outcome.err[:5]) == (0, f"[{str(output)[:4]}")
    assert output.read_bytes() == b'{"custom_id": "a"}\n{"custom_id": "b"}\n'
    assert sorted(each.name for each in tmp_path.iterdir()) == ["in", "out", bundle.name]


def test_two_runs_of_one_batch_do_not_mix(bundle: Path, tmp_path: Path, command: Command) -> None:
    write_lines(tmp_path / "in", [request("a", prompt="a")])
    with WorkFile(tmp_path / "out", {}):
        outcome = command("batch", bundle, tmp_path / "in", "-o", tmp_path / "out")
    check_refusal(outcome, f"another run is writing {tmp_path / 'out.partial'}; wait for it")


def test_ctrl_c_keeps_the_answers_and_says_how_to_go_on(bundle: Path, tmp_path: Path) -> None:
    write_lines(tmp_path / "in", [request(str(i), **case(i)) for i in range(400)])
    output, work = tmp_path / "out", tmp_path / "out.partial"
    changes = Changes(tmp_path)
    arguments: list[str | Path] = ["batch", bundle, tmp_path / "in", "-o", output]
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, *arguments], stderr=subprocess.PIPE, text=True
    )
    while num_lines(work) < 3:
        changes.wait()
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=PATIENCE)
    changes.close()
    assert process.returncode == 130
    assert f"stopped; answers are kept in {work}, and the same command goes on" in told
    assert "Traceback" not in told
    assert not output.exists()
    assert work.read_bytes().endswith(b"}\n")


class Echo:
    """Answers at once with what it was asked."""

    num_at_once = 4

    async def answer(self, request: BatchRequest) -> Outcome:
        return Outcome(status=200, request_id="r", body=request.body)


class Unwatched:
    def show(self, _: Tally) -> None:
        pass


def test_lines_are_not_held_in_memory(tmp_path: Path) -> None:
    lines = (request(str(i), prompt=f"{i}" + "a" * 4000) for i in range(5000))
    file, output = write_lines(tmp_path / "in", lines), tmp_path / "out"
    tracemalloc.start()
    with file.open("rb") as stream, WorkFile(output, {}) as work:
        batch = BatchInput(stream)
        tally = Tally(requests=batch.num_lines, resumed=0, started=now())
        run_batch(batch, work, Echo(), tally, Unwatched())
        work.finish(keep_order=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert tally.answered == 5000
    assert output.stat().st_size > file.stat().st_size > 20e6
    assert peak < 3e6


class Broken:
    """Fails as a device does that is gone, but for the requests that it still answers."""

    num_at_once = 1

    def __init__(self, *answered: str) -> None:
        self._answered = answered

    async def answer(self, request: BatchRequest) -> Outcome:
        if request.custom_id in self._answered:
            return Outcome(status=200, request_id="r", body={})
        return Outcome(status=500, request_id="r", body={"error": {"message": "no device"}})


def test_a_failed_request_is_kept_once_another_is_answered(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "in", [request(str(i)) for i in range(20)])
    output = tmp_path / "out"
    tally = Tally(requests=20, resumed=0, started=now())
    with file.open("rb") as stream, WorkFile(output, {}) as work:
        with pytest.raises(SessionError, match="8 requests failed one after the other; got no dev"):
            run_batch(BatchInput(stream), work, Broken("2", "9", "11"), tally, Unwatched())
        assert work.done == set(range(1, 13))
    with file.open("rb") as stream, WorkFile(output, {}) as work:
        run_batch(BatchInput(stream), work, Echo(), tally, Unwatched())
        work.finish(keep_order=True)
    statuses = [line["response"]["status_code"] for line in read_lines(output)]
    assert statuses == [500] * 2 + [200] + [500] * 6 + [200, 500, 200] + [200] * 8
