"""Numbers of other types than Python's are the same: no digit is lost, nothing wraps around."""

from fractions import Fraction

import numpy as np
import pytest

from fedsieve.privacy import (
    ClientLedger,
    Event,
    Terms,
    compose,
    epsilon,
    max_steps,
    noise_multiplier,
)
from fedsieve.privacy.accounting import epsilon_of
from tests.privacy.ledgers import limits

SETTINGS = [(0.744, 0.01932, 9105, 5e-9), (1.404, 0.01971, 1257, 4.9e-8), (2.0, 1.0, 7, 1e-5)]


@pytest.fixture(autouse=True)
def nothing_remembered():
    """Numbers that are equal are one key of a cache, whatever their types are."""
    for cached in (epsilon_of, max_steps, noise_multiplier):
        cached.cache_clear()


@pytest.mark.parametrize("kind", [np.float32, np.float16, Fraction])
@pytest.mark.parametrize("setting", SETTINGS)
def test_epsilon_is_that_of_the_same_numbers_in_float64(kind, setting):
    sigma, q, steps, delta = setting
    given = kind(sigma), kind(q), steps, np.float32(delta)
    found = epsilon(*given).epsilon
    epsilon_of.cache_clear()
    assert found == epsilon(*map(float, given[:2]), steps, float(given[3])).epsilon


def test_noise_is_found_for_the_same_numbers_in_float64():
    given = np.float32(1.1), np.float32(0.013), 300, np.float32(1e-6)
    found = noise_multiplier(*given)
    noise_multiplier.cache_clear()
    assert found == noise_multiplier(*(n if n == 300 else float(n) for n in given))


def test_steps_do_not_wrap_around():
    three = [Event(1.0, 1.0, np.int8(100))] * 3
    assert compose(three, 1e-5).steps == 300
    assert epsilon(5.0, 0.01, np.int16(30_000), 1e-5) == epsilon(5.0, 0.01, 30_000, 1e-5)


@pytest.mark.parametrize("kind", [np.float32, Fraction])
def test_a_retry_on_the_same_terms_gets_the_same_bytes(tmp_path, kind):
    terms = Terms(kind(13) / kind(1.25), kind(1) / kind(3), clip=kind(2) / kind(3))
    for made in (b"x", b"y"):
        with ClientLedger(tmp_path / "ledger.db", "ward", limits()) as ledger:
            assert ledger.message("a", 0, terms, lambda made=made: made) == b"x"
