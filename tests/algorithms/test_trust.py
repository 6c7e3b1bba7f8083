"""Where noise is added, and how much: sensitivity, variance, cancellation, accounting, refusals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fedsieve.aggregation import Mean
from fedsieve.algorithms.form import Cohort
from fedsieve.algorithms.trust import (
    EVERYTHING,
    ServerNoise,
    SharedNoise,
    clipped,
    listed,
)
from fedsieve.learning.clipping import Clip
from fedsieve.privacy import (
    AdaptiveClip,
    CorrelatedGaussian,
    Event,
    IntegerMechanism,
    compose,
)
from fedsieve.randomness import Streams
from fedsieve.simulation.job import Job
from fedsieve.simulation.loop import Simulation
from tests.algorithms.trusts import COMBINATIONS, FALSE_ALARM, STREAMS, TRUSTS, F, N


def cohort(ids: tuple[int, ...] = tuple(range(N)), absent: tuple[int, ...] = ()) -> Cohort:
    present = tuple(i for i in ids if i not in absent)
    steps = (1,) * len(present)
    return Cohort(present, present, None, STREAMS, steps, ids, absent)  # type: ignore[arg-type]


# -------------------------------------------------------------------------------- sensitivity

SCALES = (0.0, 1e-3, 1.0, 1e4, 1e30, 3e38, math.nan, math.inf, -math.inf)


@given(
    seed=st.integers(0, 2**32 - 1),
    scales=st.lists(st.sampled_from(SCALES), min_size=2, max_size=6),
    other=st.sampled_from(SCALES),
    clip=st.sampled_from([1e-3, 1.0, 1e3]),
    form=st.sampled_from(["flat", "automatic"]),
)
def test_a_client_moves_the_sum_by_the_clip_and_its_exchange_by_twice_the_clip(
    seed: int, scales: list[float], other: float, clip: float, form: Any
) -> None:
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(len(scales) + 1, 9))
    directions /= np.abs(directions).max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        updates = torch.from_numpy(directions * np.array([*scales, other])[:, None]).float()
    rows, _ = clipped(updates, Clip(clip, form))
    assert bool(rows.isfinite().all())
    held, changed = rows[:-1].double(), rows[:-1].double().clone()
    changed[0] = rows[-1]  # all of client 0's data is replaced
    slack = 1e-6 * clip
    assert held.norm(dim=1).max() <= clip + slack
    assert (held.sum(0) - held[1:].sum(0)).norm() <= clip + slack
    assert (held.sum(0) - changed.sum(0)).norm() <= 2 * clip + 2 * slack
    if not math.isfinite(other):
        assert not rows[-1].any()


@given(
    seed=st.integers(0, 2**32 - 1),
    scales=st.lists(st.sampled_from(SCALES), min_size=N, max_size=N),
    other=st.sampled_from(SCALES),
)
def test_one_message_moves_the_servers_mean_by_its_share_whatever_is_in_it(
    mechanism_of: Callable[..., Any], seed: int, scales: list[float], other: float
) -> None:
    """At client level; the noise, keyed by the round, is the same in both worlds."""
    mechanism = mechanism_of("client", sigma=1e-3, clip=0.5)
    noise, rng = ServerNoise(STREAMS), np.random.default_rng(seed)
    directions = rng.normal(size=(N + 1, 9))
    with np.errstate(invalid="ignore", over="ignore"):
        rows = torch.from_numpy(directions * np.array([*scales, other])[:, None]).float()
    one = noise.at_server(mechanism, rows[:N], 3, Mean())
    two = noise.at_server(mechanism, rows[1:], 3, Mean())  # client 0 replaced, the mean symmetric
    assert (one - two).double().norm() <= 2 * 0.5 / N + 1e-5


def test_an_unusable_message_gives_the_others_no_more_weight(
    mechanism_of: Callable[..., Any],
) -> None:
    mechanism = mechanism_of("record", sigma=1e-6)
    rows = torch.ones(N, 4)
    rows[2] = math.nan
    found = ServerNoise(STREAMS).at_server(mechanism, rows, 0, Mean())
    torch.testing.assert_close(found, torch.full((4,), (N - 1) / N), rtol=0, atol=1e-4)


# ----------------------------------------------------------------------------------- variance


def chi_square(values: np.ndarray, std: float) -> float:
    """Two-sided p-value of the hypothesis that the values are N(0, std^2)."""
    total = float((values**2).sum() / std**2)
    return 2 * min(stats.chi2.cdf(total, values.size), stats.chi2.sf(total, values.size))


@pytest.mark.parametrize("unit", ["record", "client"])
@pytest.mark.parametrize("trust", TRUSTS)
def test_the_noise_of_messages_and_aggregates_is_as_large_as_stated(
    mechanism_of: Callable[..., Any], noise_of: Callable[..., Any], unit: str, trust: str
) -> None:
    k, mechanism = 20_000, mechanism_of(unit, sigma=1.7, clip=0.3)
    noise, std = noise_of(trust, mechanism), mechanism.noise_std
    messages = noise.at_client(mechanism, torch.zeros(N, k), cohort(), 0).messages
    aggregate = noise.at_server(mechanism, messages, 0, Mean()).double().numpy()
    alone, together = {
        "local": (std, std / math.sqrt(N)),
        "distributed": (
            noise.correlated.noise_std(N) if trust == "distributed" else 0.0,
            std * math.sqrt(1.1 / (N - F) / N),  # slack 0.1
        ),
        "central": (0.0, std / N),
    }[trust]
    assert chi_square(aggregate, together) > FALSE_ALARM
    assert chi_square(aggregate, 1.05 * together) < FALSE_ALARM  # the test can tell
    for message in messages.double().numpy():
        if alone:
            assert chi_square(message, alone) > FALSE_ALARM
        else:
            assert not message.any()


def test_shared_noise_cancels_in_the_mean_and_without_those_who_are_absent(
    mechanism_of: Callable[..., Any],
) -> None:
    k, mechanism = 5000, mechanism_of("client")
    shared = CorrelatedGaussian(clip=1.0, independent=0.01, correlated=50.0, batch=1)
    noise = SharedNoise(shared, F)
    for absent in ((), (1, 4)):
        present = cohort(absent=absent)
        sent = noise.at_client(mechanism, torch.zeros(len(present.ids), k), present, 0)
        m = len(present.ids)
        assert float(sent.messages[0].std()) > 50
        # float32 messages of size 100: their own rounding is 3e-6
        assert chi_square(sent.messages.double().mean(0).numpy(), 0.01 / math.sqrt(m)) > FALSE_ALARM


def test_whoever_computes_a_client_gets_the_same_bits(
    mechanism_of: Callable[..., Any], noise_of: Callable[..., Any]
) -> None:
    mechanism, vectors = mechanism_of("client"), torch.randn(N, 40).clamp(-0.1, 0.1)
    for trust in TRUSTS:
        noise, everybody = noise_of(trust, mechanism), cohort(absent=(3,))
        kept = vectors[list(everybody.ids)]
        stack = noise.at_client(mechanism, kept, everybody, 2).messages
        for i in range(len(everybody.ids)):
            alone = noise.at_client(mechanism, kept[i : i + 1], everybody.one(i), 2)
            assert torch.equal(alone.messages[0], stack[i])


def test_a_stream_of_a_pair_is_of_both_and_of_nobody_else() -> None:
    for streams in (Streams(0, 3), Streams(0)):
        draw = streams.pair(2, 5, 7).random(4)
        assert np.array_equal(draw, streams.pair(5, 2, 7).random(4))
        assert not np.array_equal(draw, streams.pair(2, 5, 8).random(4))
        assert not np.array_equal(draw, streams.pair(2, 4, 7).random(4))
    assert not np.array_equal(Streams(0).pair(2, 5).random(4), Streams(0).pair(2, 5).random(4))
    assert "ecret" not in repr(Streams(0))


# --------------------------------------------------------------------------------- accounting


@pytest.mark.parametrize(("name", "unit", "trust"), COMBINATIONS)
def test_what_is_charged_is_the_composition_by_hand(
    mechanism_of: Callable[..., Any],
    noise_of: Callable[..., Any],
    job_of: Callable[..., Job],
    name: str,
    unit: str,
    trust: str,
) -> None:
    where = {"size": 5, "dropout": 0.2}
    job = job_of(name, unit, trust, participation=where, rounds=6)
    assert job.ledger is not None
    with Simulation(job) as simulation:
        for _ in range(6):
            simulation.step()
    spent: dict[int, list[Event]] = {}
    noise = noise_of(trust, mechanism_of(unit))
    for round_ in range(6):
        there = job.participation.draw(job.streams, round_, 3)
        sigma = 0.5
        if trust == "distributed":  # only the present and honest hide each other
            sigma = noise.correlated.noise_multiplier(len(there.ids), F)
        steps = 3 if (name, unit) == ("fedavg", "record") else 1
        rate = 8 / 20 if unit == "record" else 1.0
        for client in there.ids:
            spent.setdefault(client, []).append(Event(sigma, rate, steps))
    by_hand = max(
        (compose(events, 1e-5, unit=unit) for events in spent.values()),  # type: ignore[arg-type]
        key=lambda guarantee: guarantee.epsilon,
    )
    found = job.ledger.guarantee()
    assert (found.epsilon, found.unit) == (pytest.approx(by_hand.epsilon, rel=1e-9), unit)
    assert len({events[0].steps * len(events) for events in spent.values()}) > 1


# ------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("name", "unit", "trust"),
    [
        ("fedavg", "record", "central"),
        ("fedavg", "record", "distributed"),
        ("scaffold", "client", "local"),
        ("scaffold", "record", "central"),
        ("peer-to-peer", "client", "local"),
        ("peer-to-peer", "record", "distributed"),
    ],
)
def test_algorithms_refuse_what_their_messages_are_not_made_for(
    job_of: Callable[..., Job], name: str, unit: str, trust: str
) -> None:
    with pytest.raises(ValueError, match=f"unit='{unit}' with trust='{trust}': {name} offers"):
        job_of(name, unit, trust)


@pytest.mark.parametrize(
    ("unit", "trust"), [("client", "local"), ("record", "distributed"), ("record", "central")]
)
def test_what_is_made_for_own_sums_of_records_is_refused_elsewhere(
    job_of: Callable[..., Job], unit: Any, trust: str
) -> None:
    gradient = job_of("dshb", unit, trust).algorithm.parts.gradient  # type: ignore[attr-defined]
    told = f"unit='{unit}' with trust='{trust}': "
    with pytest.raises(ValueError, match=told + "a clip that moves"):
        replace(gradient, adaptive=AdaptiveClip(5.0))
    with pytest.raises(ValueError, match=told + "integer noise"):
        replace(gradient, mechanism=IntegerMechanism(1.0, 2.0, 8, 3, unit=unit))
    layers = replace(gradient.mechanism, clipping="per-layer")
    if unit == "record":
        assert replace(gradient, mechanism=layers).mechanism is layers
        return
    with pytest.raises(ValueError, match=r"clipping='per-layer' with unit='client'.*'flat'"):
        replace(gradient, mechanism=layers)


def test_offers_in_words() -> None:
    assert listed(frozenset({("record", "local")})) == "record (trust local)"
    assert listed(EVERYTHING).count("central, distributed, local") == 2


def test_colluders_are_counted_from_zero() -> None:
    with pytest.raises(ValueError, match="colluders=-1 must be >= 0"):
        SharedNoise(CorrelatedGaussian(1.0, 1.0, 1.0, 1), -1)


@pytest.mark.parametrize("value", [2.0**25, 2.0**60, 3e38])
def test_no_message_drowns_the_servers_noise(
    mechanism_of: Callable[..., Any], value: float
) -> None:
    """Sums beside it are rounded after the noise only, so neighbours stay as near as stated."""
    mechanism = mechanism_of("record", sigma=4.0)
    stack = torch.zeros(4, 500)
    stack[0, 0] = value
    results = []
    for sent in (0.0, 1 / mechanism.batch):
        stack[1, 1:] = sent  # in every other number alone: five hundred pairs of neighbours
        noise = ServerNoise(Streams(1, noise_seed=2))
        results.append(noise.at_server(mechanism, stack, 0, lambda x: x.mean(0)))
    moved = (results[1] - results[0])[1:] * 4 * mechanism.batch
    torch.testing.assert_close(moved, torch.ones(499), rtol=0, atol=0.05)
    spread = results[0][1:].std() * 4 * mechanism.batch
    assert spread == pytest.approx(4.0, rel=0.15)
