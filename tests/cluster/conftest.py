"""A Ray cluster of several raylets on this machine: `make ray-test`.

Without Ray, nothing here is collected.
"""

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.paths import ROOT

if find_spec("ray") is None:
    collect_ignore_glob = ["test_*.py"]
# What every process of a cluster inherits.
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),  # the work of tests, by the names of its modules
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "runtime.server.proxy_errors:middlewares",
}
NUM_DEVICES = 3


def start_cluster() -> Any:
    """A head without devices."""
    from ray.cluster_utils import Cluster

    os.environ.update(ENVIRONMENT)
    return Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """Two nodes with three devices; an NPU is a number that Ray counts, and each has a core."""
    made = start_cluster()
    made.add_node(num_cpus=2, resources={"NPU": 2})
    made.add_node(num_cpus=1, resources={"NPU": 1})
    yield made
    made.shutdown()


@pytest.fixture
def small(bundles: Path) -> Path:
    return bundles / "small-fp32"


def actor_pids() -> list[int]:
    """Processes of actors of a pool."""
    return pids_of("_Actor")


def pids_of(name: str) -> list[int]:
    """Processes of actors of a class, whosever they are; Ray gives them their names."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if (entry / "cmdline").read_bytes().startswith(f"ray::{name}".encode()):
                found.append(int(entry.name))
        except (OSError, ValueError):
            continue  # it has ended, or is no process
    return found
