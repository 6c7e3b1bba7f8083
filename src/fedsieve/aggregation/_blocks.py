"""Rules of their own kind that need no more of the stack than a few passes over its columns."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

from fedsieve.aggregation._door import FloatArray, Rows
from fedsieve.aggregation.rule import Rule

Parts = Callable[[], Iterator[Rows]]
"""Starts a pass over the usable rows, block of columns by block of columns."""


@dataclass(frozen=True)
class BlockRule(Rule):
    """A rule written for blocks of columns; a stack in memory is a single block."""

    @abstractmethod
    def _in_blocks(
        self, rows: Rows, parts: Parts, k: int, *, explain: bool
    ) -> tuple[Tensor, FloatArray | None]:
        """As `Rule._combine`.

        Args:
            rows: What is known of the rows; their data may be anything of m rows.
            parts: Passes over the data; every block knows its ``span``, unless it is all of them.
            k: Number of columns.
            explain: Whether the weights are wanted.
        """

    def _combine(self, rows: Rows, *, explain: bool) -> tuple[Tensor, FloatArray | None]:
        return self._in_blocks(rows, lambda: iter([rows]), rows.data.shape[1], explain=explain)


def joined(pieces: Iterator[Tensor], k: int) -> Tensor:
    """A vector of k numbers from its pieces, a copy of which is made unless it is the only one."""
    first = next(pieces)
    if len(first) == k:
        return first
    vector = first.new_empty(k)
    vector[: len(first)] = first
    at = len(first)
    for piece in pieces:
        vector[at : at + len(piece)] = piece
        at += len(piece)
    return vector
