"""Integers in B bits: exact where the message is one, harmless where it is not."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedsieve.compression.codecs import Integers, WireError

KEY = np.random.default_rng(0)


@given(
    bits=st.integers(2, 25),
    exponent=st.integers(-60, 60),
    seed=st.integers(0, 2**32 - 1),
    d=st.integers(1, 50),
)
def test_integers_arrive_as_they_are_and_take_their_bits(bits, exponent, seed, d):
    code = Integers(step=2.0**exponent, bits=bits)
    y = np.random.default_rng(seed).integers(-code.largest, code.largest, d, endpoint=True)
    x = torch.from_numpy(y * code.step).float()
    wire = code.encode(x, KEY)
    assert len(wire) == 24 + math.ceil(d * bits / 8)
    assert 8 * len(wire) == code.wire_bits(d)
    assert torch.equal(code.decode(wire, d), x)


def test_other_numbers_go_to_the_nearest_integer_within_the_bits():
    code = Integers(step=0.5, bits=4)
    x = torch.tensor([0.2, -0.3, 0.74, 100.0, -3.4e38])
    assert code.decode(code.encode(x, KEY)).tolist() == [0.0, -0.5, 0.5, 3.5, -3.5]


def test_the_spare_word_is_refused():
    code = Integers(step=1.0, bits=4)
    wire = code.encode(torch.tensor([1.0, float("nan"), 2.0]), KEY)
    with pytest.raises(WireError, match="number 1 is none; only finite numbers"):
        code.decode(wire)


def test_another_number_of_bits_is_refused():
    wire = Integers(bits=12).encode(torch.ones(100), KEY)
    with pytest.raises(WireError, match="the body has 150 bytes, expected are 163"):
        Integers(bits=13).decode(wire)


@pytest.mark.parametrize("step", [0.0, -1.0, 0.3, math.inf, math.nan])
def test_a_step_that_is_no_power_of_two_is_refused(step):
    with pytest.raises(ValueError, match=f"step={step} must be a power of two"):
        Integers(step=step)


@pytest.mark.parametrize("bits", [1, 26, 2.5])
def test_bits_out_of_range_are_refused(bits):
    with pytest.raises(ValueError, match=f"bits={bits} must be an integer from 2 to 25"):
        Integers(bits=bits)
