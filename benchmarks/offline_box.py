"""From a pack to an answer over HTTP where there is no network: steps, seconds and megabytes.

    python benchmarks/offline_box.py FIRST SECOND DIRECTORY

packs two compiled bundles for this machine, the second since the first, both signed. It installs
them in a network namespace of their own below DIRECTORY, with a Python that has none of this
project, and asks the server that it starts there. stdout: a table in Markdown. Needs unshare,
openssl, and root or user namespaces.
"""

import fcntl
import http.client
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError

TOOLCHAIN = [sys.executable, "-c", "from toolchain.cli import main; main()"]
PATIENCE = 120.0  # seconds until the server answers
PORT = 8001
QUESTION = "What is an edge box?"


def megabytes(path: Path) -> float:
    """Bytes on the disk below a path, a file that has several names once."""
    sizes = {
        (found.st_dev, found.st_ino): found.st_blocks * 512
        for found in (each.lstat() for each in [path, *path.rglob("*")])
    }
    return sum(sizes.values()) / 1e6


def row(step: str, began: float, path: Path | None = None) -> None:
    """Prints a line of the table."""
    size = "" if path is None else f"{megabytes(path):.1f}"
    print(f"| {step} | {time.monotonic() - began:.1f} | {size} |", flush=True)


def run(*command: str | Path) -> None:
    """Runs a step with none of the host's settings; ends everything where it fails."""
    clean = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent"}
    named = os.environ.get("BOX_PYTHON")
    clean |= {"PYTHON": named} if named else {}
    done = subprocess.run(list(map(str, command)), env=clean, stdout=subprocess.DEVNULL)
    if done.returncode:
        sys.exit(f"{command} failed")


def make_packs(first: Path, second: Path, directory: Path) -> None:
    """A key, a pack and a second one, on the host."""
    key = directory / "key.pem"
    run("openssl", "genpkey", "-algorithm", "ed25519", "-out", key)
    run("openssl", "pkey", "-in", key, "-pubout", "-out", directory / "key.pub")
    old: list[str | Path] = []
    for bundle, name in ((first, "box.tar"), (second, "second.tar")):
        began, pack = time.monotonic(), directory / name
        command = ["pack", bundle, "-o", pack, "--sign", key, *old]
        subprocess.run([*TOOLCHAIN, *map(str, command)], check=True)
        row(f"`toolchain pack` {name}", began, pack)
        old = ["--since", pack]


def install(pack: Path, prefix: Path) -> None:
    """What is typed on the box."""
    directory = pack.parent
    began = time.monotonic()
    run("tar", "-xf", pack, "-C", directory, "install.sh")
    arguments = ("--prefix", prefix, "--verify", directory / "key.pub")
    run("sh", directory / "install.sh", pack, *arguments)
    row(f"`install.sh` {pack.name}", began, prefix)


@contextmanager
def serving(prefix: Path) -> Iterator[None]:
    """The server of what is installed, until it answers; its line says how long that took."""
    began = time.monotonic()
    runtime, bundle = str(prefix / "bin/runtime"), str(prefix / "bundle")
    command = [runtime, "serve", bundle, "--port", str(PORT)]
    with subprocess.Popen(command, env={}, stderr=subprocess.DEVNULL) as server:
        try:
            while not is_ready():
                if server.poll() is not None or time.monotonic() - began > PATIENCE:
                    sys.exit("the server does not answer")
                time.sleep(0.05)
            row("`runtime serve`, until it is ready", began)
            yield
        finally:
            server.terminate()


def is_ready() -> bool:
    """Whether the server answers requests."""
    try:
        return get("/health/ready").status == 200
    except URLError:
        return False


def get(address: str, body: dict[str, object] | None = None) -> http.client.HTTPResponse:
    """A request without a proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}{address}", data, headers)
    answer: http.client.HTTPResponse = opener.open(request)
    return answer


def ask() -> None:
    """The first answer."""
    began = time.monotonic()
    asked = {"messages": [{"role": "user", "content": QUESTION}], "temperature": 0}
    with get("/v1/chat/completions", asked) as reply:
        text = json.load(reply)["choices"][0]["message"]["content"]
    row("first answer over HTTP", began)
    print(f"{QUESTION} {text}", file=sys.stderr)


def raise_loopback() -> None:
    """Sets the one interface of a new namespace up: SIOCSIFFLAGS with IFF_UP."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        fcntl.ioctl(handle, 0x8914, struct.pack("16sh22x", b"lo", 1))


def on_the_box(directory: Path) -> None:
    """All that happens without a network."""
    raise_loopback()
    names = [name for _, name in socket.if_nameindex()]
    print(f"interfaces: {', '.join(names)}", file=sys.stderr)
    assert names == ["lo"]
    began, prefix = time.monotonic(), directory / "opt"
    install(directory / "box.tar", prefix)
    with serving(prefix):
        ask()
    row("from the pack to the answer", began, prefix)
    install(directory / "second.tar", prefix)
    with serving(prefix):
        ask()


def main() -> None:
    """Host first, then this program again in a namespace."""
    if sys.argv[1] == "--on-the-box":
        on_the_box(Path(sys.argv[2]))
        return
    first, second, directory = map(Path, sys.argv[1:])
    enter = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net"]
    if shutil.which("unshare") is None or subprocess.run([*enter, "true"]).returncode:
        print("skipped: no namespace without a network can be made here (unshare --net)")
        return
    directory = directory.absolute()
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    print("| step | s | MB |\n|---|--:|--:|", flush=True)
    make_packs(first, second, directory)
    subprocess.run([*enter, sys.executable, __file__, "--on-the-box", directory], check=True)


if __name__ == "__main__":
    main()
