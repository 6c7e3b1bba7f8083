"""Integer mechanisms at the ends of what they allow: exact, or refused with name and value."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsieve.privacy import IntegerMechanism
from fedsieve.privacy.discrete import (
    DiscreteGaussian,
    Geometric,
    IntegerWire,
    Lattice,
    PoissonBinomial,
    Skellam,
    SumLattice,
    sample_discrete_gaussian,
)

FAR = 2**62
ANY = st.floats(allow_nan=True, allow_infinity=True)  # refusals, too
WIDE = st.floats(-300, 300).map(lambda e: 10.0**e)


def generators(n):
    return [np.random.default_rng([7, i]) for i in range(n)]


def made(kind, *given, names):
    """What is legal; ``None`` where it is refused, by one of these names and its value."""
    try:
        return kind(*given)
    except ValueError as error:
        if not any(f"{name}=" in str(error) for name in names.split()):
            raise
        return None


@pytest.mark.parametrize("x", [FAR + 1, -FAR - 1, 2**63 - 1, -(2**63), 2**63, 2**64 - 1])
def test_geometric_noise_does_not_overflow(x):
    """2^63 - 1 with a positive noise would come back as a negative number."""
    held = np.array([0, x], dtype=np.uint64 if x >= 2**63 else np.int64)
    with pytest.raises(ValueError, match=rf"x holds {x}; allowed is -2\^62 to 2\^62"):
        Geometric(1.0).privatize(held, np.random.default_rng(0))


@pytest.mark.parametrize("x", [FAR, -FAR, 0, 1])
@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_geometric_noise_is_exact_up_to_there(x, dtype):
    if x < 0 and dtype is np.uint64:
        return
    widest = Geometric(epsilon=2.0**-12)
    noise = widest.privatize(np.zeros(999, np.int64), np.random.default_rng(3))
    sent = widest.privatize(np.full(999, x, dtype), np.random.default_rng(3))
    assert [int(y) - x for y in sent] == noise.tolist()
    assert np.abs(noise).max() > 4096


@pytest.mark.parametrize("kind", [DiscreteGaussian, Skellam])
@pytest.mark.parametrize("x", [FAR + 1, -(2**63)])
def test_additive_noise_does_not_overflow(kind, x):
    mechanism = kind(Lattice(1.0, 0.5, 2), 1.0)
    with pytest.raises(ValueError, match=f"sums holds {x}; allowed"):
        mechanism.add_noise(np.array([[0, x]]), generators(1))
    sent = mechanism.add_noise(np.array([[FAR, -FAR]]), generators(1))
    noise = mechanism.noise(2, generators(1)[0])
    assert [int(y) for y in sent[0]] == [FAR + int(noise[0]), -FAR + int(noise[1])]


@given(ANY | WIDE, st.integers(-1, 2**70) | WIDE)
@settings(deadline=None, max_examples=60)
def test_geometric_of_any_setting_is_exact_or_refused(epsilon, sensitivity):
    mechanism = made(Geometric, epsilon, sensitivity, names="epsilon sensitivity")
    if mechanism is None:
        return
    y = mechanism.privatize(np.array([0, FAR, -FAR]), np.random.default_rng(1))
    assert y[1] > 0 > y[2]
    assert math.isfinite(mechanism.variance)
    assert mechanism.variance >= 0


@pytest.mark.parametrize("kind", [DiscreteGaussian, Skellam])
@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_additive_mechanisms_of_any_setting_are_exact_or_refused(kind, data):
    grid = data.draw(st.sampled_from([Lattice, SumLattice]))
    clip, spacing, sigma = (data.draw(WIDE | ANY) for _ in range(3))
    if data.draw(st.booleans()):  # so that some settings are legal
        spacing = clip * 2.0 ** -data.draw(st.integers(-4, 34))
        sigma = 2.0 ** data.draw(st.integers(-34, 14))
    d = data.draw(st.integers(0, 50))
    lattice = made(grid, clip, spacing, d, names="clip spacing d")
    mechanism = lattice and made(kind, lattice, sigma, names="noise_multiplier")
    if mechanism is None:
        return
    for order in (1.01, 2.0, 300.0):
        assert mechanism.rdp(order, "replace-one") >= mechanism.rdp(order) > 0
    assert not math.isnan(mechanism.epsilon(1e-6, 1000))
    if mechanism.noise_std > 300:
        return  # a table of a second
    x = clip * np.array([np.ones(d), -np.ones(d), np.zeros(d)]) / math.sqrt(d)
    rounded = mechanism.lattice.round(x, generators(3))
    sent = mechanism.privatize(x, generators(3))
    assert (np.abs(sent - rounded).max(axis=1) <= 40 * mechanism.noise_std + 40).all()
    assert (rounded[2] == 0).all()


@given(WIDE, st.integers(1, 40), st.integers(-300, 300), st.integers(0, 2**32))
@settings(deadline=None, max_examples=60)
def test_vectors_of_any_size_are_clipped_to_the_same_direction(clip, d, exponent, seed):
    """Norms that overflow, and that vanish when they are squared."""
    lattice = Lattice(clip, clip / 1000, d)
    direction = np.random.default_rng(seed).standard_normal(d)
    direction /= np.linalg.norm(direction)
    x = direction * 10.0**exponent
    rounded = lattice.round(x[None], generators(1))[0]
    expected = direction * min(10.0**exponent / clip, 1.0) * 1000
    assert np.abs(rounded - expected).max() <= 1


def test_the_largest_vectors_are_clipped():
    lattice = Lattice(1.0, 0.001, 4)
    for size in (np.finfo(float).max, np.finfo(float).tiny, 5e-324):
        rounded = lattice.round(np.full((1, 4), size), generators(1))
        assert np.abs(rounded - (500 if size > 1 else 0)).max() <= 1


def test_sums_beyond_the_integers_are_refused():
    lattice = SumLattice(1e-100, 1e-103, 2)
    for beyond in (1e300, -np.inf, np.nan, 2.0**53 * 1e-103):
        with pytest.raises(ValueError, match=r"beyond 2\^53 units"):
            lattice.round([[0.0, beyond]])


@given(WIDE | ANY, st.integers(-1, 2**63) | WIDE, ANY | st.sampled_from([2**-16, 0.1, 0.25]))
@settings(deadline=None, max_examples=60)
def test_poisson_binomial_of_any_setting_is_exact_or_refused(bound, m, theta):
    mechanism = made(PoissonBinomial, bound, m, theta, names="bound m theta")
    if mechanism is None:
        return
    x = np.array([[bound, -bound, 0.0, math.nextafter(bound, 0), 5e-324]])
    assert np.isfinite(mechanism.variance(x)).all()
    assert mechanism.epsilon(1e-6, d=10**5, steps=1000) > 0
    if m > 1000:
        return
    counts = mechanism.privatize(x, generators(1))
    assert ((counts >= 0) & (counts <= m)).all()
    assert np.isfinite(mechanism.lift(counts)).all()


def test_the_most_coins_are_tossed_and_keep_their_mean():
    mechanism = PoissonBinomial(1e100, 2**24, 0.25)
    (counts,) = mechanism.privatize([[1e100, -1e100]], generators(1))
    off = mechanism.lift(counts) - np.array([1e100, -1e100])
    assert (np.abs(off) < 5 * np.sqrt(mechanism.variance([1e100, -1e100]))).all()


@pytest.mark.parametrize(
    "variance", [Fraction(1, 10**40), Fraction(10) ** 40, Fraction(10) ** 400, 0.25]
)
def test_the_sampler_of_single_numbers_takes_any_variance(variance):
    generator = np.random.default_rng(0)
    drawn = [sample_discrete_gaussian(variance, generator) for _ in range(100)]
    squares = Fraction(sum(z * z for z in drawn), 100) / Fraction(variance)
    if variance >= 1:
        assert 0.3 < squares < 2  # chi-square of 100 degrees, beyond seven deviations
    else:
        assert all(abs(z) <= 4 for z in drawn)


@pytest.mark.parametrize("variance", [math.inf, math.nan, 0, -1.0])
def test_a_variance_that_is_none_is_refused(variance):
    with pytest.raises(ValueError, match=f"variance={variance} must be finite and > 0"):
        sample_discrete_gaussian(variance, np.random.default_rng(0))


@pytest.mark.parametrize("bits", [1, 2, 62, 63])
def test_a_wire_of_any_width_holds_its_ends(bits):
    ends = np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, 0, -1])
    wire = IntegerWire(bits)
    data = wire.encode(ends)
    assert 8 * len(data) == wire.wire_bits(4)
    assert np.array_equal(wire.decode(data, 4), ends)


@given(
    WIDE | ANY | st.floats(2**-40, 2**40),
    WIDE | ANY | st.integers(-14, 13).map(lambda e: 2.0**e),
    WIDE | ANY | st.integers(-40, 13).map(lambda e: 2.0**e),
    st.integers(1, 40),
)
@settings(deadline=None, max_examples=100)
def test_integer_noise_on_sums_of_any_setting_is_exact_or_refused(clip, sigma, batch, k):
    mechanism = made(IntegerMechanism, clip, sigma, batch, k, names="clip noise_multiplier batch")
    if mechanism is None:
        return
    largest = (1 << mechanism.bits - 1) - 1
    ends = torch.tensor([largest, -largest, 1], dtype=torch.float64) * mechanism.step
    assert torch.equal(ends.float().double(), ends)  # every message is a float32
    assert (ends.float().abs() >= torch.finfo(torch.float32).tiny).all()
    assert mechanism.lattice.squared_norm < 2**62
