"""Aggregating a stack that comes in blocks of columns: layer by layer, or from a mapped file.

A first pass looks at the norms of the rows, so that a row with one NaN in one block is left out of
all; then coordinatewise rules make one more pass, rules of inner products two (products, then the
weighted sum), and a `BlockRule` its own. Only a slice of a block is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedsieve.aggregation._blocks import BlockRule, Parts, joined
from fedsieve.aggregation._coordinatewise import Coordinatewise
from fedsieve.aggregation._door import (
    ClientWeights,
    FloatArray,
    Rows,
    as_tensor,
    check_stack,
    safe_norms,
)
from fedsieve.aggregation._gram import GramRule, PointRule, Products, gram, placed, weighted_sum
from fedsieve.aggregation._mixing import mixed_rows, squared_lengths
from fedsieve.aggregation._threads import added
from fedsieve.aggregation.pre_aggregator import MixedRule
from fedsieve.aggregation.rule import Aggregation, Rule

SLICE = 1 << 22  # entries in memory at a time: 16 MiB of float32


def aggregate_blocks(
    rule: Rule,
    blocks: Iterable[Tensor | NDArray[np.floating]],
    weights: ClientWeights | None = None,
    *,
    explain: bool = False,
) -> Aggregation:
    """The aggregate of the stack whose columns are those of all blocks, one after another.

    The same as ``rule.aggregate(concatenated blocks)``: to the bit for the median, the trimmed mean
    and MeaMed without client weights and for the majority vote, to rounding for all others.
    Only where rounding has to decide between equals, such as rows that a pre-aggregator mixed
    alike, may a rule prefer others of them here. Beside the result it needs some tens of MiB,
    however long the blocks.

    Args:
        rule: Any rule of this package, with or without a pre-aggregator before it.
        blocks: (n, w) tensors or (memory-mapped) arrays of one dtype, in anything that can be
            iterated over several times, such as a list.
        weights: As in a call of the rule.
        explain: Whether the clients' weights are wanted.

    Raises:
        ValueError: ``blocks`` can be iterated over only once, is empty, or its blocks differ in n
            or dtype; a rule of another kind, that needs the whole stack at once; or as in a call of
            the rule.
        TooManyFaultyClients: More than f rows are unusable.

    Example:
        >>> from fedsieve.aggregation import Median
        >>> layers = [torch.tensor([[1.0], [2.0], [9.0]]), torch.tensor([[3.0, 0], [4, 0], [5, 1]])]
        >>> aggregate_blocks(Median(f=1), layers).vector
        tensor([2., 4., 0.])
    """
    if not isinstance(rule, Rule):
        raise ValueError(
            f"{rule!r} is no rule that takes blocks; allowed are rules, composed or not"
        )
    if isinstance(blocks, Iterator):
        raise ValueError("blocks can be iterated over only once; allowed is a list or the like")
    norms, k = _norms(blocks)
    rows = rule._admit(norms[:, None], weights)
    usable, all_usable = torch.from_numpy(rows.usable), bool(rows.usable.all())

    def parts() -> Iterator[Rows]:
        start = 0
        for part in _slices(blocks):
            data = part if all_usable else part[usable.to(part.device)]
            yield replace(rows, data=data, span=(start, k))
            start += part.shape[1]

    vector, shares = _combine(rule, rows, parts, k, explain=explain)
    if shares is None:
        return Aggregation(vector, None, rows.removed)
    told = np.zeros(len(rows.usable))
    told[rows.usable] = shares
    return Aggregation(vector, torch.from_numpy(told), rows.removed)


def _combine(
    rule: Rule, rows: Rows, parts: Parts, k: int, *, explain: bool
) -> tuple[Tensor, FloatArray | None]:
    """`Rule._combine` in passes over parts of the usable rows."""
    m = len(rows.data)
    if isinstance(rule, GramRule):
        G = added(map(gram, parts())) if rule.reads_gram else np.zeros((m, m))
        w = rule._at(rows.scale)._solve(G, rows.removed, rows.share)
        return joined((weighted_sum(w, part.data) for part in parts()), k), w if explain else None
    if isinstance(rule, PointRule):
        G = added(rule._look(part, rule._points(part)) for part in parts())
        w = rule._place(Products(G, len(G) - m, rows.removed, rows.share, rows.scale))
        vector = joined((placed(w, part.data, rule._points(part)) for part in parts()), k)
        return vector, w[:m] if explain else None
    if isinstance(rule, MixedRule):
        M, share = rule._mixing(rows, parts())
        made = rows.mixed(rows.data.new_zeros(len(M), 1), share)

        def mixed() -> Iterator[Rows]:
            for part in parts():
                yield replace(made, data=mixed_rows(M, part.data), span=part.span)

        if isinstance(rule.rule, BlockRule):  # which refers to the row of median norm
            squares = added(squared_lengths(part.data, part.scale) for part in mixed())
            made = rows.mixed(torch.from_numpy(squares)[:, None], share)
        vector, shares = _combine(rule.rule, made, mixed, k, explain=explain)
        return vector, None if shares is None else shares @ M
    if isinstance(rule, BlockRule):
        return rule._in_blocks(rows, parts, k, explain=explain)
    if not isinstance(rule, Coordinatewise):
        raise ValueError(f"{rule!r} needs the whole stack at once; call it on the stack instead")
    f, kept = rule.f - rows.removed, np.zeros(m)

    def reduced() -> Iterator[Tensor]:
        for part in parts():
            if explain:
                kept[:] += rule._kept(part.data, f, part.share)
            yield rule._reduce(part.data, f, part.share)

    return joined(reduced(), k), kept / k if explain else None


def _slices(blocks: Iterable[Tensor | NDArray[np.floating]]) -> Iterator[Tensor]:
    """The blocks as tensors of at most `SLICE` entries; of a mapped file only these are read."""
    for block in blocks:
        if len(shape := tuple(getattr(block, "shape", ()))) != 2:
            raise ValueError(f"a block has shape {shape}; allowed is (n, w)")
        n, k = block.shape
        width = max(SLICE // max(n, 1), 1)
        for start in range(0, k, width):
            if isinstance(block, Tensor):
                yield block.detach()[:, start : start + width]
            else:
                yield as_tensor(np.array(block[:, start : start + width]), "a block")


def _norms(blocks: Iterable[Tensor | NDArray[np.floating]]) -> tuple[Tensor, int]:
    """Norms of the rows, (n,) float64 on the CPU, and the number of columns."""
    norms: FloatArray | None = None
    kind, k = None, 0
    for part in _slices(blocks):
        check_stack(part)
        kind = kind or (len(part), part.dtype)
        if kind != (len(part), part.dtype):
            raise ValueError(
                f"blocks of {kind[0]} rows of {kind[1]} and of {len(part)} rows of {part.dtype}; "
                "allowed are blocks of one n and dtype"
            )
        found = safe_norms(part)
        norms = found if norms is None else np.hypot(norms, found)
        k += part.shape[1]
    if norms is None:
        raise ValueError("blocks is empty; allowed is at least one block")
    return torch.from_numpy(norms), k
