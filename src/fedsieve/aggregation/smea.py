"""SMEA, the smallest maximum eigenvalue averaging.

Allouah, Guerraoui, Gupta, Pinot, Stephan, "On the privacy-robustness-utility trilemma in
distributed learning", ICML 2023. Over all subsets S of n - f rows, with mu_S their mean,

    Sigma_S = (1/|S|) sum_{i in S} (x_i - mu_S)(x_i - mu_S)^T,
    S* = argmin_S lambda_max(Sigma_S),  R(x) = mu_{S*}.

No subset's covariance is formed. With q, A = D G D of ``_spectral`` and q_S, A_S their parts in S,
lambda_max(Sigma_S) is that of P_S A_S P_S / |q_S|^2, which every Rayleigh quotient bounds from
below. A few power steps from the top direction of all rows, one matrix product for thousands of
subsets, rule most of them out; only what could still beat or tie the best one gets an exact
eigenvalue. The arg-min is therefore exact. The steps are taken with A less the middle of the
spectrum, as rows of many coordinates spread almost alike in all directions. As long as the first
subset of all ties the best one, as it does where all tie, only what could beat it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal  # whose exponents have no end
from itertools import chain, combinations, islice
from math import comb

import numpy as np
from numpy.typing import NDArray

from fedsieve.aggregation._door import FloatArray
from fedsieve.aggregation._gram import GramRule
from fedsieve.aggregation._spectral import ROUNDING, spread
from fedsieve.aggregation.rule import largest_share, minority
from fedsieve.registry import register

SUBSETS = 2_000_000  # that are searched in some seconds
CHUNK = 1 << 17  # entries of the vectors iterated at a time: 1 MiB, inside the second-level cache
ALONE = 512  # subsets multiplied at a time
POWER = 12  # steps; then an exact eigenvalue costs less than what another step would rule out
BATCH = 256  # exact eigenvalues between two looks at what is left to do
NEAR = 0.999  # part of the middle of a spectrum; all of it would leave equal eigenvalues rounding
TINY = 1e-300  # keeps 0 / 0 at 0, and looks for nothing below 0
TIE = 1e-12  # eigenvalues this close, relatively, are one; the first subset wins


@register(
    "rule", "smea", paper='Allouah et al., "On the privacy-robustness-utility trilemma", ICML 2023'
)
@dataclass(frozen=True)
class SMEA(GramRule):
    """Smallest maximum eigenvalue averaging: mean of the n - f clients of least top variance.

    The exact minimum over all C(n, f) subsets; of equally good ones (within 1e-12 of the
    eigenvalue) the lexicographically first. With client weights, mean and covariance are weighted.

    Args:
        f: Number of Byzantine clients, 2f < n and C(n, f) <= 2,000,000; beyond, use ``CAF``.

    Example:
        >>> import torch
        >>> SMEA(f=1)(torch.tensor([[1.0], [2.0], [3.0], [2.0], [99.0]]))
        tensor([2.])
    """

    def breakdown(self, n: int) -> int:
        """2f < n; whether the subsets can be searched is another question, see ``check``."""
        return minority(n)

    def kappa(self, n: int) -> float | None:
        """4f/(n - 2f), in the trace form and in the spectral form that implies it.

        For |S| = n - f, ``||R(x) - mu_S||^2 <= kappa * lambda_max(Sigma_S)``. Proof: T = S & S* has
        at least n - 2f rows, and Cauchy-Schwarz along mu_T - mu_S, once over T and once over the
        rest of S, gives ``||mu_T - mu_S||^2 <= f/(n - 2f) lambda_max(Sigma_S)``. The same holds for
        S*, whose eigenvalue is no larger. (The paper's constant is larger by (n - f)/(n - 2f).)
        """
        self.check(n)
        return 4 * self.f / (n - 2 * self.f)

    def check(self, n: int) -> None:
        """Refuse 2f >= n, and more subsets than can be searched.

        Raises:
            ValueError: With the largest legal f, or the largest feasible one.
        """
        super().check(n)
        if comb(n, self.f) > SUBSETS:
            most = max(f for f in range(self.f) if comb(n, f) <= SUBSETS)
            raise ValueError(
                f"{self!r} would have to search {Decimal(comb(n, self.f)):.3g} subsets of n={n} "
                f"clients; feasible are {SUBSETS}, i.e. f <= {most} (CAF has no such limit)"
            )

    def _solve(self, G: FloatArray, removed: int, share: FloatArray | None) -> FloatArray:
        n, f = len(G), self.f - removed
        w = np.full(n, 1 / n) if share is None else share
        if f <= 0:
            return w
        largest_share(share, n, f)
        w = w * _narrowest(G, w, f)
        return np.asarray(w / w.sum())


def _narrowest(G: FloatArray, w: FloatArray, f: int) -> NDArray[np.bool_]:
    """The subset of all but f rows whose weighted covariance has the smallest top eigenvalue."""
    guess, first = _greedy(G, w, f), np.arange(len(w)) < len(w) - f
    least, of_first = map(float, _eigenvalues(G, w, np.stack([guess, first])))
    rounding = ROUNDING * float((w * guess) @ np.abs(np.diagonal(G)) / w[guess].sum())
    ties = [(least, guess)]  # then in the order of the subsets
    least = min(least, of_first)

    def tie() -> float:
        return least * (1 + TIE) + rounding

    def enough() -> float:
        return least * (1 - TIE) - rounding - TINY if of_first <= tie() else tie()

    for subsets in _subsets(len(w), f):
        values = np.full(len(subsets), np.inf)
        bounds = _lower_bounds(G, w, subsets, enough())
        order = np.argsort(bounds, kind="stable")
        for start in range(0, len(order), BATCH):
            ask = order[start : start + BATCH]
            ask = ask[bounds[ask] <= enough()]
            if len(ask) == 0:
                break
            values[ask] = _eigenvalues(G, w, subsets[ask])
            least = min(least, float(values[ask].min()))
        good = np.flatnonzero(values <= tie())
        ties += [(float(values[i]), subsets[i]) for i in good]
    ties.append((of_first, first))
    return next(S for value, S in reversed(ties) if value <= tie())


def _lower_bounds(
    G: FloatArray, w: FloatArray, inside: NDArray[np.bool_], enough: float
) -> FloatArray:
    """What lambda_max(Sigma_S) is at least, (N,); infinite as soon as it is more than enough."""
    q = np.sqrt(w)
    A = q[:, None] * G * q
    lowest, top = _ends(A, q)
    # which many subsets share; a little of a fixed Gaussian vector has a part in every direction
    start = top + 0.1 / np.sqrt(len(w)) * np.random.default_rng(0).normal(size=len(w))
    bounds = np.full(len(inside), np.inf)
    left = np.arange(len(inside))
    mask = inside.T.astype(np.float64)  # a subset is a column: sums then run over whole rows
    V = mask * start[:, None]
    Q = mask * q[:, None]
    mass = np.square(Q).sum(axis=0)
    Q /= np.sqrt(mass)
    for _ in range(POWER):
        V -= np.einsum("is,is->s", V, Q) * Q
        V /= np.maximum(np.abs(V).max(axis=0), TINY)
        W = _times(A, V)
        W *= mask
        lengths = np.maximum(np.einsum("is,is->s", V, V), TINY)
        bounds[left] = np.einsum("is,is->s", V, W) / (lengths * mass)
        W -= NEAR * 0.5 * (lowest + enough * mass) * V
        stay = bounds[left] <= enough
        bounds[left[~stay]] = np.inf
        left, mass = left[stay], mass[stay]
        mask, Q, V = mask[:, stay], Q[:, stay], W[:, stay]
    return bounds


def _times(A: FloatArray, V: FloatArray) -> FloatArray:
    """A V, in parts that BLAS does not think worth threads: theirs would spin when ours start."""
    W = np.empty_like(V)
    for start in range(0, V.shape[1], ALONE):
        np.matmul(A, V[:, start : start + ALONE], out=W[:, start : start + ALONE])
    return W


def _ends(A: FloatArray, q: FloatArray) -> tuple[float, FloatArray]:
    """At right angles to q, the least eigenvalue of A and the eigenvector of the largest.

    No P_S A_S P_S has an eigenvalue below the former.
    """
    q = q / np.linalg.norm(q)
    Aq = A @ q
    K = A - np.outer(Aq, q) - np.outer(q, Aq) + (q @ Aq + np.trace(A)) * np.outer(q, q)
    values, vectors = np.linalg.eigh(K)
    return float(values[0]), vectors[:, -2]  # the trace puts q itself at the upper end


def _greedy(G: FloatArray, w: FloatArray, f: int) -> NDArray[np.bool_]:
    """A good subset to begin with: f times, drop the row farthest along the top direction."""
    kept = np.ones(len(w), dtype=bool)
    for _ in range(f):
        tau = spread(G, w * kept / w[kept].sum()).tau
        kept[np.where(kept, tau, -1).argmax()] = False
    return kept


def _subsets(n: int, f: int) -> Iterator[NDArray[np.bool_]]:
    """All subsets without f of n, as masks (N, n), lexicographically from the last to the first."""
    left_out = chain.from_iterable(combinations(range(n), f))
    while len(rows := np.fromiter(islice(left_out, CHUNK // n * f), np.intp)):
        inside = np.ones((len(rows) // f, n), dtype=bool)
        np.put_along_axis(inside, rows.reshape(-1, f), values=False, axis=1)
        yield inside


def _eigenvalues(G: FloatArray, w: FloatArray, inside: NDArray[np.bool_]) -> FloatArray:
    """lambda_max(Sigma_S) of every subset, (N,)."""
    at = np.nonzero(inside)[1].reshape(len(inside), -1)
    p = w[at] / w[at].sum(axis=1, keepdims=True)
    G = G[at[:, :, None], at[:, None, :]]
    Gp = np.einsum("sij,sj->si", G, p)
    pGp = np.einsum("si,si->s", p, Gp)
    K = G - Gp[:, :, None] - Gp[:, None, :] + pGp[:, None, None]
    q = np.sqrt(p)
    return np.maximum(np.linalg.eigvalsh(q[:, :, None] * K * q[:, None, :])[:, -1], 0)
