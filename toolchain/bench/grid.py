"""Which cases are measured: powers of two, pairs or a quick few, at each batch size."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from runtime.errors import ParameterError

__all__ = ["Case", "Grid", "case_pairs", "power_pairs"]

MAX_EXP = 20  # 1,048,576 tokens: beyond any cache
QUICK_PAIRS = ((32, 32), (128, 32), (512, 32))
Pair = tuple[int, int]  # tokens in, tokens out
PAIR = re.compile(r"\s*(\d{1,7})\s*,\s*(\d{1,7})\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """So many sequences side by side, each of so many tokens in and out."""

    batch_size: int
    input_tokens: int
    output_tokens: int

    @property
    def rows(self) -> int:
        """Rows of a cache slot that it fills; the last token needs none."""
        return self.input_tokens + self.output_tokens - 1

    def __str__(self) -> str:
        return f"{self.input_tokens},{self.output_tokens}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """All pairs at all batch sizes.

    asked_for: each pair was named, so that one which does not fit is a mistake.
    """

    pairs: tuple[Pair, ...] = QUICK_PAIRS
    batch_sizes: tuple[int, ...] = (1,)
    asked_for: bool = False

    def cases(self, cache_len: int, max_batch_size: int) -> tuple[list[Case], list[Case]]:
        """The cases that a bundle can run, and those that are too long for it.

        Raises:
            ParameterError: too many sequences, a named case that is too long, or no case left.
        """
        for batch_size in self.batch_sizes:
            if not 1 <= batch_size <= max_batch_size:
                raise ParameterError(
                    "--batch-size: the bundle does not hold so many sequences",
                    got=batch_size,
                    allowed=f"1 to {max_batch_size}",
                    next_step="add a decode graph of that batch_size to the profile",
                    param="batch_size",
                )
        pairs = dict.fromkeys(self.pairs)
        every = [
            Case(batch_size=batch_size, input_tokens=num_in, output_tokens=num_out)
            for batch_size, (num_in, num_out) in product(self.batch_sizes, pairs)
        ]
        fitting = [case for case in every if case.rows <= cache_len]
        too_long = [case for case in every if case.rows > cache_len]
        if not fitting or (too_long and self.asked_for):
            raise ParameterError(
                "a case is longer than the bundle's cache",
                got=f"{too_long[0]} (tokens in, tokens out)",
                allowed=f"in + out up to {cache_len + 1}",
                next_step="take shorter ones, or export with a longer cache_len in the profile",
                param="case",
            )
        return fitting, too_long


def power_pairs(min_exp: int, max_exp: int) -> tuple[Pair, ...]:
    """All pairs of powers of two from 2^min_exp to 2^max_exp.

    Raises:
        ParameterError: the exponents are not in order, or allow a single token out.
    """
    if not 1 <= min_exp <= max_exp <= MAX_EXP:
        raise ParameterError(
            "--min-exp and --max-exp",
            got=f"{min_exp} and {max_exp}",
            allowed=f"1 to {MAX_EXP}, in ascending order",
            param="min_exp",
        )
    lengths = [2**exp for exp in range(min_exp, max_exp + 1)]
    return tuple(product(lengths, lengths))


def case_pairs(texts: Sequence[str]) -> tuple[Pair, ...]:
    """Pairs as they are typed: "128,64".

    Raises:
        ParameterError: not two numbers, no prompt, or fewer than two tokens out.
    """
    pairs = []
    for text in texts:
        found = PAIR.fullmatch(text)
        if found is None:
            raise ParameterError(
                "--case", got=text[:40], allowed="two numbers, such as 128,64", param="case"
            )
        num_in, num_out = map(int, found.groups())
        if num_in < 1 or num_out < 2:
            raise ParameterError(
                "--case",
                got=text,
                allowed="1 or more tokens in; 2 or more out, to have a next one",
                param="case",
            )
        pairs.append((num_in, num_out))
    return tuple(pairs)
