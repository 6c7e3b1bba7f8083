"""How well anybody can reconstruct a record, given what he believed before.

Balle, Cherubin, Hayes, "Reconstructing Training Data with Informed Adversaries", IEEE S&P 2022: the
attacker knows every record but one, Z, which is drawn from a prior pi. He succeeds if his guess is
within eta of Z. Blind, he succeeds with probability at most

    kappa = sup_{z0} P_{Z ~ pi}[ rho(Z, z0) <= eta ].

After the release, with the trade-off curve f (Hayes, Mahloujifar, Balle, "Bounding Training Data
Reconstruction in DP-SGD", NeurIPS 2023), at most

    gamma = 1 - f(kappa),    for a mu-GDP release   gamma = Phi(Phi^-1(kappa) + mu).

For had the release been made without Z, a guess would be right with probability kappa at most;
being right is a test of the two worlds at that level, and 1 - f, being concave, bounds the average
of its power over Z.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from fedsieve.privacy.tradeoff import TradeOff

_ROWS = 256  # of the matrix of distances at a time


class Distance(Protocol):
    """How far apart records are: (rows, p) and (n, p) to (rows, n)."""

    def __call__(self, some: np.ndarray, all_: np.ndarray, /) -> np.ndarray:
        """The distances; they satisfy the triangle inequality."""
        ...


def reconstruction_bound(curve: TradeOff, prior: float) -> float:
    """Largest probability gamma with which a record is reconstructed after the release.

    Args:
        curve: Of everything that was released; `fedsieve.privacy.trade_off`.
        prior: kappa, the probability of success before it, in [0, 1]: 1/m for a record known to be
            one of m candidates; see `prior_success`.

    Raises:
        ValueError: The prior is outside [0, 1].

    Example:
        >>> from fedsieve.privacy import Event, trade_off
        >>> round(reconstruction_bound(trade_off([Event(1.0, 1.0, 1)]), prior=0.1), 4)
        0.3891
    """
    if not 0 <= prior <= 1:
        raise ValueError(f"prior={prior} must be in [0, 1]")
    return curve.best_tpr(prior)


def prior_success(records: ArrayLike, eta: float, distance: Distance | None = None) -> float:
    """kappa, from above, where the prior is uniform on given records.

    The best blind guess z0 need not be a record; but all records within eta of it are within 2 eta
    of each other, so the fullest ball of radius 2 eta around a record holds at least as many.

    Args:
        records: (n, p), n >= 1: what the attacker takes for possible, each equally likely.
        eta: Radius of success, >= 0; 0 asks for the record itself.
        distance: A metric; Euclidean by default.

    Raises:
        ValueError: No records, or a negative eta.

    Example:
        >>> prior_success([[0.0], [0.1], [5.0], [9.0]], eta=0.1)
        0.5
    """
    points = np.asarray(records, dtype=np.float64)
    if points.ndim != 2 or not len(points):
        raise ValueError(f"records has shape {points.shape}; needed is (n, p) with n >= 1")
    if not eta >= 0:
        raise ValueError(f"eta={eta} must be >= 0")
    apart = distance or _euclidean
    blocks = (points[i : i + _ROWS] for i in range(0, len(points), _ROWS))
    fullest = max(int((apart(block, points) <= 2 * eta).sum(axis=1).max()) for block in blocks)
    return fullest / len(points)


def _euclidean(some: np.ndarray, all_: np.ndarray) -> np.ndarray:
    from scipy.spatial.distance import cdist

    return np.asarray(cdist(some, all_))
