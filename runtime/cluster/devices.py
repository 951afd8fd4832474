"""A Ray cluster and the devices that its nodes have."""

import logging
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray

from runtime.errors import UserError

__all__ = ["Device", "connected", "find_devices", "request_of"]

PATIENCE = 10.0  # seconds in which the head of a cluster must be reached


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What an actor has for itself.

    node: its id in the cluster.
    address: of the node.
    request: the actor's options that ask for it.
    threads: that it computes with; None where it does not say.
    """

    node: str
    address: str
    request: Mapping[str, Any]
    threads: int | None


@contextmanager
def connected(address: str) -> Iterator[None]:
    """A connection to a cluster; its end ends the actors.

    Args:
        address: HOST:PORT of its head, or auto for the cluster of this machine.

    Raises:
        UserError: it cannot be reached.
    """
    try:
        if ":" in address and "//" not in address:
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), PATIENCE).close()  # Ray would wait minutes
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            "no Ray cluster can be reached",
            got=f"{address}: {(str(error).splitlines() or [''])[0]}",
            allowed="HOST:PORT of its head, or auto, on a machine of the cluster",
            next_step="start it with `ray start --head`, and the others with `ray start --address`",
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def find_devices(resource: str, threads: int | None) -> list[Device]:
    """The devices of the cluster, whoever uses them now.

    Args:
        resource: what Ray calls them. Of CPU, a device is so many cores as threads are asked for,
            or else the whole node; of others, it is one.
        threads: for each device.

    Raises:
        UserError: there is none.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    found = [device for node in nodes for device in _of_node(node, resource, threads)]
    if not found:
        most = max((int(node["Resources"].get(resource, 0)) for node in nodes), default=0)
        raise UserError(
            f"no node of the cluster has the {resource} for this bundle",
            got=f"{len(nodes)} nodes with up to {most} {resource}",
            allowed=f"{threads or 1} or more",
            next_step="ask for fewer --threads, or give more to `ray start` on a node"
            if resource == "CPU"
            else f"run `ray start --resources '{{\"{resource}\": 1}}'` on a node that has it",
        )
    return found


def _of_node(node: Mapping[str, Any], resource: str, threads: int | None) -> Iterator[Device]:
    amount = int(node["Resources"].get(resource, 0))
    share = 1
    if resource == "CPU":
        share = threads = threads or max(amount, 1)
    for _ in range(amount // share):
        yield Device(
            node=node["NodeID"],
            address=node["NodeManagerAddress"],
            request=request_of(resource, threads),
            threads=threads,
        )


def request_of(resource: str, threads: int | None) -> dict[str, Any]:
    """The options of an actor that has one device, or cores for its threads."""
    own: dict[str, dict[str, Any]] = {"CPU": {"num_cpus": threads}, "GPU": {"num_gpus": 1}}
    return own.get(resource) or {"resources": {resource: 1}}
