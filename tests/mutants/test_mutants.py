"""Ten broken clients, and an audit that finds every one of them and acquits the real one.

Every client sends T noisy sums of clipped gradients and claims the same epsilon. The audit plays
the distinguishing game: with the canary, or with a record without gradient in its place (zero-out).
The canaries' directions are orthogonal to all other gradients in the k-space, except where a fault
shows only between parallel ones. An attacker's score crosses a threshold that was fixed beforehand;
Clopper-Pearson intervals of both rates give, with 95 % confidence,

    epsilon >= log((TPR_low - delta) / FPR_high),

and by symmetry the same with the roles of the worlds exchanged.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import beta

from fedsieve.learning import sampling
from fedsieve.learning.data import Dataset, Shards
from fedsieve.privacy import GaussianMechanism, epsilon
from fedsieve.randomness import Streams

Array = NDArray[np.float64]

TRIALS, STEPS, RECORDS, K = 4000, 4, 8, 16
SIGMA, CLIP, BATCH, DELTA = 1.0, 1.0, 2.0, 0.01  # delta is large, so that few trials can tell
Q = BATCH / RECORDS
CANARY = np.eye(K)[0]
OTHERS = np.eye(K)[1:RECORDS]  # orthogonal to it and to each other


@dataclass
class World:
    """What a client draws: gradients (records, k), the batches, and the noise.

    ``joined`` is (trials, steps, records), ``noise`` (trials, steps, k) of unit variance.
    """

    gradients: Array
    joined: Array
    noise: Array

    def clipped(self) -> Array:
        norms = np.linalg.norm(self.gradients, axis=1, keepdims=True)
        return self.gradients * np.minimum(1, CLIP / np.maximum(norms, 1e-12))

    def send(self, sums: Array, sigma: float = SIGMA) -> Array:
        return (sums + sigma * CLIP * self.noise) / BATCH


def world(seed: int, canary: bool, others: Array = OTHERS) -> World:
    rng = np.random.default_rng(seed)
    own = 10 * CLIP * CANARY * canary
    joined = (rng.random((TRIALS, STEPS, RECORDS)) < Q).astype(float)
    return World(np.vstack([own, 10 * others]), joined, rng.normal(size=(TRIALS, STEPS, K)))


def along_the_canary(messages: Array) -> Array:
    """The score of most attacks: the sum of the messages' canary coordinates over b / C."""
    return np.asarray(messages[..., 0].sum(axis=1) * BATCH / CLIP)


def half_noise(w: World) -> Array:
    return along_the_canary(w.send(w.joined @ w.clipped(), SIGMA / 2))


def no_clip(w: World) -> Array:
    return along_the_canary(w.send(w.joined @ w.gradients))


def clip_before_a_stretching_projection(w: World) -> Array:
    stretch = np.ones(K)
    stretch[0] = 4.0  # a public map of norm 4, as an unscaled sketch has
    return along_the_canary(w.send(w.joined @ w.clipped() * stretch))


def opposed(w: World) -> Array:
    """The same canary among gradients that all point away from it."""
    return np.vstack([w.clipped()[:1], np.tile(-CLIP * CANARY, (RECORDS - 1, 1))])


def clip_of_the_batch(w: World) -> Array:
    """One unclipped record turns the clipped sum of the batch around: it moves it by 2 C."""
    gradients = opposed(w)
    gradients[0] *= 10
    sums = w.joined @ gradients
    norms = np.linalg.norm(sums, axis=2, keepdims=True)
    return along_the_canary(w.send(sums * np.minimum(1, CLIP / np.maximum(norms, 1e-12))))


def realised_batch_size(w: World) -> Array:
    """The mean over those who joined, in place of the sum over b: who joins alone counts b-fold.

    The client holds the canary and one more record, fewer than its nominal size.
    """
    joined = w.joined * (np.arange(RECORDS) < 2)
    size = np.maximum(joined.sum(axis=2, keepdims=True), 1)
    return along_the_canary(w.send(joined @ w.clipped() * BATCH / size))


def noise_shared_by_clients(w: World) -> Array:
    """A colluding client, whose records are known, drew the same noise: subtract its message."""
    colluding = w.send(np.zeros((TRIALS, STEPS, K)))
    return along_the_canary(w.send(w.joined @ w.clipped()) - colluding)


def noise_reused_over_rounds(w: World) -> Array:
    """The difference of two rounds has no noise at all."""
    w.noise[:] = w.noise[:, :1]
    messages = w.send(w.joined @ w.clipped())[..., 0] * BATCH / CLIP
    return np.asarray(np.abs(messages - messages[:, :1]).max(axis=1))


def support_of_raw_data(w: World) -> Array:
    """Top-k of the raw sum: which coordinates come is seen, whatever their noise."""
    sums = w.joined @ w.gradients
    support = np.abs(sums) >= np.maximum(np.sort(np.abs(sums), axis=2)[..., -4:-3], 1e-9)
    return np.asarray(support[..., 0].any(axis=1), dtype=np.float64) * 10


def error_feedback_on_raw_state(w: World) -> Array:
    """What the clip cut off is kept, and added to the next sum without a clip."""
    raw, cut = w.joined @ w.gradients, w.joined @ w.clipped()
    sums = cut.copy()
    sums[:, 1:] += (raw - cut)[:, :-1]
    return along_the_canary(w.send(sums))


def basis_of_raw_gradients(w: World) -> Array:
    """A basis of the raw gradients is announced: the canary's direction is in its span or not."""
    basis = np.linalg.svd(w.gradients)[2][: np.linalg.matrix_rank(w.gradients)]
    seen = np.linalg.norm(basis @ CANARY)
    return np.full(TRIALS, 10.0 * seen)


def known_seed(w: World) -> Array:
    """Whoever knows the seed draws the noise again and subtracts it."""
    again = CLIP * SIGMA * w.noise / BATCH
    return along_the_canary(w.send(w.joined @ w.clipped()) - again)


def real(w: World, seed: int, canary: bool) -> Array:
    """The library's own Poisson batches and mechanism, on the same clipped gradients."""
    inputs = torch.arange(RECORDS, dtype=torch.float32)[:, None]
    data = Dataset("ids", inputs, inputs[:, 0], inputs, inputs[:, 0], classes=0)
    shards = Shards(data, (np.arange(RECORDS),) * TRIALS)
    mechanism, streams = GaussianMechanism(CLIP, SIGMA, BATCH), Streams(0, noise_seed=seed)
    clipped, total = torch.from_numpy(w.clipped()), np.zeros(TRIALS)
    for t in range(STEPS):
        batch = sampling.poisson(shards, range(TRIALS), BATCH, streams, t, 0)
        rows = torch.repeat_interleave(torch.arange(TRIALS), torch.tensor(batch.counts))
        sums = torch.zeros(TRIALS, K, dtype=torch.float64)
        sums.index_add_(0, rows, clipped[batch.x[:, 0].long()])
        generators = [streams.noise(t, c) for c in range(TRIALS)]
        total += mechanism.privatize(sums, generators)[:, 0].numpy()
    return total * BATCH / CLIP


def from_below(with_canary: Array, without: Array, threshold: float) -> float:
    """A bound that the true epsilon exceeds with 95 % confidence, if the client's delta holds."""
    hits, alarms = int((with_canary > threshold).sum()), int((without > threshold).sum())
    power = beta.ppf(0.025, hits, TRIALS - hits + 1) if hits else 0.0
    level = beta.ppf(0.975, alarms + 1, TRIALS - alarms) if alarms < TRIALS else 1.0
    return math.log(max(power - DELTA, 1e-12) / level)


@pytest.fixture(scope="module")
def claim() -> float:
    return epsilon(SIGMA, Q, STEPS, DELTA, "zero-out").epsilon


@pytest.mark.parametrize(
    ("mutant", "threshold"),
    [
        (half_noise, 2.2),
        (no_clip, 8.0),
        (clip_before_a_stretching_projection, 6.0),
        (clip_of_the_batch, 1.5),
        (realised_batch_size, 5.0),
        (noise_shared_by_clients, 0.5),
        (noise_reused_over_rounds, 0.5),
        (support_of_raw_data, 5.0),
        (error_feedback_on_raw_state, 7.0),
        (basis_of_raw_gradients, 5.0),
        (known_seed, 0.5),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_broken_client_is_found(
    claim: float, mutant: Callable[[World], Array], threshold: float
) -> None:
    found = from_below(mutant(world(1, True)), mutant(world(2, False)), threshold)
    assert found > claim


@pytest.mark.parametrize("threshold", [1.0, 2.2, 3.5, 5.0])
def test_the_real_client_is_acquitted(claim: float, threshold: float) -> None:
    scores = [real(world(seed, canary), seed, canary) for seed, canary in ((1, True), (2, False))]
    found = from_below(scores[0], scores[1], threshold)
    assert found < claim
    if threshold == 3.5:
        assert found > 0.3 * claim  # the audit does look
