"""Edge-case backdoors: the tail of a class under a wrong label.

Wang, Sreenivasan, Rajput, Vishwakarma, Agarwal, Sohn, Lee, Papailiopoulos, "Attack of the tails:
yes, you really can backdoor federated learning", NeurIPS 2020. No trigger is drawn: with E records
of class s that are so rare that hardly an honest client holds any, malicious clients mix

    {(x, t) : x in E}

into their data. The paper takes E from other collections (airplanes of one airline, digits of
another hand); those can be given as a file. Otherwise E are the rarest-looking members of class s
among the malicious clients' records: those with the largest Mahalanobis distance from the class
mean in the leading principal components of the standardised features.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fedsieve._arguments import integer, real
from fedsieve.poisoning.attack import Knowledge, Records
from fedsieve.poisoning.backdoor import Backdoor, check_class, chosen
from fedsieve.registry import register

COMPONENTS = 20
"""Principal components in which distances are measured: fewer than a class has records."""


@register("attack", "edge-case", paper='Wang et al., "Attack of the tails", NeurIPS 2020')
@dataclass(frozen=True)
class EdgeCase(Backdoor):
    """Edge cases: malicious clients learn the rarest members of a class as the target class.

    Args:
        target: The target class t.
        source: The class s whose tail is used, another one; ``None``: the one after the target.
        tail: Share of the class that counts as its tail, in (0, 1].
        fraction: Share of a malicious client's records that is replaced by edge cases, in (0, 1].
        file: A ``.npz`` file with edge cases in place of the tail: records ``x`` like those of the
            data set, and ``x_test`` for the success rate (else it is measured on ``x``).

    Raises:
        ValueError: A class is negative, both are the same, a share lies outside (0, 1], or both
            ``source`` and ``file`` are given.
    """

    target: int = 0
    source: int | None = None
    tail: float = 0.1
    fraction: float = 0.5
    file: str | None = None

    def __post_init__(self) -> None:
        integer(self, "target")
        integer(self, "source", none="for the class after the target")
        real(self, "tail", above=0, most=1)
        real(self, "fraction", above=0, most=1)
        if self.source is not None:
            if self.source == self.target:
                raise ValueError(f"source={self.source} must be another class than target")
            if self.file is not None:
                raise ValueError(
                    f"source={self.source} and file={self.file!r} are both given; allowed is one "
                    "of them"
                )

    @property
    def knowledge(self) -> Knowledge:
        """Nothing."""
        return Knowledge.NOTHING

    @property
    def wanted(self) -> int:
        """The target class t."""
        return self.target

    def poison(self, held: Sequence[Records], rngs: Sequence[np.random.Generator]) -> list[Records]:
        """Their records, a share of them replaced by draws from the edge cases.

        Raises:
            ValueError: They hold no record of the source class, or the file does not fit.
        """
        if not held:
            return []
        x, y = torch.cat([own.x for own in held]), torch.cat([own.y for own in held])
        edge = self._edge_cases(replace(held[0], x=x, y=y), "x")
        return [self._mixed(own, edge, rng) for own, rng in zip(held, rngs, strict=True)]

    def lures(self, test: Records) -> Tensor:
        """The tail of the source class in the test set, or the file's test records.

        Raises:
            ValueError: There are none, or the file does not fit.
        """
        return self._edge_cases(test, "x_test")

    def _mixed(self, own: Records, edge: Tensor, rng: np.random.Generator) -> Records:
        x, y = own.x.clone(), own.y.clone()
        at = chosen(len(y), self.fraction, rng)
        # every edge case once before any comes twice
        rounds = math.ceil(len(at) / len(edge))
        drawn = np.concatenate([rng.permutation(len(edge)) for _ in range(rounds)])[: len(at)]
        x[at.to(x.device)] = edge[torch.from_numpy(drawn).to(edge.device)]
        y[at.to(y.device)] = self.target
        return replace(own, x=x, y=y)

    def _edge_cases(self, records: Records, key: Literal["x", "x_test"]) -> Tensor:
        check_class("target", self.target, records.classes)
        if self.file is not None:
            return _read(self.file, key, like=records.x)
        source = (self.target + 1) % records.classes if self.source is None else self.source
        check_class("source", source, records.classes)
        members = records.x[records.y == source]
        if not len(members):
            whose = "the malicious clients hold" if key == "x" else "the test set has"
            raise ValueError(f"source={source}: {whose} no record of that class")
        count = max(1, round(self.tail * len(members)))
        return members[rarity(members).topk(count).indices]


def rarity(x: Tensor, components: int = COMPONENTS) -> Tensor:
    """How far each record lies from the mean of all, in units of their spread.

    The Mahalanobis distance in the leading principal components of the standardised features: with
    Z = U S V^T the standardised records, sqrt(N) times the norm of a row of U's leading columns.

    Args:
        x: Records (N, ...).
        components: Number of components; those without spread are left out.

    Returns:
        Distances (N,), float64, >= 0.
    """
    z = x.reshape(len(x), -1).double()
    z = z - z.mean(dim=0)
    spread = z.std(dim=0, correction=0)
    z = z[:, spread > 0] / spread[spread > 0]
    wide = z.shape[1] > len(z)
    values, vectors = torch.linalg.eigh(z @ z.T if wide else z.T @ z)  # ascending
    values, vectors = values[-components:], vectors[:, -components:]
    kept = values > 1e-10 * values.max() if len(values) else values > 0
    u = vectors[:, kept] if wide else z @ vectors[:, kept] / values[kept].sqrt()
    lengths: Tensor = u.norm(dim=1)
    return math.sqrt(len(z)) * lengths


def _read(file: str, key: str, like: Tensor) -> Tensor:
    """The records under ``key``, or under "x" if there are none, in the form of ``like``."""
    try:
        with Path(file).open("rb") as opened, np.load(opened, allow_pickle=False) as held:
            found = torch.from_numpy(held[key if key in held else "x"])
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"file={file!r} is no .npz file with an array x: {error}") from error
    if found.dtype != like.dtype or found.shape[1:] != like.shape[1:] or not len(found):
        raise ValueError(
            f"file={file!r}: {key} is {found.dtype} of shape {tuple(found.shape)}; the data set "
            f"needs {like.dtype} of shape (N >= 1, {', '.join(map(str, like.shape[1:]))})"
        )
    return found.to(like.device)
