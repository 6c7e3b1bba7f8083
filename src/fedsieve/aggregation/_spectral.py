"""What the spectral rules share: the direction along which weighted rows spread most.

With weights w that sum to 1, q = sqrt(w), D = diag(q) and the Gram G of the rows about any point,

    M = P D G D P,  P = I - q q^T,

has the non-zero spectrum of Sigma = sum_i w_i (x_i - mu)(x_i - mu)^T, mu = sum_i w_i x_i. If
(lambda, u) is the top eigenpair of M and z = G D u, then the top eigenvector v of Sigma has
<v, x_i - mu> = (z_i - w^T z) / sqrt(lambda).

Up to `DENSE` rows the eigenpair is LAPACK's. Beyond, it is Lanczos' (``_lanczos``), converged to a
residual of 1e-12 lambda wherever `STEPS` products of G with a vector get there; for a filter that
has spent its `BUDGET`, wherever `FEW` do. A spectrum whose top is hard to tell from what is next
to it does not: rows at right angles have no top direction up to rounding, and looking for it would
wear the server out. Then lambda is the variance along a direction that has all but a part e of
what is possible: e < 1e-3 was found after `STEPS` products, and e < 0.03 after `FEW`.

What e costs a filter: that honest rows lose less mass than the others do while the variance along
v is above some K times the honest one, is an argument about the one direction v. So at some turn
the variance found is K times the honest one at most, and lambda K / (1 - e) times. The published
bounds on the error grow by 1 / (1 - e) at most.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg.lapack import dsyevr

from fedsieve.aggregation._door import FloatArray
from fedsieve.aggregation._lanczos import top, unforeseen

ROUNDING = 1e-15  # a variance below this part of the squared norms is the rounding of G
DENSE = 256  # rows up to which LAPACK is as fast as Lanczos
STEPS = 192  # of Lanczos at most; more than what noise takes, in however many dimensions
SMALL = 600  # rows; a step with n of them takes as long as n (n + SMALL) entries of G
FEW = 20  # steps at most of a filter that has spent its budget
BUDGET = 3000 * 1000 * (1000 + SMALL)  # 3000 products for 1000 rows, under half a second
NEAR_TIE = 1e-12  # relative: rows as far as the farthest up to this may be so up to rounding
HEARD = 0.95  # part of the rows that weigh something, below which the others are left out
SQUARABLE = 1e100  # of sums of a thousand such squares float64 still has room


@dataclass(frozen=True, eq=False)
class Spread:
    """The top eigenpair of a weighted covariance, as a filter sees it.

    Attributes:
        variance: The eigenvalue lambda, >= 0.
        tau: <v, x_i - mu>^2 for every row, (n,); 0 where the row weighs nothing.
        none: Whether the variance is no more than rounding, so that the rows are equal.
        products: Of G with a vector that Lanczos' method took.
    """

    variance: float
    tau: FloatArray
    none: bool
    products: int = 0


def spread(
    G: FloatArray, w: FloatArray, start: FloatArray | None = None, steps: int = STEPS
) -> Spread:
    """Along which direction, and how far, weighted rows spread.

    Args:
        G: Gram of the rows, (n, n).
        w: Weights, (n,), >= 0 and summing to 1.
        start: Of Lanczos' method, (n,); None for ``unforeseen(G)``.
        steps: Of Lanczos' method, at most.
    """
    tau, q = np.zeros(len(w)), np.sqrt(w)
    squares = np.diagonal(G)
    if (peak := float((w * np.abs(squares)).max())) > SQUARABLE:
        unit = 2.0 ** np.frexp(peak)[1]  # rounds nothing
        along = spread(G / unit, w, start, steps)
        return replace(along, variance=along.variance * unit, tau=along.tau * unit)
    rounding = ROUNDING * float(w @ np.abs(squares))
    if w @ squares - w @ G @ w <= rounding:  # the trace of M, no less than lambda
        return Spread(0.0, tau, none=True)
    if len(w) <= DENSE:
        (variance, u), products = _dense(G, q), 0
    else:
        pair = top(G, q, unforeseen(G) if start is None else start, steps)
        variance, u, products = pair.value, pair.vector, pair.products
    if variance <= rounding:
        return Spread(max(variance, 0.0), tau, none=True)
    z = G @ (q * u)
    # divided before it is squared: the square of a far row's square would overflow
    tau[:] = np.square(np.where(w > 0, z - w @ z, 0) / np.sqrt(variance))
    return Spread(variance, tau, none=False, products=products)


class Turns:
    """The directions of one filter, turn after turn, on the rows that still weigh something."""

    def __init__(self, G: FloatArray) -> None:
        self._G, self._rows = G, np.arange(len(G))
        self._start = unforeseen(G) if len(G) > DENSE else np.ones(len(G))
        self._spent = 0

    def spread(self, w: FloatArray) -> Spread:
        """`spread` of all rows; a row that weighs nothing never comes back."""
        heard = np.flatnonzero(w[self._rows])
        if len(heard) < HEARD * len(self._rows):
            self._G, self._rows = self._G[np.ix_(heard, heard)], self._rows[heard]
        steps = STEPS if self._spent < BUDGET else FEW
        along = spread(self._G, w[self._rows], self._start[self._rows], steps)
        n = len(self._rows)
        self._spent += along.products * n * (n + SMALL)
        tau = np.zeros(len(w))
        tau[self._rows] = along.tau
        return replace(along, tau=tau)


def filtered(c: FloatArray, tau: FloatArray) -> FloatArray:
    """c_i (1 - tau_i / max_j tau_j): the farthest row, and those as far, lose all of their mass."""
    left = 1 - tau / tau.max()
    return np.asarray(c * np.where(left > NEAR_TIE, left, 0))


def _dense(G: FloatArray, q: FloatArray) -> tuple[float, FloatArray]:
    n, w = len(G), q * q
    Gw = G @ w
    M = q[:, None] * (G - Gw[:, None] - Gw + w @ Gw) * q
    values, vectors, _, _, _ = dsyevr(M, range="I", il=n, iu=n)
    return float(values[0]), vectors[:, 0]
