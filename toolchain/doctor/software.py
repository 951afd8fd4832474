"""Checks of CANN: the toolkit, the kernels of the chip, the variables, ATC and pyACL."""

from dataclasses import replace

from toolchain.doctor.item import Item, judged, version_item
from toolchain.doctor.site import Site
from toolchain.host.packages import CANN_SHARED, WANTED, kernels_required
from toolchain.host.versions import at_least

__all__ = [
    "check_acl",
    "check_atc",
    "check_environment",
    "check_kernels",
    "check_library",
    "check_toolkit",
]

# What set_env.sh puts into each variable, below the folder of CANN.
FOLDERS = {
    "ASCEND_HOME_PATH": "",
    "ASCEND_OPP_PATH": "/opp",
    "LD_LIBRARY_PATH": "/lib64",
    "PATH": "/bin",
    "PYTHONPATH": "/python/site-packages",
}
VARIABLES = ("ASCEND_HOME_PATH", "ASCEND_OPP_PATH", "LD_LIBRARY_PATH")  # the others: atc, pyACL
LIBRARY = "libascendcl.so"
ELF_CPU = {b"\x3e\x00": "x86_64", b"\xb7\x00": "aarch64"}  # e_machine, bytes 18 and 19 of the file
COMPILED_ONLINE = "works, but every kernel is compiled with the graph, which takes longer:\n"
ONE_COPY = "works, but with one model of several lengths instead of shared weights:\n"


def check_toolkit(site: Site) -> Item:
    wanted = WANTED["toolkit"]
    remedy = _install(site, wanted.asked if site.cann.toolkit else site.toolkit)
    item = version_item("CANN toolkit", "both", site.cann.toolkit, wanted.minimum, remedy)
    if item.verdict == "ok" and not at_least(item.found, CANN_SHARED):
        item = replace(item, verdict="warning", remedy=ONE_COPY + remedy)
    return replace(item, needed=f">= {CANN_SHARED}")


def check_kernels(site: Site) -> Item:
    """That they are needed to run as well is a guess: kernels for the AI CPU lie beside them.

    Before 8.5.0 they are optional: what is missing is compiled with the graph (ge,
    op_compile_adapter).
    """
    folder, cann = f"ascend{site.target.series}", site.cann
    names = ", ".join(cann.series)
    fits = folder in cann.series and cann.kernels in (None, site.toolkit)
    item = judged(
        name="CANN kernels",
        purpose="both",
        found=" ".join(filter(None, (names, cann.kernels))),
        needed=f"{folder} {site.toolkit}",
        fits=fits,
        remedy=f"bash {site.file('kernels', site.toolkit)} --install",
    )
    if folder not in cann.series and cann.toolkit and not kernels_required(cann.toolkit):
        return replace(item, verdict="warning", remedy=COMPILED_ONLINE + item.remedy)
    return item


def check_environment(site: Site) -> Item:
    """What `source set_env.sh` leaves behind, and whether it leads somewhere."""
    unset = [name for name in VARIABLES if not site.system.environ.get(name)]
    wrong = [name for name in VARIABLES if name not in unset and not _leads(site, name)]
    found = [*(f"no {name}" for name in unset), *(f"another {name}" for name in wrong)]
    return Item(
        name="set_env.sh",
        purpose="both",
        found=", ".join(found) or "sourced",
        needed=", ".join(VARIABLES),
        verdict="wrong" if wrong else "missing" if unset else "ok",
        remedy=f"source {site.cann.set_env}" if found else "",
    )


def check_atc(site: Site) -> Item:
    found = site.system.search("PATH", "atc")
    fits = found is not None and site.system.is_below(found, site.cann.home)
    return judged(
        name="atc",
        purpose="compile",
        found=_short(site, found),
        needed="of the toolkit, on PATH",
        fits=fits,
        remedy=_remedy(site, found, "PATH"),
    )


def check_library(site: Site) -> Item:
    found = site.system.search("LD_LIBRARY_PATH", LIBRARY)
    cpu = ELF_CPU.get(site.system.head(found, 20)[18:]) if found else None
    fits = cpu == site.arch
    absent = _remedy(site, found, "LD_LIBRARY_PATH")
    remedy = _install(site, site.toolkit) if found else absent
    return judged(
        name=LIBRARY,
        purpose="run",
        found=f"{_short(site, found)}, {cpu or 'another CPU'}" if found else None,
        needed=f"for {site.arch}, on LD_LIBRARY_PATH",
        fits=fits,
        remedy=remedy,
    )


def check_acl(site: Site) -> Item:
    """Its module is `acl`; another package may have the same name."""
    found = site.system.module("acl")
    fits = found is not None and site.system.is_below(found, site.cann.home)
    return judged(
        name="pyACL",
        purpose="run",
        found=_short(site, found),
        needed="module acl of the toolkit",
        fits=fits,
        remedy=_remedy(site, found, "PYTHONPATH"),
    )


def _leads(site: Site, name: str) -> bool:
    """Whether the variable names the folder of CANN that it should."""
    folders = [each.rstrip("/") for each in site.system.environ.get(name, "").split(":")]
    wanted = f"{site.cann.home}{FOLDERS[name]}"
    return bool(site.cann.home) and wanted in folders and site.system.is_dir(wanted)


def _short(site: Site, path: str | None) -> str | None:
    return path and path.removeprefix(f"{site.cann.home}/")


def _install(site: Site, version: str) -> str:
    return f"bash {site.file('toolkit', version)} --install"


def _remedy(site: Site, found: str | None, variable: str) -> str:
    """A file that is not where the variable already leads was not installed."""
    is_set_up = found is None and _leads(site, variable)
    return _install(site, site.toolkit) if is_set_up else f"source {site.cann.set_env}"
