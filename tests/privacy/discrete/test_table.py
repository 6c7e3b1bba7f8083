"""Exact sampling: proven tables, decisions by further bits, laws by chi-square."""

import decimal
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fedsieve.privacy.discrete import sample_discrete_gaussian
from fedsieve.privacy.discrete._laws import GaussianLaw, LaplaceLaw, PoissonLaw
from fedsieve.privacy.discrete._table import BITS, exp_minus, sample

LAWS = [
    GaussianLaw(Fraction(1, 50)),
    GaussianLaw(Fraction(1, 3)),
    GaussianLaw(Fraction(9)),
    GaussianLaw(Fraction(70.3) ** 2),
    LaplaceLaw(Fraction(1, 5)),
    LaplaceLaw(Fraction(17, 2)),
    PoissonLaw(Fraction(1, 10)),
    PoissonLaw(Fraction(5, 2)),
    PoissonLaw(Fraction(400)),
]
each_law = pytest.mark.parametrize("law", LAWS, ids=str)


def pmf(law, j):
    """The exact law in float64."""
    if isinstance(law, PoissonLaw):
        return stats.poisson.pmf(j, float(law.mean))
    far = np.arange(-4000, 4001)
    if isinstance(law, GaussianLaw):
        weights = np.exp(-(far**2) / (2 * float(law.variance)))
    else:
        weights = np.exp(-np.abs(far) / float(law.scale))
    return (weights / weights.sum())[np.asarray(j) + 4000]


def assert_follows(samples, law):
    n, values = len(samples), np.arange(-900, 901)
    mass = pmf(law, values)
    counts = np.bincount(samples + 900, minlength=len(values))
    common = n * mass >= 10
    deviation = (counts - n * mass)[common] / np.sqrt((n * mass * (1 - mass))[common] + 1e-9)
    assert np.abs(deviation).max() < 5  # of at most 500 cells
    if common.sum() > 1:
        chi_square = np.square((counts - n * mass)[common] / np.sqrt(n * mass[common])).sum()
        assert stats.chi2.sf(chi_square, common.sum()) > 1e-4  # one degree more than there are
    assert counts[~common].sum() < n * mass[~common].sum() + 5 * math.sqrt(
        n * mass[~common].sum() + 4
    )


@each_law
def test_samples_follow_the_law(law):
    assert_follows(sample(law, 100_000, np.random.default_rng(1)), law)


@each_law
def test_a_handful_of_bits_decides_nothing_wrongly(law):
    # with 5 bits at first most samples need more of them, and more again
    assert_follows(sample(law, 4000, np.random.default_rng(2), bits=5), law)


@each_law
def test_tables_are_within_one_unit_of_the_truth(law):
    coarse_first, coarse = law(BITS)
    fine_first, fine = law(400)
    assert fine_first <= coarse_first
    assert coarse[0] == 0
    assert coarse[-1] == 1 << BITS
    assert list(coarse) == sorted(coarse)
    unit = 1 << (400 - BITS)
    for i, T in enumerate(coarse):
        j = coarse_first + i - fine_first
        F = fine[j] if j < len(fine) else 1 << 400
        assert abs(T * unit - F) < unit
    # and the finer table is that of the law
    j = np.arange(fine_first, fine_first + len(fine) - 1)
    mass = np.array([float(Fraction(b - a, 1 << 400)) for a, b in itertools.pairwise(fine)])
    near = np.abs(j) < 3000
    np.testing.assert_allclose(mass[near], pmf(law, j[near]), rtol=1e-9, atol=1e-14)


@settings(deadline=None)
@given(x=st.fractions(0, 200), precision=st.sampled_from([8, 64, 300]))
def test_the_exponential_is_off_by_less_than_two_units(x, precision):
    with decimal.localcontext(prec=200):
        exact = (-decimal.Decimal(x.numerator) / decimal.Decimal(x.denominator)).exp()
        assert abs(exp_minus(x, precision) - exact * 2**precision) < 2


@pytest.mark.parametrize("variance", [Fraction(1, 4), Fraction(7, 3), Fraction(2.5) ** 2])
def test_the_published_sampler_follows_the_same_law(variance):
    generator = np.random.default_rng(3)
    samples = np.array([sample_discrete_gaussian(variance, generator) for _ in range(4000)])
    assert_follows(samples, GaussianLaw(variance))


def test_the_published_sampler_takes_any_variance():
    generator = np.random.default_rng(4)
    scale = 2**80
    samples = [sample_discrete_gaussian(Fraction(scale) ** 2, generator) for _ in range(200)]
    assert stats.kstest(np.array(samples, dtype=float) / scale, "norm").pvalue > 1e-4
    with pytest.raises(ValueError, match="variance=0 must be finite and > 0"):
        sample_discrete_gaussian(Fraction(0), generator)


def test_wide_noise_is_normal():
    samples = sample(GaussianLaw(Fraction(5000) ** 2), 50_000, np.random.default_rng(5))
    assert stats.kstest(samples / 5000, "norm").pvalue > 1e-4
    assert abs(samples.mean()) < 4 * 5000 / math.sqrt(50_000)
