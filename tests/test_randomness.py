"""The six streams: repeatable where they should be, and never where they must not be."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsieve import randomness
from fedsieve._keystream import KeyedGenerator
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
    seeded = Streams(7, noise_seed=11)
    for generator, labels in (
        (seeded.noise(0, 3), (2, 0, 3)),
        (seeded.inclusion(0, 3), (4, 0, 3)),
        (seeded.pair(9, 3, 1), (5, 3, 9, 1)),
        (seeded.order(0, 3), (6, 0, 3)),
    ):
        key = np.random.SeedSequence(11, spawn_key=labels)
        assert draw(generator) == draw(np.random.default_rng(key))


@pytest.mark.parametrize("named", ["AES-128-CTR", "ChaCha20"])
def test_the_source_is_named_with_its_cipher(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(randomness, "cipher", lambda: named)
    words = f"operating system entropy, expanded by {named}"
    assert Streams(seed=7).noise_source == Streams(seed=7).renewed().noise_source == words
    assert Streams(seed=7, noise_seed=5).noise_source == "simulation seed 5"


@pytest.mark.parametrize("name", SECRET)
def test_what_privacy_rests_on_cannot_be_repeated_without_a_seed(name: str) -> None:
    streams = Streams(seed=7)
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


def test_secret_streams_never_come_from_numpys_own_generators(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("secret noise from a generator that is not cryptographic")

    for name in ("default_rng", "PCG64", "PCG64DXSM", "Philox", "SFC64", "MT19937"):
        monkeypatch.setattr(np.random, name, refuse)
    streams = Streams(seed=7)
    for generator in (
        streams.noise(1, 2), streams.inclusion(1, 2), streams.pair(1, 2, 3), streams.order(1, 2),
    ):  # fmt: skip
        assert isinstance(generator, KeyedGenerator)
        assert type(generator.bit_generator).__name__ in ("AESCounter", "ChaCha")
        generator.standard_normal(3)
    with pytest.raises(AssertionError, match="not cryptographic"):
        streams.public(1)


def test_pairs_share_a_secret_until_it_is_renewed() -> None:
    streams = Streams(seed=7)
    shared = draw(streams.pair(3, 1, 9))
    assert shared == draw(streams.pair(1, 3, 9))
    assert shared == draw(pickle.loads(pickle.dumps(streams)).pair(1, 3, 9))  # a worker process
    others = [Streams(seed=7), streams.renewed()]
    drawn = {shared, *(draw(other.pair(1, 3, 9)) for other in others)}
    drawn |= {draw(streams.pair(1, 3)), draw(streams.pair(1, 9, 3)), draw(streams.pair(2, 3, 9))}
    assert len(drawn) == 6
    assert streams == streams.renewed() == Streams(seed=7)
    seeded = Streams(seed=7, noise_seed=5)
    assert draw(seeded.pair(1, 3)) == draw(seeded.renewed().pair(1, 3))


def test_an_epoch_has_one_order_until_the_secret_is_renewed() -> None:
    streams = Streams(seed=7)
    order = draw(streams.order(1, 3))
    assert order == draw(streams.order(1, 3))
    assert order == draw(pickle.loads(pickle.dumps(streams)).order(1, 3))  # a worker process
    others = [Streams(seed=7), streams.renewed()]
    drawn = {order, *(draw(other.order(1, 3)) for other in others)}
    drawn |= {draw(streams.order(3, 1)), draw(streams.order(1, 4)), draw(streams.pair(1, 3))}
    assert len(drawn) == 6
    seeded = Streams(seed=7, noise_seed=5)
    assert draw(seeded.order(1, 3)) == draw(seeded.renewed().order(1, 3))


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
    for name in (*SEEDED, *SECRET, "pair", "order"):
        with pytest.raises(ValueError, match=rf"labels=\({min(0, label)}, {max(0, label)}\)"):
            getattr(Streams(0), name)(*sorted((0, label)))
