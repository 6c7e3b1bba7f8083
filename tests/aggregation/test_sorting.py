"""The networks by the 0-1 principle: right on all 0-1 inputs means right on all inputs."""

from itertools import product

import numpy as np
import pytest
import torch

from fedsieve.aggregation import _sorting as sorting


def run(steps, X):
    rows = list(X.copy())
    for i, j in steps:
        rows[i], rows[j] = np.minimum(rows[i], rows[j]), np.maximum(rows[i], rows[j])
    return np.array(rows)


def every_binary_column(n):
    return np.array(list(product([0, 1], repeat=n)), dtype=np.int8).T


@pytest.mark.parametrize("n", range(1, 13))
def test_sorts(n):
    X = every_binary_column(n)
    assert np.array_equal(run(sorting.sorting_network(n), X), np.sort(X, axis=0))


@pytest.mark.parametrize("n", range(1, 13))
def test_separates(n):
    X = every_binary_column(n)
    ranked = np.sort(X, axis=0)
    for f in range((n - 1) // 2 + 1):
        out = run(sorting.separating_network(n, f), X)
        for part in (slice(0, f), slice(f, n - f), slice(n - f, n)):
            assert np.array_equal(out[part].sum(0), ranked[part].sum(0))


def test_published_sizes():
    sizes = {n: len(sorting.sorting_network(n)) for n in (8, 10, 16, 20, 25, 32, 50, 64)}
    assert sizes == {8: 19, 10: 32, 16: 63, 20: 103, 25: 140, 32: 191, 50: 403, 64: 543}


def test_needs_fewer_steps_to_separate_than_to_sort():
    assert len(sorting.separating_network(20, 4)) < len(sorting.sorting_network(20))
    assert sorting.separating_network(20, 0) == ()


@pytest.mark.parametrize("n", [5, 65])
def test_leaves_its_input_alone(n):
    X = torch.randn(n, 100, generator=torch.Generator().manual_seed(0))
    before = X.clone()
    for part in sorting.separate(X, 2):
        assert len(part.kept) == n - 4
        assert torch.equal(part.values[part.kept].sort(0).values, X.sort(0).values[2:-2])
    assert torch.equal(X, before)
