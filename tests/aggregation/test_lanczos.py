"""What Lanczos' method promises, against LAPACK."""

from contextlib import suppress

import numpy as np
import pytest
from scipy.linalg import eigh

from fedsieve.aggregation import CAF, _lanczos, _spectral
from fedsieve.aggregation._lanczos import NUDGE, top, unforeseen
from fedsieve.aggregation._spectral import FEW, STEPS, spread


def matrix(G, w):
    """M of the docstring of ``_spectral``."""
    q = np.sqrt(w)
    P = np.eye(len(w)) - np.outer(q, q)
    return P @ (q[:, None] * G * q) @ P


def largest(M):
    last = len(M) - 1
    values, vectors = eigh(M, subset_by_index=(last, last))
    return values[0], vectors[:, 0]


def stack(case, n):
    """A Gram of n rows."""
    rng = np.random.default_rng(n)
    if case == "right angles":
        return np.eye(n)
    if case == "scales at right angles":
        return np.diag(1.005 ** np.arange(n))
    if case == "pairs":
        return np.kron(np.eye(n // 2), [[1, 0.5], [0.5, 1]])
    if case == "noise of 100 000 dimensions":
        noise = rng.normal(size=(n, n)) / np.sqrt(2e5)
        return np.eye(n) + noise + noise.T
    X = rng.standard_t(3, size=(n, 500)) if case == "heavy tails" else rng.normal(size=(n, 500))
    if case == "attack":
        X[: n // 4] += 3 * rng.normal(size=500)
    return X @ X.T


FLAT = ("right angles", "scales at right angles", "pairs")
CLEAR = ("noise of 100 000 dimensions", "noise", "heavy tails", "attack")


def left_out(monkeypatch, G, f, turns):
    """(e, residual), relative to lambda, of the first turns of CAF."""
    found = []

    def watched(G, w, start, steps):
        along = spread(G, w, start, steps)
        M, q = matrix(G, w), np.sqrt(w)
        value, _ = largest(M)
        pair = top(G, q, start, steps)
        assert pair.value == along.variance
        residual = np.linalg.norm(M @ pair.vector - pair.value * pair.vector)
        found.append((1 - along.variance / value, residual / value))
        if len(found) == turns:
            raise StopIteration
        return along

    monkeypatch.setattr(_spectral, "spread", watched)
    with suppress(StopIteration):
        CAF(f=f).weights(G)
    return np.array(found)


@pytest.mark.parametrize(("n", "turns"), [(300, 12), (1000, 2)])
@pytest.mark.parametrize("case", CLEAR)
def test_where_there_is_a_top_the_pair_is_converged(case, n, turns, monkeypatch):
    e, residual = left_out(monkeypatch, stack(case, n), 2 * n // 5, turns).T
    assert np.abs(e).max() < 1e-12
    assert residual.max() < 2e-12


@pytest.mark.parametrize(("n", "turns"), [(300, 12), (1000, 2)])
@pytest.mark.parametrize("case", FLAT)
def test_where_there_is_none_hardly_anything_is_left_out(case, n, turns, monkeypatch):
    e, _ = left_out(monkeypatch, stack(case, n), 2 * n // 5, turns).T
    assert e.min() > -1e-12
    assert e.max() < 1e-3


@pytest.mark.parametrize("case", FLAT + CLEAR)
def test_a_filter_that_has_spent_its_budget_still_looks(case, monkeypatch):
    monkeypatch.setattr(_spectral, "BUDGET", 0)
    e, _ = left_out(monkeypatch, stack(case, 300), 120, 12).T
    assert e.min() > -1e-12
    assert e.max() < 0.03


@pytest.mark.parametrize("scale", [1.0, 1e130])
def test_the_budget_is_what_bounds_the_products(scale, monkeypatch):
    products = []
    dsymv = _lanczos.dsymv
    monkeypatch.setattr(_lanczos, "dsymv", lambda *a: products.append(len(a[2])) or dsymv(*a))
    monkeypatch.setattr(_spectral, "BUDGET", 400 * 1000 * STEPS)
    CAF(f=199).weights(scale * stack("scales at right angles", 400))
    turns = 2 * 199
    assert 0 < len(products) < 4 * STEPS + turns * FEW


@pytest.mark.parametrize("spectrum", ["one above", "steps", "uniform", "flat"])
def test_the_bounds_by_the_residual_and_by_the_steps(spectrum):
    rng, n = np.random.default_rng(3), 80
    values = {
        "one above": np.r_[np.linspace(0, 1, n - 1), 1.3],
        "steps": np.repeat([0.2, 0.9, 1.0, 1.01], n // 4),
        "uniform": np.linspace(0, 1, n),
        "flat": np.r_[np.full(n - 1, 0.999), 1.0],
    }[spectrum]
    q = np.full(n, n**-0.5)
    U = np.linalg.qr(np.c_[q, rng.normal(size=(n, n - 1))])[0]
    G = n * (U[:, 1:] * values[1:]) @ U[:, 1:].T
    for part in (1.0, 1e-2, 1e-4):
        start = U[:, 1:] @ (rng.normal(size=n - 1) * np.where(values[1:] < values[-1], 1, part))
        beta = np.linalg.norm((U[:, 1:].T @ start)[values[1:] == values[-1]])
        beta /= np.linalg.norm(start)
        for k in (2, 5, 10, 20, 40):
            pair = top(G, q, start, k)
            M = matrix(G, q * q)
            residual = np.linalg.norm(M @ pair.vector - pair.value * pair.vector)
            short = values[-1] - pair.value
            assert short <= residual / beta + 1e-12
            e = np.linspace(0.001, 0.999, 999)
            proven = e[beta**2 > 4 * (1 - e) / e * np.exp(-4 * (pair.products - 1) * np.sqrt(e))]
            assert short <= proven.min(initial=1.0) * values[-1] + 1e-12


def test_what_is_proven_of_a_thousand_rows_is_what_the_docstring_says():
    """That beta^2 <= 4 (1 - e)/e exp(-4 (k - 1) sqrt(e)) up to the e that is named, and no more."""
    beta = 0.001 * NUDGE / np.sqrt(1000)
    assert round(100 * _lanczos.RESIDUAL / beta, 2) == 0.03
    e = np.linspace(0, 1, 100_001)[1:-1]
    for steps, percent in ((STEPS, "0.4"), (FEW, "30")):
        left_out = e[beta**2 <= 4 * (1 - e) / e * np.exp(-4 * (steps - 1) * np.sqrt(e))].max()
        assert f"{100 * left_out:.{1 if steps == STEPS else 0}f}" == percent
        assert f"{percent}% by {steps}" in _lanczos.__doc__.replace(" steps", "")


def test_a_direction_that_hides_from_the_fixed_start_is_found(monkeypatch):
    """Two far groups of rows, the farther one at right angles to what is known of the start."""
    n = 400
    rng = np.random.default_rng(9)
    known = np.random.default_rng(0).normal(size=n)
    a = np.linalg.qr(np.c_[np.ones(n), rng.normal(size=n)])[0][:, 1]
    b = np.linalg.qr(np.c_[np.ones(n), known, a, rng.normal(size=n)])[0][:, 3]
    G = np.eye(n) + 1e4 * np.outer(a, a) + 1.5e4 * np.outer(b, b)
    w = np.full(n, 1 / n)
    assert spread(G, w).variance == pytest.approx(15001 / n, rel=1e-9)
    monkeypatch.setattr(_lanczos, "NUDGE", 0.0)
    assert spread(G, w).variance == pytest.approx(10001 / n, rel=1e-9)  # it did hide


def test_the_start_depends_on_every_entry_by_a_little():
    G = stack("noise", 300)
    known = np.random.default_rng(0).normal(size=300)
    start = unforeseen(G)
    np.testing.assert_array_equal(start, unforeseen(np.asfortranarray(G)))
    assert 0 < np.abs(start - known).max() < 6 * NUDGE
    G[7, 9] = np.nextafter(G[7, 9], np.inf)
    assert not np.isclose(start - known, unforeseen(G) - known, rtol=1e-3).any()
