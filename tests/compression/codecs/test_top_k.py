"""Top-k: which numbers, how their places travel, what a forger may not do."""

import math
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsieve.compression.codecs import TopK, WireError

KEY = np.random.default_rng(0)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    d=st.integers(1, 300),
    share=st.sampled_from([0.001, 0.01, 0.02, 0.1, 0.5, 1.0]),
)
def test_it_keeps_the_largest(seed, d, share):
    x = torch.randn(d, generator=torch.Generator().manual_seed(seed))
    code = TopK(share)
    decoded = code.decode(code.encode(x, KEY), size=d)
    count = math.ceil(share * d)
    expected = torch.zeros(d)
    places = x.abs().topk(count).indices
    expected[places] = x[places]
    assert torch.equal(decoded, expected)
    error = (decoded - x).square().sum()
    assert float(error) <= (1 - code.alpha(d)) * float(x.square().sum()) * (1 + 1e-6)
    assert 8 * len(code.encode(x, KEY)) == code.wire_bits(d)


def test_places_take_the_shorter_form():
    assert TopK(0.01).wire_bits(10_000) == 8 * (24 + 8 * 100)  # indices
    assert TopK(0.1).wire_bits(10_000) == 8 * (24 + 1250 + 4 * 1000)  # a bitmap


def test_flat_vectors_meet_the_stated_contraction():
    code, x = TopK(0.25), torch.ones(16)
    error = (code.decode(code.encode(x, KEY)) - x).square().sum()
    assert float(error / x.square().sum()) == 1 - code.alpha(16)


@pytest.mark.parametrize("places", [(7, 3), (3, 3), (3, 2000)])
def test_forged_indices_are_refused(places):
    code = TopK(0.002)
    wire = bytearray(code.encode(torch.linspace(-1, 2, 1000), KEY))
    wire[24:32] = struct.pack("<II", *places)
    with pytest.raises(WireError, match="not 2 increasing numbers below 1000"):
        code.decode(bytes(wire))


def test_a_forged_bitmap_is_refused():
    code = TopK(0.5)
    wire = bytearray(code.encode(torch.arange(1.0, 10.0), KEY))
    wire[24:26] = b"\x00\x00"
    with pytest.raises(WireError, match="increasing numbers below 9"):
        code.decode(bytes(wire))
    wire[24:26] = b"\xf0\x01"  # four good places and one behind the end
    with pytest.raises(WireError, match="increasing numbers below 9"):
        code.decode(bytes(wire))


def test_another_share_is_refused():
    wire = TopK(0.5).encode(torch.ones(10), KEY)
    with pytest.raises(WireError, match=r"5 of 10 numbers were sent, share=0\.2 expects 2"):
        TopK(0.2).decode(wire)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
def test_an_impossible_share_is_refused(share):
    with pytest.raises(ValueError, match=f"share={share}"):
        TopK(share)
