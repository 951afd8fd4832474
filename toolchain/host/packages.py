"""File names of the packages, by the spelling of their makers; data and one look-up.

The manual is that of Chinese-Alpaca-2-7B on CANN 7.0.RC1. Names of later versions are those that
installation notes in public repositories show; nothing here was downloaded.
"""

from dataclasses import dataclass
from typing import Literal

from toolchain.host.versions import at_least

__all__ = [
    "CANN_SHARED",
    "TORCH_NPU",
    "WANTED",
    "Package",
    "Wanted",
    "kernels_required",
    "package_name",
]

Package = Literal["firmware", "driver", "toolkit", "kernels", "torch", "torch_npu", "atb"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """minimum: older is refused. asked: what a new machine gets; between them is a warning."""

    minimum: str
    asked: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """How a package is called from one version on."""

    since: str
    pattern: str


# The manual's versions are the minimum. The driver and firmware asked are those that the download
# page pairs with CANN 8.5.0; that older drivers may be refused by it is a guess.
CANN_SHARED = "8.5.0"  # the first with aclmdlSetExternalWeightAddress in its documentation
KERNELS_REQUIRED = "8.5.0"  # ge, docs/zh/user_guides/atc_tools/CLI_options/--soc_version.md
WANTED: dict[Package, Wanted] = {
    "firmware": Wanted(minimum="7.0.t9.0.b221", asked="7.8.0.6.201"),
    "driver": Wanted(minimum="23.0.rc3.b060", asked="25.5.1"),
    "toolkit": Wanted(minimum="7.0.RC1", asked=CANN_SHARED),
}

# Newest first. {soc}: the 310B is a system on a chip and its files say so.
NAMES: dict[Package, tuple[Name, ...]] = {
    "firmware": (Name(since="0", pattern="Ascend-hdk-{series}-npu-firmware{soc}_{version}.run"),),
    "driver": (
        Name(
            since="0", pattern="Ascend-hdk-{series}-npu-driver{soc}_{version}_linux-{hdk_arch}.run"
        ),
    ),
    "toolkit": (Name(since="0", pattern="Ascend-cann-toolkit_{version}_linux-{arch}.run"),),
    "kernels": (
        Name(since="8.5.0", pattern="Ascend-cann-{series}-ops_{version}_linux-{arch}.run"),
        # From which version on the name has the CPU is a guess; 8.0.RC2 has none, 8.0.RC3 has it.
        Name(since="8.0.RC3", pattern="Ascend-cann-kernels-{series}_{version}_linux-{arch}.run"),
        Name(since="0", pattern="Ascend-cann-kernels-{series}_{version}_linux.run"),
    ),
    "torch": (
        Name(
            since="2.6.0",
            pattern="torch-{version}+cpu-cp{python}-cp{python}-manylinux_2_28_{arch}.whl",
        ),
        Name(since="0", pattern="torch-{version}{cpu}-cp{python}-cp{python}-linux_{arch}.whl"),
    ),
    "torch_npu": (
        Name(
            since="2.6.0",
            pattern="torch_npu-{version}-cp{python}-cp{python}-manylinux_2_28_{arch}.whl",
        ),
        Name(
            since="2.1.0",  # a guess, as is the tag
            pattern="torch_npu-{version}-cp{python}-cp{python}"
            "-manylinux_2_17_{arch}.manylinux2014_{arch}.whl",
        ),
        Name(since="0", pattern="pytorch_v{version}_py{python}.tar.gz"),
    ),
    "atb": (
        # One package with both ABIs, as folders cxx_abi_0 and cxx_abi_1; the first is a guess.
        Name(since="8.0.RC2", pattern="Ascend-cann-nnal_{version}_linux-{arch}.run"),
        Name(since="0", pattern="Ascend-cann-atb_{version}_cxx11abi{abi}_linux-{arch}.run"),
    ),
}
HDK_ARCH = {("310p", "x86_64"): "x86-64"}  # a hyphen in the drivers of this series alone
SOC = {"310b": "-soc"}
CPU = {"x86_64": "+cpu"}  # the manual's torch wheels say so for one CPU only

# torch_npu by CANN: COMPATIBILITY.en.md of Ascend/pytorch; the last line is the manual's. 2.14.0
# names CANN 9.1.0 in its wheel; that 2.13.0 has the same is a guess.
TORCH_NPU: dict[str, tuple[str, ...]] = {
    "9.1.0": ("2.9.0.post6", "2.10.0.post4", "2.11.0", "2.12.0", "2.13.0", "2.14.0"),
    "9.0.0": ("2.7.1.post4", "2.8.0.post4", "2.9.0.post2"),
    "8.5.0": ("2.6.0.post5", "2.7.1.post2", "2.8.0.post2", "2.9.0"),
    "8.3.RC1": ("2.1.0.post17", "2.6.0.post3", "2.7.1", "2.8.0"),
    "8.2.RC1": ("2.6.0",),
    "7.0.RC1": ("2.0.1",),
}


def kernels_required(toolkit: str) -> bool:
    """Whether this version of CANN compiles for a chip only where its kernels are installed."""
    return at_least(toolkit, KERNELS_REQUIRED)


def package_name(
    package: Package,
    version: str,
    *,
    series: str = "",
    arch: str = "",
    python: str = "",
    abi: str = "",
) -> str:
    """The file that holds this version of a package.

    Args:
        package: what it holds.
        version: as its maker writes it.
        series: of the chip: 310p, 310b or 910b.
        arch: x86_64 or aarch64.
        python: version of Python, as in 311.
        abi: of C++ strings in torch: 0 or 1.
    """
    name = next(each for each in NAMES[package] if at_least(version, each.since))
    return name.pattern.format(
        version=version,
        series=series,
        arch=arch,
        python=python,
        abi=abi,
        hdk_arch=HDK_ARCH.get((series, arch), arch),
        soc=SOC.get(series, ""),
        cpu=CPU.get(arch, ""),
    )
