"""The times of the graphs as they are lowered, by the count of their kernels."""

from collections.abc import Mapping
from dataclasses import dataclass

from runtime.bundle.manifest import GraphSpec, Phase
from runtime.engine.chunks import plan_chunks
from toolchain.costs.calls import Counted, in_steps, prompt_costs
from toolchain.costs.quantity import Quantity

__all__ = ["LoweredTimes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoweredTimes:
    """The lines of a Roofline, from counted graphs of static shapes: every row costs."""

    counted: Mapping[GraphSpec, Counted]

    def _quantity(self, name: str, specs: list[GraphSpec]) -> Quantity:
        calls = [self.counted[spec] for spec in specs]
        longest = max(spec.cache_len for spec in self.counted)
        return Quantity(
            name=name,
            value=sum(call.seconds for call in calls),
            unit="s",
            formula=" + ".join(
                f"{spec.name_beside(longest)}: {call.kernels} kernels, "
                f"{call.num_bytes / 1e9:.2f} GB, {call.operations / 1e12:.3f} T"
                for spec, call in zip(specs, calls, strict=True)
            ),
            estimate=True,
        )

    def _graph(self, phase: Phase, batch_size: int, seq_len: int = 1) -> GraphSpec:
        return next(
            spec
            for spec in self.counted
            if (spec.phase, spec.batch_size, spec.seq_len) == (phase, batch_size, seq_len)
        )

    def first_token(self, num_tokens: int) -> Quantity:
        """Time to the first token of a prompt, cut as the runtime cuts it."""
        costs = in_steps({spec: call.seconds for spec, call in self.counted.items()})
        calls = plan_chunks(num_tokens, prompt_costs(costs), static_shapes=True)
        return self._quantity(f"first token, {num_tokens} tokens of prompt", calls)

    def per_token(self, num_tokens: int) -> Quantity:
        """Time of each further token, on the shortest cache that holds the context."""
        name = f"per token, {num_tokens} tokens of context"
        decode = [spec for spec in self.counted if (spec.phase, spec.batch_size) == ("decode", 1)]
        fitting = [spec for spec in decode if spec.cache_len >= num_tokens]
        return self._quantity(name, [min(fitting, key=lambda spec: spec.cache_len)])

    def step(self, batch_size: int) -> Quantity:
        """Time of a token of each of several sequences."""
        spec = self._graph("decode", batch_size)
        name = f"per step of {batch_size} sequences, {spec.cache_len} tokens of context"
        return self._quantity(name, [spec])

    def check(self, rows: int) -> Quantity:
        """Time of a call that gives the logits of all its rows."""
        return self._quantity(f"per check of {rows} rows", [self._graph("score", 1, rows)])
