"""python -m toolchain.pack.service RELEASE PORT: makes an installed pack a service of systemd.

`install.sh --service PORT` runs it, as root, in the environment of the release. It does what
docs/operate.md says: settings and keys that are there stay, the unit and the link to the bundle are
replaced.
"""

import json
import secrets
import subprocess
import sys
from pathlib import Path

from runtime.console import note, run_app
from runtime.result_files import write_file
from toolchain.pack.box.archive import BUNDLE_DIR, INFO, OPERATE_DIR

__all__ = ["install_service"]

UNIT, SETTINGS, DROP_IN = "alpaca2@.service", "serve.toml", "ascend.conf"
RUNTIME = "/opt/alpaca2/bin/runtime"  # what the unit starts


def install_service(release: Path, port: int, root: Path = Path("/")) -> None:
    """Puts unit, settings, a key and the link to the bundle into their places below `root`.

    Raises:
        UserError: a place cannot be written.
    """
    etc, units, bundles = (
        root / place for place in ("etc/alpaca2", "etc/systemd/system", "var/lib/alpaca2")
    )
    for directory in (etc, units, bundles):
        directory.mkdir(parents=True, exist_ok=True)
    shipped = release / OPERATE_DIR
    write_file(units / UNIT, (shipped / UNIT).read_bytes())
    _write_new(etc / SETTINGS, (shipped / SETTINGS).read_bytes())
    _write_new(etc / "keys", f"{secrets.token_hex(32)}\n".encode(), 0o600)
    if json.loads((release / INFO).read_bytes())["chip"] is not None:
        drop_ins = units / f"{UNIT}.d"
        drop_ins.mkdir(exist_ok=True)
        _write_new(drop_ins / DROP_IN, (shipped / DROP_IN).read_bytes())
    fresh = bundles / f".{port}.new"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(release / BUNDLE_DIR)
    fresh.replace(bundles / str(port))


def _write_new(file: Path, data: bytes, mode: int = 0o644) -> None:
    """Writes a file that the box's keeper may change, where there is none."""
    if not file.exists():
        write_file(file, data, mode)


def start(port: int) -> None:
    """Starts the service, now and with the box, and returns when the model answers."""
    if not Path("/run/systemd/system").is_dir():
        note(
            f"systemd does not run here; without it: {RUNTIME} serve /var/lib/alpaca2/{port}"
            f" --config /etc/alpaca2/serve.toml --port {port} --api-key-file /etc/alpaca2/keys"
        )
        return
    unit = f"alpaca2@{port}"
    for command in (["daemon-reload"], ["enable", unit], ["restart", unit]):
        done = subprocess.run(["systemctl", *command])
        if done.returncode:
            sys.exit(
                f"error: `systemctl {' '.join(command)}` failed; journalctl -u {unit} says why"
            )


def _main() -> None:
    release, port = Path(sys.argv[1]), int(sys.argv[2])
    install_service(release, port)
    start(port)


if __name__ == "__main__":
    run_app(_main)
