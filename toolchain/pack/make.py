"""A compiled bundle in, a pack out: what goes into it, and that a box will take it."""

import json
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from runtime.bundle.reader import MANIFEST, MANIFEST_DIGEST, Bundle, load_bundle
from runtime.bundle.work_directory import WorkDirectory
from runtime.progress import SILENT, Progress
from runtime.result_files import require_file
from toolchain.errors import PackError
from toolchain.pack.box.archive import (
    BUNDLE_DIR,
    FORMAT_VERSION,
    INFO,
    INSTALLER,
    OPERATE_DIR,
    WHEELS_DIR,
    Pack,
    check_files,
    read_pack,
)
from toolchain.pack.box.errors import BoxError
from toolchain.pack.installer import installer
from toolchain.pack.project import DISTRIBUTION, Project
from toolchain.pack.signature import Sign, signer
from toolchain.pack.wheels import check_kernels, collect_wheels, extras_of
from toolchain.pack.writer import Member, write_pack

__all__ = ["Box", "make_pack", "write_checked"]

PYTHON = re.compile(r"3\.(1[1-9]|[2-9]\d)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """What a pack is for.

    host_cpu: x86_64 or aarch64; None for what the bundle was compiled for, or this machine's.
    python: for example 3.11.
    extras: of the runtime, besides those that the bundle needs.
    """

    host_cpu: str | None
    python: str
    extras: tuple[str, ...] = ()


def make_pack(
    path: Path,
    output: Path,
    box: Box,
    *,
    project: Path | None = None,
    wheels: Path | None = None,
    key: Path | None = None,
    since: Path | None = None,
    progress: Progress = SILENT,
) -> Pack:
    """Writes a pack, complete or not at all.

    Args:
        path: of a compiled bundle.
        output: the tar; one that is there is replaced.
        box: what it is for.
        project: the checkout; None for where this runs from or the current directory.
        wheels: a directory with all wheels, where pip's index is not to be asked.
        key: a private key to sign with.
        since: a pack that the box has; what lies in it is not carried again.
        progress: is told of each step.

    Raises:
        UserError: the bundle is not for such a box, a wheel is missing, or the disk is full.
    """
    require_file(output)
    sign = None if key is None else signer(key)
    old = None if since is None else _read(since)
    bundle = load_bundle(path, progress)
    host_cpu = _host_cpu(bundle, box)
    checkout = Project.find(project)
    extras = extras_of(bundle.manifest, box.extras)
    with WorkDirectory(output.absolute(), lambda _: None) as work:
        found = collect_wheels(
            checkout,
            work.path,
            host_cpu=host_cpu,
            python=box.python,
            extras=extras,
            offered=wheels,
            progress=progress,
        )
        check_kernels(bundle.manifest, found[0])
        files = [
            *_files(OPERATE_DIR, checkout.operate_files()),
            *_files(WHEELS_DIR, found),
            *_bundle_files(bundle),
        ]
        device = bundle.manifest.device
        there = set() if old is None else set(old.sums.values())
        members = [replace(file, carried=file.sha256 not in there) for file in files]
        info = {
            "format_version": FORMAT_VERSION,
            "version": version(DISTRIBUTION),
            "host_cpu": host_cpu,
            "python": box.python,
            "wheel": f"{WHEELS_DIR}/{found[0].name}",
            "extras": extras,
            "target": bundle.manifest.target,
            "chip": None if device is None else device.soc_name,
            "since": None if old is None else old.name,
            "absent": [member.name for member in members if not member.carried],
        }
        described = Member.of(INFO, f"{json.dumps(info, indent=1)}\n".encode())
        first = (described, Member.of(INSTALLER, installer(box.python)))
        pack = write_checked(work.path / "pack", (*first, *members), sign, progress)
        os.replace(work.path / "pack", output)
    return pack


def _read(file: Path) -> Pack:
    """What another pack says of itself.

    Raises:
        PackError: it is none.
    """
    try:
        with file.open("rb") as stream:
            return read_pack(stream)
    except BoxError as error:
        raise PackError(f"{file} is no pack: {error}", param="since") from error


def _host_cpu(bundle: Bundle, box: Box) -> str:
    """The CPU of the box.

    Raises:
        PackError: the bundle is not compiled, is for another CPU, or no Python has this version.
    """
    if not PYTHON.fullmatch(box.python):
        raise PackError("no such Python", got=box.python, allowed="3.11 or later", param="python")
    if bundle.manifest.stage != "compiled":
        raise PackError(
            f"{bundle.path} is not compiled", next_step="give the output of `toolchain compile`"
        )
    compiled_for = bundle.manifest.profile.get("host_cpu")
    chosen = box.host_cpu or compiled_for or platform.machine()
    if compiled_for not in (None, chosen):
        raise PackError(
            f"{bundle.path} is for boxes with another CPU",
            got=chosen,
            allowed=str(compiled_for),
            next_step=f"compile it with --host-cpu {chosen}",
            param="host_cpu",
        )
    return str(chosen)


def _files(directory: str, files: Sequence[Path]) -> list[Member]:
    return [Member.of(f"{directory}/{file.name}", file) for file in files]


def _bundle_files(bundle: Bundle) -> list[Member]:
    """All files of a bundle, which was read and hashed when it was opened."""
    own = _files(BUNDLE_DIR, [bundle.file(MANIFEST), bundle.file(MANIFEST_DIGEST)])
    listed = [
        Member(name=f"{BUNDLE_DIR}/{name}", source=bundle.file(name), sha256=entry.sha256)
        for name, entry in sorted(bundle.manifest.files.items())
    ]
    return [*own, *listed]


def write_checked(
    file: Path, members: Sequence[Member], sign: Sign | None, progress: Progress
) -> Pack:
    """Writes the tar and reads it as a box will.

    Raises:
        PackError: a box would not take it.
    """
    with file.open("w+b") as stream:
        progress.step("writing the pack")
        write_pack(stream, members, progress, sign)
        stream.flush()
        os.fsync(stream.fileno())
        stream.seek(0)
        try:
            pack = read_pack(stream)
            check_files(stream, pack)
        except BoxError as error:
            raise PackError(
                "a file was changed while it was packed, or is not what the bundle says",
                got=str(error).partition(";")[0],
                next_step="pack it again; if that does not help, compile the bundle again",
            ) from error
    return pack
