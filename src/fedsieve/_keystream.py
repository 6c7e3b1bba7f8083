"""Generators that draw from a cipher's key stream, which only the key can tell from chance.

A general-purpose generator has good statistics, but some of its outputs give its state away, and
with it all others (for numpy's: Bouillaguet, Martinez, Sauvage, "Practical seed-recovery for the
PCG pseudo-random number generator", ToSC 2020). Here numpy's samplers are fed with

    AES-128 in counter mode (FIPS 197, NIST SP 800-38A), where the CPU computes AES itself: about as
        fast as numpy's own generator, in constant time; or else
    ChaCha20 (Bernstein, "ChaCha, a variant of Salsa20", SASC 2008; RFC 8439), which needs no tables
        and so takes constant time on every CPU.

A stream takes 256 secret bits: the key of ChaCha20, or key and first counter of AES, which leaves
nothing to be computed beforehand for many streams at once. The bits come from the operating system,
or, where two parties must draw the same, from a secret of theirs by BLAKE2b (RFC 7693).
"""

from __future__ import annotations

import hashlib
import os
import secrets
import weakref
from functools import cache
from typing import Any, NoReturn

import numpy as np

_BYTES = 32
_HALF = {"has_uint32", "uinteger"}  # how numpy calls it


@cache
def cipher() -> str:
    """Which of the two this machine uses."""
    from randomgen.aes import AESCounter  # not above: a run with a noise seed never asks for it

    return "AES-128-CTR" if AESCounter(key=0).use_aesni else "ChaCha20"


class Sealed:
    """What generators of secret noise, and the bits below them, refuse.

    Two copies draw the same noise, and so does one that is set back; the state holds the key. That
    stops accidents and not attackers: who runs code in this process can read its memory.
    """

    def __reduce__(self) -> NoReturn:
        raise TypeError("a generator of secret noise can be neither copied nor stored")

    def __getstate__(self) -> NoReturn:
        self.__reduce__()

    @property
    def state(self) -> NoReturn:
        """Refused: it holds the key."""
        raise TypeError("the state of a generator of secret noise can be neither read nor set")

    @state.setter
    def state(self, _: object) -> NoReturn:
        raise TypeError("the state of a generator of secret noise can be neither read nor set")

    def advance(self, *_: object) -> NoReturn:
        """Refused: it could be set back."""
        raise TypeError("a generator of secret noise only goes forward, one draw at a time")

    jumped = advance

    def spawn(self, n_children: int) -> NoReturn:
        """Refused: its children would not be keyed by the system."""
        raise TypeError(
            f"n_children={n_children}: a generator of secret noise has no children; ask "
            "fedsieve.randomness.Streams for one stream each"
        )


class KeyedGenerator(Sealed, np.random.Generator):
    """A numpy generator on the key stream of 32 secret bytes; it can be neither copied nor stored.

    Args:
        key: The bytes.
    """

    def __init__(self, key: bytes) -> None:
        super().__init__(_sealed(cipher())(**_words(key)))


class FreshGenerator(KeyedGenerator):
    """Keyed by the operating system; the draws of a forked child are not those of its parent."""

    def __init__(self) -> None:
        super().__init__(secrets.token_bytes(_BYTES))
        _held.add(self)

    def renew(self) -> None:
        """Go on with another key."""
        bits: Any = self.bit_generator
        bits.seed(**_words(secrets.token_bytes(_BYTES)))


class Secret:
    """256 bits of the operating system from which those who hold them draw the same numbers.

    A pickled copy, as a worker process is handed one, is the same secret; a forked child, which
    nobody handed anything, goes on with one of its own. All holders must use the same cipher, as
    the processes of one machine do.

    Args:
        key: The bits, where they exist already.
    """

    def __init__(self, key: bytes | None = None) -> None:
        self._key = secrets.token_bytes(_BYTES) if key is None else key
        _held.add(self)

    def generator(self, *labels: int) -> KeyedGenerator:
        """The stream of these labels, each in [0, 2^32)."""
        spelled = b"".join(int(label).to_bytes(4, "big") for label in labels)
        return KeyedGenerator(hashlib.blake2b(spelled, digest_size=_BYTES, key=self._key).digest())

    def renew(self) -> None:
        """Forget the bits for others."""
        self._key = secrets.token_bytes(_BYTES)

    def __reduce__(self) -> tuple[type[Secret], tuple[bytes]]:
        return Secret, (self._key,)


@cache
def _sealed(name: str) -> Any:
    """The bit generator of a cipher, which refuses what `Sealed` says."""
    from randomgen.aes import AESCounter
    from randomgen.chacha import ChaCha

    bits: type = AESCounter if name == "AES-128-CTR" else ChaCha
    return type(bits.__name__, (Sealed, bits), {})


def digest(generator: np.random.Generator) -> bytes:
    """16 bytes that generators share if the next words of 64 bits are the same; they tell none."""
    bits: Any = generator.bit_generator
    sealed = isinstance(bits, Sealed)
    state: Any = super(Sealed, bits).state if sealed else bits.state
    return hashlib.blake2b(repr(_spelled(state)).encode(), digest_size=16).digest()


def _spelled(state: Any) -> Any:
    """A state without half a word left of the last draw, and without arrays, which print in part.

    Generators that differ in the half alone draw the same noise from the words that follow.
    """
    if isinstance(state, dict):
        return [(name, _spelled(part)) for name, part in state.items() if name not in _HALF]
    return state.tobytes() if isinstance(state, np.ndarray) else state


def _words(key: bytes) -> dict[str, int]:
    """How the bit generator of the cipher in use takes 32 bytes."""
    if cipher() == "ChaCha20":
        return {"key": int.from_bytes(key, "little")}
    half = _BYTES // 2
    return {
        "key": int.from_bytes(key[:half], "little"),
        "counter": int.from_bytes(key[half:], "little"),
    }


_held: weakref.WeakSet[FreshGenerator | Secret] = weakref.WeakSet()


def _after_fork() -> None:
    for held in list(_held):
        held.renew()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
