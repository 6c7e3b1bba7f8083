"""Who joins a batch: with which probability, together with whom, and who can know it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from fedsieve.learning import sampling
from fedsieve.learning.data import Batch, Dataset, Shards
from fedsieve.randomness import Streams

SIZES = (12, 30, 5)
STARTS = np.cumsum((0, *SIZES))


@pytest.fixture(scope="module")
def shards() -> Shards:
    """Three clients; a record's value is its number in the whole set."""
    n = sum(SIZES)
    x, y = torch.arange(n, dtype=torch.float32)[:, None], torch.zeros(n, dtype=torch.int64)
    data = Dataset("numbers", x, y, x[:1], y[:1], classes=2)
    return Shards(data, tuple(np.split(np.arange(n), STARTS[1:-1])))


def members(batch: Batch) -> list[tuple[int, ...]]:
    """The records of each client in a batch."""
    values = np.split(batch.x[:, 0].numpy().astype(int), np.cumsum(batch.counts)[:-1])
    return [tuple(v.tolist()) for v in values]


def inclusions(shards: Shards, client: int, batch: float, rounds: int, seed: int) -> np.ndarray:
    """Whether each record of a client joins in each round: (rounds, N_i)."""
    joined = np.zeros((rounds, SIZES[client]), dtype=bool)
    streams = Streams(0, noise_seed=seed)
    for t in range(rounds):
        (mine,) = members(sampling.poisson(shards, [client], batch, streams, t, 0))
        joined[t, np.array(mine, dtype=int) - STARTS[client]] = True
    return joined


@pytest.mark.parametrize(("client", "batch"), [(0, 3.0), (0, 0.5), (1, 12.0), (2, 2.5)])
def test_records_join_with_probability_q_and_independently(
    shards: Shards, client: int, batch: float
) -> None:
    rounds, q = 4000, batch / SIZES[client]
    joined = inclusions(shards, client, batch, rounds, seed=1).astype(float)
    error = np.sqrt(q * (1 - q) / rounds)
    assert np.abs(joined.mean(0) - q).max() < 4.5 * error
    pairs = joined.T @ joined / rounds
    apart = ~np.eye(len(pairs), dtype=bool)
    error = np.sqrt(q**2 * (1 - q**2) / rounds)
    assert np.abs(pairs[apart] - q**2).max() < 5 * error
    later = (joined[1:] * joined[:-1]).mean(0)  # nor does a round depend on the one before
    assert np.abs(later - q**2).max() < 5 * error


def test_the_size_of_a_batch_is_binomial_and_never_cut(shards: Shards) -> None:
    n, batch, rounds = SIZES[0], 3.0, 4000
    q = batch / n
    sizes = inclusions(shards, 0, batch, rounds, seed=2).sum(1)
    variance = n * q * (1 - q)
    assert abs(sizes.mean() - batch) < 4 * np.sqrt(variance / rounds)
    assert abs(sizes.var() - variance) < 4 * variance * np.sqrt(2 / rounds)
    assert sizes.min() == 0
    assert sizes.max() > 2.5 * batch


def test_an_empty_batch_stays_empty(shards: Shards) -> None:
    batch = sampling.poisson(shards, [0, 1, 2], 1e-12, Streams(0, noise_seed=1), 0, 0)
    assert batch.counts == (0, 0, 0)
    assert batch.x.shape == (0, 1)


def test_everybody_joins_at_q_1(shards: Shards) -> None:
    (mine,) = members(sampling.poisson(shards, [2], 5, Streams(0), 0, 0))
    assert mine == tuple(range(STARTS[2], STARTS[3]))


@pytest.mark.parametrize(
    "other",
    [
        lambda s, streams: members(sampling.poisson(s, [1], 15, streams, 8, 0))[0],  # round
        lambda s, streams: members(sampling.poisson(s, [1], 15, streams, 7, 1))[0],  # step
        lambda s, _: members(sampling.poisson(s, [1], 15, Streams(0, noise_seed=2), 7, 0))[0],
    ],
)
def test_every_round_step_and_noise_seed_draws_afresh(
    shards: Shards, other: Callable[[Shards, Streams], tuple[int, ...]]
) -> None:
    streams = Streams(0, noise_seed=1)
    assert members(sampling.poisson(shards, [1], 15, streams, 7, 0))[0] != other(shards, streams)


def test_clients_draw_independently_of_each_other_and_of_who_else_draws(shards: Shards) -> None:
    streams = Streams(0, noise_seed=1)
    together = members(sampling.poisson(shards, [0, 1, 2], 2.5, streams, 3, 0))
    alone = [members(sampling.poisson(shards, [c], 2.5, streams, 3, 0))[0] for c in range(3)]
    assert together == alone
    same = Shards(shards.dataset, (shards.parts[1], shards.parts[1]))  # equal data, other clients
    one, other = members(sampling.poisson(same, [0, 1], 15, streams, 3, 0))
    assert one != other


def test_a_poisson_batch_is_unknown_to_who_knows_the_public_seed(shards: Shards) -> None:
    """Known draws undo the amplification by sampling."""

    def draw(streams: Streams) -> tuple[int, ...]:
        return members(sampling.poisson(shards, [1], 15, streams, 0, 0))[0]

    assert len({draw(Streams(7)) for _ in range(20)}) == 20
    seeded = Streams(7, noise_seed=3)
    assert draw(seeded) == draw(Streams(8, noise_seed=3))
    guess = seeded.data(1, 0, 0).random(SIZES[1]) < 15 / SIZES[1]
    assert draw(seeded) != tuple((np.flatnonzero(guess) + STARTS[1]).tolist())


def test_a_round_that_runs_again_draws_another_batch_unless_its_noise_repeats(
    shards: Shards,
) -> None:
    """So the ledger charges the round a second time, or not."""

    def round_again(streams: Streams) -> bool:
        first, again = (
            members(sampling.poisson(shards, [0, 1], 6, streams, 4, 0)) for _ in range(2)
        )
        return first == again

    assert round_again(Streams(7, noise_seed=3))
    assert not round_again(Streams(7))


def test_mini_batches_walk_through_a_shuffle_of_the_data_stream(shards: Shards) -> None:
    visits = [
        members(sampling.minibatch(shards, [0], 4, Streams(7), round_=2, step=step))[0]
        for step in range(6)
    ]
    assert {len(v) for v in visits} == {4}
    for epoch in (visits[:3], visits[3:]):
        assert sorted(sum(epoch, ())) == list(range(12))
    assert visits[:3] != visits[3:]
    (whole,) = members(sampling.minibatch(shards, [2], 50, Streams(7)))
    assert sorted(whole) == list(range(STARTS[2], STARTS[3]))
