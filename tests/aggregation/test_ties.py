"""Ties, common among whole numbers and mixed rows: neither order nor rounding decides them."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsieve.aggregation import NNM, Facts, aggregate_blocks
from fedsieve.aggregation._coordinatewise import Coordinatewise
from fedsieve.aggregation._gram import GramRule, PointRule, summed_distances
from fedsieve.aggregation._ties import least, ranks
from fedsieve.aggregation.pre_aggregator import MixedRule
from fedsieve.registry import components

RULES = {c.name: c for c in components("rule")}
# of several equally good sets of clients, or points, these take one by the clients' numbers or,
# FLAME among rows of one direction, by rounding; Bulyan only where Krum on all messages ties, too
NUMBERED = {"mda", "smea", "no-regret", "bulyan", "dnc", "geometric-median", "flame"}


@st.composite
def cases(draw):
    f = draw(st.integers(1, 2))
    n, k = draw(st.integers(2 * f + 3, 11)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 20)))
    X = rng.integers(-2, 3, (n, k)).astype(float)
    if draw(st.booleans()):
        X = 0.1 * X + rng.normal(size=k)  # sums are no longer exact
    X = torch.from_numpy(X).to(draw(st.sampled_from([torch.float32, torch.float64])))
    name, mixed = draw(st.sampled_from(sorted(RULES))), draw(st.booleans())
    rule = RULES[name].build(f=f, root=torch.ones(k))
    return name, NNM(f) >> rule if mixed else rule, X, torch.from_numpy(rng.permutation(n))


@given(case=cases())
@settings(max_examples=1000, deadline=None)
def test_neither_blocks_nor_the_order_of_clients_decide_ties(case):
    name, rule, X, order = case
    if rule.breakdown(len(X)) < rule.f or name == "geometric-median":
        return
    expected = rule(X)
    in_parts = Coordinatewise | GramRule | PointRule
    if isinstance(rule, in_parts) or (
        isinstance(rule, MixedRule) and isinstance(rule.rule, in_parts)
    ):
        found = aggregate_blocks(rule, X.split(1, dim=1)).vector
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    if Facts.SYMMETRIC in rule.facts and name not in NUMBERED:
        torch.testing.assert_close(rule(X[order]), expected, rtol=1e-4, atol=1e-5)


def test_equal_values_have_one_rank_and_equal_parts():
    values = np.array([[3.0, 1.0, 1.0 + 1e-15, 1.0, np.inf], [0.0, 5.0, 4.0, 3.0, 2.0]])
    assert ranks(values).tolist() == [[1, 0, 0, 0, 2], [0, 4, 3, 2, 1]]
    mass = np.array([1.0, 1, 1, 2, 0])
    np.testing.assert_allclose(least(values[0], mass, 2), [0, 0.5, 0.5, 1, 0])
    np.testing.assert_allclose(least(values[1], mass, 2), [1, 0, 0, 1, 0])
    both = least(values, mass, 2)
    np.testing.assert_allclose(both, [least(row, mass, 2) for row in values])


def test_a_far_row_does_not_drown_the_sums_of_distances():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(7, 3))
    p = rng.dirichlet(np.ones(7))
    expected = np.linalg.norm(X[:, None] - X, axis=2) @ p
    found = summed_distances(X @ X.T, p)
    np.testing.assert_allclose(found - found[0], expected - expected[0], atol=1e-13)
    X[6] = [1e30, 0, 0]  # x is farther from it than others by the first coordinate
    expected = np.linalg.norm(X[:6, None] - X[:6], axis=2) @ p[:6] - p[6] * X[:6, 0]
    found = summed_distances(X @ X.T, p)[:6]
    np.testing.assert_allclose(found - found[0], expected - expected[0], atol=1e-13)
