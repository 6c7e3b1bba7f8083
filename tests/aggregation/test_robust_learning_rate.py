"""The robust learning rate against its formula."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsieve.aggregation import RobustLearningRate, TooManyFaultyClients


def turned(X, theta):
    surplus = np.abs(np.sign(X).sum(0))
    return np.where(surplus >= theta, X.mean(0), -X.mean(0))


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 30), k=st.integers(1, 40), seed=st.integers(0, 99), data=st.data())
def test_equals_the_formula(n, k, seed, data):
    f = data.draw(st.integers(0, (n - 1) // 2))
    theta = data.draw(st.integers(f + 1, n))
    X = np.random.default_rng(seed).integers(-2, 3, (n, k)) * 0.7
    out = RobustLearningRate(f=f, theta=theta)(X)
    np.testing.assert_allclose(out, turned(X, theta), atol=1e-14)
    np.testing.assert_allclose(RobustLearningRate(f=f)(X), turned(X, f + 1), atol=1e-14)


def test_a_coordinate_only_attackers_push_is_turned_around():
    X = torch.zeros(10, 2)
    X[:, 0] = 1.0
    X[:3, 1] = 5.0
    out = RobustLearningRate(f=3)(X)
    torch.testing.assert_close(out, torch.tensor([1.0, -1.5]))


@given(seed=st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_client_weights_weigh_votes_and_values(seed):
    rng = np.random.default_rng(seed)
    copies, X = rng.integers(1, 4, 9), rng.integers(-2, 3, (9, 50)).astype(np.float64)
    theta = int(rng.integers(4, 10))
    votes = 9 / copies.sum() * (copies @ np.sign(X))
    if np.abs(np.abs(votes) - theta).min() < 1e-6 or copies.max() * 9 / copies.sum() >= theta:
        return
    expected = np.where(np.abs(votes) >= theta, 1, -1) * (copies @ X) / copies.sum()
    found = RobustLearningRate(f=1, theta=theta).aggregate(X, weights=copies / 7)
    np.testing.assert_allclose(found.vector, expected, atol=1e-12)
    np.testing.assert_allclose(found.weights, copies / copies.sum())


def test_after_unusable_rows_all_others_can_still_agree():
    X = torch.ones(5, 2)
    X[0] = torch.nan
    torch.testing.assert_close(RobustLearningRate(f=1, theta=5)(X), torch.ones(2))


@pytest.mark.parametrize("theta", [2, 0, -1, 3.0, True])
def test_theta_must_exceed_f(theta):
    with pytest.raises(ValueError, match=f"theta={theta!r} must be an integer >= 3, or None for f"):
        RobustLearningRate(f=2, theta=theta)


def test_theta_must_be_in_reach():
    with pytest.raises(ValueError, match="theta=6 must be at most n=5"):
        RobustLearningRate(f=1, theta=6)(torch.ones(5, 2))


def test_weights_with_which_f_clients_reach_theta_are_refused():
    rule, message = RobustLearningRate(f=1), "f=1 heaviest of 5 clients hold 0.44 of the weight"
    assert rule.weight_limit(5) == 2 / 5
    with pytest.raises(TooManyFaultyClients, match=message):  # which a run survives
        rule(torch.ones(5, 2), weights=[44, 14, 14, 14, 14])


def test_has_no_kappa():
    assert RobustLearningRate(f=0).kappa(5) is None
