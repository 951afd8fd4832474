"""One way to open a session per backend; choosing one is a table look-up."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module

from runtime.bundle.manifest import Backend
from runtime.bundle.reader import Bundle
from runtime.errors import SessionError
from runtime.sessions.base import DEFAULT_OPTIONS, Chunk, Session, SessionOptions

__all__ = [
    "SESSIONS",
    "Chunk",
    "Opener",
    "Session",
    "SessionOptions",
    "check_devices",
    "open_session",
    "read_devices",
]

Open = Callable[[Bundle, SessionOptions], Session]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opener:
    """What opens the bundles of a backend; imported when chosen, since each needs its packages.

    extra: of alpaca2-toolchain that brings the packages; empty where none does.
    profiler: what times its kernels instead, where it cannot leave a trace itself.
    many_devices: whether a device other than 0 can be asked for.
    many_threads: whether the number of threads can be asked for.
    ray_resource: what Ray calls its devices.
    """

    module: str
    name: str
    extra: str = ""
    profiler: str = ""
    many_devices: bool = False
    many_threads: bool = True
    ray_resource: str = "CPU"


SESSIONS: dict[Backend, Opener] = {
    "portable": Opener(
        module="runtime.sessions.onnx.portable", name="PortableSession", extra="[cpu]"
    ),
    "onnxruntime": Opener(module="runtime.sessions.onnx.cpu", name="CpuSession", extra="[cpu]"),
    "acl": Opener(
        module="runtime.sessions.acl.session",
        name="AclSession",
        profiler="CANN's msprof",
        many_devices=True,
        many_threads=False,
        ray_resource="NPU",
    ),
    "torch": Opener(
        module="runtime.sessions.torch_program",
        name="open_on_cpu",
        extra="[torch]",
        profiler="perf",
    ),
    "torch-cuda": Opener(
        module="runtime.sessions.torch_program",
        name="open_on_cuda",
        extra="[torch]",
        profiler="NVIDIA's nsys",
        many_devices=True,
        many_threads=False,
        ray_resource="GPU",
    ),
}


def open_session(bundle: Bundle, options: SessionOptions = DEFAULT_OPTIONS) -> Session:
    """Opens the session that the bundle was compiled for.

    Raises:
        SessionError: no session for the backend, its packages are not installed, or it cannot do
            what is asked.
    """
    backend = bundle.manifest.backend
    if backend not in SESSIONS:
        raise SessionError(
            "no session for the bundle's backend", got=backend, allowed=", ".join(SESSIONS)
        )
    opener = SESSIONS[backend]
    _check_options(backend, opener, options)
    try:
        open_bundle: Open = getattr(import_module(opener.module), opener.name)
    except ModuleNotFoundError as error:
        raise SessionError(
            f"backend {backend} needs the Python package {error.name}",
            next_step=f"install alpaca2-toolchain{opener.extra}",
        ) from error
    return open_bundle(bundle, options)


def _check_options(backend: Backend, opener: Opener, options: SessionOptions) -> None:
    if options.trace is not None and opener.profiler:
        raise SessionError(
            f"backend {backend} leaves no trace",
            next_step=f"run it under {opener.profiler} instead",
            code="unsupported_parameter",
        )
    check_devices(backend, [options.device])
    if options.threads is not None and not opener.many_threads:
        raise SessionError(
            f"backend {backend} computes on the device, not in threads of the host",
            got=f"{options.threads} threads",
            next_step="leave --threads out",
            code="unsupported_parameter",
        )


def read_devices(text: str) -> tuple[int, ...]:
    """Numbers of devices as they are written: 0, or 0,1.

    Raises:
        ValueError: they are written otherwise, or one stands twice.
    """
    numbers = text.split(",")
    if not all(each.isascii() and each.isdecimal() for each in numbers):
        raise ValueError(f"'{text}' is not numbers as in 0,1")
    devices = tuple(map(int, numbers))
    if len(set(devices)) < len(devices):
        raise ValueError(f"a device stands twice in {text}")
    return devices


def check_devices(backend: Backend, devices: Sequence[int]) -> None:
    """Refuses devices that no box has for a backend.

    Raises:
        SessionError: see above.
    """
    if list(devices) != [0] and not SESSIONS[backend].many_devices:
        raise SessionError(
            f"backend {backend} has one device",
            got=f"device {','.join(map(str, devices))}",
            allowed="0",
            code="unsupported_parameter",
        )
