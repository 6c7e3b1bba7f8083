"""The four streams: repeatable where they should be, and never where they must not be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsieve.randomness import Stream, Streams

SEEDED = ("public", "data", "attacker")
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
    draws = [draw(getattr(streams, name)(*key)) for name in (*SEEDED, "noise")]
    draws.append(draw(Streams(seed + 1).public(*key)))
    draws.append(draw(streams.public(*key, 7)))
    assert len(set(draws)) == len(draws)


def test_the_keys_of_the_streams_are_part_of_every_recorded_run() -> None:
    assert {s.name: s.value for s in Stream} == {
        "PUBLIC": 0, "DATA": 1, "NOISE": 2, "ATTACKER": 3
    }  # fmt: skip
    expected = np.random.default_rng([7, 1, 0, 3]).integers(2**62)
    assert Streams(7).data(0, 3).integers(2**62) == expected


def test_noise_without_a_seed_cannot_be_repeated() -> None:
    streams = Streams(seed=7)
    assert streams.noise_source == "operating system entropy"
    assert draw(streams.noise(0, 1)) != draw(streams.noise(0, 1))
    assert draw(streams.noise(0, 1)) != draw(Streams(seed=7).noise(0, 1))


def test_a_simulation_may_seed_the_noise_and_says_so() -> None:
    streams = Streams(seed=7, noise_seed=5)
    assert streams.noise_source == "simulation seed 5"
    assert draw(streams.noise(0, 1)) == draw(Streams(seed=8, noise_seed=5).noise(0, 1))


def test_no_stream_touches_the_global_generator() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - the state that must not move
    Streams(7, 7).noise(1).random(10)
    Streams(7).public().random(10)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


@pytest.mark.parametrize(("name", "arguments"), [("seed", (-1,)), ("noise_seed", (0, -2))])
def test_a_negative_seed_is_refused(name: str, arguments: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"{name}={arguments[-1]} must be >= 0"):
        Streams(*arguments)
