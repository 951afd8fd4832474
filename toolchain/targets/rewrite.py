"""One entry of a target's ordered list of rewrites, and which of them a bundle takes."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from profiles import Profile
from runtime.bundle.manifest import Manifest
from toolchain.errors import TargetError

__all__ = ["Rewrite", "choose_rewrites"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """One entry of the list; `make` takes the exported manifest and the profile.

    needs: rewrites without which this one has no sense; it is left out with any of them.
    instead: how to ask for a bundle without it, where the precision decides that.
    optional: taken only where the profile's `rewrites` names it.
    """

    name: str
    make: Callable[[Manifest, Profile], ir.passes.InPlacePass]
    needs: tuple[str, ...] = ()
    instead: str = ""
    optional: bool = False


def choose_rewrites(
    rewrites: Sequence[Rewrite],
    profile: Profile,
    without: Sequence[str],
    left_out: Collection[str] = (),
) -> list[Rewrite]:
    """The rewrites that a profile takes, less those named and those that need one of them.

    Args:
        rewrites: the target's list.
        profile: names the optional ones to take.
        without: names that the caller wants left out.
        left_out: names that the precision leaves out.

    Raises:
        TargetError: no such rewrite, or one that the precision decides.
    """
    switches = [rewrite.name for rewrite in rewrites if not rewrite.instead]
    for name in without:
        if name not in switches:
            raise TargetError(
                "compile cannot leave this rewrite out",
                got=name,
                allowed=", ".join(switches),
                next_step=next((each.instead for each in rewrites if each.name == name), None),
            )
    optional = [rewrite.name for rewrite in rewrites if rewrite.optional]
    for name in profile.rewrites:
        if name not in optional:
            raise TargetError(
                f"profile {profile.name} asks for a rewrite that {profile.target} has not",
                got=name,
                allowed=", ".join(optional) or "none",
            )
    gone = {*without, *left_out, *(name for name in optional if name not in profile.rewrites)}
    chosen = list(rewrites)
    while gone:
        chosen = [rewrite for rewrite in chosen if rewrite.name not in gone]
        names = {rewrite.name for rewrite in chosen}
        gone = {rewrite.name for rewrite in chosen if not names.issuperset(rewrite.needs)}
    return chosen
