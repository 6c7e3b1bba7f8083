"""That no two clients draw the same noise: the difference of their messages would be bare."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedsieve._keystream import FreshGenerator, digest


def refuse_twins(generators: Sequence[np.random.Generator]) -> None:
    """Refuse one generator for two clients, and two that will draw the same numbers.

    Nothing is drawn. Noise that was drawn could be compared where it is continuous; integers, of
    which two clients may well draw the same, could not. Generators with 256 bits of the operating
    system each, which nobody can copy, are no twins; their states are left alone.

    Args:
        generators: Of the clients' noise, before the first draw.

    Raises:
        ValueError: Two are the same, or in the same state.
    """
    if len({id(own) for own in generators}) < len(generators):
        raise ValueError("two clients share one noise generator; each needs its own")
    copyable = [own for own in generators if not isinstance(own, FreshGenerator)]
    if len({digest(own) for own in copyable}) < len(copyable):
        raise ValueError(
            "two clients' generators are in the same state and draw the same noise; each needs one "
            "of its own, such as fedsieve.randomness.Streams.noise(client, round)"
        )
