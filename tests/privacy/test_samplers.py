"""Noise and Poisson batches as clients draw them: their laws, their independence, no draw twice.

Each law is tested twice. With a seed, a test has a false-alarm rate of 1e-4 over all seeds; as the
seed is fixed, what passes once passes always. Keyed by the operating system, the draws are others
every time, and a test has a false-alarm rate of 1e-6. Where a test compares many figures, the rate
is shared among them; tails are those of the limit law, with room for what is not there yet.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy import stats

from fedsieve.learning import sampling
from fedsieve.learning.data import Dataset, Shards
from fedsieve.privacy import GaussianMechanism
from fedsieve.privacy.discrete._laws import GaussianLaw, LaplaceLaw
from fedsieve.privacy.discrete._table import sample
from fedsieve.randomness import Streams

CLIENTS, ROUNDS, K = 3, 4, 3000


@dataclass(frozen=True)
class Source:
    """Where noise and batches come from, and how often a test of a law may fail by chance."""

    streams: Streams
    false_alarm: float

    def width(self, tests: int) -> float:
        """Standard deviations that so many means stay within; 5 % more than normal figures."""
        return 1.05 * float(stats.norm.isf(self.false_alarm / 2 / tests))


@pytest.fixture(scope="module", params=["seeded", "operating system"])
def source(request: pytest.FixtureRequest) -> Source:
    if request.param == "seeded":
        return Source(Streams(1, noise_seed=2), 1e-4)
    return Source(Streams(1), 1e-6)


@pytest.fixture(scope="module")
def noise(source: Source) -> np.ndarray:
    """Standardised noise (rounds, clients, k) of messages without any signal."""
    mechanism, streams = GaussianMechanism(0.7, 1.3, 16), source.streams
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


def anderson_limit(false_alarm: float) -> float:
    """The A^2 that is exceeded so rarely.

    In the limit A^2 = sum_j Z_j^2 / (j (j + 1)). Its first term decides about the tail, and the
    others contribute prod_{j >= 2} (1 - 2 / (j (j + 1)))^(-1/2) = sqrt(3):
    P(A^2 > x) ~ 2 sqrt(3) P(Z > sqrt(2 x)); 1.2 % at 3.857, where the tables have 1 %.
    """
    return float(stats.norm.isf(false_alarm / (2 * np.sqrt(3))) ** 2 / 2)


def test_each_clients_noise_is_normal_by_kolmogorov_and_by_anderson(
    noise: np.ndarray, source: Source
) -> None:
    for row in noise.reshape(-1, K):
        assert stats.kstest(row, "norm").pvalue > source.false_alarm / (CLIENTS * ROUNDS)
    limit = anderson_limit(source.false_alarm)
    assert anderson_darling(noise.ravel()) < limit
    assert anderson_darling(1.05 * noise.ravel()) > limit  # and it sees a scale that is 5 % off


def test_noise_is_independent_across_clients_rounds_and_coordinates(
    noise: np.ndarray, source: Source
) -> None:
    rows = noise.reshape(-1, K)
    pairs = list(itertools.combinations(range(len(rows)), 2))
    worst = source.width(len(pairs)) / np.sqrt(K)
    for a, b in pairs:
        assert abs(np.mean(rows[a] * rows[b])) < worst
        assert abs(np.mean(np.sign(rows[a]) * np.sign(rows[b]))) < worst
    for lag in (1, 2, 64):
        product = rows[:, lag:] * rows[:, :-lag]
        assert abs(product.mean()) < source.width(3) / np.sqrt(product.size)
    squares = rows**2 - 1  # equal scales, too: no shared factor; 9, for long tails
    assert np.abs(np.corrcoef(squares) - np.eye(len(rows))).max() < 9 / np.sqrt(K)


def test_shared_noise_is_normal_and_independent_of_pairs_rounds_and_own_noise(
    source: Source,
) -> None:
    streams = source.streams
    rows = [streams.pair(i, j, t).standard_normal(K) for i, j in ((0, 1), (0, 2)) for t in (0, 1)]
    rows += [streams.noise(t, 0).standard_normal(K) for t in (0, 1)]
    for row in rows:
        assert stats.kstest(row, "norm").pvalue > source.false_alarm / len(rows)
    pairs = list(itertools.combinations(rows, 2))
    for a, b in pairs:
        assert abs(np.mean(a * b)) < source.width(len(pairs)) / np.sqrt(K)


def assert_counts(counts: np.ndarray, expected: np.ndarray, false_alarm: float) -> None:
    """By chi-square, with so many in every cell that its limit law holds far out."""
    kept = expected > 300
    observed, wanted = (np.append(x[kept], x[~kept].sum()) for x in (counts, expected))
    assert stats.chisquare(observed, wanted).pvalue > false_alarm


@pytest.mark.parametrize("law", ["discrete Gaussian", "geometric"])
def test_integer_noise_follows_its_law_and_is_independent(law: str, source: Source) -> None:
    count, reach = 50_000, np.arange(-200, 201)
    made = GaussianLaw(Fraction(9)) if law == "discrete Gaussian" else LaplaceLaw(Fraction(3))
    weights = np.exp(-(reach**2) / 18 if law == "discrete Gaussian" else -np.abs(reach) / 3)
    drawn = [sample(made, count, source.streams.noise(0, client)) for client in range(2)]
    for own in drawn:
        counts = np.bincount(own + 200, minlength=len(reach))
        assert_counts(counts, count * weights / weights.sum(), source.false_alarm / 3)
    assert abs(stats.pearsonr(*drawn).statistic) < source.width(3) / np.sqrt(count)


RECORDS, BATCH, DRAWS = 12, 3, 20_000


@pytest.fixture(scope="module")
def joined(source: Source) -> np.ndarray:
    """Who joined (draws, records), as `sampling.poisson` draws it for two clients."""
    inputs = torch.arange(2 * RECORDS, dtype=torch.float32)[:, None]
    data = Dataset("numbers", inputs, inputs[:, 0], inputs, inputs[:, 0], classes=0)
    shards = Shards(data, (np.arange(RECORDS), np.arange(RECORDS, 2 * RECORDS)))
    found = np.zeros((DRAWS, 2 * RECORDS), dtype=bool)
    for t in range(DRAWS):
        batch = sampling.poisson(shards, (0, 1), BATCH, source.streams, t, 0)
        found[t, batch.x[:, 0].long().numpy()] = True
        assert sum(batch.counts) == found[t].sum()
    return found


def test_a_record_joins_with_probability_q_and_two_records_with_its_square(
    joined: np.ndarray, source: Source
) -> None:
    q, many = BATCH / RECORDS, 2 * RECORDS
    width = source.width(many) * np.sqrt(q * (1 - q) / DRAWS)
    assert np.abs(joined.mean(axis=0) - q).max() < width
    both = joined.T.astype(float) @ joined / DRAWS  # of one client, and of two
    off = both[~np.eye(many, dtype=bool)]
    width = source.width(off.size) * np.sqrt(q**2 * (1 - q**2) / DRAWS)
    assert np.abs(off - q**2).max() < width


def test_batch_sizes_are_binomial_and_rounds_independent(
    joined: np.ndarray, source: Source
) -> None:
    q = BATCH / RECORDS
    for own in (joined[:, :RECORDS], joined[:, RECORDS:]):
        sizes = np.bincount(own.sum(axis=1), minlength=RECORDS + 1)
        expected = DRAWS * stats.binom.pmf(np.arange(RECORDS + 1), RECORDS, q)
        assert_counts(sizes, expected, source.false_alarm / 3)
        assert sizes[0] > 0  # an empty batch is a batch
    again = (joined[1:] & joined[:-1]).mean()
    width = source.width(3) * np.sqrt(q**2 / (DRAWS * 2 * RECORDS))
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
