"""The CANN toolkit that compiles: where `atc` is, and whether its runtime shares weights."""

import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from toolchain.errors import TargetError
from toolchain.host.cann import find_cann as find_install
from toolchain.host.packages import CANN_SHARED, kernels_required, package_name
from toolchain.host.system import System
from toolchain.host.versions import at_least
from toolchain.targets.ascend.chips import AscendChip

__all__ = ["Toolkit", "find_cann"]


@dataclass(frozen=True, slots=True)
class Toolkit:
    """A toolkit that set_env.sh has put on the PATH, with its version as it writes it."""

    atc: Path
    version: str

    @property
    def shares_weights(self) -> bool:
        """Whether its runtime takes weights that lie on the device already."""
        return at_least(self.version, CANN_SHARED)


def find_cann(chip: AscendChip) -> Toolkit:
    """The toolkit whose atc is on the PATH.

    Raises:
        TargetError: no atc, no version beside it, or no kernels of the chip where it asks for them.
    """
    names = [
        package_name(package, CANN_SHARED, series=chip.series, arch=platform.machine())
        for package in ("toolkit", "kernels")
    ]
    install = f"install {' and '.join(names)} or newer, source set_env.sh; see `toolchain doctor`"
    atc = shutil.which("atc")
    if atc is None:
        raise TargetError(f"no atc on the PATH to compile for {chip.soc_name}", next_step=install)
    found = find_install(System.here())
    if found.toolkit is None:
        raise TargetError(
            f"{atc} is on the PATH, but no version of CANN is found",
            got=found.home or "no folder of it",
            next_step="source set_env.sh of a complete toolkit",
        )
    if f"ascend{chip.series}" not in found.series and kernels_required(found.toolkit):
        raise TargetError(
            f"CANN {found.toolkit} lacks the kernels of {chip.soc_name}",
            got=f"those of {', '.join(found.series)}" if found.series else "no kernels",
            next_step=install,
        )
    return Toolkit(Path(atc), found.toolkit)
