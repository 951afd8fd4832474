"""What every check is given: a machine, the profile that it shall serve and where CANN is."""

from dataclasses import dataclass
from typing import Self

from profiles import Profile
from toolchain.host.cann import CannInstall, find_cann
from toolchain.host.packages import WANTED, Package, package_name
from toolchain.host.system import System
from toolchain.host.versions import at_least
from toolchain.targets import Target, target_named

__all__ = ["ARCHES", "PYTHON", "Site"]

ARCHES = ("aarch64", "x86_64")
CPU_UNKNOWN = "<cpu>"
PYTHON = "3.11"  # the oldest that the runtime works with


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A machine and what it is for.

    target: the profile's.
    kernel: what `uname -sm` prints, as in Linux x86_64.
    """

    system: System
    profile: Profile
    target: Target
    kernel: str
    cann: CannInstall

    @classmethod
    def of(cls, system: System, profile: Profile) -> Self:
        """Looks where things are.

        Raises:
            TargetError: no such target.
        """
        kernel = (system.run("uname", "-sm") or "").strip()
        return cls(
            system=system,
            profile=profile,
            kernel=kernel,
            target=target_named(profile.target),
            cann=find_cann(system),
        )

    @property
    def arch(self) -> str:
        """The CPU as package names have it."""
        arch = self.kernel.rpartition(" ")[2]
        return arch if arch in ARCHES else CPU_UNKNOWN

    @property
    def toolkit(self) -> str:
        """The version of CANN that other packages must fit: what is there, if it may stay."""
        wanted, found = WANTED["toolkit"], self.cann.toolkit or self.cann.kernels
        return found if found and at_least(found, wanted.minimum) else wanted.asked

    def file(self, package: Package, version: str, abi: str = "") -> str:
        """The package's file name for this machine and chip."""
        found = self.system.python
        python = found if found and at_least(found, PYTHON) else PYTHON
        tag = "".join(python.split(".")[:2])
        return package_name(
            package, version, series=self.target.series, arch=self.arch, python=tag, abi=abi
        )
