"""FLTrust against its formula."""

import numpy as np
import pytest
import torch

from fedsieve.aggregation import ARC, NNM, FLTrust, Mean, capped_shares


def slow(X, g, p=1.0):
    lengths = np.linalg.norm(X, axis=1)
    trust = p * np.maximum(X @ g / lengths / np.linalg.norm(g), 0)
    return (trust * np.linalg.norm(g) / lengths) @ X / trust.sum()


@pytest.mark.parametrize("scale", [1e-80, 1.0, 1e80])
def test_equals_the_formula(scale):
    rng = np.random.default_rng(0)
    for _ in range(30):
        X, g, p = rng.normal(size=(9, 4)), rng.normal(size=4), rng.uniform(1, 2, 9)
        rule = FLTrust(8, root=torch.from_numpy(scale * g))
        np.testing.assert_allclose(rule(scale * X), scale * slow(X, g), rtol=1e-8)
        np.testing.assert_allclose(rule(scale * X, weights=p), scale * slow(X, g, p), rtol=1e-8)


def test_only_messages_that_point_the_way_are_heard():
    X = torch.tensor([[2.0, 0.0], [-5.0, 0.0], [0.0, 0.0]])
    rule = FLTrust(2, root=torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(rule(X), torch.tensor([1.0, 0.0]))
    assert rule.aggregate(X).weights.tolist() == pytest.approx([0.5, 0, 0])
    assert (rule(X[[1, 1, 2]]) == 0).all()
    assert (FLTrust(2, root=torch.zeros(2))(X) == 0).all()


def test_the_trusted_update_is_checked():
    with pytest.raises(ValueError, match="must be a finite vector"):
        FLTrust(1, root=torch.tensor([torch.nan]))
    with pytest.raises(ValueError, match=r"FLTrust\(f=1\) has no trusted update: give root="):
        FLTrust(1)(torch.ones(5, 2))
    with pytest.raises(ValueError, match="root has 3 numbers; allowed are 2"):
        FLTrust(1, root=torch.ones(3))(torch.ones(5, 2))


@pytest.mark.parametrize("made", [FLTrust(1), NNM(1) >> FLTrust(1), ARC(1) >> NNM(1) >> FLTrust(1)])
def test_a_composition_passes_the_trusted_update_on(made):
    X = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    given = made.trusting(X[0])
    assert (made.needs_root, given.needs_root) == (True, False)
    assert given.for_round(3)(X).norm() > 0
    assert not Mean().needs_root
    assert Mean().trusting(X[0]) == Mean()


def test_client_weights_multiply_the_trust_under_their_cap():
    X = torch.eye(3, dtype=torch.float64)
    rule = FLTrust(2, root=torch.ones(3, dtype=torch.float64))
    told = rule.aggregate(X, capped_shares([1, 1, 98], 1.5)).weights
    np.testing.assert_allclose(told / told.sum(), [0.25, 0.25, 0.5])
