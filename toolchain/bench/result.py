"""What `toolchain bench` measures, as its JSON has it: every figure's unit is in its key."""

from collections.abc import Sequence
from statistics import median
from typing import Literal, Self

from runtime.record import Record
from toolchain.bench.grid import Case

__all__ = ["BenchResult", "Machine", "Mode", "Reach", "Row", "Setup", "Spread"]

Mode = Literal["normal", "detail"]


class Spread(Record):
    """One figure over the repeats of a case."""

    median: float
    min: float
    max: float
    samples: tuple[float, ...]

    @classmethod
    def of(cls, samples: Sequence[float]) -> Self:
        """Sums up one sample or more."""
        return cls(
            median=median(samples), min=min(samples), max=max(samples), samples=tuple(samples)
        )

    @property
    def width(self) -> float:
        """From the least to the greatest; half of it is printed after the sign ±."""
        return self.max - self.min


class Reach(Record):
    """A step beside the roofline.

    moved_bytes: weights, once, and cached keys and values of every sequence.
    arithmetic_operations: products and sums of the linear layers and of attention.
    took_ms: median time of its forward passes.
    bandwidth_percent: moved_bytes / took_ms, of the bandwidth measured just before the case.
    """

    moved_bytes: float
    arithmetic_operations: float
    took_ms: float
    bandwidth_percent: float

    @classmethod
    def of(cls, call: tuple[float, float], took_ms: float, bandwidth: float) -> Self:
        """From (bytes, operations), the time and the bandwidth in bytes/s."""
        return cls(
            moved_bytes=call[0],
            arithmetic_operations=call[1],
            took_ms=took_ms,
            bandwidth_percent=100 * call[0] / (took_ms / 1e3) / bandwidth,
        )

    @property
    def operations_per_byte(self) -> float:
        """Arithmetic intensity: the roofline's x."""
        return self.arithmetic_operations / self.moved_bytes

    @property
    def operations_per_s(self) -> float:
        """What was reached: the roofline's y."""
        return self.arithmetic_operations / (self.took_ms / 1e3)


class Row(Record):
    """One case. docs/benchmarks.md defines every figure."""

    batch_size: int
    input_tokens: int
    output_tokens: int
    ttft_ms: Spread
    tpot_ms: Spread
    itl_median_ms: float
    itl_p99_ms: float
    response_s: Spread
    forward_first_ms: Spread
    forward_next_ms: Spread
    pre_next_ms: Spread
    post_next_ms: Spread
    tokenize_ms: Spread
    sample_ms_per_token: Spread
    detokenize_ms_per_token: Spread
    peak_host_memory_bytes: int
    bandwidth_bytes_per_s: float
    bytes_per_token: float
    prefill: Reach
    decode: Reach

    @property
    def case(self) -> Case:
        """Which one it is."""
        return Case(
            batch_size=self.batch_size,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
        )

    @property
    def context_tokens(self) -> float:
        """Positions that decoding attends to, on average."""
        return self.input_tokens + self.output_tokens / 2

    @property
    def decode_tokens_per_s(self) -> float:
        """Of all sequences together."""
        return 1e3 * self.batch_size / self.forward_next_ms.median

    @property
    def prefill_tokens_per_s(self) -> float:
        """Of all sequences together."""
        return 1e3 * self.batch_size * self.input_tokens / self.forward_first_ms.median


class Machine(Record):
    """Where it was measured."""

    cpu: str
    num_cores: int
    memory_bytes: int
    system: str
    packages: dict[str, str]  # name -> version


class Setup(Record):
    """What figures depend on besides the case: rows of two setups are never mixed.

    manifest_sha256: of the bundle; "" in files of an older version.
    kernels: the instruction set that our own took, such as avx512_vnni; "" where others compute.
    """

    engine: str
    device: str
    model: str
    target: str
    weights: str
    manifest_sha256: str = ""
    kernels: str = ""
    mode: Mode
    num_repeats: int
    machine: Machine

    def differences(self, other: "Setup") -> list[str]:
        """Names of what is not the same."""
        return [key for key in Setup.model_fields if getattr(self, key) != getattr(other, key)]


class BenchResult(Record):
    """All cases of one bundle on one device; the fields of its Setup are among its own."""

    format: Literal["alpaca2-bench"] = "alpaca2-bench"
    version: Literal[1] = 1
    engine: str
    device: str
    model: str
    target: str
    weights: str
    manifest_sha256: str = ""
    kernels: str = ""
    mode: Mode
    date: str
    num_repeats: int
    num_parameters: int
    size_bytes: int
    load_s: float
    bandwidth_source: str
    peak_operations_per_s: float
    peak_operations_source: str
    machine: Machine
    rows: tuple[Row, ...]

    @property
    def setup(self) -> Setup:
        """What its figures depend on besides the case."""
        return Setup(**{key: getattr(self, key) for key in Setup.model_fields})

    @property
    def name(self) -> str:
        """For the head of a column or a line of a legend."""
        return self.model if self.weights in self.model else f"{self.model} {self.weights}"
