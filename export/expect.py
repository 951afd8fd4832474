"""A pass says which nodes it changes, and refuses a graph that has not all of them. No torch."""

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol, TypeVar

__all__ = ["NodesError", "expect", "find"]


class Named(Protocol):
    """A node or a value of a graph."""

    @property
    def name(self) -> str | None:
        """Unique among its kind."""


T = TypeVar("T")
NamedT = TypeVar("NamedT", bound=Named)


class NodesError(Exception):
    """A graph has not the nodes that a pass changes; who runs the pass tells the user.

    Attributes:
        got: how many of them it has, and which is missing; or how many more.
        allowed: how many it should have.
    """

    def __init__(self, found: Collection[str], names: Collection[str]) -> None:
        missing, others = sorted(set(names) - set(found)), sorted(set(found) - set(names))
        if missing:
            self.got = f"{len(names) - len(missing)}, without {missing[0]}"
        else:
            self.got = f"{len(found)}, with {others[0]}"
        self.allowed = str(len(names))
        super().__init__(f"got {self.got}; allowed: {self.allowed}")


def expect(found: Mapping[str, T], names: Collection[str]) -> Mapping[str, T]:
    """What was found, by name and in its order, if it is all that has these names.

    Raises:
        NodesError: one is missing, or there is another.
    """
    if found.keys() != set(names):
        raise NodesError(found, names)
    return found


def find(things: Iterable[NamedT], names: Collection[str]) -> Mapping[str, NamedT]:
    """The nodes or values of these names, among others.

    Raises:
        NodesError: one is missing.
    """
    wanted = set(names)
    return expect({str(each.name): each for each in things if each.name in wanted}, names)
