"""FLTrust.

Cao, Fang, Liu, Gong, "FLTrust: Byzantine-robust federated learning via trust bootstrapping", NDSS
2021. With the update g_0 that the server computes on a small clean root data set,

    TS_i = max(0, cos(x_i, g_0)),
    R(x) = sum_i TS_i (||g_0|| / ||x_i||) x_i / sum_i TS_i.

Of the inner products only <x_i, g_0> and the squared lengths are read, each one about the origin:
no row spends another's digits, however many malicious ones there are and however long they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from fedsieve.aggregation._door import FloatArray, Rows, Vector, length, vector
from fedsieve.aggregation._gram import PointRule, Products, origin, spokes
from fedsieve.aggregation._ties import NEAR_TIE
from fedsieve.aggregation.facts import Facts
from fedsieve.registry import register


@register("rule", "fltrust", paper='Cao et al., "FLTrust", NDSS 2021')
@dataclass(frozen=True)
class FLTrust(PointRule):
    """FLTrust: weighs messages by their cosine with a trusted update, at the length of that update.

    Withstands any number of malicious clients as far as the trusted update is right. If no message
    points its way, the aggregate is 0; a cosine below 1e-12 may be rounding, and counts as 0. A row
    is grossly long, and unusable, if it is 1e100 times as long as the trusted update. Client
    weights multiply the trust.

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
    about_point: ClassVar[bool] = True
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

    def _unit(self) -> float | None:
        return self._length or None

    def _points(self, rows: Rows) -> Tensor:
        if self.root is None:
            raise ValueError(f"{self!r} has no trusted update: give root=, a finite vector (k,)")
        parts = [origin(rows), rows.cut(self.root, "root")[None]]
        if rows.data.device.type != "cpu":
            return torch.cat(parts)
        return torch.from_numpy(np.concatenate([part.numpy() for part in parts]))  # see `_threads`

    def _look(self, rows: Rows, A: Tensor) -> FloatArray:
        m, g = len(rows.data), A[1]
        seen = np.concatenate([spokes(X, g, rows.scale) for X in (rows.data, A)])
        G = np.diag(seen[:, 0])  # about the origin; what is not read stays 0
        G[:m, -1] = G[-1, :m] = seen[:m, 1]
        return G

    def _place(self, seen: Products) -> FloatArray:
        m, p = seen.m, 1.0 if seen.share is None else seen.share
        G, to_origin = seen.G, seen.G[m]
        inner = G - to_origin[:, None] - to_origin + to_origin[m]  # the origin removed
        norms = np.sqrt(np.maximum(np.diagonal(inner), 0))
        lengths = np.where(norms[:m] > 0, norms[:m], np.inf)  # a row 0 has cosine 0
        g = norms[-1] or np.inf
        cosines = inner[:m, -1] / lengths / g
        TS = p * np.where(cosines > NEAR_TIE, cosines, 0)
        w = np.zeros(len(G))
        if (total := TS.sum()) > 0:
            w[:m] = TS / total * g / lengths
        return w
