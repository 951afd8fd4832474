"""Checks of the host itself: system, compiler, Python, memory, disk. Nothing about chips."""

import re

from runtime.bundle.manifest import Backend
from toolchain.doctor.item import ABSENT, Item, amount_item, judged, version_item
from toolchain.doctor.needs import device_bytes, disk_bytes, host_bytes
from toolchain.doctor.site import ARCHES, PYTHON, Site
from toolchain.host.cann import field

__all__ = [
    "check_compile_memory",
    "check_disk",
    "check_gcc",
    "check_glibc",
    "check_instructions",
    "check_kernel",
    "check_memory",
    "check_numpy",
    "check_onnxruntime",
    "check_python",
]

# How a distribution installs its own packages, by the ID and ID_LIKE of os-release.
INSTALLERS = (
    ("debian", "apt-get install -y"),
    ("ubuntu", "apt-get install -y"),
    ("rhel", "dnf install -y"),
    ("fedora", "dnf install -y"),
    ("centos", "dnf install -y"),
    ("euler", "dnf install -y"),  # openEuler and EulerOS
    ("kylin", "dnf install -y"),
)
SLOWER = "int4 and int8 weights run, but slower; part of the CPU"
GLIBC_COMMANDS = (("getconf", "GNU_LIBC_VERSION"), ("ldd", "--version"))
# The manual's for Ascend; wheels of onnxruntime and torch are tagged manylinux_2_28.
GLIBC: dict[Backend, str] = {
    "acl": "2.27",
    "onnxruntime": "2.28",
    "torch": "2.28",
    "torch-cuda": "2.28",
}
SMALLER_PROFILE = "a profile with a smaller cache_len or batch_size"
LESS_PARALLEL = (
    "more swap, and\nexport TE_PARALLEL_COMPILER=1 MAX_COMPILE_CORE_NUMBER=1\n"
    "or compile on another machine"
)
GCC, NUMPY, ONNXRUNTIME = "7.5.0", "2.0", "1.31"
# Flag in /proc/cpuinfo, its name, whether it multiplies int8 into int32 in one instruction.
INSTRUCTIONS = (
    ("avx512_vnni", "AVX-512 VNNI", True),
    ("avx_vnni", "AVX-VNNI", True),
    ("avx2", "AVX2", False),
    ("i8mm", "NEON int8 matrix product", True),
    ("asimddp", "NEON dot product", True),
)


def check_kernel(site: Site) -> Item:
    system = field(site.system.text("/etc/os-release"), "PRETTY_NAME") or ""
    found = (site.kernel, system.strip("\"'"))
    fits = site.kernel in [f"Linux {arch}" for arch in ARCHES]
    return judged(
        name="system",
        purpose="both",
        found=", ".join(filter(None, found)) if site.kernel else None,
        needed=f"Linux on {' or '.join(ARCHES)}",
        fits=fits,
        remedy=f"a machine that runs Linux on {' or '.join(ARCHES)}",
    )


def check_instructions(site: Site) -> Item:
    flags = set(re.findall(r"\w+", site.system.text("/proc/cpuinfo") or ""))
    found = [(name, fast) for flag, name, fast in INSTRUCTIONS if flag in flags]
    fits = any(fast for _, fast in found)
    return Item(
        name="instructions",
        purpose="run",
        found=", ".join(name for name, _ in found) or ABSENT,
        needed="VNNI or NEON dot product",
        verdict="ok" if fits else "warning",
        remedy="" if fits else SLOWER,
    )


def check_glibc(site: Site) -> Item:
    texts = (site.system.run(*command) for command in GLIBC_COMMANDS)
    lines = next((text.splitlines() for text in texts if text), [""])
    version = re.search(r"(\d+\.\d+)\s*$", lines[0])
    minimum = GLIBC[site.target.backend]
    remedy = "part of the system: Ubuntu 20.04, Debian 10, openEuler 20.03 or newer has it"
    return version_item("glibc", "both", version and version[1], minimum, remedy)


def check_gcc(site: Site) -> Item:
    text = site.system.run("gcc", "-dumpfullversion", "-dumpversion")
    return version_item("gcc", "compile", text and text.strip(), GCC, _from_system(site, "gcc"))


def check_python(site: Site) -> Item:
    remedy = _from_system(site, f"python{PYTHON}")
    return version_item("Python", "both", site.system.python, PYTHON, remedy)


def check_numpy(site: Site) -> Item:
    found = site.system.distribution("numpy")
    return version_item("numpy", "both", found, NUMPY, f"pip install 'numpy>={NUMPY}'")


def check_onnxruntime(site: Site) -> Item:
    remedy = f"pip install 'onnxruntime>={ONNXRUNTIME}'"
    found = site.system.distribution("onnxruntime")
    return version_item("onnxruntime", "both", found, ONNXRUNTIME, remedy)


def check_memory(site: Site) -> Item:
    return amount_item("memory", "run", _memory(site), device_bytes(site.profile), SMALLER_PROFILE)


def check_compile_memory(site: Site) -> Item:
    return amount_item(
        "memory and swap", "compile", _memory(site), host_bytes(site.profile), LESS_PARALLEL
    )


def check_disk(site: Site) -> Item:
    # the column before the share in use is what is free
    kilobytes = re.search(r"(\d+)\s+\d+%", site.system.run("df", "-Pk", ".") or "")
    found = 1024 * int(kilobytes[1]) if kilobytes else None
    remedy = "a folder on a larger disk: the check looks at the one it is called from"
    return amount_item("free disk", "compile", found, disk_bytes(site.profile), remedy)


def _memory(site: Site) -> int | None:
    """Bytes of memory and swap, or what the control group allows."""
    meminfo = site.system.text("/proc/meminfo") or ""
    sizes = re.findall(r"^(?:MemTotal|SwapTotal):\s*(\d+) kB", meminfo, re.MULTILINE)
    if not sizes:
        return None
    limit = (site.system.text("/sys/fs/cgroup/memory.max") or "").strip()
    total = 1024 * sum(map(int, sizes))
    return min(total, int(limit)) if limit.isdecimal() else total


def _from_system(site: Site, package: str) -> str:
    """The distribution's command for a package of its own."""
    release = site.system.text("/etc/os-release")
    kin = f"{field(release, 'ID')} {field(release, 'ID_LIKE')}".lower()
    command = next((command for name, command in INSTALLERS if name in kin), None)
    return f"{command} {package}" if command else f"{package} from the system's own packages"
