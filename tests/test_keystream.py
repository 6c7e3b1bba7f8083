"""Key streams: the bits of the published ciphers, and no two holders with the same ones."""

from __future__ import annotations

import copy
import os
import pickle
from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from scipy import stats

from fedsieve import _keystream
from fedsieve._keystream import FreshGenerator, KeyedGenerator, Secret, cipher

FALSE_ALARM = 1e-6  # these draws are fresh every time


@pytest.fixture(params=["AES-128-CTR", "ChaCha20"])
def named(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ciphers, whatever the CPU offers."""
    monkeypatch.setattr(_keystream, "cipher", lambda: request.param)
    return request.param


@pytest.mark.parametrize(
    ("key", "block", "expected"),
    [  # FIPS 197, appendix C.1; NIST SP 800-38A, F.1.1
        ("000102030405060708090a0b0c0d0e0f", "00112233445566778899aabbccddeeff",
         "69c4e0d86a7b0430d8cdb78070b4c55a"),
        ("2b7e151628aed2a6abf7158809cf4f3c", "6bc1bee22e409f96e93d7e117393172a",
         "3ad77bb40d7a3660a89ecaf32466ef97"),
    ],
)  # fmt: skip
def test_the_bits_are_those_of_aes(
    monkeypatch: pytest.MonkeyPatch, key: str, block: str, expected: str
) -> None:
    monkeypatch.setattr(_keystream, "cipher", lambda: "AES-128-CTR")
    generator = KeyedGenerator(bytes.fromhex(key + block))
    assert generator.bytes(16).hex() == expected
    following = (int.from_bytes(bytes.fromhex(block), "little") + 1).to_bytes(16, "little")
    assert generator.bytes(16) == KeyedGenerator(bytes.fromhex(key) + following).bytes(16)


def test_the_bits_are_those_of_chacha(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_keystream, "cipher", lambda: "ChaCha20")
    blocks = (  # RFC 8439, appendix A.1, vectors 1 and 2: counters 0 and 1 of the key zero
        "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
        "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586"
        "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
        "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f"
    )
    assert KeyedGenerator(bytes(32)).bytes(128).hex() == blocks


def test_the_cipher_is_what_the_cpu_computes() -> None:
    from randomgen import AESCounter, ChaCha

    assert cipher() == ("AES-128-CTR" if AESCounter(key=0).use_aesni else "ChaCha20")
    made = type(FreshGenerator().bit_generator)
    assert issubclass(made, AESCounter if cipher() == "AES-128-CTR" else ChaCha)


def test_all_256_bits_of_a_key_count(named: str) -> None:
    whole = bytes(range(32))
    flipped = [bytes(b ^ (i == at) for i, b in enumerate(whole)) for at in range(32)]
    assert len({KeyedGenerator(key).bytes(16) for key in (whole, *flipped)}) == 33


REFUSED: dict[str, tuple[Callable[[Any], object], str]] = {
    "copy": (copy.copy, "neither copied nor stored"),
    "deepcopy": (copy.deepcopy, "neither copied nor stored"),
    "pickle": (pickle.dumps, "neither copied nor stored"),
    "read": (lambda held: held.state, "neither read nor set"),
    "set": (lambda held: setattr(held, "state", {}), "neither read nor set"),
    "set back": (lambda held: held.advance(-1), "only goes forward"),
    "jump": (lambda held: held.jumped(), "only goes forward"),
    "spawn": (lambda held: held.spawn(2), "n_children=2: .* has no children; ask"),
}


@pytest.mark.parametrize("part", [lambda g: g, lambda g: g.bit_generator], ids=["all", "bits"])
@pytest.mark.parametrize("made", [FreshGenerator, lambda: Secret().generator(1)])
@pytest.mark.parametrize("asked", REFUSED)
def test_nobody_gets_a_second_generator_of_the_same_noise(
    named: str, made: Callable[[], KeyedGenerator], part: Callable[[Any], Any], asked: str
) -> None:
    ask, message = REFUSED[asked]
    generator = made()
    with pytest.raises(TypeError, match=message):
        ask(part(generator))
    assert 0 <= generator.random() < 1  # it goes on


def test_the_refusals_change_no_bit(named: str) -> None:
    """The samplers run on the published cipher's own code, and see nothing of the class around."""
    from randomgen import AESCounter, ChaCha

    key = bytes(range(32))
    plain = AESCounter if named == "AES-128-CTR" else ChaCha
    own = np.random.Generator(plain(**_keystream._words(key)))
    assert np.array_equal(KeyedGenerator(key).standard_normal(99), own.standard_normal(99))


def test_a_renewed_generator_is_that_of_the_new_key(
    named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = FreshGenerator()
    generator.integers(9, size=3, dtype=np.uint32)  # half a word is left, and half a block
    monkeypatch.setattr(_keystream.secrets, "token_bytes", lambda n: bytes(range(n)))
    generator.renew()
    fresh = KeyedGenerator(bytes(range(32)))
    for draw in (lambda g: g.integers(2**32, size=5, dtype=np.uint32), lambda g: g.random(9)):
        assert np.array_equal(draw(generator), draw(fresh))


def test_a_secret_gives_each_label_a_stream_and_copies_of_it_the_same(named: str) -> None:
    secret = Secret()
    labels = [(), (0,), (0, 0), (1,), (1, 0), (0, 1), (256,), (1, 2), (2, 1)]
    draws = [secret.generator(*given).bytes(16) for given in labels]
    assert len(set(draws)) == len(labels)
    handed = pickle.loads(pickle.dumps(secret))
    assert [handed.generator(*given).bytes(16) for given in labels] == draws
    assert not set(draws) & {Secret().generator(*given).bytes(16) for given in labels}
    assert secret.generator(np.int64(1), 2).bytes(16) == draws[labels.index((1, 2))]
    assert secret._key.hex() not in repr(secret)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_draws_something_else() -> None:
    generator, secret = FreshGenerator(), Secret()
    generator.random(3)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, generator.bytes(16) + secret.generator(1, 2).bytes(16))
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reader, 32)
    os.close(reader), os.close(writer)
    assert len(theirs) == 32
    assert theirs[:16] != generator.bytes(16)
    assert theirs[16:] != secret.generator(1, 2).bytes(16)


def test_numbers_of_every_kind_follow_their_laws(named: str) -> None:
    generator, n, alarm = FreshGenerator(), 20_000, FALSE_ALARM / 5
    assert stats.kstest(generator.random(n), "uniform").pvalue > alarm
    assert stats.kstest(generator.standard_normal(n), "norm").pvalue > alarm
    assert stats.kstest(generator.standard_exponential(n), "expon").pvalue > alarm
    for dtype in (np.uint32, np.uint64):
        counts = np.bincount(generator.integers(7, size=n, dtype=dtype), minlength=7)
        assert stats.chisquare(counts).pvalue > alarm


def test_streams_are_uncorrelated(named: str) -> None:
    secret, n = Secret(), 4000
    streams = [FreshGenerator() for _ in range(4)] + [secret.generator(i) for i in range(4)]
    normal = [stream.standard_normal(n) for stream in streams]
    limit = stats.norm.isf(FALSE_ALARM / 2 / 28) / np.sqrt(n)
    for one, other in combinations(normal, 2):
        assert abs(np.mean(one * other)) < 1.1 * limit  # products have longer tails than normals
