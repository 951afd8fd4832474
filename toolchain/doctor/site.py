"""What every check is given: a machine, the profile that it shall serve and where CANN is.

The table of chips in toolchain.targets is not read: it comes with the compilers, which need
packages that a box does not have.
"""

from dataclasses import dataclass
from typing import Self

from profiles import Profile
from toolchain.errors import TargetError
from toolchain.host.cann import Cann, find_cann
from toolchain.host.packages import WANTED, Package, package_name
from toolchain.host.system import System
from toolchain.host.versions import at_least

__all__ = ["ARCHES", "PYTHON", "Site", "series_of"]

ARCHES = ("aarch64", "x86_64")
SERIES = ("310p", "310b", "910b")  # what package names and kernel folders call a family of chips
CPU_UNKNOWN = "<cpu>"
PYTHON = "3.11"  # the oldest that the runtime works with


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A machine and what it is for.

    kernel: what `uname -sm` prints, as in Linux x86_64.
    series: of the profile's chip; empty for cpu.
    """

    system: System
    profile: Profile
    kernel: str
    series: str
    cann: Cann

    @classmethod
    def of(cls, system: System, profile: Profile) -> Self:
        """Looks where things are.

        Raises:
            TargetError: no packages are known for the profile's chip.
        """
        kernel = (system.run("uname", "-sm") or "").strip()
        return cls(
            system=system,
            profile=profile,
            kernel=kernel,
            series=series_of(profile.target),
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
            package, version, series=self.series, arch=self.arch, python=tag, abi=abi
        )


def series_of(target: str) -> str:
    """The family of a target's chip, empty for cpu.

    Raises:
        TargetError: no packages are known for it.
    """
    if target == "cpu":
        return ""
    for series in SERIES:
        if target.startswith(series):
            return series
    raise TargetError("no packages known for the target", got=target, allowed=", ".join(SERIES))
