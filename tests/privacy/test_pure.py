"""Composition of pure releases against exact curves and another library."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import binom

from fedsieve.privacy import advanced_composition, optimal_composition


def exact(epsilon: float, steps: int, delta: float) -> float:
    """Equal releases: the number of positive losses is binomial."""
    positive = np.arange(steps + 1)
    losses = (2 * positive - steps) * epsilon
    weights = binom.pmf(positive, steps, 1 / (1 + math.exp(-epsilon)))

    def excess(e: float) -> float:
        return float(weights @ -np.expm1(np.minimum(e - losses, 0))) - delta

    return 0.0 if excess(0) <= 0 else float(brentq(excess, 0, steps * epsilon, xtol=1e-13))


@pytest.mark.parametrize(
    ("epsilon", "steps", "delta"),
    [
        (0.1, 100, 1e-5),
        (0.5, 20, 1e-6),
        (1.0, 3, 1e-3),
        (0.01, 1000, 1e-5),
        (2.0, 50, 1e-8),
        (0.7, 1, 0.1),
        (0.001, 10, 1e-2),
        (0.05, 40, 0.3),
    ],
)
def test_equal_releases_cost_what_the_binomial_says(
    epsilon: float, steps: int, delta: float
) -> None:
    truth = exact(epsilon, steps, delta)
    found = optimal_composition([epsilon] * steps, delta)
    assert truth - 1e-9 <= found <= truth * (1 + 1e-4) + 1e-9


def test_unequal_releases_agree_with_another_librarys_loss_distributions() -> None:
    from dp_accounting.pld import common, privacy_loss_distribution

    epsilons, total = np.geomspace(0.1, 0.6, 12), None
    for one in epsilons:
        lost = privacy_loss_distribution.from_privacy_parameters(
            common.DifferentialPrivacyParameters(one, 0), value_discretization_interval=1e-4
        )
        total = lost if total is None else total.compose(lost)
    assert total is not None
    for delta in (1e-2, 1e-5):
        found = optimal_composition(list(epsilons), delta)
        assert found == pytest.approx(total.get_epsilon_for_delta(delta), abs=2e-3)


@settings(max_examples=30)
@given(
    epsilons=st.lists(st.floats(0.01, 1), min_size=1, max_size=12),
    delta=st.sampled_from([1e-7, 1e-3, 0.2]),
)
def test_the_theorem_is_never_below_the_truth_and_never_above_the_sum(
    epsilons: list[float], delta: float
) -> None:
    optimal, advanced = optimal_composition(epsilons, delta), advanced_composition(epsilons, delta)
    assert 0 <= optimal <= advanced <= sum(epsilons) * (1 + 1e-12)
    assert optimal_composition([*epsilons, 0.5], delta) >= optimal


def test_the_theorem_is_the_printed_formula() -> None:
    e, delta = [0.1, 0.2, 0.05] * 20, 1e-4
    squares = sum(one**2 for one in e)
    mean = sum((math.exp(one) - 1) * one / (math.exp(one) + 1) for one in e)
    second = mean + math.sqrt(sum(2 * one**2 * math.log(1 / delta) for one in e))
    third = mean + math.sqrt(
        sum(2 * one**2 * math.log(math.e + math.sqrt(squares) / delta) for one in e)
    )
    assert advanced_composition(e, delta) == pytest.approx(min(sum(e), second, third))


def test_budgets_of_very_different_size_and_very_large_ones_are_bounded_all_the_same() -> None:
    alone = optimal_composition([3.0], 1e-3)
    assert alone <= optimal_composition([1e-12, 3.0], 1e-3) <= alone * 1.01
    assert optimal_composition([2.0] * 500, 1e-5) == advanced_composition([2.0] * 500, 1e-5)
    truth = exact(1.2, 500, 1e-5)  # single losses reach 600, their sum does not count
    assert truth <= optimal_composition([1.2] * 500, 1e-5) <= truth * 1.001


def test_nothing_costs_nothing_and_a_tiny_delta_takes_the_theorem() -> None:
    assert optimal_composition([], 1e-5) == advanced_composition([], 1e-5) == 0
    many = [0.01] * 1000
    assert optimal_composition(many, 1e-12) == advanced_composition(many, 1e-12) < 10


@pytest.mark.parametrize("compose", [advanced_composition, optimal_composition])
def test_impossible_budgets_are_refused(compose: object) -> None:
    assert callable(compose)
    with pytest.raises(ValueError, match=r"epsilons=\[0\.1, 0\.0\] must all be finite and > 0"):
        compose([0.1, 0.0], 1e-5)
    with pytest.raises(ValueError, match=r"delta=1\.0"):
        compose([0.1], 1.0)
