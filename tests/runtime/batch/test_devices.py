"""Several devices answer one batch as one does; here each session is on the CPU."""

import os
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from multiprocessing import active_children
from pathlib import Path

import pytest

from runtime.batch.answerer import OnModel, Opening
from runtime.batch.input_file import BatchInput
from runtime.batch.run import Tally, run_batch
from runtime.batch.work_file import WorkFile
from runtime.bundle.reader import load_bundle
from runtime.errors import DeviceLostError
from runtime.server.loading import served
from runtime.server.served_model import ServedModel
from runtime.sessions import SessionOptions
from runtime.sessions.elsewhere import SessionElsewhere
from runtime.timing import now
from tests.runtime import test_cli as command_line
from tests.runtime.batch.files import by_id, request, same, write_lines
from tests.runtime.server.test_sameness import case
from tests.runtime.test_cli import Command

command = command_line.command  # a fixture
NUM_LINES = 60


@pytest.fixture
def bundle(bundles: Path) -> Path:
    return bundles / "small-fp32"


class Unwatched:
    def show(self, _: Tally) -> None:
        pass


@contextmanager
def two_sessions(bundle: Path) -> Iterator[ServedModel]:
    loaded = load_bundle(bundle)
    sessions = [SessionElsewhere(loaded, SessionOptions(threads=1)) for _ in range(2)]
    for session in sessions:
        session.wait_until_open()
    opening = Opening(model_names=(bundle.name,), devices=(0, 1), threads=1)
    with closing(served(loaded, sessions, opening)) as model:
        yield model
    assert not active_children()


def run(file: Path, output: Path, model: ServedModel) -> None:
    with file.open("rb") as stream, WorkFile(output, {}) as work:
        tally = Tally(requests=NUM_LINES, resumed=0, started=now())
        run_batch(BatchInput(stream), work, OnModel(model), tally, Unwatched())
        work.finish(keep_order=True)


def test_two_devices_share_the_work_and_give_the_answers_of_one(
    bundle: Path, tmp_path: Path, command: Command
) -> None:
    lines = [request(str(i), **case(i)) for i in range(NUM_LINES)]
    lines[9] = request("9", temperature=-1)
    file = write_lines(tmp_path / "in", lines)
    with two_sessions(bundle) as model:
        run(file, tmp_path / "two", model)
        shares = [each.scheduler.counters.requests for each in model.engines.each]
    assert min(shares) > NUM_LINES / 4
    command("batch", bundle, file, "-o", tmp_path / "one", "--keep-order")
    one, two = by_id(tmp_path / "one"), by_id(tmp_path / "two")
    assert list(one) == list(two)
    for custom_id, line in one.items():
        other = two[custom_id]["response"]
        assert line["response"]["status_code"] == other["status_code"]
        assert same(line["response"]["body"]) == same(other["body"])


def test_a_device_that_is_lost_ends_the_run(bundle: Path, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "in", [request(str(i), prompt="a") for i in range(NUM_LINES)])
    with two_sessions(bundle) as model:
        child = active_children()[0]
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(DeviceLostError, match="has ended; got exit code -9"):
            run(file, tmp_path / "out", model)
