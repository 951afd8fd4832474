"""Checks of torch, torch_npu and ATB, which only the torch target would need: this tool has none.

Packages are read, never imported.
"""

import re
from typing import Literal

from toolchain.doctor.item import Item, judged, optional
from toolchain.doctor.site import Site
from toolchain.host.packages import TORCH_NPU, WANTED
from toolchain.host.versions import release

__all__ = ["check_atb", "check_torch", "check_torch_npu"]

# What set_env.sh of ATB names, the default of its newer installer and that of the manual's.
ATB_HOMES = ("/usr/local/Ascend/nnal/atb/latest", "/usr/local/Ascend/atb/latest")
ATB_SET_ENV = "/usr/local/Ascend/nnal/atb/set_env.sh"  # its option is a guess
ABI_FOLDER = "atb/cxx_abi_{abi}"
ABIS = ("0", "1")


def check_torch(site: Site) -> Item:
    found, wanted = site.system.distribution("torch"), release(_wanted_npu(site))
    fits = found is not None and release(found) == wanted
    return _torch_item(site, "torch", found, wanted, fits)


def check_torch_npu(site: Site) -> Item:
    found = site.system.distribution("torch_npu")
    fits = found is not None and found in _pairs(site)
    return _torch_item(site, "torch_npu", found, _wanted_npu(site), fits)


def check_atb(site: Site) -> Item:
    """The ABI must be torch's; ATB_HOME_PATH ends with the one that is set up."""
    abi, home = _torch_abi(site), site.system.environ.get("ATB_HOME_PATH", "")
    places = [home.removesuffix(f"/{ABI_FOLDER.format(abi=each)}") for each in ABIS if home]
    texts = (site.system.text(f"{place}/version.info") for place in (*places, *ATB_HOMES))
    text = next(filter(None, texts), "")
    version = re.search(r"Ascend-cann-atb *: *(\S+)", text)
    active = home[-1:] if home[-1:] in ABIS else "unknown"
    fits_cann = version is not None and version[1] == site.toolkit
    fits = fits_cann and active == abi
    set_env = f"source {ATB_SET_ENV}{f' --cxx_abi={abi}' if abi else ''}"
    item = judged(
        name="ATB",
        purpose="torch",
        found=f"{version[1]}, ABI {active}" if version else None,
        needed=f"{site.toolkit}, ABI {abi or 'of torch'}",
        fits=fits,
        remedy=set_env if fits_cann else _atb_remedy(site, abi),
    )
    return optional(item)


def _atb_remedy(site: Site, abi: str) -> str:
    abis = (abi,) if abi else ABIS
    files = [site.file("atb", site.toolkit, each) for each in abis]
    oldest = [site.file("atb", WANTED["toolkit"].minimum, each) for each in abis]
    lines = [f"bash {file} --install" for file in dict.fromkeys(files)]
    if files != oldest:
        lines += [f"with CANN {WANTED['toolkit'].minimum} that is", *oldest]
    return "\n".join(lines)


def _torch_item(
    site: Site, name: Literal["torch", "torch_npu"], found: str | None, wanted: str, fits: bool
) -> Item:
    pair = f"for CANN {site.toolkit}"
    item = judged(
        name=name,
        purpose="torch",
        found=found if found is None or fits else f"{found}, no pair {pair}",
        needed=f"{wanted} {pair}",
        fits=fits,
        remedy=_pip(site, name, wanted),
    )
    return optional(item)


def _pairs(site: Site) -> tuple[str, ...]:
    """Versions of torch_npu for the toolkit; for one that no line is known for, none."""
    return next(
        (pairs for cann, pairs in TORCH_NPU.items() if site.toolkit.upper().startswith(cann)), ()
    )


def _wanted_npu(site: Site) -> str:
    """The one that is there if CANN takes it, else one for the torch that is there."""
    pairs = _pairs(site) or TORCH_NPU[WANTED["toolkit"].asked]
    found = site.system.distribution("torch_npu")
    if found in pairs and found is not None:
        return found
    torch = release(site.system.distribution("torch") or "")
    return next((each for each in pairs if release(each) == torch), pairs[-1])


def _torch_abi(site: Site) -> str:
    """0 or 1 as torch was built, empty where nothing says it."""
    origin = site.system.module("torch")
    if origin is None:
        return ""
    folder = origin.rpartition("/")[0]
    config = site.system.text(f"{folder}/share/cmake/Torch/TorchConfig.cmake") or ""
    flag = re.search(r"_GLIBCXX_USE_CXX11_ABI=([01])", config)
    if flag:
        return flag[1]
    # Newer configurations do not say it. That all wheels with this tag have ABI 1 is a guess.
    wheel = f"{folder}/../torch-{site.system.distribution('torch')}.dist-info/WHEEL"
    return "1" if "manylinux_2_28" in (site.system.text(wheel) or "") else ""


def _pip(site: Site, name: Literal["torch", "torch_npu"], version: str) -> str:
    file = site.file(name, version)
    if file.endswith(".tar.gz"):
        return f"tar -xzf {file}\npip install torch_npu-*_{site.arch}.whl"
    return f"pip install {file}"
