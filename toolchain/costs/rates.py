"""What a device reaches, and how long bytes and operations take there.

Williams, Waterman, Patterson: Roofline, Communications of the ACM 52 (4), 2009.
"""

import math
from dataclasses import dataclass

from profiles import Chip
from toolchain.host.machine import multiply_rate, read_bandwidth

__all__ = ["Rates", "chip_rates", "host_rates"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What the device reaches: bytes/s, operations/s, and how that is known."""

    bandwidth: float
    operations: float
    source: str

    def seconds(self, num_bytes: float, operations: float) -> float:
        """The longer of the two: moving bytes and doing arithmetic, which overlap."""
        return max(num_bytes / self.bandwidth, operations / self.operations)


# Where only ratios are wanted and nothing is known of the chip: bytes alone count.
BYTES_ALONE = Rates(bandwidth=1.0, operations=math.inf, source="no facts about the chip")


def chip_rates(chip: Chip | None) -> Rates:
    """The chip's peaks times what models reach of them; bytes alone where nothing is known."""
    if chip is None:
        return BYTES_ALONE
    return Rates(
        bandwidth=chip.bandwidth.value * chip.memory_efficiency.value,
        operations=chip.fp16.value * chip.compute_efficiency.value,
        source=f"{chip.memory_efficiency.value:.0%} and {chip.compute_efficiency.value:.0%} of "
        f"the peaks of {chip.soc_name}",
    )


def host_rates() -> Rates:
    """Those of this machine, measured."""
    return Rates(
        bandwidth=read_bandwidth(),
        operations=multiply_rate(),
        source="measured on this machine just now, float32 products",
    )
