"""Random allocation and shuffled batches: what an epoch costs, and that it is never too little.

The oracles: mpmath for both divergences, the closed form where an epoch has one step, and the
privacy profile of a small epoch by Monte-Carlo.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from fedsieve.privacy import (
    BudgetExceededError,
    Event,
    Ledger,
    compose,
    epsilon,
    noise_multiplier,
    trade_off,
)
from fedsieve.privacy._allocation import MOST_ORDER, allocation_moments, allocation_rdp
from fedsieve.privacy.accounting import GAUSSIAN, RDP_ALLOCATION
from fedsieve.privacy.guarantee import Relation, Sampling, kept_variance

DELTA = 1e-5
SETTINGS = [(0.5, 200), (1.0, 10), (2.0, 3), (4.0, 100), (20.0, 7)]


def with_against_without(sigma: float, t: int, order: int) -> float:
    """The series to the t-th power, one factor after another, in 40 digits."""
    mpmath.mp.dps = 40
    series = [
        mpmath.exp(mpmath.mpf(k * (k - 1)) / (2 * sigma**2)) / mpmath.factorial(k)
        for k in range(order + 1)
    ]
    product = [mpmath.mpf(1)] + [mpmath.mpf(0)] * order
    for _ in range(t):
        product = [
            mpmath.fsum(product[i] * series[n - i] for i in range(n + 1)) for n in range(order + 1)
        ]
    return float(mpmath.log(product[order] * mpmath.factorial(order) / mpmath.mpf(t) ** order))


def without_against_with(sigma: float, t: int, order: int) -> float:
    """Logarithm of E[M^-(order - 1)] over a product of Gauss-Hermite rules."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    ratio = np.exp(nodes / sigma - 0.5 / sigma**2)
    weights = weights / weights.sum()
    mean, weight = np.zeros(1), np.ones(1)
    for _ in range(t):
        mean = np.add.outer(mean, ratio / t).ravel()
        weight = np.multiply.outer(weight, weights).ravel()
    return math.log(float(weight @ mean ** (1 - order)))


@pytest.mark.parametrize(("sigma", "t"), SETTINGS)
@pytest.mark.parametrize("order", [2, 5, 24])
def test_the_divergence_with_against_without_is_exact(sigma: float, t: int, order: int) -> None:
    found = allocation_moments(sigma, t)[0][order]
    exact = with_against_without(sigma, t, order)
    assert exact <= found <= exact * (1 + 1e-9) + 1e-10


@pytest.mark.parametrize(("sigma", "t", "order"), [(1.5, 2, 2), (3.0, 3, 8), (4.0, 3, 20)])
def test_the_divergence_without_against_with_is_exact(sigma: float, t: int, order: int) -> None:
    found = allocation_moments(sigma, t)[1][order]
    exact = without_against_with(sigma, t, order)
    assert exact - 1e-8 <= found <= exact * (1 + 1e-6)


def test_it_is_exact_for_many_steps_as_far_as_one_can_simulate() -> None:
    sigma, t, draws, rng = 1.0, 20, 200_000, np.random.default_rng(1)
    means = np.zeros(draws)
    for _ in range(t):
        means += np.exp(rng.standard_normal(draws) / sigma - 0.5 / sigma**2) / t
    for order in (2, 4):
        sample = means ** (1 - order)
        width = 4 * sample.std() / math.sqrt(draws)
        found = math.exp(allocation_moments(sigma, t)[1][order])
        assert abs(found - sample.mean()) < width


@pytest.mark.parametrize(("sigma", "t"), SETTINGS)
def test_neither_direction_exceeds_what_is_known_of_it(sigma: float, t: int) -> None:
    """A step that is known; and, without against with, M >= prod_i L_i^(1/t) (means)."""
    orders = np.arange(2, MOST_ORDER + 1)
    with_, without = (moments[2:] / (orders - 1) for moments in allocation_moments(sigma, t))
    assert np.all(with_ <= orders / (2 * sigma**2))
    assert np.all(without <= orders / (2 * sigma**2))
    assert np.all(without <= (orders + t - 1) / (2 * t * sigma**2) + 1e-9)
    assert np.all(np.diff(with_) >= -1e-9)
    assert np.all(np.diff(without) >= -1e-9)
    assert allocation_rdp(sigma, t, 2) == max(with_[0], without[0])
    assert allocation_rdp(sigma, t, 2 * MOST_ORDER) == MOST_ORDER / sigma**2


@pytest.mark.parametrize("relation", ["add-remove", "zero-out", "replace-one"])
def test_an_epoch_of_one_step_is_a_gaussian_release(relation: Relation) -> None:
    plain = epsilon(2.0, 1.0, 5, DELTA, relation)
    assert plain.accountant == GAUSSIAN
    alone = epsilon(2.0, 1.0, 5, DELTA, relation, sampling="random-allocation")
    assert (alone.epsilon, alone.accountant) == (plain.epsilon, GAUSSIAN)


@pytest.mark.parametrize("relation", ["zero-out", "replace-one"])
@pytest.mark.parametrize("t", [1, 20])
def test_a_shuffled_epoch_costs_one_release_however_many_batches(
    relation: Relation, t: int
) -> None:
    plain = epsilon(2.0, 1.0, 5, DELTA, relation)
    cut = epsilon(2.0, 1 / t, 5, DELTA, relation, sampling="shuffled")
    assert (cut.epsilon, cut.accountant, cut.steps) == (plain.epsilon, GAUSSIAN, 5 * t)
    assert cut.epsilon > epsilon(2.0, 0.05, 100, DELTA, relation).epsilon  # never Poisson's


def profile(
    sigma: float, t: int, epsilons: np.ndarray, draws: int
) -> tuple[np.ndarray, np.ndarray]:
    """delta(eps) of one epoch and its standard error, the larger direction: (points,) each."""
    rng = np.random.default_rng(3)
    z = rng.standard_normal((draws, t))
    moved = z.copy()
    moved[:, 0] += 1 / sigma  # by symmetry the step may be the first

    def loss(y: np.ndarray) -> np.ndarray:
        return np.asarray(logsumexp(y / sigma - 0.5 / sigma**2, axis=1) - math.log(t))

    with_, without = loss(moved)[:, None], loss(z)[:, None]
    samples = [
        np.maximum(1 - np.exp(epsilons - with_), 0),  # P against Q
        np.maximum(1 - np.exp(epsilons + without), 0),  # Q against P
    ]
    best = max(samples, key=lambda s: float(s.mean()))
    return best.mean(axis=0), best.std(axis=0) / math.sqrt(draws)


@pytest.mark.parametrize(("sigma", "t"), [(0.7, 4), (1.0, 2), (1.0, 12), (2.0, 6)])
def test_the_claim_is_never_below_a_simulated_attack(sigma: float, t: int) -> None:
    epsilons = np.array([0.1, 0.3, 1.0, 2.0])
    delta, error = profile(sigma, t, epsilons, draws=60_000)
    checked = 0
    for eps, low, width in zip(epsilons, delta, error, strict=True):
        if low - 4 * width > 1e-4:
            claimed = epsilon(sigma, 1 / t, 1, float(low - 4 * width), sampling="random-allocation")
            assert claimed.epsilon >= eps
            assert claimed.epsilon < 3 * eps + 0.7  # and it is no wild guess
            checked += 1
    assert checked >= 2


def test_two_adaptive_epochs_are_covered_by_their_composition() -> None:
    """Queries that follow the messages before, against the claim for orthogonal ones."""
    sigma, t, draws, rng = 1.0, 4, 60_000, np.random.default_rng(5)
    loss = np.zeros(draws)
    seen = np.zeros(draws)  # a statistic of what was released
    for _ in range(2):
        step, ratios = rng.integers(t, size=draws), np.empty((draws, t))
        for i in range(t):
            size = np.where(seen > 0, 1.0, 0.6)  # the next query depends on the past
            y = size * (step == i) + sigma * rng.standard_normal(draws)
            ratios[:, i] = (size * y - size**2 / 2) / sigma**2
            seen += y - 0.5 / t
        loss += logsumexp(ratios, axis=1) - math.log(t)
    for eps in (0.5, 1.5):
        sample = np.maximum(1 - np.exp(eps - loss), 0)
        low = float(sample.mean() - 4 * sample.std() / math.sqrt(draws))
        assert low > 1e-4
        assert epsilon(sigma, 1 / t, 2, low, sampling="random-allocation").epsilon >= eps


@settings(max_examples=20)
@given(
    sigma=st.floats(0.3, 8.0),
    t=st.integers(2, 60),
    count=st.integers(1, 40),
    relation=st.sampled_from(["add-remove", "replace-one"]),
)
def test_more_noise_more_steps_and_fewer_epochs_cost_less(
    sigma: float, t: int, count: int, relation: Relation
) -> None:
    def cost(sigma: float, t: int, count: int) -> float:
        event = Event(sigma, 1 / t, count, sampling="random-allocation")
        return compose([event], DELTA, relation).epsilon

    here, slack = cost(sigma, t, count), 1 + 1e-6
    assert cost(sigma * 1.2, t, count) <= here * slack
    assert cost(sigma, t + 7, count) <= here * slack
    assert here <= cost(sigma, t, count + 1) * slack
    unsampled = compose([Event(sigma, 1.0, count)], DELTA, relation).epsilon
    assert here <= unsampled * slack


@pytest.mark.parametrize(
    ("sampling", "relation"),
    [
        ("shuffled", "zero-out"),
        ("shuffled", "replace-one"),
        ("random-allocation", "add-remove"),
        ("random-allocation", "replace-one"),
    ],
)
@pytest.mark.parametrize(("target", "t", "count"), [(1.0, 20, 5), (8.0, 100, 3)])
def test_calibrated_noise_meets_the_target_and_no_more(
    sampling: Sampling, relation: Relation, target: float, t: int, count: int
) -> None:
    sigma = noise_multiplier(target, 1 / t, count, DELTA, relation, sampling=sampling)
    for factor, within in ((1.0, True), (1 - 1e-3, False)):
        spent = epsilon(sigma * factor, 1 / t, count, DELTA, relation, sampling=sampling)
        assert (spent.epsilon <= target) is within


def test_other_releases_are_composed_with_epochs() -> None:
    allocated = Event(2.0, 0.05, 3, sampling="random-allocation")
    poisson, cut = Event(2.0, 0.05, 60), Event(9.0, 0.05, 3, sampling="shuffled")
    together = compose([allocated, poisson, cut, allocated], DELTA, "zero-out")
    assert together.accountant == RDP_ALLOCATION
    assert together.steps == 6 * 20 + 60 + 3 * 20
    for part in ([allocated, poisson], [poisson, cut], [allocated, allocated]):
        assert compose(part, DELTA, "zero-out").epsilon < together.epsilon
    assert "Poisson" in together.sampling
    assert "random allocation of every record to one step in each of 6 epochs of 20 steps" in (
        together.sampling
    )
    assert "3 epochs of 20 steps, no amplification counted" in together.sampling


def test_epochs_of_integer_noise_keep_its_variance() -> None:
    """Shuffled, they are what the same releases cost without sampling."""
    variance = kept_variance("skellam")
    plain = compose([Event(2.0, 1.0, 4, "skellam", variance)], DELTA, "zero-out")
    cut = Event(2.0, 0.05, 4, "skellam", variance, "shuffled")
    assert compose([cut], DELTA, "zero-out").epsilon == plain.epsilon
    ledger = Ledger(
        DELTA, "zero-out", repeatable=True, limit=plain.epsilon, law="skellam", sampling="shuffled"
    )
    ledger.charge(0, {"a": (0.05, 2.0, 3)})
    ledger.charge(1, {"a": (0.05, 2.0, 0)})  # no epoch begins
    ledger = Ledger.restore(ledger.state())
    ledger.charge(2, {"a": (0.05, 2.0, 1)})
    assert ledger.guarantee().epsilon == plain.epsilon
    assert ledger.guarantee().events == (cut,)
    with pytest.raises(BudgetExceededError):
        ledger.charge(3, {"a": (0.05, 2.0, 1)})


def test_a_ledger_refuses_at_once_what_it_could_not_account_for() -> None:
    with pytest.raises(ValueError, match="relation='add-remove'"):
        Ledger(DELTA, "add-remove", repeatable=True, sampling="shuffled")
    with pytest.raises(ValueError, match="law='skellam'"):
        Ledger(DELTA, "zero-out", repeatable=True, law="skellam", sampling="random-allocation")


def test_the_trade_off_of_epochs_is_that_of_their_releases() -> None:
    cut = trade_off([Event(2.0, 0.1, 4, sampling="shuffled")], "zero-out")
    assert cut.mu == pytest.approx(1.0)
    curve = trade_off([Event(2.0, 0.1, 4, sampling="random-allocation")])
    assert curve.accountant in (RDP_ALLOCATION, GAUSSIAN)
    assert 0.01 < curve.best_tpr(0.01) < 0.8 * cut.best_tpr(0.01)


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda: Event(1.0, 0.3, 1, sampling="shuffled"), "the nearest rate is 1/3"),
        (lambda: Event(1.0, 0.5, 1, "skellam", 2.0**22, "random-allocation"), "law='skellam'"),
        (lambda: Event(1.0, 0.5, 1, sampling="bins"), "sampling='bins' is not one of"),  # type: ignore[arg-type]
        (lambda: epsilon(1.0, 0.5, 1, DELTA, sampling="shuffled"), "'zero-out'.*'replace-one'"),
        (lambda: trade_off([Event(1.0, 0.5, 1, sampling="shuffled")]), "relation='add-remove'"),
        (
            lambda: noise_multiplier(1.0, 0.5, 1, DELTA, "add-remove", sampling="shuffled"),
            "relation='add-remove'",
        ),
    ],
)
def test_what_has_no_valid_accounting_is_refused(made: Callable[[], object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        made()


def test_the_three_ways_at_equal_epsilon() -> None:
    """Allocation needs next to the noise of Poisson sampling, shuffling that of no sampling."""
    ways: tuple[Sampling, ...] = ("random-allocation", "shuffled")
    for t, count in ((20, 3), (100, 10)):
        poisson = noise_multiplier(4.0, 1 / t, t * count, DELTA, "zero-out")
        allocated, cut = (
            noise_multiplier(4.0, 1 / t, count, DELTA, "zero-out", sampling=way) for way in ways
        )
        assert 0.95 * poisson < allocated < 1.1 * poisson
        assert cut > 1.8 * poisson
