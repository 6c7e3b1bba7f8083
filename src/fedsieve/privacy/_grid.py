"""The public power-of-two grid on which continuous noise is released.

Mironov, "On Significance of the Least Significant Bits for Differential Privacy", CCS 2012: a sum
of a private number and sampled floating-point noise can show in its low bits which number it was.
Rounding the sum to multiples of a public

    h = 2^(floor(log2 s) - 20),    s the standard deviation of the noise,

hides those bits: h is far above the spacing of float64 at the values that occur, and a released
number tells nothing beyond its place on the grid. Rounding is post-processing, and costs a
variance of h^2 / 12 < 1e-13 s^2. It is a precaution and no proof: the sampler's own float64 tables
still decide with which probability a place is hit. Only integer noise on integers
(`fedsieve.privacy.discrete`) is private exactly as sent.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

GRID_BITS = 20  # float32 holds every place up to 2^24 / 2^20 = 16 standard deviations exactly


def grid_spacing(scale: float) -> float:
    """Spacing of the grid for noise of this standard deviation, > 0; an exact power of two.

    Example:
        >>> grid_spacing(1.5) == 2.0**-20
        True
    """
    return math.ldexp(1.0, max(math.frexp(scale)[1] - 1 - GRID_BITS, -1074))


def to_grid(x: NDArray[np.float64], spacing: float) -> NDArray[np.float64]:
    """The nearest multiples of the spacing, a power of two."""
    on_grid: NDArray[np.float64] = np.rint(x / spacing) * spacing
    return on_grid
