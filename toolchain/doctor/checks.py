"""The ordered list of checks of each kind of target: the order in which a person installs."""

from collections.abc import Callable

from profiles import Profile
from toolchain.doctor import chip, host, software, torch_target
from toolchain.doctor.item import Item
from toolchain.doctor.site import Site
from toolchain.host.system import System

__all__ = ["diagnose"]

Check = Callable[[Site], Item]

CPU_CHECKS: tuple[Check, ...] = (
    host.check_kernel,
    host.check_instructions,
    host.check_glibc,
    host.check_python,
    host.check_numpy,
    host.check_onnxruntime,
    host.check_memory,
)
ASCEND_CHECKS: tuple[Check, ...] = (
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
    torch_target.check_torch,
    torch_target.check_torch_npu,
    torch_target.check_atb,
    host.check_compile_memory,
    host.check_disk,
)


def diagnose(system: System, profile: Profile) -> list[Item]:
    """Looks for everything that the profile needs, in the order in which it is installed.

    Raises:
        TargetError: no packages are known for the profile's chip.
    """
    site = Site.of(system, profile)
    return [check(site) for check in (ASCEND_CHECKS if site.series else CPU_CHECKS)]
