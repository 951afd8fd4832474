"""What a target is: precisions that it has, and one function that compiles."""

from collections.abc import Callable
from dataclasses import dataclass

from profiles import Profile
from runtime.bundle import Bundle
from runtime.bundle_writer import BundleWriter
from runtime.manifest import Graph

__all__ = ["Target"]

Compile = Callable[[Bundle, Profile, str, BundleWriter], tuple[Graph, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A way to lower the portable graphs."""

    weights: tuple[str, ...]
    compile: Compile
