"""Where CANN is installed and which version it says it is.

Sources: hicann/runtime, README and scripts/package/runtime/set_env.sh (from 8.5.0 on);
hicann/ge, scripts/check_env.sh and opcompiler/op_compile_adapter (older installs, kernels).
"""

import re
from dataclasses import dataclass

from toolchain.host.system import System

__all__ = ["CannInstall", "field", "find_cann"]

# set_env.sh names the first; without it the installers' defaults are tried.
HOMES = (
    "{ASCEND_HOME_PATH}",
    "/usr/local/Ascend/cann",
    "/usr/local/Ascend/ascend-toolkit/latest",
    "{HOME}/Ascend/cann",
    "{HOME}/Ascend/ascend-toolkit/latest",
)
TOOLKIT_FILES = (
    "aarch64-linux/ascend_toolkit_install.info",
    "x86_64-linux/ascend_toolkit_install.info",
    "share/info/runtime/version.info",
    "runtime/version.info",
)
KERNEL_FILES = (
    "aarch64-linux/ascend_ops_install.info",
    "x86_64-linux/ascend_ops_install.info",
    "share/info/opp_kernel/version.info",  # this and the next: guesses for before 8.5.0
    "opp_kernel/version.info",
)
SET_ENV_FILES = ("{home}/set_env.sh", "{home}/../set_env.sh")
UNSET = "\0"
KERNELS = "built-in/op_impl/ai_core/tbe/kernel/config"  # one folder per series, as ascend310p


@dataclass(frozen=True, slots=True, kw_only=True)
class CannInstall:
    """An install of CANN; home is empty where there is none.

    toolkit, kernels: their versions, None where no file says them.
    series: the chips that kernels are there for, as ascend310p.
    """

    home: str
    toolkit: str | None
    kernels: str | None
    series: tuple[str, ...]
    set_env: str


def field(text: str | None, key: str) -> str | None:
    """The value of a line `key=value`, whatever the case of the key."""
    match = re.search(rf"^\s*{key}=(.*\S)", text or "", re.IGNORECASE | re.MULTILINE)
    return match and match[1]


def find_cann(system: System) -> CannInstall:
    """The install that is set up, or else the first in a default place."""
    homes = (place.format_map(_Known(system.environ)) for place in HOMES)
    home = next((each for each in homes if UNSET not in each and system.is_dir(each)), "")
    opp = system.environ.get("ASCEND_OPP_PATH") or f"{home}/opp"
    scripts = [place.format(home=home) for place in SET_ENV_FILES] if home else []
    return CannInstall(
        home=home,
        toolkit=_version(system, home, TOOLKIT_FILES),
        kernels=_version(system, home, KERNEL_FILES),
        series=tuple(system.glob(f"{opp}/{KERNELS}", "ascend*")),
        set_env=next(
            (each for each in scripts if system.text(each) is not None),
            "/usr/local/Ascend/cann/set_env.sh",
        ),
    )


def _version(system: System, home: str, files: tuple[str, ...]) -> str | None:
    if not home:
        return None
    texts = (system.text(f"{home}/{file}") for file in files)
    return next((version for text in texts if (version := field(text, "version"))), None)


class _Known(dict[str, str]):
    """Variables for format_map; a place below one that is not set is no folder."""

    def __missing__(self, key: str) -> str:
        return UNSET
