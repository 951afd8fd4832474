"""The cached rows of one layer, and how its new rows join them."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from export.forms import Form

__all__ = ["FirstRows", "GivenRows", "Past", "WrittenRows"]


class Past(Protocol):
    """What a layer attends to besides its new rows."""

    def join(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Takes the new keys and values; returns all of them."""
        ...


class GivenRows(NamedTuple):
    """Rows that are only read, (B, G, C, D): whoever calls writes the new ones."""

    keys: Tensor
    values: Tensor

    def join(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """See Past.join."""
        return torch.cat([self.keys, k], dim=2), torch.cat([self.values, v], dim=2)


class WrittenRows(NamedTuple):
    """A cache (B, T, G, D) that new rows are written into, from row start[b] of sequence b on."""

    keys: Tensor
    values: Tensor
    start: Tensor
    form: Form

    def join(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """See Past.join."""
        self.form.write_rows(self.keys, k, self.start)
        self.form.write_rows(self.values, v, self.start)
        return self.keys, self.values


class FirstRows(WrittenRows):
    """The same where the new rows are the first: there are no others to attend to."""

    def join(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """See Past.join."""
        super().join(k, v)
        return k, v
