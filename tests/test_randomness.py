"""The five streams: repeatable where they should be, and never where they must not be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsieve.randomness import Stream, Streams

SEEDED = ("public", "data", "attacker")
SECRET = ("noise", "inclusion")
labels = st.lists(st.integers(0, 2**31), max_size=3)


def draw(generator: np.random.Generator) -> bytes:
    return generator.bytes(16)


@pytest.mark.parametrize("stream", SEEDED)
@given(seed=st.integers(0, 2**63), key=labels)
def test_a_draw_depends_on_its_key_alone(stream: str, seed: int, key: list[int]) -> None:
    streams = Streams(seed)
    first = draw(getattr(streams, stream)(*key))
    getattr(streams, stream)(99).random(1000)  # another draw in between changes nothing
    assert draw(getattr(Streams(seed), stream)(*key)) == first


@given(seed=st.integers(0, 2**63), key=labels)
def test_streams_seeds_and_labels_differ(seed: int, key: list[int]) -> None:
    streams = Streams(seed, noise_seed=seed)
    draws = [draw(getattr(streams, name)(*key)) for name in (*SEEDED, *SECRET)]
    draws.append(draw(Streams(seed + 1).public(*key)))
    draws.append(draw(streams.public(*key, 7)))
    assert len(set(draws)) == len(draws)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((5, (13,)), (5, (13, 0))),  # zeros at the end count
        ((5, ()), (5, (0,))),
        ((5 + 3 * 2**32, (13,)), (5, (13,))),  # a large seed does not run into the stream's number
        ((5 + 3 * 2**32, (13,)), (5, (3, 13))),
        ((5 + 3 * 2**96, (13,)), (5, (3, 13))),
    ],
)
def test_no_two_keys_are_spelled_alike(
    one: tuple[int, tuple[int, ...]], other: tuple[int, tuple[int, ...]]
) -> None:
    draws = {
        draw(getattr(Streams(seed, noise_seed=seed), name)(*key))
        for seed, key in (one, other)
        for name in (*SEEDED, *SECRET)
    }
    assert len(draws) == 2 * len((*SEEDED, *SECRET))


def test_the_keys_of_the_streams_are_part_of_every_recorded_run() -> None:
    assert {s.name: s.value for s in Stream} == {
        "PUBLIC": 0, "DATA": 1, "NOISE": 2, "ATTACKER": 3, "INCLUSION": 4, "PAIR": 5,
        "ORDER": 6,
    }  # fmt: skip
    key = np.random.SeedSequence(7, spawn_key=(1, 0, 3))
    assert Streams(7).data(0, 3).integers(2**62) == np.random.default_rng(key).integers(2**62)


@pytest.mark.parametrize("name", SECRET)
def test_what_privacy_rests_on_cannot_be_repeated_without_a_seed(name: str) -> None:
    streams = Streams(seed=7)
    assert streams.noise_source == "operating system entropy"
    once = draw(getattr(streams, name)(0, 1))
    assert once != draw(getattr(streams, name)(0, 1))
    assert once != draw(getattr(Streams(seed=7), name)(0, 1))


@pytest.mark.parametrize("name", SECRET)
def test_a_simulation_may_seed_noise_and_batches_and_says_so(name: str) -> None:
    streams = Streams(seed=7, noise_seed=5)
    assert streams.noise_source == "simulation seed 5"
    once = draw(getattr(streams, name)(0, 1))
    assert once == draw(getattr(Streams(seed=8, noise_seed=5), name)(0, 1))
    assert once != draw(getattr(Streams(seed=7, noise_seed=6), name)(0, 1))


def test_no_stream_touches_the_global_generator() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - the state that must not move
    Streams(7, 7).noise(1).random(10)
    Streams(7).public().random(10)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


@pytest.mark.parametrize("value", [-1, 2**128])
@pytest.mark.parametrize("name", ["seed", "noise_seed"])
def test_a_seed_out_of_range_is_refused(name: str, value: int) -> None:
    Streams(2**128 - 1, noise_seed=2**128 - 1).noise(2**32 - 1)
    with pytest.raises(ValueError, match=rf"^{name}={value} must be >= 0 and < 2\^128"):
        Streams(**{"seed": 0, name: value})


@pytest.mark.parametrize("label", [-1, 2**32])
def test_a_label_that_does_not_fill_one_word_is_refused(label: int) -> None:
    with pytest.raises(ValueError, match=rf"labels=\(0, {label}\)"):
        Streams(0).public(0, label)
