"""Two clients never draw the same noise, and noise never vanishes in floating point."""

import copy

import numpy as np
import pytest
import torch

from fedsieve._keystream import FreshGenerator, KeyedGenerator, Secret, digest
from fedsieve.privacy import AdaptiveClip, CorrelatedGaussian, GaussianMechanism
from fedsieve.privacy.discrete import (
    DiscreteGaussian,
    Lattice,
    PoissonBinomial,
    Skellam,
    SumLattice,
)
from fedsieve.privacy.integers import IntegerMechanism


def pair(i, j):
    return np.random.default_rng([i, j])


MECHANISMS = {
    "gaussian": lambda sums, rngs: GaussianMechanism(1.0, 1.0, 4).privatize(sums, rngs),
    "correlated": lambda sums, rngs: CorrelatedGaussian(1.0, 1.0, 2.0, 4).privatize(
        sums, rngs, pair
    ),
    "integers": lambda sums, rngs: IntegerMechanism(1.0, 1.0, 4, sums.shape[1]).release(sums, rngs),
    "discrete gaussian": lambda sums, rngs: DiscreteGaussian(
        Lattice(1.0, 0.1, sums.shape[1]), 1.0
    ).privatize(sums.numpy(), rngs),
    "skellam": lambda sums, rngs: Skellam(SumLattice(1.0, 0.1, sums.shape[1]), 4.0).privatize(
        sums.numpy(), rngs
    ),
    "added": lambda sums, rngs: DiscreteGaussian(
        SumLattice(1.0, 0.1, sums.shape[1]), 1.0
    ).add_noise(sums.long().numpy(), rngs),
    "poisson-binomial": lambda sums, rngs: PoissonBinomial(1.0, 4, 0.1).privatize(
        sums.numpy(), rngs
    ),
    "noisy counts": lambda sums, rngs: AdaptiveClip(1.0).shares(list(sums.numpy()), 1.0, 4, rngs),
}


@pytest.mark.parametrize("name", MECHANISMS)
@pytest.mark.parametrize("k", [1, 2, 5000])
def test_generators_in_the_same_state_are_refused(name, k):
    first, other = np.random.default_rng(3), np.random.default_rng(4)
    with pytest.raises(ValueError, match="in the same state and draw the same noise"):
        MECHANISMS[name](torch.zeros(3, k), [first, other, copy.deepcopy(first)])
    with pytest.raises(ValueError, match="share one noise generator"):
        MECHANISMS[name](torch.zeros(3, k), [first, other, first])
    assert first.bit_generator.state == np.random.default_rng(3).bit_generator.state
    MECHANISMS[name](torch.zeros(2, k), [first, other])


def test_rounding_that_draws_more_for_one_of_two_twins_hides_nothing():
    """A draw whose norm is too large is drawn again, as often as the client's data want it."""
    mechanism = DiscreteGaussian(Lattice(1.0, 0.5, 30), 1.0)
    x = np.stack([np.zeros(30), np.full(30, 30**-0.5)])
    with pytest.raises(ValueError, match="in the same state"):
        mechanism.privatize(x, [np.random.default_rng(3), np.random.default_rng(3)])


@pytest.mark.parametrize("name", ["PCG64", "PCG64DXSM", "MT19937", "SFC64", "Philox"])
def test_every_bit_generator_of_numpy_is_told_from_others(name):
    def made(seed, words=0):
        generator = np.random.Generator(getattr(np.random, name)(seed))
        generator.random(words)
        return generator

    generators = [made(0), made(1), made(0, 1), made(0, 2)]
    assert len({digest(own) for own in generators}) == 4
    assert digest(made(0, 2)) == digest(generators[3])


def test_half_a_word_left_over_makes_no_other_noise():
    first, other = np.random.default_rng(3), np.random.default_rng(3)
    first.integers(2**32, dtype=np.uint32)
    other.random()
    with pytest.raises(ValueError, match="in the same state"):
        GaussianMechanism(1.0, 1.0, 4).privatize(torch.zeros(2, 1), [first, other])


@pytest.mark.parametrize("cipher", ["AES-128-CTR", "ChaCha20"])
def test_sealed_generators_are_compared_and_stay_sealed(cipher, monkeypatch):
    monkeypatch.setattr("fedsieve._keystream.cipher", lambda: cipher)
    secret = Secret()
    ahead = secret.generator(1)
    ahead.random()
    kept = [secret.generator(1), secret.generator(2), ahead, FreshGenerator(), FreshGenerator()]
    assert len({digest(own) for own in kept}) == 5
    assert digest(secret.generator(1)) == digest(kept[0])
    key = bytes(range(32))
    read, plain = KeyedGenerator(key), KeyedGenerator(key)
    for _ in range(3):  # being looked at moves nothing
        digest(read)
        assert read.bytes(5) == plain.bytes(5)


@pytest.mark.parametrize(("sigma", "clip"), [(1e-200, 1e-200), (1e-10, 1e-300), (10.0, 1e308)])
def test_noise_that_is_no_number_is_refused(sigma, clip):
    with pytest.raises(ValueError, match="noise of standard deviation"):
        GaussianMechanism(clip, sigma, 1)
    with pytest.raises(ValueError, match="noise of standard deviation"):
        CorrelatedGaussian(clip, sigma, 0.0, 1)
