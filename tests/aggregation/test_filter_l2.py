"""FilterL2 on the Gram against the filter on the covariance matrix."""

import numpy as np
import pytest
import torch

from fedsieve.aggregation import NNM, Facts, FilterL2


def filtered(X, f, sigma, mass):
    c = np.array(mass, float) / np.sum(mass)
    for _ in range(2 * f):
        Z = X - c @ X
        values, vectors = np.linalg.eigh((c[:, None] * Z).T @ Z)
        if values[-1] <= 20 * sigma**2:
            break
        tau = (Z @ vectors[:, -1]) ** 2
        c = c * np.maximum(1 - tau / tau[c > 0].max(), 0)
        c[c < 1e-14] = 0
        c /= c.sum()
    return c @ X


@pytest.mark.parametrize("sigma", [0.0, 0.4, 9.0])
@pytest.mark.parametrize(("n", "f", "k"), [(5, 1, 3), (9, 2, 7), (20, 4, 30)])
def test_equals_the_filter_on_the_covariance(n, f, k, sigma):
    rng = np.random.default_rng(n * k)
    for draw in range(20):
        X = rng.normal(size=(n, k)) * rng.uniform(0.1, 2, k)
        X[:f] += rng.normal(size=k) * rng.uniform(0, 5)
        mass = np.ones(n) if draw % 2 else rng.uniform(1, 1.2, n)
        out = FilterL2(f=f, sigma=sigma)(X, weights=mass)
        np.testing.assert_allclose(out, filtered(X, f, sigma, mass), rtol=1e-7, atol=1e-9)


def test_only_an_unknown_scale_scales_with_the_messages():
    assert Facts.SCALES in FilterL2(f=1).facts
    assert Facts.SCALES not in FilterL2(f=1, sigma=1.0).facts
    X = np.random.default_rng(0).normal(size=(9, 4))
    rule = FilterL2(f=2, sigma=1.0)
    assert not np.allclose(rule(100 * X) / 100, rule(X))


def test_the_stop_compares_variances_in_any_unit():
    """With lambda^2 <= expansion sigma^2 one of these units would stop, and not the other."""
    X = np.random.default_rng(1).normal(size=(20, 5))
    top = np.linalg.eigvalsh(np.cov(X.T, bias=True))[-1]
    for unit in (1e-3, 1.0, 1e3):
        for factor, stops in ((0.99, False), (1.01, True)):
            rule = FilterL2(f=4, sigma=unit * np.sqrt(factor * top / 20))
            assert np.allclose(rule(unit * X), unit * X.mean(0), rtol=1e-9) == stops


def test_a_known_scale_spares_honest_clients():
    X = torch.randn(20, 100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(FilterL2(f=4, sigma=2.0)(X), X.mean(0))
    X[:4] += 20
    kept = FilterL2(f=4, sigma=1.0).aggregate(X).weights > 0.01
    assert not kept[:4].any()
    assert kept[4:].sum() >= 15


@pytest.mark.parametrize(
    "wrong", [{"sigma": -1.0}, {"sigma": np.inf}, {"expansion": 0.0}, {"expansion": np.nan}]
)
def test_scales_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}=.* must be finite"):
        FilterL2(f=1, **wrong)


@pytest.mark.parametrize("row", [np.nan, np.inf, 1e20])
def test_a_known_scale_is_known_beside_an_absurd_row(row):
    """Lengths are rescaled then; the honest scale has to be, too."""
    stack = torch.randn(20, 10, generator=torch.Generator().manual_seed(0)) + 100
    stack[0] += 30
    plain = FilterL2(f=2, sigma=1.0)(stack[[0, *range(2, 20)]])
    stack[1] = row
    for rule in (FilterL2(f=2, sigma=1.0), NNM(f=2) >> FilterL2(f=2, sigma=1.0)):
        assert (rule(stack) - stack[2:].mean(0)).norm() < 1
    assert (plain - stack[2:].mean(0)).norm() < 1
