"""How many devices so many users take: `toolchain plan` as lowered, and a queue.

A request is a prompt of up to 512 tokens, which is one call, and an answer; a full device serves
the B sequences of its largest batch. By Little's law a request then stays B x prefill + tokens x
step, and a device ends B of them in that time. The cluster is a queue of devices x B servers
(Erlang C).

Usage: fleet.py [--profiles 310p3-int8 910b3] [--users 1000 1000000] [--directory build/fleet]
"""

import argparse
import json
from dataclasses import dataclass
from math import ceil, log
from pathlib import Path
from subprocess import PIPE, run

from seven_b import write_config

ACTIVE = 0.1  # of all users, in the busiest hour
ASKED_PER_HOUR = 30.0  # by an active one
ANSWER = 200  # tokens
BUSY = 0.7  # of the devices' time, so that requests need not wait
DOWN = 0.1  # of the devices, being upgraded or lost
PATIENCE = 1.0  # seconds that one request in a hundred may wait to begin
EVENT_BYTES = 350  # of a token on the wire: the event, its chunk, TCP and IP
REQUEST_BYTES = 2_000
LARGEST = {"310p3-int8": (4, 2048), "910b3": (16, 4096)}  # sequences of a step, rows of the cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What plan says of one. prefill, step: seconds."""

    profile: str
    batch_size: int
    prefill: float
    step: float

    @property
    def stay(self) -> float:
        """Seconds of a request on a full device."""
        return self.batch_size * self.prefill + ANSWER * self.step

    @property
    def rate(self) -> float:
        """Requests a second of a full device."""
        return self.batch_size / self.stay


def plan(profile: str, model: Path) -> Device:
    """Asks `toolchain plan` of the 7B."""
    command = ["toolchain", "plan", str(model), "--profile", profile, "--json"]
    told = json.loads(run(command, check=True, stdout=PIPE).stdout)
    times = {line["name"]: line["value"] for line in told["lowered"]}
    batch_size, rows = LARGEST[profile]
    return Device(
        profile=profile,
        batch_size=batch_size,
        prefill=times["first token, 512 tokens of prompt"],
        step=times[f"per step of {batch_size} sequences, {rows} tokens of context"],
    )


def late(servers: int, load: float) -> float:
    """The part of all requests that wait at all (Erlang C), by its recursion."""
    blocked = 1.0  # Erlang B
    for i in range(1, servers + 1):
        blocked = load * blocked / (i + load * blocked)
    return blocked / (1 - load / servers * (1 - blocked))


def wait_of_one_in_a_hundred(device: Device, num_devices: int, arrivals: float) -> float:
    """Seconds that 99 of 100 requests do not wait longer than."""
    servers = num_devices * device.batch_size
    part = late(servers, arrivals * device.stay)
    spare = servers / device.stay - arrivals
    return max(0.0, log(part / 0.01) / spare) if part > 0.01 else 0.0


def devices_for(device: Device, arrivals: float) -> int:
    """As few as are BUSY, and let one in a hundred wait no longer than PATIENCE."""
    found = ceil(arrivals / (BUSY * device.rate))
    while wait_of_one_in_a_hundred(device, found, arrivals) > PATIENCE:
        found += 1
    return found


def main() -> None:
    """Prints a table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profiles", nargs="+", default=list(LARGEST), choices=LARGEST)
    parser.add_argument("--users", nargs="+", type=int, default=[1_000, 1_000_000])
    parser.add_argument("--directory", type=Path, default=Path("build/fleet"))
    given = parser.parse_args()
    given.directory.mkdir(parents=True, exist_ok=True)
    write_config(given.directory, 32)
    names = "users | profile | requests/s | tokens/s of a stream | devices | with spares | wait, s"
    print(
        f"| {names} | streams open | tokens/s | Mbit/s |\n|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|"
    )
    for profile in given.profiles:
        device = plan(profile, given.directory)
        for users in given.users:
            arrivals = users * ACTIVE * ASKED_PER_HOUR / 3600
            devices = devices_for(device, arrivals)
            spares = max(1, ceil(devices * DOWN / (1 - DOWN)))
            wait = wait_of_one_in_a_hundred(device, devices, arrivals)
            bits = 8e-6 * arrivals * (REQUEST_BYTES + ANSWER * EVENT_BYTES)
            print(
                f"| {users:,} | {profile} | {arrivals:,.1f} | {ANSWER / device.stay:.1f} "
                f"| {devices:,} | {devices + spares:,} | {wait:.1f} "
                f"| {arrivals * device.stay:,.0f} | {arrivals * ANSWER:,.0f} | {bits:,.1f} |"
            )


if __name__ == "__main__":
    main()
