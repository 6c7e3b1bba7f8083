"""The records that a server keeps for itself, and the update that it computes on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from fedsieve.aggregation import Rule
from fedsieve.algorithms.parts import Parts
from fedsieve.experiments import pieces
from fedsieve.experiments.config import Config
from fedsieve.learning.data import Dataset, Shards
from fedsieve.learning.partitions import stratified
from fedsieve.randomness import Streams
from fedsieve.simulation.reference import Reference, root_parts

ROOT = 14
"""Label of the draw in the public stream."""


def divided(
    config: Config, data: Dataset, streams: Streams, own: Sequence[ArrayLike] | None
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """The positions of the root records, and of each client's, which hold none of them.

    Args:
        config: The configuration.
        data: The records.
        streams: The public one draws the root records, class by class, and deals the rest.
        own: The caller's own division, which leaves root records to be drawn from its remainder.

    Raises:
        ValueError: Too few records are left for the clients, or by the caller's own division.
    """
    size, total = config.aggregation.root_records, len(data.y)
    parts = None if own is None else pieces.own_parts(own, total)
    held = np.concatenate(parts) if parts is not None else np.empty(0, dtype=np.int64)
    free = np.setdiff1d(np.arange(total), held, assume_unique=True)
    most = len(free) - (config.federation.clients if parts is None else 0)
    if size > max(most, 0):
        why = "each client needs a record" if parts is None else "the clients' parts hold the rest"
        raise ValueError(
            f"aggregation.root_records={size} of the {total} training records of "
            f"{data.name!r}: {why}; allowed are 0..{max(most, 0)}"
        )
    root = free[stratified(data.y.numpy()[free], size, streams.public(ROOT))]
    return root, pieces.divide(config, data, streams, root) if parts is None else parts


def reference(
    config: Config, rule: Rule, composed: Parts, shards: Shards, root: np.ndarray, streams: Streams
) -> Reference | None:
    """The server's own update; ``None`` where the rule asks for none.

    Raises:
        ValueError: The rule needs one, and there are no root records; or the other way round.
    """
    if not rule.needs_root:
        if len(root):
            raise ValueError(
                f"aggregation.root_records={len(root)}: {rule!r} looks at no records of the "
                "server's; leave it out, or choose a rule that does, such as FLTrust"
            )
        return None
    if not len(root):
        raise ValueError(
            f"{rule!r} compares messages with an update that the server computes itself; needed "
            "is aggregation.root_records >= 1, such as 100"
        )
    algorithm = pieces.algorithm(config, root_parts(composed, len(root)), len(root))
    theirs = replace(shards.honest, parts=(*shards.parts, root))
    return Reference(algorithm, theirs, streams, config.algorithm.local_steps or 1)
