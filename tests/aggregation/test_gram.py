"""The Gram against distances computed directly."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedsieve.aggregation import CAF, CGE, NNM, Krum, MoNNA, _compiled
from fedsieve.aggregation._compiled_gram import centred_gram, squared_norms
from fedsieve.aggregation._door import admit, row_norms
from fedsieve.aggregation._gram import gram, squared_distances


def distances(X):
    X = np.asarray(X, np.float64)
    return ((X[:, None] - X[None]) ** 2).sum(2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("offset", "spread"), [(0, 1), (1e4, 1e-2), (10, 1e-3)])
def test_distances_survive_a_common_offset(dtype, offset, spread):
    rng = np.random.default_rng(0)
    X = torch.from_numpy(offset + spread * rng.normal(size=(9, 400))).to(dtype)
    D = squared_distances(gram(admit(X, None, 0)))
    np.testing.assert_allclose(D, distances(X), rtol=1e-9)


def test_a_far_row_does_not_blur_the_others():
    X = torch.randn(7, 30, generator=torch.Generator().manual_seed(0))
    X[0] = 1e30
    rows = admit(X, None, 1)
    D = squared_distances(gram(rows)) * rows.scale**2
    np.testing.assert_allclose(D[1:, 1:], distances(X[1:]), rtol=1e-9)


@pytest.mark.parametrize("spread", [0.0, 1e-4, 1e-9])
@pytest.mark.parametrize("blocks", [1, 3])
def test_no_row_spends_the_digits_of_the_others_by_its_direction(spread, blocks):
    rng = np.random.default_rng(0)
    X = 1e4 * (1 + np.arange(30)) + spread * rng.normal(size=(9, 30))
    honest, order = X[3:], np.argsort(np.linalg.norm(X, axis=1))
    X[:3] = -X[order[4]]  # as long as the row of median norm, to the last bit
    rows = replace(admit(torch.from_numpy(X), None, 3), reference=1)
    parts = [replace(rows, data=part) for part in rows.data.tensor_split(blocks, dim=1)]
    D = squared_distances(sum(gram(part) for part in parts))
    np.testing.assert_allclose(D[3:, 3:], distances(honest), rtol=1e-6)
    assert (D[:3, 3:] > 1e10).all()


@pytest.mark.parametrize("rule", [MoNNA(4, pivot=2), CGE(4)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_about_a_trusted_point_not_even_a_majority_spends_the_digits(rule, dtype):
    rng = np.random.default_rng(0)
    X, near = torch.from_numpy(1e30 * rng.normal(size=(9, 30))).to(dtype), [2, 5, 7]
    X[near] = torch.from_numpy(rng.normal(size=(3, 30))).to(dtype)
    rows = rule._admit(X, None)
    A = rule._points(rows)
    D = squared_distances(rule._look(rows, A))[-1, near] * rows.scale**2
    np.testing.assert_allclose(D, (X[near].double() - A.double()).square().sum(1), rtol=1e-10)


def test_column_blocks_join_seamlessly():
    X = torch.randn(20, 40_000, generator=torch.Generator().manual_seed(0))
    D = squared_distances(gram(admit(X, None, 0)))
    np.testing.assert_allclose(D, distances(X), rtol=1e-9)


def test_extreme_scales_are_divided_out():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(5, 8))
    for scale in (1e-200, 1e200):
        rows = admit(torch.from_numpy(X * scale), None, 0)
        D = squared_distances(gram(rows))
        np.testing.assert_allclose(D * (rows.scale / scale) ** 2, distances(X), rtol=1e-9)


def test_a_majority_of_zero_rows_is_scaled_by_the_others():
    X = torch.zeros(5, 3, dtype=torch.float64)
    X[4] = 1e200
    assert admit(X, None, 0).scale == pytest.approx(3**0.5 * 1e200)
    torch.testing.assert_close(CAF(f=1)(X), torch.zeros(3, dtype=torch.float64))


def test_any_common_centre_gives_the_same_weights():
    X = torch.randn(8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    plain, shifted = X @ X.T, (X - 3) @ (X - 3).T
    torch.testing.assert_close(CAF(f=2).weights(plain), CAF(f=2).weights(shifted))
    torch.testing.assert_close(CAF(f=2).weights(plain.numpy()), CAF(f=2).weights(plain))
    weighted = CAF(f=2).aggregate(X, weights=torch.arange(8) + 9)
    torch.testing.assert_close(CAF(f=2).weights(plain, torch.arange(8) + 9), weighted.weights)


@pytest.fixture
def compiled(monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setattr(_compiled, "WORTH_COMPILING", 1)
    monkeypatch.setattr(_compiled, "PATIENCE", 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "a", "k"), [(1, 0, 1), (4, 1, 255), (9, 2, 256), (21, 0, 1000)])
@pytest.mark.parametrize("size", [1.0, 1e200])
def test_compiled_and_plain_give_the_same_bits(n, a, k, dtype, size, compiled, monkeypatch):
    rng = np.random.default_rng(n)
    draw = [torch.from_numpy(3 + rng.normal(size=(rows, k))).to(dtype) for rows in (n, a)]
    X, A = (part * size if dtype == torch.float64 else part for part in draw)
    for stack in (X, X.T.contiguous().T):
        rows = admit(stack, None, 0)
        assert (rows.scale == 1) == (size == 1 or dtype == torch.float32)
        fast = gram(rows, A)
        with monkeypatch.context() as without:
            without.setattr(_compiled, "_compile", lambda *_, **__: None)
            without.setattr(_compiled, "_loaded", {})
            slow = admit(stack, None, 0)
            assert (slow.reference, slow.scale) == (rows.reference, rows.scale)
            assert fast.tobytes() == gram(slow, A).tobytes()
        assert np.array_equal(fast, fast.T)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_compiled_norms_tell_what_is_unusable(bad, compiled):
    X = torch.randn(5, 300, generator=torch.Generator().manual_seed(0))
    X[2, 299] = bad
    norms = row_norms(X)
    assert np.isfinite(norms).tolist() == [True, True, bad == 1e30, True, True]
    usable = [0, 1, 3, 4]
    np.testing.assert_allclose(norms[usable], X[usable].double().norm(dim=1))


def test_interpreted_and_compiled_norms_and_gram_agree(compiled):
    X = np.random.default_rng(0).normal(size=(6, 300)).astype(np.float32)
    np.testing.assert_allclose(
        squared_norms(X, 10, 290), np.sum(np.square(X[:, 10:290], dtype=float), 1)
    )
    rows = admit(torch.from_numpy(X), None, 0)
    by_hand = centred_gram(X, X[:1], rows.reference, 2.0, 0, 300)
    np.testing.assert_allclose(by_hand, gram(rows, torch.from_numpy(X[:1])) / 4, atol=1e-9)


@pytest.mark.parametrize("rule", [CAF(f=1), Krum(f=1), NNM(f=1) >> CAF(f=1)], ids=str)
def test_what_is_no_gram_is_refused(rule):
    X = np.random.default_rng(0).normal(size=(6, 4))
    G = X @ X.T
    skewed, negative = G.copy(), G.copy()
    skewed[2, 1] += 1
    with pytest.raises(ValueError, match=r"gram\[1, 2\]=.* and gram\[2, 1\]=.* must be equal"):
        rule.weights(skewed)
    negative[3, 3] = -2
    with pytest.raises(ValueError, match=r"gram\[3, 3\]=-2 must be >= 0: it is a squared length"):
        rule.weights(negative)
    rough = G * (1 + 1e-6 * np.random.default_rng(1).normal(size=G.shape))
    torch.testing.assert_close(rule.weights(rough), rule.weights(G), atol=1e-4, rtol=0)
