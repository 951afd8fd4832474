"""The time of a step as the longer of two: moving its bytes and doing its arithmetic.

Williams, Waterman, Patterson: Roofline, Communications of the ACM 52 (4), 2009.
"""

from dataclasses import dataclass

from profiles import Chip, Profile
from runtime.bundle.manifest import ModelConfig
from runtime.engine.chunks import plan_chunks
from toolchain.costs.quantity import Quantity
from toolchain.costs.sizes import cache_elements, linear_shapes
from toolchain.host.machine import multiply_rate, read_bandwidth
from toolchain.targets.base import Footprint

__all__ = ["Rates", "Roofline", "rates"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What the device reaches: bytes/s, operations/s, and how that is known."""

    bandwidth: float
    operations: float
    source: str


def rates(chip: Chip | None) -> Rates:
    """The chip's peaks times what models reach of them; this machine's, measured, for None."""
    if chip is None:
        return Rates(
            bandwidth=read_bandwidth(),
            operations=multiply_rate(),
            source="measured on this machine just now, float32 products",
        )
    return Rates(
        bandwidth=chip.bandwidth.value * chip.memory_efficiency.value,
        operations=chip.fp16.value * chip.compute_efficiency.value,
        source=f"{chip.memory_efficiency.value:.0%} and {chip.compute_efficiency.value:.0%} of "
        f"the peaks of {chip.soc_name}",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Roofline:
    """A model at one precision on one device."""

    config: ModelConfig
    profile: Profile
    footprint: Footprint
    rates: Rates

    def call(self, rows: int, cached: int) -> tuple[float, float]:
        """Bytes and operations of one graph call over new rows of one sequence.

        Bytes: every linear weight once, and the cached keys and values. Operations: two per
        linear weight and row (the LM head for one row only), and four per query element and
        column of attention. Copies of the cache and scores in memory are left out.
        """
        config = self.config
        head = config.vocab_size * config.hidden_size
        linear = sum(n * k for n, k in linear_shapes(config).values()) - head
        queries = config.num_hidden_layers * config.num_attention_heads * config.head_dim
        cache = self.footprint.cache_bytes(self.profile) * cache_elements(config, cached)
        num_bytes = self.footprint.weights_read(config, self.profile) + cache
        operations = 2 * (linear * rows + head) + 4 * queries * rows * (cached + rows)
        return num_bytes, operations

    def _quantity(self, name: str, calls: list[tuple[float, float]]) -> Quantity:
        """Calls one after the other, each as long as the longer of its two."""
        bandwidth, rate = self.rates.bandwidth, self.rates.operations
        terms = [
            f"{num_bytes / 1e9:.2f} GB / {bandwidth / 1e9:.0f} GB/s"
            if num_bytes / bandwidth > operations / rate
            else f"{operations / 1e12:.3f} T / {rate / 1e12:.2f} T/s"
            for num_bytes, operations in calls
        ]
        seconds = sum(max(moved / bandwidth, computed / rate) for moved, computed in calls)
        return Quantity(
            name=name,
            value=seconds,
            unit="s",
            formula=f"{' + '.join(terms)} ({self.rates.source})",
            estimate=True,
        )

    def _cached(self, valid: int) -> int:
        """Cached rows that attention reads: static shapes read them all, valid or not."""
        return self.profile.cache_len if self.footprint.static_shapes else valid

    def prompt_calls(self, num_tokens: int) -> list[tuple[float, float]]:
        """Bytes and operations of every call of a prompt, of the lengths that the engine takes."""
        lengths = {
            spec.seq_len
            for spec in self.profile.graphs
            if spec.batch_size == 1 and spec.phase != "score"
        }
        calls, done = [], 0
        for seq_len in plan_chunks(num_tokens, sorted(lengths), self.footprint.static_shapes):
            rows = seq_len if self.footprint.static_shapes else min(seq_len, num_tokens - done)
            calls.append(self.call(rows, self._cached(done)))
            done += rows
        return calls

    def step_call(self, num_tokens: int, batch_size: int = 1) -> tuple[float, float]:
        """Bytes and operations of the next token of sequences at a context of this length."""
        weights, _ = self.call(1, 0)
        num_bytes, operations = self.call(1, self._cached(num_tokens))
        return weights + batch_size * (num_bytes - weights), batch_size * operations

    def first_token(self, num_tokens: int) -> Quantity:
        """Time to the first token of a prompt."""
        calls = self.prompt_calls(num_tokens)
        return self._quantity(f"first token, {num_tokens} tokens of prompt", calls)

    def per_token(self, num_tokens: int) -> Quantity:
        """Time of each further token at a context of this length."""
        calls = [self.step_call(num_tokens)]
        return self._quantity(f"per token, {num_tokens} tokens of context", calls)

    def step(self, batch_size: int) -> Quantity:
        """Time of a token of each of several sequences, at the longest context."""
        context = self.profile.cache_len
        calls = [self.step_call(context, batch_size)]
        name = f"per step of {batch_size} sequences, {context} tokens of context"
        return self._quantity(name, calls)

    def check(self, rows: int) -> Quantity:
        """Time of a call that gives the logits of all its rows, at the longest context."""
        num_bytes, operations = self.call(rows, self.profile.cache_len)
        head = 2 * self.config.vocab_size * self.config.hidden_size
        calls = [(num_bytes, operations + (rows - 1) * head)]
        return self._quantity(f"per check of {rows} rows", calls)
