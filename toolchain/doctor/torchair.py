"""Whether Huawei's torchair is unzipped here, which compiles for the chips that it knows."""

from toolchain.doctor.item import Item, judged
from toolchain.doctor.site import Site
from toolchain.host.torchair import HOME, VERSION, find_torchair, how_to_get

__all__ = ["check_torchair"]


def check_torchair(site: Site) -> Item | None:
    """None for a chip that torchair does not list: its graphs go through ONNX."""
    if "air" not in site.target.vias:
        return None
    found = find_torchair(site.system)
    elsewhere = site.system.environ.get(HOME)
    return judged(
        name="torchair",
        purpose="compile",
        found=VERSION if found else f"no {VERSION} at {elsewhere}" if elsewhere else None,
        needed=f"torch_npu {VERSION}, unzipped",
        fits=found is not None,
        remedy="\n".join([*how_to_get(site.system), "never installed; or compile with --via onnx"]),
    )
