"""Noise and Poisson batches as clients draw them: their laws, their independence, no draw twice.

Every test of a law has a false-alarm rate of 1e-4 for fresh draws; the seeds are fixed, so what
passes once passes always. The last tests draw from the operating system.
"""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import stats

from fedsieve.learning import sampling
from fedsieve.learning.data import Dataset, Shards
from fedsieve.privacy import GaussianMechanism
from fedsieve.randomness import Streams

FALSE_ALARM = 1e-4
CLIENTS, ROUNDS, K = 3, 4, 3000


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    """Standardised noise (rounds, clients, k) of messages without any signal."""
    mechanism, streams = GaussianMechanism(0.7, 1.3, 16), Streams(1, noise_seed=2)
    zero = torch.zeros(CLIENTS, K, dtype=torch.float64)
    rows = [
        mechanism.privatize(zero, [streams.noise(t, c) for c in range(CLIENTS)]).numpy()
        for t in range(ROUNDS)
    ]
    return np.stack(rows) / mechanism.noise_std


def anderson_darling(z: np.ndarray) -> float:
    """A^2 = -n - mean_i (2i - 1) (log F_i + log(1 - F_{n+1-i})), against N(0, 1)."""
    z, n = np.sort(z), len(z)
    i = np.arange(1, n + 1)
    return float(-n - np.mean((2 * i - 1) * (stats.norm.logcdf(z) + stats.norm.logsf(z[::-1]))))


def test_each_clients_noise_is_normal_by_kolmogorov_and_by_anderson(noise: np.ndarray) -> None:
    limit = FALSE_ALARM / (CLIENTS * ROUNDS)
    for row in noise.reshape(-1, K):
        assert stats.kstest(row, "norm").pvalue > limit
    # for a law without unknown parameters P(A^2 > 3.857) is 1 %, and the tail falls as exp(-A^2)
    assert anderson_darling(noise.ravel()) < 10
    assert anderson_darling(1.03 * noise.ravel()) > 10  # and it sees a scale that is 3 % off


def test_noise_is_independent_across_clients_rounds_and_coordinates(noise: np.ndarray) -> None:
    rows = noise.reshape(-1, K)
    pairs = list(itertools.combinations(range(len(rows)), 2))
    worst = stats.norm.isf(FALSE_ALARM / 2 / len(pairs)) / np.sqrt(K)
    for a, b in pairs:
        assert abs(np.mean(rows[a] * rows[b])) < worst
        assert abs(np.mean(np.sign(rows[a]) * np.sign(rows[b]))) < worst
    for lag in (1, 2, 64):
        product = rows[:, lag:] * rows[:, :-lag]
        assert abs(product.mean()) < stats.norm.isf(FALSE_ALARM / 6) / np.sqrt(product.size)
    squares = rows**2 - 1  # equal scales, too: no shared factor
    assert np.abs(np.corrcoef(squares) - np.eye(len(rows))).max() < 6 / np.sqrt(K)


RECORDS, BATCH, DRAWS = 12, 3, 20_000


@pytest.fixture(scope="module")
def joined() -> np.ndarray:
    """Who joined (draws, records), as `sampling.poisson` draws it for two clients."""
    inputs = torch.arange(2 * RECORDS, dtype=torch.float32)[:, None]
    data = Dataset("numbers", inputs, inputs[:, 0], inputs, inputs[:, 0], classes=0)
    shards = Shards(data, (np.arange(RECORDS), np.arange(RECORDS, 2 * RECORDS)))
    streams = Streams(0, noise_seed=5)
    found = np.zeros((DRAWS, 2 * RECORDS), dtype=bool)
    for t in range(DRAWS):
        batch = sampling.poisson(shards, (0, 1), BATCH, streams, t, 0)
        found[t, batch.x[:, 0].long().numpy()] = True
        assert sum(batch.counts) == found[t].sum()
    return found


def test_a_record_joins_with_probability_q_and_two_records_with_its_square(
    joined: np.ndarray,
) -> None:
    q, many = BATCH / RECORDS, 2 * RECORDS
    width = stats.norm.isf(FALSE_ALARM / 2 / many) * np.sqrt(q * (1 - q) / DRAWS)
    assert np.abs(joined.mean(axis=0) - q).max() < width
    both = joined.T.astype(float) @ joined / DRAWS  # of one client, and of two
    off = both[~np.eye(many, dtype=bool)]
    width = stats.norm.isf(FALSE_ALARM / 2 / off.size) * np.sqrt(q**2 * (1 - q**2) / DRAWS)
    assert np.abs(off - q**2).max() < width


def test_batch_sizes_are_binomial_and_rounds_independent(joined: np.ndarray) -> None:
    q = BATCH / RECORDS
    for own in (joined[:, :RECORDS], joined[:, RECORDS:]):
        sizes = np.bincount(own.sum(axis=1), minlength=RECORDS + 1)
        expected = DRAWS * stats.binom.pmf(np.arange(RECORDS + 1), RECORDS, q)
        kept = expected > 5
        observed = [*sizes[kept], sizes[~kept].sum()]
        wanted = [*expected[kept], expected[~kept].sum()]
        assert stats.chisquare(observed, wanted).pvalue > FALSE_ALARM / 2
        assert sizes[0] > 0  # an empty batch is a batch
    again = (joined[1:] & joined[:-1]).mean()
    width = stats.norm.isf(FALSE_ALARM / 2) * np.sqrt(q**2 / (DRAWS * 2 * RECORDS))
    assert abs(again - q**2) < 2 * width


PROCESS = """
import numpy as np, torch
from fedsieve.privacy import GaussianMechanism
from fedsieve.randomness import Streams
streams = Streams(seed=0)  # the same experiment, restarted
noise = GaussianMechanism(1.0, 1.0, 1).privatize(torch.zeros(1, 4), [streams.noise(3, 0)])
print(noise.tolist(), streams.inclusion(3, 0).random(4).tolist())
"""


def test_a_restarted_process_draws_neither_noise_nor_batch_again() -> None:
    """After a crash, round 3 of client 0 runs again: other noise, another batch."""
    first, second = (
        subprocess.run(
            [sys.executable, "-c", PROCESS], capture_output=True, check=True, text=True
        ).stdout.split()
        for _ in range(2)
    )
    assert len(first) == len(second) == 8
    assert not set(first) & set(second)
