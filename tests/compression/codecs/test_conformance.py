"""What every registered codec promises."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedsieve.compression.codecs import WireError
from fedsieve.registry import component, components

NAMES = [c.name for c in components("codec")]
HEADER = 24


def key(seed=0):
    return np.random.default_rng(seed)


def build(name):
    return component("codec", name).build()


def samples(d=400):
    rng = np.random.default_rng(5)
    normal = rng.standard_normal(d)
    heavy = rng.standard_t(3, d)
    wild = np.sign(normal) * np.exp(2 * rng.standard_normal(d))
    return [torch.from_numpy(x).float() for x in (normal, heavy, 1e-20 * normal, 1e20 * wild)]


def test_all_of_them_are_here():
    assert NAMES == ["integers", "raw16", "raw32", "top-k"]


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=40)
@given(
    x=arrays(
        np.float32,
        st.integers(1, 70),
        elements=st.floats(-(2.0**100), 2.0**100, width=32),
    )
)
def test_round_trip_shape_bits_and_errors(name, x):
    code, vector = build(name), torch.from_numpy(x.copy())
    wire = code.encode(vector, key())
    assert isinstance(wire, bytes)
    assert 8 * len(wire) <= code.wire_bits(len(x))
    decoded = code.decode(wire)
    assert decoded.shape == vector.shape
    assert decoded.dtype == torch.float32
    assert bool(torch.isfinite(decoded).all())
    assert torch.equal(torch.from_numpy(x), vector)  # the argument is not changed
    if code.lossless:
        assert torch.equal(decoded, vector)
    assert torch.equal(code.decode(code.encode(vector, key())), decoded)


@pytest.mark.parametrize("name", NAMES)
def test_stated_error_is_the_measured_one(name):
    code, draws = build(name), 200
    for x in samples():
        decoded = torch.stack([code.decode(code.encode(x, key(s))) for s in range(draws)]).double()
        error = (decoded - x).square().sum(1) / x.double().square().sum()
        deviation = float(error.std()) / draws**0.5
        assert float(error.mean()) <= 1 - code.alpha(len(x)) + 5 * deviation + 1e-12
        omega = code.omega(len(x))
        unbiased = np.isfinite(omega)
        if unbiased:
            assert float(error.mean()) <= omega + 5 * deviation
            bias = (decoded.mean(0) - x).norm()
            spread = (decoded.std(0) / draws**0.5).norm()
            assert float(bias) <= 3 * float(spread) + 1e-12 * float(x.norm())
        else:
            assert float((decoded.mean(0) - x).norm()) > 0


@pytest.mark.parametrize("name", NAMES)
def test_a_zero_vector_stays_zero(name):
    code = build(name)
    assert torch.equal(code.decode(code.encode(torch.zeros(9), key())), torch.zeros(9))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_does_not_get_through(name, bad):
    code, x = build(name), torch.ones(20)
    x[13] = bad
    with pytest.raises(WireError, match="only finite numbers"):
        code.decode(code.encode(x, key()))


@pytest.mark.parametrize("name", NAMES)
def test_an_unexpected_size_is_refused_before_it_is_built(name):
    code = build(name)
    wire = code.encode(torch.ones(20), key())
    assert code.decode(wire, size=20).shape == (20,)
    with pytest.raises(WireError, match="size is 20, expected is 21"):
        code.decode(wire, size=21)


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=80)
@given(data=st.data())
def test_damaged_bytes_are_refused_or_decode_to_finite_numbers(name, data):
    code = build(name)
    wire = bytearray(code.encode(torch.linspace(-1, 1, 30), key()))
    if data.draw(st.booleans()):
        wire = wire[: data.draw(st.integers(0, len(wire) - 1))]
    else:
        place = data.draw(st.integers(0, len(wire) - 1))
        wire[place] ^= data.draw(st.integers(1, 255))
    try:
        decoded = code.decode(bytes(wire), size=30)
    except WireError:
        return
    assert len(wire) * 8 == code.wire_bits(30)  # neither cut nor of another shape
    assert decoded.shape == (30,)
    assert bool(torch.isfinite(decoded).all())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_only_vectors_are_coded(name, shape):
    with pytest.raises(ValueError, match=r"one vector \(k,\)"):
        build(name).encode(torch.zeros(shape), key())


@pytest.mark.parametrize("name", NAMES)
def test_a_code_does_not_read_another_ones_message(name):
    for other in NAMES:
        if other != name:
            with pytest.raises(WireError, match="expected is"):
                build(name).decode(build(other).encode(torch.ones(8), key()))


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, 0, "magic"),
        (4, 2, "version is 2, expected is 1"),
        (5, 99, "code is 99"),
        (6, 99, "type is 99"),
        (7, 1, "byte 7 is 1"),
        (15, 255, "count <= size"),
        (8, 9, "body has"),
    ],
)
@pytest.mark.parametrize("name", ["raw16", "raw32"])
def test_every_field_of_the_header_is_checked(name, place, value, message):
    code = build(name)
    wire = bytearray(code.encode(torch.ones(8), key()))
    wire[place] = value
    with pytest.raises(WireError, match=message):
        code.decode(bytes(wire))


@pytest.mark.parametrize("name", NAMES)
def test_too_short_for_a_header(name):
    with pytest.raises(WireError, match="3 bytes are no message"):
        build(name).decode(b"FSV")


def test_sizes_on_the_wire():
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    sizes = {name: len(build(name).encode(x, key())) for name in NAMES}
    assert sizes == {
        "raw32": HEADER + 4000,
        "raw16": HEADER + 2000,
        "integers": HEADER + 3000,
        "top-k": HEADER + 125 + 400,
    }


def test_the_facts_that_guards_rely_on():
    assert [build(n).lossless for n in NAMES] == [False, False, True, False]
    assert [build(n).data_dependent for n in NAMES] == [False, False, False, True]


def test_the_largest_numbers_survive_raw16():
    code = build("raw16")
    largest = torch.tensor([torch.finfo(torch.float32).max, torch.finfo(torch.bfloat16).max])
    decoded = code.decode(code.encode(largest, key()))
    assert decoded.tolist() == [torch.finfo(torch.bfloat16).max] * 2
