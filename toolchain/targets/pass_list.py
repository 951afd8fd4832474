"""One entry of a target's ordered list of passes, which of them a bundle takes, and their run."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass, TopologicalSortPass

from export.expect import NodesError
from profiles import Profile
from runtime.bundle.manifest import Manifest
from toolchain.errors import TargetError

__all__ = ["Pass", "choose_passes", "named", "run_passes", "switches", "tidy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One entry of the list; `make` takes the exported manifest and the profile.

    does: in a few words, for `--without help`.
    needs: passes that this one depends on; it is left out with any of them.
    instead: how to ask for a bundle without it, where `--without` cannot.
    optional: taken only where the profile's `passes` names it.
    """

    name: str
    does: str
    make: Callable[[Manifest, Profile], ir.passes.InPlacePass]
    needs: tuple[str, ...] = ()
    instead: str = ""
    optional: bool = False

    @property
    def way_out(self) -> str:
        """How to ask for a bundle without it."""
        return self.instead or f"disable the pass with --without {self.name}"


def switches(passes: Sequence[Pass]) -> list[Pass]:
    """The passes that `--without` can disable."""
    return [each for each in passes if not each.instead]


def choose_passes(
    passes: Sequence[Pass],
    profile: Profile,
    without: Sequence[str],
    left_out: Collection[str] = (),
) -> list[Pass]:
    """The passes that a profile takes, less those named and those that need one of them.

    Args:
        passes: the target's list.
        profile: names the optional ones to take.
        without: names that the caller wants left out.
        left_out: names that the precision leaves out.

    Raises:
        TargetError: no such pass, or one that the precision decides.
    """
    names = [each.name for each in switches(passes)]
    for name in without:
        if name not in names:
            raise TargetError(
                "compile cannot disable this pass",
                got=name,
                allowed=", ".join(names),
                next_step=next((each.instead for each in passes if each.name == name), None),
            )
    optional = [each.name for each in passes if each.optional]
    for name in profile.passes:
        if name not in optional:
            raise TargetError(
                f"profile {profile.name} asks for a pass that {profile.target} has not",
                got=name,
                allowed=", ".join(optional) or "none",
            )
    gone = {*without, *left_out, *(name for name in optional if name not in profile.passes)}
    chosen = list(passes)
    while gone:
        chosen = [each for each in chosen if each.name not in gone]
        kept = {each.name for each in chosen}
        gone = {each.name for each in chosen if not kept.issuperset(each.needs)}
    return chosen


def run_passes(
    model: ir.Model, passes: Sequence[Pass], manifest: Manifest, profile: Profile
) -> None:
    """Runs each pass on a graph in place, and tidies up after them.

    Raises:
        TargetError: the graph has not the nodes that a pass changes.
    """
    for each in passes:
        with named(each.name, each.way_out):
            each.make(manifest, profile)(model)
    tidy(model)


def tidy(model: ir.Model) -> None:
    """Removes what no output needs, and puts every node after those that it reads from."""
    ir.passes.Sequential(RemoveUnusedNodesPass(), TopologicalSortPass())(model)


@contextmanager
def named(name: str, way_out: str) -> Iterator[None]:
    """Says which pass it was that has not found its nodes, and how to do without it."""
    try:
        yield
    except NodesError as error:
        raise TargetError(
            f"the graph has not the nodes that the pass {name} changes",
            got=error.got,
            allowed=error.allowed,
            next_step=f"export the bundle again with this version, or {way_out}",
            code="unknown_graph",
        ) from error
