"""Krum and Multi-Krum against their scores written as loops."""

import numpy as np
import pytest
import torch

from fedsieve.aggregation import Krum, MultiKrum, TooManyFaultyClients


def loop_scores(X, f, others=2):
    out = []
    for i in range(len(X)):
        D = sorted(((X[i] - X[j]) ** 2).sum() for j in range(len(X)) if j != i)
        out.append(sum(D[: len(X) - f - others]))
    return np.array(out)


@pytest.mark.parametrize(("neighbours", "others"), [("n-f-2", 2), ("n-f-1", 1)])
def test_the_published_scores_decide(neighbours, others):
    rng = np.random.default_rng(0)
    for _ in range(100):
        n = int(rng.integers(5, 12))
        f = int(rng.integers(0, (n - 3) // 2 + 1))
        X = rng.normal(size=(n, 3))
        score = loop_scores(X, f, others)
        assert np.array_equal(Krum(f, neighbours)(X), X[score.argmin()])
        m = int(rng.integers(1, n - f + 1))
        best = X[np.argsort(score)[:m]].mean(0)
        np.testing.assert_allclose(MultiKrum(f, m, neighbours)(X), best)


def test_default_m_is_what_the_paper_has_a_proof_for():
    X = np.random.default_rng(1).normal(size=(9, 4))
    assert np.array_equal(MultiKrum(2)(X), MultiKrum(2, m=5)(X))
    assert np.array_equal(
        MultiKrum(2, neighbours="n-f-1")(X), MultiKrum(2, m=7, neighbours="n-f-1")(X)
    )


def test_the_two_neighbourhoods_differ():
    rng = np.random.default_rng(2)
    stacks = rng.normal(size=(200, 9, 3))
    assert any((Krum(2)(X) != Krum(2, "n-f-1")(X)).any() for X in stacks)


def test_equal_messages_are_each_others_neighbours():
    X = torch.tensor([[0.0], [5.0], [5.0], [9.0], [9.5]])
    weights = Krum(f=1).weights(X @ X.T)  # 0 + 16 for the pair, 0.25 + 16 for the next
    assert weights.tolist() == [0, 0.5, 0.5, 0, 0]
    assert Krum(f=1)(torch.tensor([[0.0], [0.0], [4.0], [5.0], [6.0]])) == 5


@pytest.mark.parametrize(("neighbours", "others"), [("n-f-2", 2), ("n-f-1", 1)])
def test_neighbours_are_counted_by_weight(neighbours, others):
    rng = np.random.default_rng(3)
    for _ in range(50):
        X, p = rng.normal(size=(9, 3)), rng.uniform(0.5, 1.5, 9)
        p /= p.mean()
        amount = 9 - np.sort(p)[-2:].sum() - others + 1
        scores = []
        for i in range(9):
            left, total = amount - p[i], 0.0
            D = ((X - X[i]) ** 2).sum(1)
            for j in np.argsort(D)[1:]:
                taken = min(max(left, 0.0), p[j])
                left, total = left - taken, total + taken * D[j]
            scores.append(total)
        assert np.array_equal(Krum(2, neighbours)(X, weights=p), X[np.argmin(scores)])


def test_heavy_clients_that_agree_do_not_outscore_a_majority():
    """Two of seven, a heavy and a light one: the light one's neighbours must not all be theirs."""
    X = np.random.default_rng(0).normal(size=(7, 3))
    X[:2] = 1e3
    for heavy in (1.0, 2.0, 3.0):
        p = [heavy, 0.3, 1, 1, 1, 1, 1]
        for rule in (Krum(2), MultiKrum(2), MultiKrum(2, m=5)):
            if heavy < 3:
                assert np.abs(rule(X, weights=p)).max() < 4
            else:
                with pytest.raises(TooManyFaultyClients, match=r"hold 0.482.*less than 0.429"):
                    rule(X, weights=p)
    assert Krum(2).weight_limit(7) == pytest.approx(3 / 7)
    assert MultiKrum(2, neighbours="n-f-1").weight_limit(7) == 0.5


@pytest.mark.parametrize("m", [None, 7])
def test_multi_krum_takes_no_more_than_the_honest_are_sure_to_weigh(m):
    X = np.random.default_rng(1).normal(size=(9, 3))
    X[-2:] = 1e30
    assert np.abs(MultiKrum(2, m)(X, weights=[1.0] * 7 + [1.9] * 2)).max() < 4


def test_multi_krum_averages_by_weight():
    X = np.array([[0.0], [0.1], [0.2], [0.1], [50.0]])
    w = MultiKrum(f=1, m=4).aggregate(torch.from_numpy(X), weights=[1, 2, 1, 1, 1]).weights.numpy()
    assert w[4] == 0
    assert w[1] == pytest.approx(w.max())
    assert w.sum() == pytest.approx(1)


def test_legality():
    assert [Krum(0).breakdown(n) for n in (1, 2, 3, 4, 5, 7)] == [-1, -1, 0, 0, 1, 2]
    assert Krum(0, "n-f-1").breakdown(5) == 2
    with pytest.raises(ValueError, match="neighbours='all' is not one of n-f-2, n-f-1"):
        Krum(1, "all")
    with pytest.raises(ValueError, match="m=0 must be an integer >= 1"):
        MultiKrum(1, m=0)
    with pytest.raises(ValueError, match="m=8 exceeds n - f = 7"):
        MultiKrum(2, m=8)(np.ones((9, 2)))


def test_kappa_only_where_the_literature_has_one():
    assert Krum(2).kappa(9) == pytest.approx(6 * (1 + 2 / 5))
    assert MultiKrum(2, m=1).kappa(9) == Krum(2).kappa(9)
    assert MultiKrum(2, m=2).kappa(9) is None
