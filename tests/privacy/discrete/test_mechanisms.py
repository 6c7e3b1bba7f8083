"""Integer mechanisms: what is sent, exact divergences below the stated ones, refusals."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.special import ive, logsumexp

from fedsieve.privacy import epsilon as gaussian_epsilon
from fedsieve.privacy.discrete import (
    DiscreteGaussian,
    Geometric,
    Lattice,
    PoissonBinomial,
    Skellam,
)

ADDITIVE = [DiscreteGaussian, Skellam]
each_additive = pytest.mark.parametrize("kind", ADDITIVE)


def generators(n, seed=0):
    return [np.random.default_rng([seed, i]) for i in range(n)]


def line(l2):
    """A lattice of one number whose magnitude is at most ``l2``."""
    lattice = Lattice(clip=float(l2), spacing=1.0, d=1, beta=0.999_999)
    assert lattice.l2 >= l2
    return lattice


def log_skellam(j, variance):
    with np.errstate(divide="ignore"):  # far out the Bessel function underflows
        return np.log(ive(np.abs(j), variance))


def divergence(log_p, log_q, order):
    known = np.isfinite(log_p) & np.isfinite(log_q)
    return logsumexp(order * log_p[known] + (1 - order) * log_q[known]) / (order - 1)


def test_what_is_sent_is_rounded_vector_plus_noise():
    lattice = Lattice(clip=1.0, spacing=0.01, d=5)
    for kind in ADDITIVE:
        mechanism = kind(lattice, 2.0)
        x = np.random.default_rng(1).standard_normal((3, 5))
        sent = mechanism.privatize(x, generators(3))
        for row, vector, generator in zip(sent, x, generators(3), strict=True):
            rounded = lattice.round(vector[None], [generator])[0]
            assert np.array_equal(row, rounded + mechanism.noise(5, generator))
        assert sent.dtype == np.int64


@each_additive
def test_noise_has_the_stated_deviation_and_rows_are_independent(kind):
    mechanism = kind(Lattice(1.0, 0.05, 20_000), 0.5)
    rows = mechanism.add_noise(np.zeros((3, 20_000), dtype=np.int64), generators(3))
    assert mechanism.noise_std == pytest.approx(math.sqrt(mechanism.variance))
    deviation = mechanism.noise_std / math.sqrt(2 * 60_000)
    assert abs(rows.std() - mechanism.noise_std) < 4 * deviation
    correlation = np.corrcoef(rows) - np.eye(3)
    assert np.abs(correlation).max() < 5 / math.sqrt(20_000)


@each_additive
@pytest.mark.parametrize("sigma", [0.6, 1.0, 4.0])
@pytest.mark.parametrize("order", [2, 8, 32])
@pytest.mark.parametrize("relation", ["add-remove", "replace-one"])
def test_the_exact_divergence_is_below_the_stated_one(kind, sigma, order, relation):
    mechanism = kind(line(3), sigma)
    j = np.arange(-3000, 3001)
    variance = float(mechanism.variance)
    if kind is DiscreteGaussian:
        log_p = -(j**2) / (2 * variance)
        log_p -= np.log(np.exp(log_p).sum())
    else:
        log_p = log_skellam(j, variance)
    shift = int(mechanism.lattice.l1) * (2 if relation == "replace-one" else 1)
    log_q = np.roll(log_p, shift)
    exact = divergence(log_p, log_q, order)
    stated = mechanism.rdp(order, relation)
    assert exact <= stated * (1 + 1e-9)
    if kind is DiscreteGaussian and sigma >= 1:
        assert exact == pytest.approx(stated, rel=1e-6)  # it is the Gaussian's


@pytest.mark.parametrize("variance", [1, 5, 50])
@pytest.mark.parametrize("order", [2, 8, 32])
def test_skellam_in_one_dimension(variance, order):
    mechanism = Skellam(line(1), math.sqrt(variance) / line(1).l2)
    j = np.arange(-300, 301)
    p, q = log_skellam(j, variance), log_skellam(j - 1, variance)
    assert divergence(p, q, order) <= mechanism.rdp(order)
    assert mechanism.rdp(order) >= order / (2 * variance)


def test_the_stated_curve_is_monotone_in_order_and_relation():
    for kind in ADDITIVE:
        mechanism = kind(Lattice(1.0, 0.02, 10), 1.5)
        curve = [mechanism.rdp(order) for order in (1.1, 1.5, 2, 2.5, 3, 9, 64)]
        assert curve == sorted(curve)
        assert mechanism.rdp(3, "replace-one") > mechanism.rdp(3)
        assert mechanism.rdp(3, "zero-out") == mechanism.rdp(3)


def test_epsilon_is_near_and_not_below_the_continuous_gaussian():
    lattice = Lattice(1.0, 1e-3, 100)
    exact = gaussian_epsilon(4.0, 1.0, 10, 1e-5).epsilon
    for kind in ADDITIVE:
        mechanism = kind(lattice, 4.0)
        assert exact <= mechanism.epsilon(1e-5, 10) <= 1.15 * exact
        assert mechanism.epsilon(1e-5, 10, "replace-one") > 1.9 * exact
        with pytest.raises(ValueError, match="steps=0 must be an integer >= 1"):
            mechanism.epsilon(1e-5, 0)
        with pytest.raises(ValueError, match="delta=2"):
            mechanism.epsilon(2, 1)


def test_the_discrete_gaussian_is_above_dp_accountings_own():
    from dp_accounting.pld import privacy_loss_distribution

    mechanism = DiscreteGaussian(line(1), 2.0)
    scale = math.sqrt(mechanism.variance)
    exact = privacy_loss_distribution.from_discrete_gaussian_mechanism(
        scale, sensitivity=round(mechanism.lattice.l2)
    ).get_epsilon_for_delta(1e-5)
    assert exact <= mechanism.epsilon(1e-5) <= 1.15 * exact


@each_additive
def test_wrong_arguments_are_refused(kind):
    lattice = Lattice(1.0, 0.01, 3)
    with pytest.raises(ValueError, match="noise_multiplier=0 must be finite and >= 1e-09"):
        kind(lattice, 0)
    with pytest.raises(ValueError, match=r"use spacing=0\.\d+ or more"):
        kind(lattice, 1000.0)
    mechanism = kind(lattice, 1.0)
    with pytest.raises(ValueError, match=r"needed are integers of shape \(n, 3\)"):
        mechanism.add_noise(np.zeros((2, 3)), generators(2))
    with pytest.raises(ValueError, match="share one"):
        mechanism.add_noise(np.zeros((2, 3), dtype=np.int64), generators(1) * 2)


@pytest.mark.parametrize(("epsilon", "sensitivity"), [(0.5, 1), (3.0, 2), (40.0, 1)])
def test_geometric_noise(epsilon, sensitivity):
    mechanism, n = Geometric(epsilon, sensitivity), 50_000
    noise = mechanism.privatize(np.full((2, n // 2), 7), np.random.default_rng(0)) - 7
    assert noise.shape == (2, n // 2)
    assert abs(noise.mean()) < 4 * math.sqrt(mechanism.variance / n) + 1e-12
    fourth = (noise**4).mean()
    assert abs(noise.var() - mechanism.variance) <= 4 * math.sqrt(fourth / n) + 1e-12
    r = math.exp(-epsilon / sensitivity)
    zero = (1 - r) / (1 + r)
    assert abs((noise == 0).mean() - zero) <= 4 * math.sqrt(zero * (1 - zero) / n) + 1e-12


def test_wrong_geometric_arguments_are_refused():
    for bad in (0, -1.0, math.nan):
        with pytest.raises(ValueError, match=f"epsilon={bad} must be finite and > 0"):
            Geometric(bad)
    with pytest.raises(ValueError, match="sensitivity=0"):
        Geometric(1.0, 0)
    with pytest.raises(ValueError, match=r"epsilon=1e-05 must be >= 0\.000244"):
        Geometric(1e-5)
    with pytest.raises(ValueError, match="must hold integers"):
        Geometric(1.0).privatize(np.array([0.5]), np.random.default_rng(0))


@pytest.mark.parametrize("x", [-1.0, -0.3, 0.0, 0.77, 1.0])
def test_counts_of_coins_are_binomial_unbiased_and_of_the_stated_variance(x):
    mechanism, n = PoissonBinomial(bound=2.0, m=8, theta=0.2), 20_000
    counts = mechanism.privatize(np.full((1, n), 2 * x), generators(1, 9))[0]
    law = stats.binom.pmf(np.arange(9), 8, 0.5 + 0.2 * x)
    assert stats.chisquare(np.bincount(counts, minlength=9), n * law).pvalue > 1e-4
    assert counts.max() < 2**mechanism.wire_bits
    found, variance = mechanism.lift(counts), float(mechanism.variance(2 * x))
    assert abs(found.mean() - 2 * x) < 4 * math.sqrt(variance / n)
    assert found.var() == pytest.approx(variance, rel=4 * math.sqrt(2 / n))


@pytest.mark.parametrize("m", [1, 4, 16])
@pytest.mark.parametrize("theta", [0.05, 0.25])
def test_no_two_inputs_are_further_apart_than_the_extremes(m, theta):
    mechanism = PoissonBinomial(bound=1.0, m=m, theta=theta)
    laws = [stats.binom.pmf(np.arange(m + 1), m, 0.5 + theta * x) for x in np.linspace(-1, 1, 9)]
    for order in (1.5, 2, 8, 32):
        found = [divergence(np.log(p), np.log(q), order) for p in laws for q in laws]
        assert max(found) == pytest.approx(mechanism.rdp(order), rel=1e-9)
    ratio = max(np.log(p / q).max() for p in laws for q in laws)
    assert ratio == pytest.approx(mechanism.pure_epsilon(), rel=1e-9)
    assert mechanism.rdp(2, d=3) == pytest.approx(3 * mechanism.rdp(2))
    assert mechanism.epsilon(1e-5, d=2, steps=3) <= 3 * mechanism.pure_epsilon(2)


def test_counts_of_coins_take_the_integers_of_a_lattice_as_they_are():
    """With c the largest integer; the counts are integers of a fixed width, unbiased for them."""
    lattice, n = Lattice(1.0, 1 / 8, 2), 4000
    rounded = lattice.round([[0.7, -0.4]], generators(1, 3))
    mechanism = PoissonBinomial(bound=math.floor(lattice.l2), m=16, theta=0.25)
    sent = mechanism.privatize(np.repeat(rounded, n, axis=0), generators(n, 5))
    assert sent.dtype == np.int64
    assert 0 <= sent.min() <= sent.max() < 2**mechanism.wire_bits
    off = mechanism.lift(sent).mean(axis=0) - rounded[0]
    assert (np.abs(off) < 4 * np.sqrt(mechanism.variance(rounded[0]) / n)).all()
    with pytest.raises(ValueError, match="outside"):
        mechanism.privatize(rounded * 100, generators(1))


def test_wrong_poisson_binomial_arguments_are_refused():
    with pytest.raises(ValueError, match="bound=0"):
        PoissonBinomial(0, 4, 0.1)
    with pytest.raises(ValueError, match="m=0"):
        PoissonBinomial(1.0, 0, 0.1)
    with pytest.raises(ValueError, match=r"theta=0\.3 must be in \[2\^-16, 1/4\]"):
        PoissonBinomial(1.0, 4, 0.3)
    mechanism = PoissonBinomial(1.0, 4, 0.1)
    with pytest.raises(ValueError, match=r"x holds 1\.5, outside"):
        mechanism.privatize([[1.5]], generators(1))
    with pytest.raises(ValueError, match="x holds nan"):
        mechanism.privatize([[np.nan]], generators(1))
    with pytest.raises(ValueError, match="share one"):
        mechanism.privatize([[0.5], [0.1]], generators(1) * 2)
