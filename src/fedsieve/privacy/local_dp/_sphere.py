"""What the mechanisms for vectors share: checked rows and directions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fedsieve.privacy._grid import grid_spacing
from fedsieve.privacy.local_dp._interval import FloatArray

SLACK = 1e-6  # relative: what float32 makes of a unit vector


def as_rows(x: ArrayLike, d: int) -> tuple[FloatArray, FloatArray]:
    """Vectors (..., d) as rows (n, d) of float64, and their norms (n,).

    Raises:
        ValueError: Another shape, or a number that is not finite.
    """
    vectors = np.asarray(x, dtype=np.float64)
    if vectors.ndim == 0 or vectors.shape[-1] != d:
        raise ValueError(f"x has shape {vectors.shape}; its last size must be d={d}")
    if not np.isfinite(vectors).all():
        raise ValueError("x holds a number that is not finite")
    rows = vectors.reshape(-1, d)
    with np.errstate(over="ignore"):  # an infinite norm is more than any bound
        return rows, np.linalg.norm(rows, axis=1)


def unit_rows(x: ArrayLike, d: int) -> FloatArray:
    """Unit vectors (..., d) as rows (n, d), their norms corrected to one.

    Raises:
        ValueError: Another shape, or a norm that differs from 1 by more than rounding.
    """
    rows, norms = as_rows(x, d)
    off = np.abs(norms - 1) > SLACK
    if off.any():
        raise ValueError(f"x holds a vector of norm {norms[off][0]:.6g}, but every norm must be 1")
    return rows / norms[:, None]


def directions(shape: tuple[int, ...], generator: np.random.Generator) -> FloatArray:
    """Independent uniformly random unit vectors along the last axis."""
    normal = generator.standard_normal(shape)
    unit: FloatArray = normal / np.linalg.norm(normal, axis=-1, keepdims=True)
    return unit


def turned(u: FloatArray, cosine: FloatArray, generator: np.random.Generator) -> FloatArray:
    """Uniformly random unit vectors at the given cosines (n,) to the unit rows u (n, d)."""
    normal = generator.standard_normal(u.shape)
    normal -= np.einsum("ij,ij->i", normal, u)[:, None] * u
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    sine = np.sqrt((1 - cosine) * (1 + cosine))
    mixed: FloatArray = cosine[:, None] * u + sine[:, None] * normal
    return mixed


def coordinate_grid(norm: float, d: int) -> float:
    """The public grid of the coordinates of vectors of this norm."""
    return grid_spacing(norm / np.sqrt(d))


def checked_dimension(d: float, least: int = 1) -> int:
    """The dimension; refused is one for which the mechanism is not defined."""
    if d != int(d) or d < least:
        raise ValueError(f"d={d} must be an integer >= {least}")
    return int(d)  # 3.0 is one, too
