"""What the spectral rules share: the direction along which weighted rows spread most.

With weights w that sum to 1, q = sqrt(w), D = diag(q) and the Gram G of the rows about any point,

    M = P D G D P,  P = I - q q^T,

has the non-zero spectrum of Sigma = sum_i w_i (x_i - mu)(x_i - mu)^T, mu = sum_i w_i x_i. If
(lambda, u) is the top eigenpair of M and z = G D u, then the top eigenvector v of Sigma has
<v, x_i - mu> = (z_i - w^T z) / sqrt(lambda).

Beyond some hundred rows the eigenpair is Lanczos', to the last digits wherever the spectrum has a
top to speak of. Where it is flat, as for rows at right angles, no vector is the top one up to
rounding, and looking for it would wear the server out: there the steps end at a Ritz pair, with
lambda the variance along a direction that has all but the last 2% of what is possible: for a random
start, the chance that k steps leave out more than the part e is at most

    1.648 sqrt(n) exp(-(2k - 1) sqrt(e))

(Kuczynski, Wozniakowski, "Estimating the largest eigenvalue by the power and Lanczos algorithms
with a random start", SIAM J. Matrix Anal. Appl. 1992), 10^-6 for n = 1000 and the k = `LOOK`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import eigh_tridiagonal
from scipy.linalg.blas import dsymv
from scipy.linalg.lapack import dsyevr

from fedsieve.aggregation._door import FloatArray

ROUNDING = 1e-15  # a variance below this part of the squared norms is the rounding of G
DENSE = 256  # rows up to which LAPACK is as fast as Lanczos
RESIDUAL = 1e-14  # part of lambda below which float64 tells a Ritz pair from an eigenpair no more
LOOK = 64  # steps of Lanczos after which it is seen whether there is a top
FLAT = 1e-5  # part of lambda: a larger residual then has the top hidden among others as high
STEPS = 160  # at most; more than what the noise of 1000 rows in 3000 dimensions takes
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
    """

    variance: float
    tau: FloatArray
    none: bool


def spread(G: FloatArray, w: FloatArray) -> Spread:
    """Along which direction, and how far, weighted rows spread.

    Args:
        G: Gram of the rows, (n, n).
        w: Weights, (n,), >= 0 and summing to 1.
    """
    tau, q = np.zeros(len(w)), np.sqrt(w)
    squares = np.diagonal(G)
    if (peak := float((w * np.abs(squares)).max())) > SQUARABLE:
        unit = 2.0 ** np.frexp(peak)[1]  # rounds nothing
        along = spread(G / unit, w)
        return replace(along, variance=along.variance * unit, tau=along.tau * unit)
    rounding = ROUNDING * float(w @ np.abs(squares))
    if w @ squares - w @ G @ w <= rounding:  # the trace of M, no less than lambda
        return Spread(0.0, tau, none=True)
    variance, u = _dense(G, q) if len(w) <= DENSE else _lanczos(G, q)
    if variance <= rounding:
        return Spread(max(variance, 0.0), tau, none=True)
    z = G @ (q * u)
    # divided before it is squared: the square of a far row's square would overflow
    tau[:] = np.square(np.where(w > 0, z - w @ z, 0) / np.sqrt(variance))
    return Spread(variance, tau, none=False)


class Turns:
    """The directions of one filter, turn after turn, on the rows that still weigh something."""

    def __init__(self, G: FloatArray) -> None:
        self._G, self._rows = G, np.arange(len(G))

    def spread(self, w: FloatArray) -> Spread:
        """`spread` of all rows; a row that weighs nothing never comes back."""
        heard = np.flatnonzero(w[self._rows])
        if len(heard) < HEARD * len(self._rows):
            self._G, self._rows = self._G[np.ix_(heard, heard)], self._rows[heard]
        along = spread(self._G, w[self._rows])
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


def _lanczos(G: FloatArray, q: FloatArray) -> tuple[float, FloatArray]:
    """Lanczos' method, fully reorthogonalised; staying orthogonal to q does the work of P."""
    V = np.empty((min(STEPS, len(q)), len(q)))
    V[0] = q
    alpha: list[float] = []
    beta: list[float] = []
    # a fixed Gaussian vector has a part in every direction; rows decide nothing about it
    r = q * np.random.default_rng(0).normal(size=len(q))
    for j in range(1, len(V) + 1):
        r -= (V[:j] @ r) @ V[:j]  # once is enough after the two terms of the recurrence
        left = float(np.linalg.norm(r))
        last = j == len(V) or left == 0
        if j > 1 and (j < 8 or j % 4 == 0 or last):
            top = (j - 2, j - 2)
            values, s = eigh_tridiagonal(alpha, beta, select="i", select_range=top)
            enough = FLAT if j == LOOK else np.inf
            residual = left * abs(s[-1, 0]) / values[0]
            if last or residual <= RESIDUAL or residual > enough:
                break
        if j > 1:
            beta.append(left)
        V[j] = r / left
        r = q * dsymv(1.0, G.T, q * V[j])  # the transpose lies as Fortran wants it
        alpha.append(float(V[j] @ r))
        r -= alpha[-1] * V[j]
        if j > 1:
            r -= beta[-1] * V[j - 1]
    return float(values[0]), s[:, 0] @ V[1:j]
