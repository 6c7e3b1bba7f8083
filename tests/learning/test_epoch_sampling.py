"""Epochs that are private: who is visited when, how often, and who can know it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats

from fedsieve.learning import sampling
from fedsieve.learning.data import Batch, Dataset, Shards
from fedsieve.randomness import Streams

SIZES, BATCH = (14, 30), 4
T = 3  # steps of an epoch of the first client; two records are left over
EPOCHS = 3000
FALSE_ALARM = 1e-4
WAYS = (sampling.shuffled, sampling.allocated)
Way = Callable[..., Batch]


@pytest.fixture(scope="module")
def shards() -> Shards:
    """Two clients; a record's value is its number in the whole set."""
    n = sum(SIZES)
    x, y = torch.arange(n, dtype=torch.float32)[:, None], torch.zeros(n, dtype=torch.int64)
    data = Dataset("numbers", x, y, x[:1], y[:1], classes=2)
    return Shards(data, tuple(np.split(np.arange(n), [SIZES[0]])))


def visits(way: Way, shards: Shards, steps: range, streams: Streams, client: int = 0) -> np.ndarray:
    """How often each record of the first client, or of another, is in each step: (steps, N)."""
    found = np.zeros((len(steps), sum(SIZES)), dtype=int)
    for row, step in enumerate(steps):
        batch = way(shards, [client], BATCH, streams, [step])
        np.add.at(found[row], batch.x[:, 0].long().numpy(), 1)
    return found[:, shards.parts[client]]


@pytest.fixture(scope="module", params=WAYS, ids=lambda way: way.__name__)
def epochs(request: pytest.FixtureRequest, shards: Shards) -> tuple[Way, np.ndarray]:
    """Visits (epochs, steps, records) of the first client."""
    found = visits(request.param, shards, range(EPOCHS * T), Streams(0, noise_seed=4))
    return request.param, found.reshape(EPOCHS, T, SIZES[0])


def test_a_record_is_visited_at_most_once_in_an_epoch(epochs: tuple[Way, np.ndarray]) -> None:
    way, found = epochs
    often = found.sum(axis=1)
    if way is sampling.allocated:
        assert np.all(often == 1)
        return
    assert np.all(often <= 1)
    assert np.all(found.sum(axis=2) == BATCH)  # what does not fill a batch is left out
    left = np.flatnonzero((often == 0).sum(axis=0) == 0)
    assert not len(left)  # and it is not always the same ones


def test_a_record_is_equally_likely_in_every_step(epochs: tuple[Way, np.ndarray]) -> None:
    way, found = epochs
    p = 1 / T if way is sampling.allocated else BATCH / SIZES[0]
    shares = found.mean(axis=0)
    width = stats.norm.isf(FALSE_ALARM / 2 / shares.size) * np.sqrt(p * (1 - p) / EPOCHS)
    assert np.abs(shares - p).max() < width


def test_pairs_meet_as_often_as_they_should(epochs: tuple[Way, np.ndarray]) -> None:
    """Under allocation with probability 1/t, independently of others; in a permutation less."""
    way, found = epochs
    n, flat = SIZES[0], found.reshape(-1, SIZES[0]).astype(float)
    p = 1 / T if way is sampling.allocated else T * BATCH * (BATCH - 1) / (n * (n - 1))
    met = flat.T @ flat / EPOCHS
    apart = met[~np.eye(n, dtype=bool)]
    width = stats.norm.isf(FALSE_ALARM / 2 / apart.size) * np.sqrt(p * (1 - p) / EPOCHS)
    assert np.abs(apart - p).max() < width


def test_epochs_are_independent(epochs: tuple[Way, np.ndarray]) -> None:
    _, found = epochs
    p = found.mean()
    again = (found[1:] * found[:-1]).mean()
    width = stats.norm.isf(FALSE_ALARM / 2) * np.sqrt(p**2 / (EPOCHS * SIZES[0]))
    assert abs(again - p**2) < 2 * width


def test_the_size_of_an_allocated_batch_is_binomial(shards: Shards) -> None:
    sizes = visits(sampling.allocated, shards, range(EPOCHS * T), Streams(0, noise_seed=6)).sum(1)
    sizes = sizes[::T]  # those of one epoch add up to N
    counts = np.bincount(sizes, minlength=SIZES[0] + 1)
    expected = EPOCHS * stats.binom.pmf(np.arange(SIZES[0] + 1), SIZES[0], 1 / T)
    kept = expected > 5
    observed, wanted = [*counts[kept], counts[~kept].sum()], [*expected[kept], 0]
    wanted[-1] = EPOCHS - sum(wanted)
    assert stats.chisquare(observed, wanted).pvalue > FALSE_ALARM


@pytest.mark.parametrize("way", WAYS)
def test_clients_draw_by_themselves_each_at_its_own_place(way: Way, shards: Shards) -> None:
    streams = Streams(0, noise_seed=1)
    together = way(shards, [0, 1], BATCH, streams, [5, 2])
    alone = [way(shards, [c], BATCH, streams, [s]) for c, s in ((0, 5), (1, 2))]
    assert together.counts == tuple(b.counts[0] for b in alone)
    assert torch.equal(together.x, torch.cat([b.x for b in alone]))


@pytest.mark.parametrize("way", WAYS)
def test_an_epoch_is_secret_and_its_steps_agree_on_it(way: Way, shards: Shards) -> None:
    streams = Streams(7)  # the operating system's entropy
    t = sampling.epoch_steps(SIZES[1], BATCH)
    epoch = visits(way, shards, range(t), streams, client=1)
    assert np.array_equal(epoch, visits(way, shards, range(t), streams, client=1))
    assert epoch.sum(axis=0).max() == 1
    for other in (Streams(7), streams.renewed(), Streams(7, noise_seed=1)):
        assert not np.array_equal(epoch, visits(way, shards, range(t), other, client=1))
    one, two = (visits(way, shards, range(t), Streams(s, noise_seed=3), client=1) for s in (1, 2))
    assert np.array_equal(one, two)  # nothing comes from the public seed


def test_a_client_with_less_than_two_batches_has_epochs_of_one_step(shards: Shards) -> None:
    assert [sampling.epoch_steps(n, 4) for n in (4, 7, 8, 14)] == [1, 1, 2, 3]
    whole = sampling.allocated(shards, [0], 10, Streams(0), [3])
    assert whole.counts == (SIZES[0],)
    assert sampling.shuffled(shards, [0], 10, Streams(0), [3]).counts == (10,)
