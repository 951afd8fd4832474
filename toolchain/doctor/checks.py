"""The ordered list of checks of each backend: the order in which a person installs."""

from collections.abc import Callable

from profiles import Profile
from runtime.bundle.manifest import Backend
from toolchain.doctor import chip, host, software, torch_target, torchair
from toolchain.doctor.item import Item
from toolchain.doctor.site import Site
from toolchain.host.system import System

__all__ = ["diagnose"]

Check = Callable[[Site], Item | None]  # None: nothing that this target needs

ONNXRUNTIME_CHECKS: tuple[Check, ...] = (
    host.check_kernel,
    host.check_instructions,
    host.check_glibc,
    host.check_python,
    host.check_numpy,
    host.check_onnxruntime,
    host.check_memory,
)
ACL_CHECKS: tuple[Check, ...] = (
    host.check_kernel,
    host.check_glibc,
    host.check_gcc,
    host.check_python,
    chip.check_driver,
    chip.check_firmware,
    chip.check_device,
    chip.check_device_memory,
    software.check_toolkit,
    software.check_kernels,
    software.check_environment,
    software.check_atc,
    software.check_library,
    software.check_acl,
    torchair.check_torchair,
    torch_target.check_torch,
    torch_target.check_torch_npu,
    torch_target.check_atb,
    host.check_compile_memory,
    host.check_disk,
)
TORCH_CHECKS: tuple[Check, ...] = (
    host.check_kernel,
    host.check_glibc,
    host.check_python,
    host.check_numpy,
    host.check_memory,
)
CHECKS: dict[Backend, tuple[Check, ...]] = {
    "onnxruntime": ONNXRUNTIME_CHECKS,
    "acl": ACL_CHECKS,
    "torch": TORCH_CHECKS,
    "torch-cuda": TORCH_CHECKS,
}


def diagnose(system: System, profile: Profile) -> list[Item]:
    """Looks for everything that the profile needs, in the order in which it is installed.

    Raises:
        TargetError: no such target.
    """
    site = Site.of(system, profile)
    items = (check(site) for check in CHECKS[site.target.backend])
    return [item for item in items if item is not None]
