"""The CANN toolkit on this machine: where `atc` is, and which version."""

import os
import platform
import re
import shutil
from pathlib import Path

from toolchain.errors import TargetError
from toolchain.targets.ascend.chips import AscendChip

__all__ = ["SHARES_WEIGHTS", "Cann", "find_cann", "install_hint"]

Version = tuple[int, ...]

# The first CANN that documents aclmdlSetExternalWeightAddress.
SHARES_WEIGHTS: Version = (8, 5)
# Where a toolkit says its version, below $ASCEND_HOME_PATH; ge, docs/en/build.md.
VERSION_FILES = ("{arch}-linux/ascend_toolkit_install.info", "ascend_toolkit_install.info")


class Cann:
    """A toolkit that set_env.sh has put on the PATH."""

    def __init__(self, atc: Path, version: Version, text: str) -> None:
        self.atc, self.version, self.text = atc, version, text

    @property
    def shares_weights(self) -> bool:
        """Whether its runtime takes weights that lie on the device already."""
        return self.version >= SHARES_WEIGHTS


def install_hint(chip: AscendChip) -> str:
    """What to install to compile for a chip."""
    arch = platform.machine()
    return (
        f"install Ascend-cann-toolkit_<version>_linux-{arch}.run and the ops package of "
        f"{chip.series} (before 8.5: Ascend-cann-kernels-{chip.series}_<version>_linux.run), "
        f"version 8.5 or newer, source its set_env.sh, and see `toolchain doctor`"
    )


def find_cann(chip: AscendChip) -> Cann:
    """The toolkit whose atc is on the PATH.

    Raises:
        TargetError: no atc, or no version beside it.
    """
    atc = shutil.which("atc")
    if atc is None:
        raise TargetError("no atc on the PATH", next_step=install_hint(chip))
    home = os.environ.get("ASCEND_HOME_PATH")
    if home is None:
        raise TargetError(
            f"{atc} is on the PATH but ASCEND_HOME_PATH is not set",
            next_step="source set_env.sh of the toolkit",
        )
    for pattern in VERSION_FILES:
        file = Path(home) / pattern.format(arch=platform.machine())
        if file.is_file():
            found = re.search(r"^version=(\S+)", file.read_text(errors="replace"), re.MULTILINE)
            if found:
                return Cann(Path(atc), _numbers(found[1]), found[1])
    raise TargetError(
        f"no version of CANN below {home}",
        got="no ascend_toolkit_install.info with a line version=",
        next_step="source set_env.sh of a complete toolkit",
    )


def _numbers(version: str) -> Version:
    """8.5.0 -> (8, 5, 0); 8.2.RC1 -> (8, 2)."""
    numbers = []
    for part in version.split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return tuple(numbers)
