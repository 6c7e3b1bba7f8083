"""Every number that a float can be: a bound from above, or a refusal that names it."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from fedsieve.privacy import (
    AdaptiveClip,
    Event,
    compose,
    epsilon,
    max_sampling_rate,
    max_steps,
    noise_multiplier,
    trade_off,
)
from fedsieve.privacy._exact import gaussian_epsilon

ANY = st.floats(0, exclude_min=True, allow_infinity=False)
USUAL = st.floats(1e-3, 1e3)
DELTAS = st.one_of(st.floats(0, 1, exclude_min=True, exclude_max=True), st.floats(1e-12, 1e-3))
RATES = st.one_of(st.floats(0, 1, exclude_min=True), st.floats(1e-6, 1), st.floats(1 - 1e-10, 1))
RELATIONS = st.sampled_from(["add-remove", "replace-one", "zero-out"])
SETTINGS = settings(max_examples=150, deadline=None)


@SETTINGS
@given(st.one_of(ANY, USUAL), RATES, st.integers(1, 10**15), DELTAS, RELATIONS)
def test_a_number_from_above(sigma, q, steps, delta, relation):
    found = epsilon(sigma, q, steps, delta, relation).epsilon
    assert found >= 0
    # with certain sampling it is exact; else the test "z > 1/2" of the first step must be covered
    if q == 1:
        moved = 2.0 if relation == "replace-one" else 1.0
        mu = math.sqrt(steps) * (moved / sigma)
        assert found >= gaussian_epsilon(mu, delta) * (1 - 1e-9)
    elif 0.05 < sigma < 1e3 and found < 500:
        p = norm.sf(0.5 / sigma - 1 / sigma), norm.sf(0.5 / sigma)
        with_record, without = (1 - q) * p[1] + q * p[0], p[1]
        assert with_record <= math.exp(found) * without + delta + 1e-12


@SETTINGS
@given(
    st.one_of(ANY, USUAL), RATES, st.integers(0, 100), DELTAS,
    st.sampled_from([("discrete-gaussian", None), ("skellam", 2.0**22), ("skellam", 1e-300)]),
)  # fmt: skip
def test_integer_noise_too(sigma, q, steps, delta, law):
    assert epsilon(sigma, q, steps, delta, law=law[0], variance=law[1]).epsilon >= 0


@settings(max_examples=40, deadline=None)
@given(st.one_of(ANY, USUAL), st.integers(1, 50), st.integers(0, 100), DELTAS,
       st.sampled_from(["shuffled", "random-allocation"]))  # fmt: skip
def test_epochs_too(sigma, batches, begun, delta, sampling):
    assert epsilon(sigma, 1 / batches, begun, delta, "zero-out", sampling=sampling).epsilon >= 0


@pytest.mark.parametrize("sigma", [5e-324, 1e-308, 1e-200, 1e-20, 1e20, 1e200, 1.7e308])
@pytest.mark.parametrize("q", [1e-300, 0.1, 1 - 1e-13, 1.0])
def test_the_ends_of_every_entry(sigma, q):
    found = epsilon(sigma, q, 10, 1e-5).epsilon
    little = sigma < 1 and q > 1e-6
    assert math.isinf(found) or found > 1e6 if little else found == 0
    assert max_steps(1.0, sigma, q, 1e-5) == (0 if little else 10**9)
    rate = max_sampling_rate(1.0, sigma, 10, 1e-5)
    assert rate == 1 if sigma > 1 else 9e-7 < rate < 1e-6
    assert 0 <= trade_off([Event(sigma, q, 10)]).advantage <= 1


@pytest.mark.parametrize("target", [1e-200, 1e-20, 1e20, 1e200])
def test_targets_far_off(target):
    sigma = noise_multiplier(target, 0.1, 10, 1e-5)
    assert epsilon(sigma, 0.1, 10, 1e-5).epsilon <= target


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Event(1.0, 0.1, math.nan), "steps=nan must be an integer"),
        (lambda: Event(1.0, 0.1, math.inf), "steps=inf must be an integer"),
        (lambda: Event(1.0, 0.1, 10**16), "of at most"),
        (lambda: Event(1.0, math.nan, 1), "sampling_rate=nan"),
        (lambda: Event(1.0, 1e-300, 1, sampling="shuffled"), "sampling_rate=1e-300 with sampling"),
        (lambda: AdaptiveClip(5.0).event(0.0, 0.1), "noise_multiplier=0.0"),
        (lambda: AdaptiveClip(5.0).event(math.nan, 0.1), "noise_multiplier=nan"),
        (lambda: epsilon(1.0, 0.5, 1, 1e-5, unit="client"), "sampling_rate=0.5 with unit='client'"),
        (
            lambda: compose([Event(1.0, 0.5, 1)], 1e-5, unit="client"),
            "sampling_rate=0.5 with unit='client'",
        ),
    ],
)
def test_refusals_name_what_was_given(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_rate_next_to_one_is_neither_printed_nor_counted_as_less():
    nearly = epsilon(1.0, 1 - 1e-13, 10, 1e-5)
    assert "rate 0.9999999999999," in nearly.sentence()
    assert nearly.epsilon == epsilon(1.0, 1.0, 10, 1e-5).epsilon


def test_adaptive_clips_of_any_noise():
    assert AdaptiveClip(5.0).event(1e-200, 0.1).noise_multiplier == pytest.approx(1e-200)
    assert AdaptiveClip(5.0).event(1e200, 0.1).noise_multiplier == pytest.approx(10.0)
