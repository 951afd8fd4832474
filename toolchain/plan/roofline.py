"""The time of a step as the longer of two: moving its bytes and doing its arithmetic."""

from collections.abc import Mapping
from dataclasses import dataclass

from profiles import Profile
from runtime.bundle.manifest import GraphSpec, ModelConfig
from runtime.engine.chunks import plan_chunks
from toolchain.costs.calls import least_work, prompt_costs
from toolchain.costs.quantity import Quantity
from toolchain.costs.rates import Rates
from toolchain.targets.base import Footprint

__all__ = ["Roofline"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Roofline:
    """A model at one precision on one device.

    costs: of a call of each graph; see Graph.cost.
    """

    config: ModelConfig
    profile: Profile
    footprint: Footprint
    rates: Rates
    costs: Mapping[GraphSpec, float]

    def call(
        self, rows: int, cached: int, sequences: int = 1, logit_rows: int = 1
    ) -> tuple[float, float]:
        """See least_work. Copies of the cache and scores in memory are left out."""
        return least_work(
            self.config,
            self.footprint.weights_read(self.config, self.profile),
            self.footprint.cache_bytes(self.profile),
            rows,
            cached,
            sequences=sequences,
            logit_rows=logit_rows,
        )

    def _quantity(self, name: str, calls: list[tuple[float, float]]) -> Quantity:
        """Calls one after the other, each as long as the longer of its two."""
        bandwidth, rate = self.rates.bandwidth, self.rates.operations
        terms = [
            f"{num_bytes / 1e9:.2f} GB / {bandwidth / 1e9:.0f} GB/s"
            if num_bytes / bandwidth > operations / rate
            else f"{operations / 1e12:.3f} T / {rate / 1e12:.2f} T/s"
            for num_bytes, operations in calls
        ]
        return Quantity(
            name=name,
            value=sum(self.rates.seconds(*call) for call in calls),
            unit="s",
            formula=f"{' + '.join(terms)} ({self.rates.source})",
            estimate=True,
        )

    def _cached(self, valid: int) -> int:
        """Cached rows that attention reads: static shapes read them all, valid or not."""
        return self.profile.cache_len if self.footprint.static_shapes else valid

    def _cached_by_one(self, valid: int) -> int:
        """The same for a token of one sequence, which runs on the shortest cache that holds it."""
        decode = (spec for spec in self.costs if (spec.phase, spec.batch_size) == ("decode", 1))
        fitting = [spec.cache_len for spec in decode if spec.cache_len >= valid]
        return min(fitting) if self.footprint.static_shapes else valid

    def prompt_calls(self, num_tokens: int) -> list[tuple[float, float]]:
        """Bytes and operations of every call of a prompt, of the lengths that the engine takes."""
        calls, done, static_shapes = [], 0, self.footprint.static_shapes
        costs = prompt_costs(self.costs)
        for spec in plan_chunks(num_tokens, costs, static_shapes=static_shapes):
            rows = spec.seq_len if static_shapes else min(spec.seq_len, num_tokens - done)
            calls.append(self.call(rows, spec.cache_len if static_shapes else done))
            done += rows
        return calls

    def step_call(self, num_tokens: int, batch_size: int = 1) -> tuple[float, float]:
        """Bytes and operations of the next token of sequences at a context of this length."""
        cached = self._cached_by_one if batch_size == 1 else self._cached
        return self.call(1, cached(num_tokens), batch_size)

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
        calls = [self.call(rows, self.profile.cache_len, logit_rows=rows)]
        return self._quantity(f"per check of {rows} rows", calls)
