"""CAF on the Gram against the published filter with d x d eigen-decompositions."""

import numpy as np
import pytest
import torch

from fedsieve.aggregation import CAF, _spectral, caf
from fedsieve.aggregation._spectral import spread


def filtered(X, f, mass=None):
    """The published loop on the covariance matrix itself."""
    n = len(X)
    c = np.ones(n) if mass is None else np.array(mass, float)
    heaviest = np.sort(c)[n - f :].sum()
    stop = c.sum() - 2 * heaviest
    best, out = np.inf, c @ X / c.sum()
    turns = 0
    while c.sum() > stop + 1e-9:
        mu = c @ X / c.sum()
        Z = X - mu
        values, vectors = np.linalg.eigh((c[:, None] * Z).T @ Z / c.sum())
        if values[-1] < best:
            best, out = values[-1], mu
        tau = (Z @ vectors[:, -1]) ** 2
        c = c * np.maximum(1 - tau / tau[c > 0].max(), 0)
        turns += 1
    return out, turns


@pytest.mark.parametrize(("n", "f", "k"), [(5, 1, 3), (9, 2, 7), (11, 5, 4), (20, 4, 30)])
def test_equals_the_filter_on_the_covariance(n, f, k):
    rng = np.random.default_rng(n * k)
    for _ in range(50):
        X = rng.normal(size=(n, k)) * rng.uniform(0.1, 2, k)
        X[:f] += rng.normal(size=k) * rng.uniform(0, 5)
        expected, turns = filtered(X, f)
        assert turns <= 2 * f
        np.testing.assert_allclose(CAF(f=f)(X), expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("case", ["noise", "basis", "weights", "far"])
def test_turns_that_are_left_out_change_nothing(case, monkeypatch):
    rng = np.random.default_rng(3)
    share = rng.uniform(1, 1.5, 30) if case == "weights" else None
    turns = []
    monkeypatch.setattr(_spectral, "spread", lambda *a: turns.append(1) or spread(*a))
    for k in (5, 50, 10_000):
        X = np.eye(30) if case == "basis" else rng.normal(size=(30, k))
        X[:2] *= 1e6 if case == "far" else 1
        turns.clear()
        found = CAF(f=7).weights(X @ X.T, share)
        few = len(turns)
        with monkeypatch.context() as patch:
            patch.setattr(caf._Floor, "later", lambda self, heard: 0.0)
            assert torch.equal(CAF(f=7).weights(X @ X.T, share), found)
        assert few <= len(turns) - few
        assert case != "basis" or few < len(turns) - few


def test_rows_at_right_angles_do_not_wear_the_server_out(monkeypatch):
    turns = []
    monkeypatch.setattr(_spectral, "spread", lambda *a: turns.append(1) or spread(*a))
    CAF(f=200).weights(np.eye(1000))
    assert len(turns) <= 3


def test_client_weights_are_initial_masses():
    rng = np.random.default_rng(8)
    for _ in range(20):
        X, mass = rng.normal(size=(9, 4)), rng.integers(1, 4, 9)
        X[:2] += 2
        expected, _ = filtered(X, 2, mass)
        np.testing.assert_allclose(CAF(f=2)(X, weights=mass / 7.0), expected, rtol=1e-7, atol=1e-9)


def test_client_weights_without_an_honest_majority_are_refused():
    with pytest.raises(ValueError, match=r"f=1 heaviest of 5 clients hold 0\.6"):
        CAF(f=1)(torch.ones(5, 2), weights=[6, 1, 1, 1, 1])


def test_far_rows_of_several_scales_are_all_removed():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(11, 40))
    X[0], X[1], X[2], X[3] = 1e30, -1e20 * X[1], 1e10 * X[2], 1e3 * X[3]
    weights = CAF(f=4).aggregate(X).weights
    assert (weights[:4] == 0).all()
    # the noise of 7 rows, plus what 8 turns may take from the honest ones
    assert np.linalg.norm(CAF(f=4)(X) - X[4:].mean(0)) < 3


def test_resists_what_moves_the_mean():
    rng = np.random.default_rng(2)
    X = rng.normal(size=(20, 1000))
    X[:4] = X[4:].mean(0) + 1.5 * X[4:].std(0)
    honest = X[4:].mean(0)
    assert np.linalg.norm(CAF(f=4)(X) - honest) < 0.1 * np.linalg.norm(X.mean(0) - honest)


def test_error_is_bounded_by_the_spectrum_of_the_honest_rows():
    """The error stays of the order f/n in lambda_max, however adversarial rows are placed."""
    rng = np.random.default_rng(4)
    worst = 0.0
    for _ in range(10_000):
        n = int(rng.integers(3, 9))
        f, k = int(rng.integers(1, (n - 1) // 2 + 1)), int(rng.integers(1, 6))
        S = rng.normal(size=(n - f, k))
        direction = rng.normal(size=k) / np.sqrt(k)
        if rng.random() < 0.5:
            direction = np.linalg.svd(S - S.mean(0))[2][0]
        B = S.mean(0) + direction * rng.uniform(0, 6) + rng.normal(size=(f, k)) * rng.choice([0, 1])
        error = CAF(f=f)(np.vstack([S, B])) - S.mean(0)
        spread = np.linalg.eigvalsh(np.atleast_2d(np.cov(S.T, bias=True)))[-1]
        worst = max(worst, error @ error / spread / (f / (n - 2 * f)))
    assert 1 < worst < 4


@pytest.mark.parametrize("gram", [np.ones((2, 3)), np.ones(3), np.full((3, 3), np.nan)])
def test_a_gram_must_be_square_and_finite(gram):
    with pytest.raises(ValueError, match="finite, non-empty"):
        CAF(f=1).weights(gram)
