"""What ATC reads: one file for one graph, or for several in gears."""

from typing import Protocol

from runtime.bundle.manifest import CacheLayout, CacheWrite, Graph, TensorSpec

__all__ = ["AtcSource"]


class AtcSource(Protocol):
    """A file that becomes an OM."""

    @property
    def name(self) -> str:
        """Stem of the file and of the OM."""
        ...

    @property
    def suffix(self) -> str:
        """Of the file: .onnx or .air."""
        ...

    @property
    def members(self) -> tuple[Graph, ...]:
        """Graphs of the family that it computes; more than one where it has gears."""
        ...

    @property
    def gears(self) -> tuple[tuple[TensorSpec, ...], ...]:
        """The inputs of each member, for ATC to be told; none where the file says them."""
        ...

    @property
    def layout(self) -> CacheLayout:
        """See Device.cache_layout."""
        ...

    @property
    def cache_write(self) -> CacheWrite:
        """See Device.cache_write."""
        ...

    @property
    def weight_bytes(self) -> int:
        """Of the files that it names."""
        ...
