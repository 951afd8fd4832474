"""What load is put on a server: how many at once or how often, and how long each request is."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, product
from random import Random

from runtime.errors import ParameterError

__all__ = ["Load", "arrivals", "check_rates", "loads"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One load: a closed loop where clients is given, else an open loop.

    clients: each sends its next request when its last one is answered.
    rate: requests/s that arrive at random, whether or not others are answered.
    warm_up: requests before, which are not counted.
    """

    clients: int | None = None
    rate: float | None = None
    input_tokens: int
    output_tokens: int
    num_requests: int
    warm_up: int

    @property
    def name(self) -> str:
        """For the row of a table."""
        if self.rate is not None:
            return f"{self.rate:g} requests/s"
        return "1 client" if self.clients == 1 else f"{self.clients} clients"


def check_rates(rates: Sequence[float]) -> Sequence[float]:
    """The rates as they are, if they are some.

    Raises:
        ParameterError: one is zero, negative, endless or no number.
    """
    for rate in rates:
        if not 0 < rate < float("inf"):
            raise ParameterError(
                "--request-rate", got=rate, allowed="more than 0 requests/s", param="request_rate"
            )
    return rates


def loads(
    pairs: Sequence[tuple[int, int]],
    clients: Sequence[int],
    rates: Sequence[float],
    num_requests: int,
    warm_up: int | None,
) -> list[Load]:
    """All loads at all lengths; without `warm_up`, one request for each client."""
    return [
        Load(
            clients=num,
            rate=rate,
            input_tokens=num_in,
            output_tokens=num_out,
            num_requests=num_requests,
            warm_up=(num or 1) if warm_up is None else warm_up,
        )
        for (num_in, num_out), (num, rate) in product(
            pairs, [*((num, None) for num in clients), *((None, rate) for rate in rates)]
        )
    ]


def arrivals(rate: float, num_requests: int, rng: Random) -> list[float]:
    """Seconds at which requests arrive: a Poisson process, stretched to the very rate.

    As in vLLM, so that the chance of few requests does not change the load.
    """
    times = list(accumulate(rng.expovariate(rate) for _ in range(num_requests)))
    scale = num_requests / rate / times[-1]
    return [time * scale for time in times]
