"""Lanczos' method for the direction along which weighted rows spread most (``_spectral``).

It ends at a Ritz pair (theta, y), |y| = 1, whose residual ||M y - theta y|| is at most `RESIDUAL`
theta, or after k steps. Neither says by itself that theta is the largest eigenvalue lambda: what is
at right angles to the start b, |b| = 1, is never found. But with beta = <u, b> the part of the
start along the top eigenvector u, in exact arithmetic:

- lambda - theta <= ||M y - theta y|| / |beta|. For y = p(M) b / |p(M) b|, p(x) = prod (x - theta_j)
  over the other Ritz values; by Gauss quadrature |p(M) b| = |<b, y>| p(theta), and p grows beyond
  theta, so that |<u, y>| >= |beta|.
- lambda - theta <= e lambda if beta^2 > 4 (1 - e)/e exp(-4 (k - 1) sqrt(e)). For q the Chebyshev
  polynomial of degree k - 1 within +-1 on [0, (1 - e) lambda], q(lambda) is at least
  1/2 exp(2 (k - 1) sqrt(e)), and q(M) b would have a larger Rayleigh quotient than theta.

(The rate is that of Kuczynski and Wozniakowski, "Estimating the largest eigenvalue by the power and
Lanczos algorithms with a random start", SIAM J. Matrix Anal. Appl. 13, 1992, who also show that no
start chosen beforehand has one.) So whoever makes the rows must not know the start. It is a fixed
Gaussian vector, for results that hardly move with the rounding of a Gram, plus `NUDGE` of one drawn
from a hash of all of the Gram: whatever the rows, |beta| < x NUDGE / sqrt(n) has probability x at
most. For n = 1000 and x = 0.001, e is 0.03% by the residual, 0.4% by 192 steps and 30% by 20; what
is found is far better (``tests/aggregation/test_lanczos.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from math import sqrt

import numpy as np
from scipy.linalg.blas import dsymv
from scipy.linalg.lapack import dstebz, dstein

from fedsieve.aggregation._door import FloatArray

RESIDUAL = 1e-12  # part of theta; float64 could reach two digits more
NUDGE = 1e-4  # where no direction is the top one, rounding of the Gram moves results by about that


@dataclass(frozen=True, eq=False)
class Ritz:
    """A Ritz pair (value, vector), and the products of the matrix with a vector that it took."""

    value: float
    vector: FloatArray
    products: int


def unforeseen(G: FloatArray) -> FloatArray:
    """A start, (n,), that cannot be known before the rows are."""
    seed = int.from_bytes(blake2b(G.tobytes(), digest_size=16).digest(), "little")
    fixed, drawn = (np.random.default_rng(s).normal(size=len(G)) for s in (0, seed))
    return np.asarray(fixed + NUDGE * drawn)


def top(G: FloatArray, q: FloatArray, start: FloatArray, steps: int) -> Ritz:
    """The top Ritz pair of P D G D P, fully reorthogonalised.

    Args:
        G: Gram, (n, n).
        q: Square roots of the weights, (n,): D = diag(q), P = I - q q^T.
        start: What to start from, (n,).
        steps: How many at most, >= 1.
    """
    steps = min(steps, len(q) - 1)
    alpha, beta = np.zeros(steps), np.zeros(steps)
    V = np.empty((steps + 1, len(q)))
    V[0] = q  # staying orthogonal to it does the work of P
    r = np.where(q > 0, start, 0)
    r -= (q @ r) * q
    look = 2
    for j in range(1, steps + 1):
        r -= (V[:j] @ r) @ V[:j]  # once is enough after the two terms of the recurrence
        left = sqrt(r @ r)
        if j > 1:
            beta[j - 2] = left
        V[j] = r / left
        r = q * dsymv(1.0, G.T, q * V[j])  # the transpose lies as Fortran wants it
        alpha[j - 1] = V[j] @ r
        r -= alpha[j - 1] * V[j]
        if j > 1:
            r -= left * V[j - 1]
        left = sqrt(r @ r)  # no residual is larger
        over = j == steps or left <= RESIDUAL * alpha[:j].max()
        if j == look or over:
            value, s = _top(alpha[:j], beta[: j - 1])
            if over or left * abs(s[-1]) <= RESIDUAL * value:
                break
            look += 1 + j // 8
    return Ritz(value, s @ V[1 : j + 1], j)


def _top(alpha: FloatArray, beta: FloatArray) -> tuple[float, FloatArray]:
    """The top eigenpair of the tridiagonal matrix."""
    k = len(alpha)
    if k == 1:
        return float(alpha[0]), np.ones(1)
    _, values, block, split, _ = dstebz(alpha, beta, 2, 0.0, 0.0, k, k, 0.0, "B")
    vectors, _ = dstein(alpha, beta, values[:1], block, split)
    return float(values[0]), vectors[:, 0]
