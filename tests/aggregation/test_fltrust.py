"""FLTrust against its formula."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsieve.aggregation import (
    ARC,
    NNM,
    Bucketing,
    Clipping,
    FLTrust,
    Mean,
    TooManyFaultyClients,
    _compiled,
    aggregate_blocks,
    capped_shares,
)
from fedsieve.aggregation._compiled_gram import norms_and_dots
from fedsieve.aggregation._gram import spokes


def slow(X, g, p=1.0):
    lengths = np.linalg.norm(X, axis=1)
    trust = p * np.maximum(X @ g / lengths / np.linalg.norm(g), 0)
    return (trust * np.linalg.norm(g) / lengths) @ X / trust.sum()


def precise(X, g):
    """Weights and aggregate in 64 binary digits and with exponents that nothing exceeds."""
    X, g = X.numpy().astype(np.longdouble), g.numpy().astype(np.longdouble)
    lengths, length = np.sqrt((X * X).sum(1)), np.sqrt(g @ g)
    cosines = X @ g / np.where(lengths > 0, lengths, 1) / length
    trust = np.where(cosines > 1e-12, cosines, 0)
    w = trust / max(trust.sum(), np.longdouble(1e-30)) * length / np.where(lengths > 0, lengths, 1)
    return w, w @ X


@given(
    lengths=st.lists(
        st.one_of(st.just(0.0), st.just(1.0), st.floats(-20, 30).map(lambda e: 10**e)),
        min_size=1,
        max_size=14,
    ),
    root=st.floats(-20, 15).map(lambda e: 10**e),
    k=st.integers(1, 40),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 9999),
)
@settings(max_examples=200, deadline=None)
def test_every_row_has_its_digits_however_long_all_others_are(lengths, root, k, dtype, seed):
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(len(lengths), k)) / k**0.5
    X = torch.from_numpy(directions * np.array(lengths)[:, None]).to(dtype)
    g = torch.from_numpy(root * rng.normal(size=k)).to(dtype)
    w, vector = precise(X, g)
    rule = FLTrust(len(X) - 1, root=g)
    for found in (
        rule.aggregate(X),
        aggregate_blocks(rule, [X[:, : k // 2], X[:, k // 2 :]] if k > 1 else [X], explain=True),
    ):
        # a cosine has all digits of its sum; the rest is the relative rounding of few operations
        short = np.maximum(np.abs(w), 1e-3 * np.abs(w).max())
        assert (np.abs(found.weights.numpy() - w) <= 1e-10 * short + 1e-300).all()
        error = np.linalg.norm(found.vector.numpy() - vector)
        assert error <= 4 * len(X) * torch.finfo(dtype).eps * np.linalg.norm(g.double())
    assert np.array_equal(rule(X.numpy()), rule(X).numpy())


@pytest.mark.parametrize(
    ("dtype", "length"),
    [(torch.float32, 1e30), (torch.float64, 1e99), (torch.float64, 1e-140), (torch.float32, 0.0)],
)
@pytest.mark.parametrize("pre", [None, Clipping(1.0), Clipping(1.0) >> Clipping(2.0), Bucketing(1)])
def test_nine_absurd_rows_cannot_touch_the_honest_one(dtype, length, pre):
    rng = np.random.default_rng(1)
    X = torch.from_numpy(rng.normal(size=(10, 20)) * length).to(dtype)
    g = torch.from_numpy(rng.normal(size=20)).to(dtype)
    X -= (X @ (g / g.norm()))[:, None] * g / g.norm()  # at right angles ...
    X -= 0.1 * length * g  # ... and a bit backwards
    X[6] = 5 * g
    X[6, 0] += 1e-3
    trusting = FLTrust(9, root=g)
    rule = trusting if pre is None else pre >> trusting
    expected = X[6] / X[6].norm() * g.norm()
    torch.testing.assert_close(rule(X), expected)
    torch.testing.assert_close(aggregate_blocks(rule, X.split(7, dim=1)).vector, expected)


def test_what_is_gross_is_told_by_the_trusted_update():
    X = torch.full((5, 2), 1e-150, dtype=torch.float64)
    X[0] = 2.0
    rule = FLTrust(4, root=torch.ones(2, dtype=torch.float64))
    assert rule.aggregate(X).rejected == 0
    X[1] = 1e150
    assert rule.aggregate(X).rejected == 1
    assert aggregate_blocks(rule, [X]).rejected == 1


def test_fixed_clipping_is_the_same_for_a_row_whoever_sends_the_others():
    X = torch.full((7, 3), 1e30)
    X[5] = torch.tensor([3.0, 0.0, 4.0])
    X[6] = torch.tensor([0.3, 0.0, 0.4])
    expected = (5 * torch.full((3,), 3**-0.5) + X[5] / 5 + X[6]) / 7
    torch.testing.assert_close((Clipping(1.0) >> Mean())(X), expected)


def test_messages_at_right_angles_are_not_trusted_by_rounding():
    g = torch.tensor([0.1, 0.2, 0.3, 0.7], dtype=torch.float64)
    X = torch.stack([g.flip(0), g.flip(0)]) * torch.tensor([-1.0, 1.0, -1.0, 1.0])
    X[1] *= 3
    X -= (X @ g / (g @ g))[:, None] * g  # up to rounding
    assert (FLTrust(1, root=g)(X) == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_compiled_and_numpy_inner_products_agree(dtype, monkeypatch):
    rng = np.random.default_rng(2)
    X = torch.from_numpy(rng.normal(size=(5, 700))).to(dtype)
    expected = np.stack([(X.double() ** 2).sum(1), X.double() @ X[0].double()], axis=1)
    np.testing.assert_allclose(spokes(X, X[0], 1.0), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(spokes(X, X[0], 2.0), expected / 4, rtol=1e-12, atol=1e-12)
    by_hand = norms_and_dots(X.numpy(), X[0].numpy(), 0, 700)
    np.testing.assert_allclose(by_hand, expected, rtol=1e-12, atol=1e-12)
    monkeypatch.setattr(_compiled, "WORTH_COMPILING", 1)
    monkeypatch.setattr(_compiled, "PATIENCE", 0)
    for stack in (X, X.T.contiguous().T):
        np.testing.assert_allclose(spokes(stack, X[0], 1.0), expected, rtol=1e-12, atol=1e-12)


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
                if a / b > 1e99:  # grossly long beside the trusted update, all of them
                    with pytest.raises(TooManyFaultyClients, match="grossly large"):
                        made((a * X).to(dtype))
                    continue
                out = made((a * X).to(dtype))
                if b / a < 1e100:
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
