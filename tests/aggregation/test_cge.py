"""CGE against a sort by norm."""

import numpy as np

from fedsieve.aggregation import CGE, GramRule


def test_averages_the_shortest():
    rng = np.random.default_rng(0)
    for _ in range(30):
        X = rng.normal(size=(9, 3)) + 3
        shortest = np.argsort(np.linalg.norm(X, axis=1))[:7]
        np.testing.assert_allclose(CGE(2)(X), X[shortest].mean(0))


def test_a_large_common_offset_does_not_blur_the_order():
    rng = np.random.default_rng(1)
    X = 1e4 + 1e-3 * rng.normal(size=(9, 50))
    shortest = np.argsort(np.linalg.norm(X, axis=1))[:7]
    weights = CGE(2).aggregate(X).weights.numpy()
    assert np.array_equal(np.flatnonzero(weights), np.sort(shortest))


def test_client_weights_are_kept_by_mass():
    X, p = np.array([[1.0], [2.0], [3.0], [4.0], [5.0]]), np.array([1, 1, 1, 1, 2.0])
    # the heaviest client may hold 2/6, so the longest message loses just that
    np.testing.assert_allclose(CGE(1)(X, weights=p), [2.5])
    p = np.array([2, 1, 1, 1, 1.0])
    np.testing.assert_allclose(CGE(1)(X, weights=p), [(2 + 2 + 3) / 4])


def test_equally_long_messages_share_what_is_kept():
    X = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    np.testing.assert_allclose(CGE(1)(X), X.mean(0), atol=1e-15)


def test_it_is_no_gram_rule():
    assert not isinstance(CGE(1), GramRule)
