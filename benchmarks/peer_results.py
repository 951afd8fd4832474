"""What peers.py measures, and what follows from it."""

from dataclasses import dataclass
from statistics import median

__all__ = ["CASES", "CONTEXTS", "PROMPTS", "STEPS", "EngineResults", "Results", "decode", "prefill"]

PROMPTS = (32, 128, 512, 1024)
CONTEXTS = (32, 512, 2048)
STEPS = 32


def prefill(length: int) -> str:
    """The case, as engines/loop.py has its command."""
    return f"prefill {length}"


def decode(context: int) -> str:
    """The case, as engines/loop.py has its command."""
    return f"decode {context} {STEPS}"


CASES = (*map(prefill, PROMPTS), *map(decode, CONTEXTS))


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineResults:
    """One engine: its facts, and the milliseconds of every case, round and step.

    first_ms: the first prompt of 32 after loading.
    memory_mb: of its process, after all rounds.
    """

    version: str
    settings: str
    weight_bytes: int
    cache_bytes: int
    load_s: float
    first_ms: float
    memory_mb: dict[str, float]
    samples: dict[str, list[list[float]]]

    def rounds(self, case: str) -> list[float]:
        """Milliseconds of a case in each round."""
        return [median(steps) for steps in self.samples[case]]

    def ms(self, case: str) -> float:
        """Milliseconds of a case."""
        return median(self.rounds(case))

    def read_rates(self, context: int) -> list[float]:
        """Bytes/s of weights and cache that decoding reads at least, in each round."""
        positions = context + STEPS / 2
        num_bytes = self.weight_bytes + positions * self.cache_bytes
        return [1000 * num_bytes / ms for ms in self.rounds(decode(context))]

    def ratio(self, other: "EngineResults", case: str) -> float:
        """How many times as long the other takes, round by round."""
        pairs = zip(self.rounds(case), other.rounds(case), strict=True)
        return median(others / own for own, others in pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """All of a run, on one machine.

    features: of the CPU.
    kernels: the instruction set that ours took.
    bandwidths: bytes/s that all cores read, before a case in each round.
    """

    date: str
    cpu: str
    features: tuple[str, ...]
    kernels: str
    cores: int
    memory_bytes: int
    layers: int
    rounds: int
    bandwidths: dict[str, list[float]]
    engines: dict[str, EngineResults]

    def read_share(self, engine: EngineResults, context: int) -> float:
        """Part of the bandwidth that decoding reaches."""
        rounds = zip(engine.read_rates(context), self.bandwidths[decode(context)], strict=True)
        return median(rate / bandwidth for rate, bandwidth in rounds)
