"""`runtime serve` behind Ray Serve: the same answers and errors, whatever becomes of a replica."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
import ray
from ray import serve

from runtime.bundle.reader import MANIFEST, MANIFEST_DIGEST
from runtime.errors import BundleError, ParameterError
from runtime.server.ray_app import app
from runtime.timing import now
from tests.cluster.conftest import pids_of
from tests.runtime.batch.files import CHAT, TEXT, same
from tests.runtime.server.test_sameness import case
from tests.serving import PATIENCE, make_service, ready

LONG = {"prompt": "a", "n": 4, "max_tokens": 300, "ignore_eos": True, "stream": True}
Deploy = Callable[..., None]


@pytest.fixture(scope="module")
def url(cluster: Any) -> Iterator[str]:
    """Of Ray Serve's proxy, on the head."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ray.init(address=cluster.address, namespace="serve", log_to_driver=False)
    try:
        serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
        yield f"http://127.0.0.1:{port}"
        serve.shutdown()
    finally:
        ray.shutdown()


def run_app(cluster: Any, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`serve run`, which ends when all replicas are there, or cannot be."""
    command: list[str | Path] = [Path(sys.executable).with_name("serve"), "run", "--non-blocking"]
    options = ["--address", cluster.address, "runtime.server.ray_app:app"]
    return subprocess.run(
        [*command, *options, *arguments], capture_output=True, text=True, check=False
    )


@pytest.fixture
def deploy(cluster: Any, url: str, bundles: Path) -> Deploy:
    """Gives the command for a bundle and its arguments."""

    def run(name: str, **arguments: object) -> None:
        given = [f"{key}={value}" for key, value in arguments.items()]
        done = run_app(cluster, f"bundle={bundles / name}", "insecure=true", *given)
        assert done.returncode == 0, done.stderr

    return run


@pytest.fixture
def client(url: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=url, timeout=PATIENCE, trust_env=False) as made:
        yield made


def config(directory: Path, **settings: object) -> Path:
    file = directory / "serve.toml"
    file.write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
    return file


def events(text: str) -> list[str]:
    return [event.removeprefix("data: ") for event in text.split("\n\n")[:-1]]


def test_replicas_answer_as_runtime_serve_does(
    deploy: Deploy, client: httpx2.Client, small: Path
) -> None:
    deploy(small.name, replicas=2, threads=1)
    bodies = [{**case(i), "stream": i % 2 == 1} for i in range(40)]
    bodies[5] = {"prompt": "a", "temperature": -1}
    with ready(make_service(small)) as one, one.http() as direct:
        for url in (TEXT, CHAT):
            for body in bodies:
                found, expected = client.post(url, json=body), direct.post(url, json=body)
                assert found.status_code == expected.status_code
                if expected.headers["content-type"].startswith("text/event-stream"):
                    pairs = zip(events(found.text), events(expected.text), strict=True)
                    assert all(alike(*pair) for pair in pairs)
                else:
                    assert same(found.json()) == same(expected.json())
        models = client.get("/v1/models").json()["data"]
        assert [each["id"] for each in models] == [small.name]


def alike(ours: str, theirs: str) -> bool:
    if "[DONE]" in (ours, theirs):
        return ours == theirs
    return same(json.loads(ours)) == same(json.loads(theirs))


def test_a_full_queue_of_ray_serve_is_refused_in_our_words(
    deploy: Deploy, client: httpx2.Client, tmp_path: Path
) -> None:
    """A replica takes one request, so that it never refuses one itself."""
    deploy("small-fp32", config=config(tmp_path, max_requests=1), queue=1)
    body = {"prompt": "a", "max_tokens": 30, "ignore_eos": True}
    with ThreadPoolExecutor(24) as pool:
        replies = list(pool.map(lambda _: client.post(TEXT, json=body), range(48)))
    refused = [reply for reply in replies if reply.status_code != 200]
    assert 0 < len(refused) < len(replies)
    for reply in refused:
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
        error = reply.json()["error"]
        assert (error["type"], error["code"]) == ("unavailable_error", "server_overloaded")
        assert error["message"] == "too many requests are waiting; try again later"


def test_a_stream_whose_replica_is_killed_says_so_and_the_next_request_is_answered(
    deploy: Deploy, client: httpx2.Client
) -> None:
    deploy("talk-fp32", replicas=1)
    with client.stream("POST", TEXT, json=LONG) as reply:
        lines = reply.iter_lines()
        assert next(lines).startswith("data: {")
        for pid in pids_of("ServeReplica"):
            os.kill(pid, signal.SIGKILL)
        told = [line for line in lines if line]
    assert told[-1] == "data: [DONE]"
    assert json.loads(told[-2].removeprefix("data: "))["error"]["code"] == "not_ready"
    until = now() + PATIENCE
    while (reply := client.post(TEXT, json=case(0))).status_code == 503:  # none is there yet
        assert now() < until
        assert reply.json()["error"]["code"] in ("server_overloaded", "not_ready")
    assert reply.status_code == 200


def test_fewer_replicas_lose_no_request(deploy: Deploy, client: httpx2.Client) -> None:
    deploy("talk-fp32", replicas=3)
    ended = False

    def ask(_: int) -> list[str]:
        told = []
        while not ended:
            told.append(client.post(TEXT, json=LONG).text)
        return told

    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(ask, i) for i in range(6)]
        deploy("talk-fp32", replicas=1)
        while len(pids_of("ServeReplica")) > 1:
            assert client.get("/health/ready").status_code == 200
        ended = True
        answers = [text for future in asked for text in future.result()]
    assert len(answers) >= 6
    for text in answers:
        finished = [event for event in events(text) if '"finish_reason":"length"' in event]
        assert len(finished) == LONG["n"]
        assert events(text)[-1] == "[DONE]"


def test_a_client_that_leaves_frees_its_slots(deploy: Deploy, client: httpx2.Client) -> None:
    deploy("talk-fp32", replicas=1)
    with client.stream("POST", TEXT, json=LONG) as reply:
        assert next(reply.iter_lines()).startswith("data: {")
    until = now() + PATIENCE
    while "runtime_num_requests_running 0.0" not in client.get("/metrics").text:
        assert now() < until


def test_what_cannot_be_served_is_refused_before_anything_is_deployed(small: Path) -> None:
    with pytest.raises(ParameterError, match="anybody who reaches this computer could ask"):
        app({"bundle": str(small)})
    with pytest.raises(BundleError, match="no bundle at /nowhere"):
        app({"bundle": "/nowhere", "insecure": "true"})
    with pytest.raises(ParameterError, match=r"unknown key replica; .* allowed: bundle=..., re"):
        app({"bundle": str(small), "replica": "3"})
    with pytest.raises(ParameterError, match=r"replicas: .*; got '0'"):
        app({"bundle": str(small), "replicas": "0"})


def test_a_bundle_that_a_node_has_not_whole_is_refused_by_its_file(
    cluster: Any, url: str, small: Path, tmp_path: Path
) -> None:
    """The last one here: `serve run` then ends Ray Serve itself."""
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in (MANIFEST, MANIFEST_DIGEST):
        shutil.copy(small / name, bare)
    done = run_app(cluster, f"bundle={bare}", "insecure=true")
    assert f" is missing from {bare}; " in done.stderr
    assert "AttributeError" not in done.stderr
