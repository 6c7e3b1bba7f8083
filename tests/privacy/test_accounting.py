"""The accountant against closed forms, published-library figures, and itself."""

import math
import warnings
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opacus.accountants.analysis import rdp as analysis
from scipy.optimize import brentq
from scipy.stats import norm

from fedsieve.privacy import Event, compose, epsilon, max_steps, noise_multiplier
from fedsieve.privacy._digits import rounded_up
from fedsieve.privacy._pld import FINE, grid_spacing, pld_epsilon
from fedsieve.privacy._rdp import rdp_epsilon, sampled_gaussian_rdp
from fedsieve.privacy.accounting import GAUSSIAN, KNOWN, PLD, RDP

DELTA = 1e-5


def exact_gaussian(sigma, steps, delta, sensitivity=1.0):
    """Balle and Wang, "Improving the Gaussian Mechanism", ICML 2018, Theorem 8."""
    mu = sensitivity * math.sqrt(steps) / sigma

    def excess(e):
        return norm.cdf(-e / mu + mu / 2) - np.exp(e) * norm.cdf(-e / mu - mu / 2) - delta

    return brentq(excess, 0, mu * mu + 40 * mu, xtol=1e-10)


# dp-accounting 0.6.0 on its default grid of 1e-4, add-remove, delta 1e-5
@pytest.mark.parametrize(
    ("q", "sigma", "steps", "expected"),
    [
        (0.001, 0.5, 1000, 3.239),
        (0.001, 1.0, 1000, 0.149),
        (0.01, 0.6, 100, 3.816),
        (0.01, 1.0, 1000, 1.828),
        (0.01, 1.1, 6000, 3.900),
        (0.1, 2.0, 1000, 8.279),
        (256 / 60000, 1.1, 14040, 2.380),
        (1.0, 200.0, 10000, 1.993),
    ],
)
def test_reference_epsilons(q, sigma, steps, expected):
    spent = epsilon(sigma, q, steps, DELTA)
    assert spent.accountant == (GAUSSIAN if q == 1 else PLD)
    assert spent.epsilon == pytest.approx(expected, rel=1e-3, abs=5e-4)


@pytest.mark.parametrize(
    ("q", "sigma", "steps", "expected"),
    [(0.01, 1.0, 1000, 2.843), (0.1, 2.0, 100, 4.368), (1.0, 10.0, 100, 9.997)],
)
def test_reference_epsilons_of_replace_one(q, sigma, steps, expected):
    assert epsilon(sigma, q, steps, DELTA, "replace-one").epsilon == pytest.approx(expected, 1e-3)
    # zero-out costs what add-remove costs
    zero_out, add_remove = (epsilon(sigma, q, steps, DELTA, r) for r in ("zero-out", "add-remove"))
    assert zero_out.epsilon == pytest.approx(add_remove.epsilon, rel=1e-9)


@pytest.mark.parametrize(("sigma", "steps"), [(1.0, 1), (10.0, 100), (60.0, 10_000), (3.0, 2)])
@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-8])
def test_without_sampling_it_is_the_exact_gaussian(sigma, steps, delta):
    for relation, sensitivity in (("add-remove", 1.0), ("replace-one", 2.0)):
        exact = exact_gaussian(sigma, steps, delta, sensitivity)
        found = epsilon(sigma, 1.0, steps, delta, relation).epsilon
        assert exact * (1 - 1e-9) <= found <= exact * (1 + 1e-8)
        loss = pld_epsilon((Event(sigma, 1.0, steps),), delta, relation)
        assert found <= loss <= exact * (1 + 2e-3)  # two ways, one answer


# PLD calibration, rounded up at a relative tolerance of 2e-4, add-remove, delta 1e-5
@pytest.mark.parametrize(
    ("q", "steps", "target", "expected"),
    [
        (0.001, 100, 8, 0.3389),
        (0.001, 10_000, 4, 0.5343),
        (0.01, 100, 0.5, 1.143),
        (0.01, 1000, 2, 0.9593),
        (0.01, 10_000, 1, 3.814),
        (0.1, 100, 4, 1.386),
        (0.1, 1000, 1, 11.87),
        (0.1, 10_000, 8, 6.054),
        (1.0, 100, 4, 10.81),
        (1.0, 1000, 2, 63.05),
        (1.0, 10_000, 0.5, 703.2),
    ],
)
def test_calibrated_noise(q, steps, target, expected):
    sigma = noise_multiplier(target, q, steps, DELTA)
    assert sigma == pytest.approx(expected, rel=5e-3)
    assert epsilon(sigma, q, steps, DELTA).epsilon <= target
    assert epsilon(sigma * (1 - 1e-3), q, steps, DELTA).epsilon > target


@pytest.mark.parametrize("relation", ["replace-one", "zero-out"])
def test_calibration_keeps_the_relation(relation):
    sigma = noise_multiplier(1.0, 0.05, 200, DELTA, relation)
    assert epsilon(sigma, 0.05, 200, DELTA, relation).epsilon == pytest.approx(1.0, abs=2e-3)
    assert (sigma > 1.3 * noise_multiplier(1.0, 0.05, 200, DELTA)) == (relation == "replace-one")


def test_calibration_reaches_into_the_fallback():
    sigma = noise_multiplier(2000.0, 0.5, 1, DELTA)
    spent = epsilon(sigma, 0.5, 1, DELTA)
    assert spent.accountant == KNOWN
    assert 1990 < spent.epsilon <= 2000


def test_monotone_in_rate_noise_and_steps():
    base = epsilon(1.0, 0.02, 200, DELTA).epsilon
    assert epsilon(1.0, 0.03, 200, DELTA).epsilon > base
    assert epsilon(0.9, 0.02, 200, DELTA).epsilon > base
    assert epsilon(1.0, 0.02, 300, DELTA).epsilon > base
    assert epsilon(1.0, 0.02, 200, 1e-6).epsilon > base
    assert epsilon(1.0, 0.02, 200, DELTA, "replace-one").epsilon > base


@pytest.mark.parametrize(
    ("q", "sigma", "steps"), [(0.01, 1.0, 1000), (0.1, 2.0, 100), (0.001, 0.6, 500), (1, 10, 100)]
)
def test_rdp_is_above_pld_and_agrees_with_an_independent_one(q, sigma, steps):
    pld = epsilon(sigma, q, steps, DELTA).epsilon
    rdp = rdp_epsilon((Event(sigma, q, steps),), DELTA, "add-remove")
    orders = [1 + x / 10 for x in range(1, 100)] + list(range(12, 257))
    curve = analysis.compute_rdp(q=q, noise_multiplier=sigma, steps=steps, orders=orders)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns when the best order is the first or the last
        peer, _ = analysis.get_privacy_spent(orders=orders, rdp=curve, delta=DELTA)
    assert rdp >= pld
    assert rdp == pytest.approx(peer, rel=1e-2)


@pytest.mark.parametrize(("q", "sigma"), [(0.01, 1.0), (0.3, 2.0), (1.0, 3.0)])
def test_integer_order_renyi_divergence_by_quadrature(q, sigma):
    x = np.linspace(-30 * sigma, 30 * sigma + 40, 400_001)
    base = norm.pdf(x, 0, sigma)
    ratio = 1 - q + q * np.exp((2 * x - 1) / (2 * sigma**2))
    for order in (2, 3, 8):
        moment = np.trapezoid(base * ratio**order, x)
        expected = math.log(moment) / (order - 1)
        assert sampled_gaussian_rdp(Event(sigma, q, 1), order) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("q", "sigma", "steps"), [(0.01, 1.0, 1000), (0.1, 4.0, 50), (1, 10, 9)])
def test_replace_one_fallback_is_an_upper_bound(q, sigma, steps):
    event = (Event(sigma, q, steps),)
    assert (
        rdp_epsilon(event, DELTA, "replace-one")
        >= epsilon(sigma, q, steps, DELTA, "replace-one").epsilon
    )


def test_fallback_takes_over_where_the_grid_would_be_too_large():
    assert math.isinf(grid_spacing((Event(0.3, 0.9, 10**8),), "add-remove"))
    assert epsilon(0.3, 0.9, 10**8, DELTA).accountant == RDP
    assert epsilon(0.01, 0.01, 10, DELTA, "replace-one").accountant == KNOWN
    assert epsilon(1.0, 0.01, 100, 1e-12).accountant == RDP
    assert epsilon(1.0, 0.9, 10**9, DELTA).accountant == RDP


def test_a_coarser_grid_is_never_below():
    event = (Event(1.0, 0.01, 1000),)
    values = [pld_epsilon(event, DELTA, "add-remove", FINE * c) for c in (1, 2, 4)]
    assert values == sorted(values)


def test_composition_of_parts_is_the_whole():
    parts = compose([Event(1.0, 0.01, 400), Event(1.0, 0.01, 600)], DELTA)
    whole = epsilon(1.0, 0.01, 1000, DELTA)
    assert parts == whole
    assert compose([Event(1.0, 0.01, 1000), Event(2.0, 0.5, 0)], DELTA) == whole


def test_different_events_compose():
    first, second = Event(1.0, 0.01, 300), Event(4.0, 1.0, 2)
    together = compose([first, second], DELTA)
    assert together == compose([second, first], DELTA)
    alone = max(compose([e], DELTA).epsilon for e in (first, second))
    assert alone < together.epsilon < sum(compose([e], DELTA / 2).epsilon for e in (first, second))
    assert (together.noise_multiplier, together.sampling_rate, together.steps) == (1.0, 1.0, 302)
    gaussians = compose([Event(3.0, 1.0, 1), Event(4.0, 1.0, 1)], DELTA).epsilon
    exact = exact_gaussian(1 / math.hypot(1 / 3, 1 / 4), 1, DELTA)
    assert gaussians == pytest.approx(exact, rel=1e-8)


def test_nothing_released_costs_nothing():
    nothing = compose([], DELTA)
    assert nothing.epsilon == 0
    assert epsilon(1.0, 0.1, 0, DELTA) == nothing
    assert "0 Gaussian releases" in nothing.sentence()


def test_max_steps_is_the_largest_number_that_fits():
    most = max_steps(1.0, 1.0, 0.01, DELTA)
    assert (
        epsilon(1.0, 0.01, most, DELTA).epsilon <= 1.0 < epsilon(1.0, 0.01, most + 1, DELTA).epsilon
    )
    assert max_steps(0.01, 1.0, 1.0, DELTA) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 0.1, 1, DELTA), "noise_multiplier=0.0"),
        ((math.nan, 0.1, 1, DELTA), "noise_multiplier=nan"),
        ((1.0, 0.0, 1, DELTA), "sampling_rate=0.0"),
        ((1.0, 1.5, 1, DELTA), "sampling_rate=1.5"),
        ((1.0, 0.1, -1, DELTA), "steps=-1"),
        ((1.0, 0.1, 1.5, DELTA), "steps=1.5"),
        ((1.0, 0.1, 1, 0.0), "delta=0.0"),
        ((1.0, 0.1, 1, 1.0), "delta=1.0"),
        ((1.0, 0.1, 1, DELTA, "swap"), "relation='swap' is not one of add-remove"),
        ((1.0, 0.1, 1, DELTA, "add-remove", "user"), "unit='user'"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        epsilon(*arguments)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: noise_multiplier(0.0, 0.1, 1, DELTA), "epsilon=0.0"),
        (lambda: noise_multiplier(math.inf, 0.1, 1, DELTA), "epsilon=inf"),
        (lambda: noise_multiplier(1.0, 0.1, 0, DELTA), "steps must be >= 1"),
        (lambda: max_steps(-1.0, 1.0, 0.1, DELTA), "epsilon=-1.0"),
    ],
)
def test_impossible_targets_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_sentence_says_everything():
    text = epsilon(1.0, 0.01, 1000, DELTA).sentence()
    for part in (
        "epsilon = 1.8",
        "delta = 1e-05",
        "unit: record",
        "one record added or removed",
        "Poisson sampling with rate 0.01",
        "1000 Gaussian releases with noise multiplier 1",
        "accountant: PLD",
    ):
        assert part in text
    client = epsilon(20.0, 1.0, 10, DELTA, "replace-one", "client").sentence()
    assert "one client replaced by another; no sampling" in client


def test_the_printed_epsilon_is_rounded_up():
    spent = epsilon(1.0, 0.01, 1000, DELTA)
    printed = float(spent.sentence().split()[2])
    assert spent.epsilon <= printed < spent.epsilon + 1e-4


@given(st.one_of(st.floats(0, 1e6), st.floats(1e-300, 1e-2)))
def test_a_printed_epsilon_is_never_below_the_true_one(value):
    printed = Decimal(rounded_up(value))
    assert (
        Decimal(value)
        <= printed
        <= Decimal(value) * Decimal("1.0011") + (0 if value < 1e-3 else Decimal("1e-4"))
    )


def test_an_infinite_epsilon_is_printed_in_words():
    assert rounded_up(math.inf) == "infinite"


@pytest.mark.parametrize("q", [1e-9, 1e-7])
def test_rare_sampling_of_many_steps_keeps_to_memory(q):
    event = Event(1.0, q, int(2e12 * q))
    whole = compose([event], 1e-5)
    assert 0 <= whole.epsilon <= rdp_epsilon((event,), 1e-5, "add-remove")
