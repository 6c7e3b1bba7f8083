"""SignGuard against its definition, and its clusters against scikit-learn's mean shift."""

import numpy as np
import pytest
import torch
from sklearn.cluster import MeanShift, estimate_bandwidth

from fedsieve.aggregation import SignGuard, TooManyFaultyClients
from fedsieve.aggregation.sign_guard import bandwidth, largest_cluster


def clustered(points):
    labels = MeanShift(bandwidth=estimate_bandwidth(points, quantile=0.5)).fit_predict(points)
    return np.flatnonzero(labels == np.bincount(labels).argmax())


@pytest.mark.parametrize("n", [4, 9, 20, 50])
def test_the_cluster_is_that_of_mean_shift(n):
    rng = np.random.default_rng(n)
    for _ in range(20):
        points = rng.dirichlet([5, 1, 5], n)
        points[: n // 4] = rng.dirichlet([9, 1, 2], n // 4)
        assert bandwidth(points) == pytest.approx(estimate_bandwidth(points, quantile=0.5))
        assert largest_cluster(points).tolist() == clustered(points).tolist()


def test_equal_points_are_one_cluster():
    assert largest_cluster(np.full((7, 3), 1 / 3)).tolist() == list(range(7))
    points = np.array([[1.0, 0, 0]] * 5 + [[0, 0, 1.0]] * 2)
    assert largest_cluster(points).tolist() == [0, 1, 2, 3, 4]


def test_equals_the_definition():
    rng = np.random.default_rng(2)
    for _ in range(20):
        X = rng.normal(size=(12, 200)) + 0.5
        X[0] *= 5
        X[1] *= 0.05
        X[2:4] *= -1
        norms = np.linalg.norm(X, axis=1)
        M = np.median(norms)
        signs = np.stack([(X > 0).mean(1), (X == 0).mean(1), (X < 0).mean(1)], axis=1)
        good = set(np.flatnonzero((norms >= 0.1 * M) & (norms <= 3 * M))) & set(clustered(signs))
        good = sorted(int(i) for i in good)
        assert not {0, 1, 2, 3} & set(good)
        clipped = np.minimum(1, M / norms)[:, None] * X
        found = SignGuard(f=4, fraction=1.0).aggregate(X)
        np.testing.assert_allclose(found.vector, clipped[good].mean(0))
        assert np.flatnonzero(found.weights).tolist() == good


@pytest.mark.parametrize("scale", [1e-310, 1e-320, 1e-200, 10.0])
@pytest.mark.parametrize("short", [0.0, 1e-3])
def test_tiny_rows_and_zeros_are_clipped_without_overflow(scale, short):
    X = np.random.default_rng(3).normal(size=(9, 40)) + 5
    X[0] *= short
    rule = SignGuard(f=2, fraction=1.0)
    out = rule(X * scale)
    assert np.isfinite(out).all()
    np.testing.assert_allclose(out / scale, rule(X), atol=5 * max(2.0**-1074 / scale, 1e-15))


def test_same_seed_same_result_another_seed_another_sample():
    X = torch.randn(9, 300, generator=torch.Generator().manual_seed(0)) + 0.1
    outs = [SignGuard(f=2, seed=seed)(X) for seed in (1, 1, 2)]
    assert torch.equal(outs[0], outs[1])
    assert not torch.equal(outs[0], outs[2])


def test_fails_closed_when_no_message_passes():
    X = torch.tensor([[1e-3], [1e-3], [1e-3], [-1.0], [-1.0], [-50.0], [50.0]])
    X = torch.cat([X, torch.tensor([[-90.0]])])
    gate = SignGuard(f=3, L=1.0, R=1.0)
    with pytest.raises(TooManyFaultyClients, match="no message passes both filters"):
        gate(X)


@pytest.mark.parametrize(
    "wrong", [{"L": -0.1}, {"L": 1.5}, {"R": 0.9}, {"R": np.inf}, {"fraction": 0.0}, {"seed": 1.5}]
)
def test_arguments_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}=.* must (be|lie)"):
        SignGuard(f=1, **wrong)
