"""FLTrust against its formula."""

import numpy as np
import pytest
import torch

from fedsieve.aggregation import ARC, NNM, Clipping, FLTrust, Mean, capped_shares


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


EXTREMES = {
    torch.float64: [1e-300, 1e-200, 1e-100, 1.0, 1e100, 1e200, 1e300],
    torch.float32: [1e-37, 1e-20, 1.0, 1e20, 1e37],
}


@pytest.mark.parametrize("dtype", EXTREMES)
def test_lengths_at_the_ends_of_the_numbers(dtype):
    rng = np.random.default_rng(1)
    X, g = torch.from_numpy(rng.normal(1, 0.5, (9, 4))), torch.from_numpy(rng.normal(1, 0.2, 4))
    expected = torch.from_numpy(slow(X.numpy(), g.numpy())).to(dtype)
    for a in EXTREMES[dtype]:
        for b in EXTREMES[dtype]:
            rule = FLTrust(3, root=(b * g).to(dtype))
            for made in (rule, Clipping(C=a) >> rule):
                out = made((a * X).to(dtype))
                if b / a < 1e100 and b / a > 1e-300:
                    torch.testing.assert_close(out / b, expected, rtol=1e-4, atol=0)
                else:
                    assert out.abs().max() <= 2 * b


def test_subnormal_messages_have_a_direction():
    X = (1e-41 * torch.tensor([[1.0, 2.0], [2.0, 2.0], [-1.0, 0.0]])).float()
    expected = slow(np.array([[1.0, 2.0], [2.0, 2.0], [-1.0, 0.0]]), np.array([1.0, 0.5]))
    for made in (FLTrust(1, root=torch.tensor([1.0, 0.5])), FLTrust(1, root=np.array([1.0, 0.5]))):
        np.testing.assert_allclose(made(X), expected, rtol=1e-3)
    tiny = FLTrust(1, root=torch.tensor([2e-41, 1e-41]))
    np.testing.assert_allclose(tiny(X) / 2e-41, expected, rtol=1e-3)


def test_a_message_of_no_length_beside_the_trusted_update_is_not_heard():
    X = torch.tensor([[1e-320], [1.0], [1.0]], dtype=torch.float64)
    assert FLTrust(1, root=torch.ones(1)).aggregate(X).weights.tolist() == [0, 0.5, 0.5]
    assert FLTrust(0, root=torch.ones(1))(X[:1]).tolist() == [0]


def test_only_messages_that_point_the_way_are_heard():
    X = torch.tensor([[2.0, 0.0], [-5.0, 0.0], [0.0, 0.0]])
    rule = FLTrust(2, root=torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(rule(X), torch.tensor([1.0, 0.0]))
    assert rule.aggregate(X).weights.tolist() == pytest.approx([0.5, 0, 0])
    assert (rule(X[[1, 1, 2]]) == 0).all()
    assert (FLTrust(2, root=torch.zeros(2))(X) == 0).all()


def test_the_trusted_update_is_checked():
    with pytest.raises(ValueError, match=r"root\[0\]=nan must be finite"):
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
