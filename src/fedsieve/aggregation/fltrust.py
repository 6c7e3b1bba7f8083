"""FLTrust.

Cao, Fang, Liu, Gong, "FLTrust: Byzantine-robust federated learning via trust bootstrapping", NDSS
2021. With the update g_0 that the server computes on a small clean root data set,

    TS_i = max(0, cos(x_i, g_0)),
    R(x) = sum_i TS_i (||g_0|| / ||x_i||) x_i / sum_i TS_i.

g_0 and the origin are further rows of the Gram.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from fedsieve.aggregation._door import GROSS, MODEST, FloatArray, Rows, Vector, length, vector
from fedsieve.aggregation._gram import PointRule, Products, origin
from fedsieve.aggregation.facts import Facts
from fedsieve.registry import register


@register("rule", "fltrust", paper='Cao et al., "FLTrust", NDSS 2021')
@dataclass(frozen=True)
class FLTrust(PointRule):
    """FLTrust: weighs messages by their cosine with a trusted update, at the length of that update.

    Withstands any number of malicious clients as far as the trusted update is right. If no message
    points its way, the aggregate is 0. Client weights multiply the trust. A message shorter than
    1e-100 of the trusted update has no direction that counts.

    Args:
        f: How many unusable rows may be left out before the round fails, f < n.
        root: The server's own update g_0 of this round, (k,); finite. A simulation fills it in from
            its ``aggregation.root_records``.

    Raises:
        ValueError: ``f`` is not an integer >= 0, or ``root`` no finite vector or, at the call,
            missing or not of the messages' length.

    Example:
        >>> rule = FLTrust(f=1, root=torch.tensor([1.0, 0.0]))
        >>> rule(torch.tensor([[2.0, 0.0], [3.0, 0.0], [-9.0, 0.0]]))
        tensor([1., 0.])
    """

    root: Vector | None = field(
        default=None, kw_only=True, compare=False, repr=False
    )  # a round's data, not a setting
    lacks: ClassVar[Facts] = (
        Facts.TRANSLATES | Facts.SCALES | Facts.UNANIMOUS | Facts.CONVEX | Facts.AVERAGES
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        vector(self, "root")

    @cached_property
    def _length(self) -> float:
        return 0.0 if self.root is None else length(self.root)

    def breakdown(self, n: int) -> int:
        """All rows but one may be malicious."""
        return n - 1

    def kappa(self, n: int) -> float | None:  # noqa: ARG002
        """None: the error is that of the root data."""
        return None

    def _points(self, rows: Rows) -> Tensor:
        if self.root is None:
            raise ValueError(f"{self!r} has no trusted update: give root=, a finite vector (k,)")
        g = rows.cut(self.root, "root")
        if not 1 / MODEST < self._length / rows.scale < MODEST:  # squares might be out of range
            g = g.double() / (self._length or 1) * rows.scale
        return torch.cat([g[None], origin(rows)])

    def _place(self, seen: Products) -> FloatArray:
        m, p = seen.m, 1.0 if seen.share is None else seen.share
        to_origin = seen.G[-1]
        inner = seen.G - to_origin[:, None] - to_origin + to_origin[-1]  # the origin removed
        norms = np.sqrt(np.maximum(np.diagonal(inner), 0))
        real = norms[:m] * seen.scale
        heard = (norms[:m] > 0) & (real > self._length / GROSS)  # a row 0 has cosine 0
        lengths = np.where(heard, norms[:m], np.inf)
        trust = p * np.maximum(inner[:m, m] / lengths / (norms[m] or np.inf), 0)
        w = np.zeros(len(seen.G))
        if (total := trust.sum()) > 0:
            w[:m] = trust / total * (self._length / np.where(heard, real, np.inf))
        w[-1] = 1 - w[:m].sum()
        return w
