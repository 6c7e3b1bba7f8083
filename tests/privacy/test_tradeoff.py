"""Trade-off curves against closed forms, a simulated attack, and the reconstruction bound."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from fedsieve.privacy import (
    Event,
    epsilon,
    prior_success,
    reconstruction_bound,
    trade_off,
)
from fedsieve.privacy.accounting import GAUSSIAN, KNOWN, NOTHING, PLD
from fedsieve.privacy.tradeoff import _profile

RATES = np.array([0.0, 1e-6, 1e-4, 0.01, 0.05, 0.3, 0.5, 0.9, 1.0])


@pytest.mark.parametrize(("sigma", "steps", "relation"), [
    (1.0, 1, "add-remove"), (10.0, 50, "add-remove"), (5.0, 10, "replace-one"),
])  # fmt: skip
def test_without_sampling_it_is_the_gaussian_curve(sigma, steps, relation):
    moved = 2.0 if relation == "replace-one" else 1.0
    curve = trade_off([Event(sigma, 1.0, steps)], relation)
    mu = moved * math.sqrt(steps) / sigma
    assert curve.accountant == GAUSSIAN
    assert curve(RATES) == pytest.approx(norm.cdf(norm.ppf(1 - RATES) - mu), abs=1e-12)
    assert curve.advantage == pytest.approx(np.max(1 - RATES - curve(RATES)), abs=0.05)
    assert curve.advantage == pytest.approx(2 * norm.cdf(mu / 2) - 1)


def test_the_profile_gives_the_closed_form_from_below():
    """The general way, through delta(epsilon), on a case whose answer is known."""
    events = (Event(2.0, 1.0, 3),)
    _, _, profile = _profile(events, "add-remove")
    exact = trade_off(events)
    general = type(exact)("add-remove", "record", PLD, None, profile)
    assert np.all(general(RATES) <= exact(RATES) + 1e-9)
    assert general(RATES) == pytest.approx(exact(RATES), abs=2e-3)
    assert general.advantage == pytest.approx(exact.advantage, abs=1e-3)


def test_one_sampled_step_against_the_likelihood_ratio_test():
    """Neyman and Pearson: N(0, s^2) against (1-q) N(0, s^2) + q N(1, s^2)."""
    q, sigma = 0.3, 0.8
    curve = trade_off([Event(sigma, q, 1)])
    for threshold in (0.0, 0.7, 1.5, 2.5):
        alpha = norm.sf(threshold, scale=sigma)
        miss = (1 - q) * norm.cdf(threshold, scale=sigma) + q * norm.cdf(threshold, 1, sigma)
        assert curve(alpha) <= miss + 1e-9  # no attack beats the curve
    total_variation = q * (2 * norm.cdf(1 / (2 * sigma)) - 1)
    assert curve.advantage == pytest.approx(total_variation, rel=2e-3)


def test_it_is_a_trade_off_curve_and_composition_lowers_it():
    grid = np.linspace(0, 1, 101)
    curves = [trade_off([Event(1.0, 0.02, t)])(grid) for t in (1, 30, 300)]
    for curve in curves:
        assert np.all(curve <= 1 - grid + 1e-12)
        assert np.all(np.diff(curve) <= 1e-12)
        assert np.all(np.diff(curve, 2) >= -1e-6)
    assert np.all(curves[0] >= curves[1])
    assert np.all(curves[1] >= curves[2])


def test_it_agrees_with_epsilon():
    for relation in ("add-remove", "replace-one"):
        curve = trade_off([Event(1.0, 0.02, 200)], relation)
        spent = epsilon(1.0, 0.02, 200, 1e-5, relation).epsilon
        line = np.maximum(1 - 1e-5 - np.exp(spent) * RATES, 0)
        assert np.all(curve(RATES) >= line - 1e-4)


def test_the_fallback_and_nothing_at_all():
    tiny = trade_off([Event(0.01, 0.3, 10)])
    assert tiny.accountant == KNOWN
    assert tiny(0.5) == pytest.approx(0.0, abs=1e-6)
    mild = trade_off([Event(30.0, 0.9, 10**9)])
    assert np.all(mild(RATES) <= 1 - RATES)
    nothing = trade_off([])
    assert (nothing.accountant, nothing.advantage) == (NOTHING, 0.0)
    assert nothing(RATES) == pytest.approx(1 - RATES)
    assert reconstruction_bound(nothing, 0.2) == pytest.approx(0.2)


def test_the_advantage_against_integer_noise_is_above_the_total_variation_and_near():
    """One release of an integer moved by the bound of the lattice, summed place by place."""
    sigma, width = 2.0, 50
    z = np.arange(-20 * width, 20 * width)
    mass = np.exp(-(z**2) / (2 * (sigma * width) ** 2))
    mass /= mass.sum()
    apart = np.abs(mass - np.roll(mass, width)).sum() / 2
    for curve in (
        trade_off([Event(sigma, 1.0, 1, "discrete-gaussian")]),
        trade_off([Event(sigma, 1.0, 1, "skellam", 2.0**22)]),
    ):
        assert apart < curve.advantage < 2 * apart
    sampled = trade_off([Event(sigma, 0.1, 1, "discrete-gaussian")])
    assert 0.1 * apart < sampled.advantage < 0.2


def test_the_advantage_under_random_allocation_is_above_the_total_variation_and_near():
    """Two steps: (N((1, 0)) + N((0, 1))) / 2 against N(0), integrated over the plane."""
    sigma = 1.5
    x = np.linspace(-10 * sigma, 10 * sigma, 1501)
    density = norm.pdf(x, 0, sigma)
    likely = np.exp((2 * x - 1) / (2 * sigma**2))
    ratio = (likely[:, None] + likely) / 2
    apart = np.trapezoid(np.trapezoid(np.abs(ratio - 1) * np.outer(density, density), x), x) / 2
    curve = trade_off([Event(sigma, 1 / 2, 1, sampling="random-allocation")])
    assert (
        apart
        < curve.advantage
        < min(2.5 * apart, trade_off([Event(sigma, 1.0, 1)]).advantage + 0.5)
    )


def test_simulated_reconstruction_stays_below_the_bound_and_comes_near():
    """m one-hot candidates; the best guess is the largest coordinate of the noisy sum."""
    rng, m, sigma, trials = np.random.default_rng(0), 10, 0.5, 40_000
    noise = rng.normal(0, sigma, (trials, m))
    noise[:, 0] += 1
    success = np.mean(noise.argmax(axis=1) == 0)
    bound = reconstruction_bound(trade_off([Event(sigma, 1.0, 1)]), 1 / m)
    assert bound == pytest.approx(norm.cdf(norm.ppf(1 / m) + 1 / sigma))
    error = 4 * math.sqrt(success * (1 - success) / trials)
    assert 0.8 * bound < success < bound + error


def test_a_prior_from_records_bounds_every_ball():
    rng = np.random.default_rng(1)
    records = rng.normal(size=(400, 2))
    for eta in (0.0, 0.1, 0.5):
        centres = rng.normal(size=(300, 2))
        inside = (np.linalg.norm(records[:, None] - centres, axis=2) <= eta).mean(axis=0)
        assert inside.max() <= prior_success(records, eta)
    assert prior_success(records, 0.0) == 1 / 400
    assert prior_success(records, 100.0) == 1.0

    def manhattan(some, all_):
        return np.abs(some[:, None] - all_).sum(axis=2)

    assert prior_success(records, 0.3, manhattan) <= prior_success(records, 0.3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: trade_off([Event(1.0, 1.0, 1)])(1.5), "alpha=1.5"),
        (lambda: trade_off([], "swap"), "relation='swap'"),
        (lambda: reconstruction_bound(trade_off([]), -0.1), "prior=-0.1"),
        (lambda: prior_success([], 1.0), "records has shape"),
        (lambda: prior_success([[0.0]], -1.0), "eta=-1.0"),
    ],
)
def test_impossible_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
