"""Odd arguments of the room's functions: refused by name, or taken as they are."""

import numpy as np
import pytest
import torch

from fedsieve.aggregation import CAF, Hierarchical, Median, aggregate_blocks, capped_shares
from fedsieve.aggregation.rule import Rule
from fedsieve.registry import components

GRAM_RULES = [
    part.factory(f=1)
    for part in components("rule")
    if hasattr(part.factory, "weights") and issubclass(part.factory, Rule)
]


def test_nobody_has_no_shares():
    with pytest.raises(ValueError, match=r"weights=\[\] must be finite"):
        capped_shares([], cap=2.0)


def test_a_tree_takes_no_blocks():
    tree = Hierarchical(Median(f=1), size=4)
    with pytest.raises(ValueError, match=r"Hierarchical.* is no rule that takes blocks"):
        aggregate_blocks(tree, [torch.ones(16, 2)])


@pytest.mark.parametrize("rule", GRAM_RULES, ids=str)
def test_a_gram_may_be_as_large_as_numbers_go(rule):
    X = np.random.default_rng(0).normal(size=(9, 4))
    X[-1] *= 40
    G = X @ X.T
    there = rule.weights(G)
    # a warning of an overflow would be an error
    torch.testing.assert_close(rule.weights(G * (1e308 / G.max())), there)


def test_a_known_scale_goes_along_with_a_large_gram():
    rules = [part.factory for part in components("rule") if part.name == "filter-l2"]
    G = np.diag([1.0, 1, 1, 1, 1, 1, 9])
    calm = rules[0](f=1, sigma=2.0).weights(G)
    wide = rules[0](f=1, sigma=2.0 * 1e150).weights(G * 1e300)
    torch.testing.assert_close(wide, calm)
    assert not torch.equal(calm, rules[0](f=1).weights(G))
    assert CAF(f=1).weights(G)[-1] == 0
