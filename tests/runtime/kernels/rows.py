"""Random rows of x."""

import numpy as np
from numpy.typing import NDArray


def random_rows(rng: np.random.Generator, num_rows: int, num_columns: int) -> NDArray[np.float32]:
    """Rows of every magnitude: zeros, denormal numbers, and those that fill a float."""
    exponents = rng.choice([-140.0, -90.0, -3.0, 0.0, 0.0, 0.0, 100.0], (num_rows, 1))
    x = rng.standard_normal((num_rows, num_columns)) * 2.0**exponents
    x[rng.random(num_rows) < 0.1] = 0
    return x.astype(np.float32)
