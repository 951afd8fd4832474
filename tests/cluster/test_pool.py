"""Actors on the devices of a cluster: one for each, and what becomes of the items of lost ones."""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from runtime.cluster.devices import connected, find_devices
from runtime.cluster.pool import ActorPool
from runtime.errors import DeviceLostError, EvalError, SessionError, UserError
from tests.cluster.conftest import NUM_DEVICES, start_cluster
from tests.cluster.works import Failing, Held, Place, Threads, Unmade, Where
from tests.serving import PATIENCE


@pytest.fixture
def connection(cluster: Any) -> Iterator[None]:
    with connected(cluster.address):
        yield


@pytest.fixture
def held(tmp_path: Path) -> Path:
    """A directory with the fifos of Held."""
    for name in ("asked", "go"):
        os.mkfifo(tmp_path / name)
    return tmp_path


def took(future: Future[Any]) -> Any:
    return future.result(PATIENCE)


@pytest.mark.usefixtures("connection")
def test_each_actor_has_a_device_of_its_own() -> None:
    devices = find_devices("NPU", None)
    assert len(devices) == NUM_DEVICES
    seen: Counter[Place] = Counter()
    with ActorPool(devices, Where) as pool:
        assert pool.num_at_once == NUM_DEVICES
        while len(seen) < NUM_DEVICES:
            seen[took(pool.submit(None))] += 1
    assert sorted((ids, told) for _, ids, told in seen) == [
        (("0",), "0"),
        (("0",), "0"),
        (("1",), "1"),
    ]
    assert len({(node, ids) for node, ids, _ in seen}) == NUM_DEVICES


@pytest.mark.usefixtures("connection")
def test_without_a_number_of_threads_an_actor_has_a_node_to_itself() -> None:
    assert sorted(device.threads or 0 for device in find_devices("CPU", None)) == [1, 2]
    assert [device.threads for device in find_devices("CPU", 1)] == [1, 1, 1]
    [device] = find_devices("CPU", 2)
    with ActorPool([device], Threads) as pool:
        assert took(pool.submit(None)) == 2


@pytest.mark.usefixtures("connection")
def test_a_cluster_without_the_device_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="the GPU for this bundle; got 3 nodes with up to 0 GPU"):
        find_devices("GPU", None)
    with pytest.raises(UserError, match="up to 2 CPU; allowed: 3 or more; ask for fewer --thr"):
        find_devices("CPU", 3)


@pytest.mark.usefixtures("connection")
def test_the_item_of_an_actor_that_is_killed_is_asked_again(held: Path) -> None:
    with ActorPool(find_devices("NPU", None)[:1], partial(Held, held)) as pool:
        answer = pool.submit("item")
        first = int((held / "asked").read_text())
        os.kill(first, signal.SIGKILL)
        second = int((held / "asked").read_text())
        (held / "go").write_text(" answered")
        assert took(answer) == ("item answered", second)
        assert second != first


@pytest.mark.usefixtures("connection")
def test_a_device_that_fails_is_replaced_and_a_wrong_item_is_not_asked_again(
    tmp_path: Path,
) -> None:
    with ActorPool(find_devices("NPU", None), partial(Failing, tmp_path)) as pool:
        assert pool.num_at_once == 2 * NUM_DEVICES
        answers = [pool.submit(str(i)) for i in range(20)]
        assert list(map(took, answers)) == [str(i) for i in range(20)]
        assert (tmp_path / "failed").exists()
        with pytest.raises(EvalError, match="a wrong question"):
            took(pool.submit("wrong"))


@pytest.mark.usefixtures("connection")
def test_an_item_that_ends_every_actor_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "failed").touch()
    with ActorPool(find_devices("NPU", None), partial(Failing, tmp_path)) as pool:
        with pytest.raises(DeviceLostError, match="5 devices were lost, one after the other"):
            took(pool.submit("deadly"))
        assert took(pool.submit("fine")) == "fine"


@pytest.mark.usefixtures("connection")
def test_work_that_cannot_be_made_is_refused_with_its_node() -> None:
    pool = ActorPool(find_devices("NPU", None), Unmade)
    with (
        pytest.raises(SessionError, match=r"on node [0-9.]+: it needs another driver; g"),
        pool,
    ):
        raise AssertionError


def test_the_items_of_a_node_that_is_lost_go_to_the_others(held: Path) -> None:
    cluster = start_cluster()
    nodes = [cluster.add_node(num_cpus=1, resources={"NPU": 1}) for _ in range(2)]
    try:
        with connected(cluster.address):
            devices = find_devices("NPU", None)
            with ActorPool(devices, partial(Held, held)) as pool:
                answer = pool.submit("item")
                pid = int((held / "asked").read_text())
                [lost] = [node for node in nodes if is_under(pid, raylet_pid(node))]
                cluster.remove_node(lost, allow_graceful=False)
                other = int((held / "asked").read_text())
                (held / "go").write_text(" answered")
                assert took(answer) == ("item answered", other)
    finally:
        cluster.shutdown()


def raylet_pid(node: Any) -> int:
    [process] = node.all_processes["raylet"]
    pid: int = process.process.pid
    return pid


def is_under(pid: int, parent: int) -> bool:
    """Whether a process was begun by another."""
    status = Path(f"/proc/{pid}/stat").read_text()
    return int(status.rpartition(")")[2].split()[1]) == parent


def test_a_cluster_that_is_not_there_is_refused_by_its_address() -> None:
    for address, got in {
        "127.0.0.1:1": "127.0.0.1:1: ",
        "nobody.invalid:6379": "nobody.invalid:6379: ",
        "127.0.0.1:x": "127.0.0.1:x: ",
    }.items():
        with (
            pytest.raises(UserError, match="no Ray cluster can be reached; got " + got),
            connected(address),
        ):
            raise AssertionError
