"""Where the clients of a cohort compute: in one pass, one after another, or in worker processes.

All of them call the same client rule and give the same bits: a client's draws are keyed by (round,
client, step), every process computes on one thread, and messages are collected by position.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Protocol

import torch

from fedsieve.algorithms.form import Algorithm, Broadcast, Cohort, Info, Sent, Tensors


class Executor(Protocol):
    """Computes a cohort's messages."""

    def run(self, broadcast: Broadcast, memory: Tensors, cohort: Cohort) -> Sent:
        """The messages (m, k) of the cohort's clients, in order; ``memory`` is updated."""
        ...

    def close(self) -> None:
        """Release what the executor holds."""
        ...


class WholeCohort:
    """All clients in one pass of the client rule."""

    def __init__(self, algorithm: Algorithm) -> None:
        self._algorithm = algorithm

    def run(self, broadcast: Broadcast, memory: Tensors, cohort: Cohort) -> Sent:
        """The messages of the cohort."""
        return self._algorithm.client(broadcast, memory, cohort)

    def close(self) -> None:
        """Nothing is held."""


class OneByOne:
    """One client after another, each as a stack of one: the reference for `Workers`."""

    def __init__(self, algorithm: Algorithm) -> None:
        self._algorithm = algorithm

    def run(self, broadcast: Broadcast, memory: Tensors, cohort: Cohort) -> Sent:
        """The messages of the cohort."""
        sent = [
            self._algorithm.client(broadcast, memory, cohort.one(i)) for i in range(len(cohort.ids))
        ]
        return Sent(torch.cat([s.messages for s in sent]), averaged(s.info for s in sent))

    def close(self) -> None:
        """Nothing is held."""


def averaged(infos: Iterable[Info]) -> Info:
    """Mean of each diagnostic over the clients that report it, summed in order."""
    total: Counter[str] = Counter()
    count: Counter[str] = Counter()
    for info in infos:
        for key, value in info.items():
            total[key] += value  # type: ignore[assignment]  # Counter is typed for ints
            count[key] += 1
    return {key: total[key] / count[key] for key in total}
