"""Rounded vectors: the norm bound holds for every one, the mean is kept, bytes have their size."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsieve.privacy.discrete import IntegerWire, Lattice


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 2**32 - 1),
    d=st.integers(1, 40),
    scale=st.sampled_from([0.0, 1e-300, 1e-3, 1.0, 1e6, 1e300]),
    spacing=st.sampled_from([1e-6, 0.01, 0.3, 1.0]),
    beta=st.sampled_from([1e-9, 0.6, 0.999]),
)
def test_no_rounded_vector_exceeds_the_bounds(seed, d, scale, spacing, beta):
    lattice = Lattice(clip=1.0, spacing=spacing, d=d, beta=beta)
    generator = np.random.default_rng(seed)
    x = scale * generator.standard_normal((3, d))
    integers = lattice.round(x, [generator] * 3)
    assert integers.dtype == np.int64
    exact = [sum(int(v) ** 2 for v in row) for row in integers]
    assert max(exact) <= lattice.squared_norm
    assert np.abs(integers).sum(axis=1).max() <= lattice.l1 * (1 + 1e-12)
    assert np.sqrt(exact).max() <= lattice.l2 * (1 + 1e-12)
    bound = (1 / spacing + math.sqrt(d)) ** 2
    assert lattice.squared_norm <= bound


def test_the_bound_is_the_published_one():
    c, gamma, d, beta = 2.0, 0.1, 50, math.exp(-0.5)
    first = c**2 + gamma**2 * d / 4 + math.sqrt(2 * 0.5) * gamma * (c + gamma * math.sqrt(d) / 2)
    found = Lattice(c, gamma, d, beta).squared_norm * gamma**2
    assert first - gamma**2 < found <= first
    tiny = Lattice(0.01, 0.01, 2, beta=1e-12)  # where the second bound is the smaller
    assert tiny.squared_norm == math.floor((1 + math.sqrt(2)) ** 2)


def test_rounding_keeps_the_mean():
    lattice = Lattice(clip=1.0, spacing=0.2, d=4, beta=1e-9)  # hardly ever repeated
    x, n = np.array([0.31, -0.55, 0.0, 0.02]), 20_000
    generator = np.random.default_rng(0)
    found = lattice.lift(lattice.round(np.tile(x, (n, 1)), [generator] * n))
    assert (np.abs(found.mean(0) - x) <= 4 * found.std(0) / math.sqrt(n) + 1e-9).all()
    assert (np.abs(found - x) < 0.2).all()


def test_a_long_vector_is_clipped_first():
    lattice = Lattice(clip=1.0, spacing=1e-4, d=2)
    (found,) = lattice.lift(lattice.round([[30.0, 40.0]], [np.random.default_rng(0)]))
    np.testing.assert_allclose(found, [0.6, 0.8], atol=2e-4)


def test_a_rounding_that_is_always_refused_ends_towards_zero(monkeypatch):
    monkeypatch.setattr("fedsieve.privacy.discrete.lattice.MOST_TRIES", 0)
    lattice = Lattice(clip=1.0, spacing=0.3, d=2)
    found = lattice.round([[-0.5, 0.7]], [np.random.default_rng(0)])
    assert found.tolist() == [[-1, 2]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"clip": 0}, "clip=0 must be finite and > 0"),
        ({"spacing": float("nan")}, "spacing=nan must be finite and > 0"),
        ({"d": 0}, "d=0 must be an integer >= 1"),
        ({"beta": 1.0}, r"beta=1.0 must be in \(0, 1\)"),
        ({"spacing": 1e-12}, "spacing=1e-12 must be > "),
        ({"clip": 0.1, "d": 1}, "rounds every vector to zero"),
    ],
)
def test_impossible_lattices_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Lattice(**{"clip": 1.0, "spacing": 1.0, "d": 3} | arguments)


def test_wrong_vectors_are_refused():
    lattice, generator = Lattice(1.0, 0.1, 3), np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"needed are shape \(n, 3\)"):
        lattice.round(np.zeros((1, 4)), [generator])
    with pytest.raises(ValueError, match="n generators"):
        lattice.round(np.zeros((2, 3)), [generator])
    with pytest.raises(ValueError, match="not finite"):
        lattice.round([[0, np.inf, 0]], [generator])


@settings(deadline=None)
@given(data=st.data(), bits=st.integers(1, 63))
def test_integers_come_back_from_a_message_of_exact_size(data, bits):
    half = 2 ** (bits - 1)
    values = data.draw(st.lists(st.integers(-half, half - 1), max_size=20))
    wire, x = IntegerWire(bits), np.array(values, dtype=np.int64)
    message = wire.encode(x)
    assert 8 * len(message) == wire.wire_bits(len(x))
    assert len(message) == math.ceil(len(x) * bits / 8)
    assert wire.decode(message, len(x)).tolist() == values


def test_what_does_not_fit_wraps_around_as_sums_do():
    wire = IntegerWire(4)
    x = np.array([7, 8, 9, -9, 100])
    assert wire.decode(wire.encode(x), 5).tolist() == [7, -8, -7, 7, 4]
    with pytest.raises(ValueError, match="data has 3 bytes; 7 integers of 4 bits have 4"):
        wire.decode(wire.encode(x), 7)


def test_a_wire_holds_what_it_is_chosen_for():
    wire = IntegerWire.holding(largest=100, noise_std=20)
    assert wire.bits == 10
    for value in (-261, 261):
        assert wire.decode(wire.encode(np.array([value])), 1) == value
    with pytest.raises(ValueError, match="bits=0"):
        IntegerWire(0)
