"""A prompt or a run of tokens as llama-bench has it: pp512, tg31 @ d512, tokens/s +- deviation."""

from collections.abc import Iterator
from statistics import mean, stdev

from runtime.record import Record
from toolchain.bench.result import BenchResult, Spread

__all__ = ["COLUMNS", "SpeedTest", "speed_tests"]

COLUMNS = ("model", "size", "params", "backend", "threads", "test", "t/s")


class SpeedTest(Record):
    """One line of llama-bench; the deviation is the sample's, over the repeats.

    batch_size: sequences in step; llama-bench itself runs one.
    """

    model: str
    size_bytes: int
    num_parameters: int
    backend: str
    num_threads: int
    prompt_tokens: int
    new_tokens: int
    depth_tokens: int
    batch_size: int
    tokens_per_s: float
    deviation_tokens_per_s: float

    @property
    def test(self) -> str:
        """As llama-bench names it."""
        what = f"pp{self.prompt_tokens}" if self.prompt_tokens else ""
        if self.new_tokens:
            what += f"{'+' if what else ''}tg{self.new_tokens}"
        depth = f" @ d{self.depth_tokens}" if self.depth_tokens else ""
        return what + depth + (f" x{self.batch_size}" if self.batch_size > 1 else "")

    @property
    def cells(self) -> tuple[str, ...]:
        """A row of llama-bench's table."""
        return (
            self.model,
            _scaled(self.size_bytes, ((1 << 30, "GiB"), (1 << 20, "MiB"))),
            _scaled(self.num_parameters, ((10**9, "B"), (10**6, "M"))),
            self.backend,
            str(self.num_threads),
            self.test,
            f"{self.tokens_per_s:.2f} ± {self.deviation_tokens_per_s:.2f}",
        )


def speed_tests(result: BenchResult) -> Iterator[SpeedTest]:
    """Every prompt once for each case, and every answer after its prompt, without sampling."""
    for row in result.rows:
        further = row.output_tokens - 1
        kinds = (
            (row.input_tokens, 0, 0, row.input_tokens, row.forward_first_ms),
            (0, further, row.input_tokens, 1, row.forward_next_ms),
        )
        for prompt, new, depth, num_tokens, spread in kinds:
            rate, deviation = _rate(row.batch_size * num_tokens, spread)
            yield SpeedTest(
                model=result.name,
                size_bytes=result.size_bytes,
                num_parameters=result.num_parameters,
                backend=result.target.upper(),
                num_threads=result.machine.num_cores,
                prompt_tokens=prompt,
                new_tokens=new,
                depth_tokens=depth,
                batch_size=row.batch_size,
                tokens_per_s=rate,
                deviation_tokens_per_s=deviation,
            )


def _rate(num_tokens: int, took_ms: Spread) -> tuple[float, float]:
    """Mean and sample deviation of tokens/s over the repeats."""
    samples = [1e3 * num_tokens / ms for ms in took_ms.samples]
    return mean(samples), stdev(samples) if len(samples) > 1 else 0.0


def _scaled(value: int, units: tuple[tuple[int, str], ...]) -> str:
    """In the first unit that it reaches, else in the last."""
    size, unit = next((pair for pair in units if value >= pair[0]), units[-1])
    return f"{value / size:.2f} {unit}"
