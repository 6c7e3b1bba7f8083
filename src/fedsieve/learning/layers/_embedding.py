"""Closed form of ``nn.Embedding``: row v of the gradient sums delta over the places of token v.

These sums are formed first, T rows instead of a table. Norms and sums are both taken of them: the
norm by pairs of places with the same token, <delta_t, delta_t'>, would be that of other numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedsieve.learning.layers._factors import (
    DENSE_BYTES,
    Factor,
    NoClosedFormError,
    Positions,
    Projected,
    Rows,
    Segments,
    squared,
)


class Lookup:
    """Gradients of a table of which every sample reads T rows.

    Args:
        tokens: Rows read, int64 (B, T).
        delta: Derivatives by what was read (B, T, width of a row), of which at most one place per
            token and sample is not zero (`_gathered`).
        vocabulary: Rows of the table.
    """

    def __init__(self, tokens: Tensor, delta: Tensor, vocabulary: int) -> None:
        self.tokens = tokens
        self.delta = delta
        self.vocabulary = vocabulary

    def squared_norms(self) -> Tensor:
        """Squared norms (B,)."""
        return squared(self.delta.flatten(1))

    def sums(self, segments: Segments, out: Tensor) -> None:
        """Write each client's weighted sum into a row of ``out``."""
        scaled = self.delta * segments.coefficients[:, None, None]
        tokens, deltas = self.tokens.split(segments.counts), scaled.split(segments.counts)
        with segments.totals(out) as totals:
            for total, token, delta in zip(totals, tokens, deltas, strict=True):
                table = total.zero_().view(self.vocabulary, -1)
                table.index_add_(0, token.flatten(), delta.flatten(0, 1).to(table.dtype))

    def rows(self, lo: int, hi: int) -> Tensor:
        """The gradients of samples lo..hi."""
        delta = self.delta[lo:hi]
        table = delta.new_zeros(hi - lo, self.vocabulary, delta.shape[2])
        place = self.tokens[lo:hi].unsqueeze(2).expand_as(delta)
        return table.scatter_add_(1, place, delta).flatten(1)

    def on_basis(self, basis: Tensor) -> Projected:
        """Gradients on an input basis."""
        return Lookup(self.tokens, self.delta @ basis, self.vocabulary)

    def at(self, positions: Positions) -> Projected:
        """Gradients at the chosen positions, built a few samples at a time."""
        size = len(self.tokens)
        width = self.vocabulary * self.delta.shape[2] * self.delta.element_size()
        step = max(1, DENSE_BYTES // max(width, 1))
        out = self.delta.new_empty(size, len(positions.index))
        for lo in range(0, size, step):
            hi = min(lo + step, size)
            out[lo:hi] = self.rows(lo, hi).index_select(1, positions.index)
        return Rows(out)


def embedding(layer: nn.Embedding, tokens: Tensor, delta: Tensor) -> dict[str, Factor]:
    """Weight: delta added at the rows read; the padding row has no gradient."""
    if layer.max_norm is not None or layer.scale_grad_by_freq:
        raise NoClosedFormError("an embedding with max_norm or scale_grad_by_freq has none")
    tokens = tokens.reshape(len(tokens), -1)
    delta = delta.reshape(*tokens.shape, -1)
    if layer.padding_idx is not None:
        delta = delta.masked_fill((tokens == layer.padding_idx).unsqueeze(2), 0.0)
    return {"weight": Lookup(tokens, _gathered(tokens, delta), layer.num_embeddings)}


def _gathered(tokens: Tensor, delta: Tensor) -> Tensor:
    """The derivatives (B, T, width) of a token summed at its first place, zero at the others."""
    if tokens.shape[1] < 2:
        return delta
    same = tokens.unsqueeze(2) == tokens.unsqueeze(1)
    first = same.to(torch.uint8).argmax(2, keepdim=True).expand_as(delta)
    return torch.zeros_like(delta).scatter_add_(1, first, delta)
