"""Checks of the card: firmware, driver, the chip as the driver shows it, its free memory."""

import re
from dataclasses import replace

from toolchain.doctor.item import ABSENT, Item, amount_item, judged, version_item
from toolchain.doctor.needs import device_bytes
from toolchain.doctor.npu_smi import ListedChip, read_chips
from toolchain.doctor.site import Site
from toolchain.host.cann import field
from toolchain.host.packages import WANTED, Package
from toolchain.host.versions import at_least

__all__ = ["check_device", "check_device_memory", "check_driver", "check_firmware"]

# Where the packages are: hicann/runtime, src/acl/aclrt_impl/acl.cpp. The installer writes the path
# into this file; without it they are in the default place.
INSTALL_INFO, DEFAULT_PATH = "/etc/ascend_install.info", "/usr/local/Ascend"
UPGRADE = "on a machine that had an older driver: before the new one"
CONTAINER = (
    "reboot after the driver is installed; in a container, docker run with\n"
    "--device /dev/davinci0 --device /dev/davinci_manager --device /dev/devmm_svm\n"
    "--device /dev/hisi_hdc -v /usr/local/Ascend/driver:/usr/local/Ascend/driver\n"
    "-v /usr/local/bin/npu-smi:/usr/local/bin/npu-smi"
)


def check_firmware(site: Site) -> Item:
    item = _install(site, "firmware")
    if item.found == ABSENT and _version_file(site, "driver") is None:
        item = replace(item, remedy=f"{item.remedy}\n{UPGRADE}")
    # The driver says which firmware it works with, as [7.0.0,7.2.99],[8.0.0,8.9.9].
    accepted = field(_version_file(site, "driver"), "compatible_version_fw") or ""
    ranges = re.findall(r"\[([^],]+),([^]]+)\]", accepted)
    if item.found == ABSENT or not ranges:
        return item
    if any(at_least(item.found, low) and at_least(high, item.found) for low, high in ranges):
        return item
    spans = " or ".join(f"{low} to {high}" for low, high in ranges)
    remedy = f"both of one release:\n{_installer(site, 'firmware')}\n{_installer(site, 'driver')}"
    return replace(item, needed=f"{spans}, says the driver", verdict="wrong", remedy=remedy)


def check_driver(site: Site) -> Item:
    return _install(site, "driver")


def check_device(site: Site) -> Item:
    chips = read_chips(site.system.run("npu-smi", "info") or "")
    devices = site.system.glob("/dev", "davinci[0-9]*")
    mine = _mine(site, chips)
    fits = bool(mine and devices) and all(chip.health == "OK" for chip in mine)
    found = [f"{chip.name} ({chip.health})" for chip in chips] or devices
    return judged(
        name="device",
        purpose="run",
        found=", ".join(dict.fromkeys(found)),
        needed=f"{site.profile.target.upper()} (OK) and /dev/davinci*",
        fits=fits,
        remedy=_device_remedy(site, chips, mine, devices),
    )


def check_device_memory(site: Site) -> Item:
    mine = _mine(site, read_chips(site.system.run("npu-smi", "info") or ""))
    free = max((chip.total - chip.used for chip in mine), default=None)
    remedy = (
        "end the processes that npu-smi info lists, or\n"
        f"toolchain plan MODEL --profile {site.profile.name} --weights int8"
    )
    if free is None:
        remedy = "comes with the device"
    return amount_item("device memory", "run", free, device_bytes(site.profile), remedy)


def _device_remedy(
    site: Site, chips: list[ListedChip], mine: list[ListedChip], devices: list[str]
) -> str:
    if not devices:
        return CONTAINER
    if not chips:
        return "npu-smi info fails: install the driver again"
    if not mine:
        return "a profile for this chip: toolchain profiles"
    return "npu-smi info -t health -i 0, and reboot"


def _mine(site: Site, chips: list[ListedChip]) -> list[ListedChip]:
    """The chips that the profile is for; a name may begin with Ascend and end with a variant."""
    target = site.profile.target
    return [chip for chip in chips if chip.name.lower().removeprefix("ascend").startswith(target)]


def _install(site: Site, package: Package) -> Item:
    wanted = WANTED[package]
    found = field(_version_file(site, package), "version")
    remedy = _installer(site, package)
    item = version_item(package, "run", found, wanted.minimum, remedy)
    if item.verdict == "ok" and not at_least(item.found, wanted.asked):
        older = f"older than CANN {WANTED['toolkit'].asked} is released with:\n{remedy}"
        return replace(item, needed=f">= {wanted.asked}", verdict="warning", remedy=older)
    return item


def _installer(site: Site, package: Package) -> str:
    return f"sudo bash {site.file(package, WANTED[package].asked)} --full"


def _version_file(site: Site, package: str) -> str | None:
    info = site.system.text(INSTALL_INFO)
    folder = field(info, f"{package}_install_path_param") or DEFAULT_PATH
    return site.system.text(f"{folder}/{package}/version.info")
