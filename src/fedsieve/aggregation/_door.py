"""The door of every rule: what is usable of a stack, and on which scale it lies.

A row with a NaN, an infinity, or a norm beyond `GROSS` times the median norm carries no message.
It is removed before any arithmetic, since 0 * inf would spoil even a weight of zero. A client of
weight 0 is absent, whatever its row holds. If anything is left out, what stays is copied once: that
is all the memory, one stack at most, that such rows cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedsieve.aggregation._compiled import summing_kernel
from fedsieve.aggregation._compiled_gram import squared_norms
from fedsieve.aggregation._lanes import FloatArray as FloatArray
from fedsieve.aggregation._sorting import blocks
from fedsieve.aggregation._threads import summed

Vector = Tensor | NDArray[np.floating]
ClientWeights = Vector | Sequence[float]
KINDS = (torch.float32, torch.float64, np.dtype(np.float32), np.dtype(np.float64))

GROSS = 1e100  # its square, and that times another such length, still fit a float64
MODEST = 1e15  # norms in [1/MODEST, MODEST] are trusted as float32 and need no rescaling


class TooManyFaultyClients(ValueError):  # noqa: N818 - the word of the design
    """More rows are unusable, or f clients weigh more, than the rule tolerates.

    The round must fail, the model stay.
    """


@dataclass(frozen=True, eq=False)
class Rows:
    """The usable rows of a stack.

    Attributes:
        data: The usable rows of clients that weigh something, (m, k); the stack itself if these are
            all.
        usable: Which of the n rows they are, (n,) booleans.
        removed: How many rows of such clients are not usable.
        share: The usable clients' shares, (m,) > 0, summing to 1; ``None`` if all count the same.
        reference: Position in ``data`` of the row of median norm.
        scale: What norms are divided by before they are squared; 1 unless the stack is extreme.
        span: Where the columns of ``data`` start in the whole stack, and how many that has;
            ``None`` if they are all of them.
    """

    data: Tensor
    usable: NDArray[np.bool_]
    removed: int
    share: FloatArray | None
    reference: int
    scale: float
    span: tuple[int, int] | None = None

    def cut(self, vector: Vector, name: str) -> Tensor:
        """The part of a vector of messages' length that belongs to ``data``, in its kind.

        Raises:
            ValueError: It has another length, or a number beyond the range of the messages' type.
        """
        width = self.data.shape[1]
        start, k = self.span or (0, width)
        if len(vector) != k:
            raise ValueError(f"{name} has {len(vector)} numbers; allowed are {k}")
        part = as_tensor(vector, name)[start : start + width].to(self.data)
        if not part.isfinite().all():
            raise ValueError(f"{name} has a number beyond the range of {part.dtype}, the messages'")
        return part

    def within(self, columns: NDArray[np.intp]) -> NDArray[np.intp]:
        """Where those columns of the whole stack, in order, that ``data`` has lie in ``data``."""
        start, _ = self.span or (0, 0)
        edges = np.searchsorted(columns, [start, start + self.data.shape[1]])
        return columns[slice(*edges)] - start

    def mixed(self, data: Tensor, share: FloatArray | None) -> Rows:
        """Rows that were made of these, on the same scale."""
        order = np.argsort(safe_norms(data), kind="stable")
        return replace(self, data=data, share=share, reference=int(order[(len(order) - 1) // 2]))


def as_tensor(values: Vector, name: str = "stack") -> Tensor:
    """The values as a tensor outside autograd, sharing memory where that is possible.

    Raises:
        ValueError: They are no dense tensor or array, or of another type than float32 and float64.
    """
    if not isinstance(values, Tensor | np.ndarray) or isinstance(values, np.ma.MaskedArray):
        raise ValueError(f"{name} is a {type(values).__name__}; allowed are tensors and arrays")
    if values.dtype not in KINDS:
        raise ValueError(f"{name} has dtype {values.dtype}; allowed are float32 and float64")
    if isinstance(values, Tensor):
        if values.layout != torch.strided:
            raise ValueError(f"{name} is sparse; allowed are dense tensors and arrays")
        return values.detach()
    array = np.ascontiguousarray(values)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def check_stack(stack: Tensor) -> None:
    """Refuse what is not a non-empty (n, k) float32 or float64 tensor."""
    if stack.ndim != 2 or 0 in stack.shape:
        raise ValueError(f"stack has shape {tuple(stack.shape)}; allowed is (n, k) with n, k >= 1")
    if stack.dtype not in KINDS:
        raise ValueError(f"stack has dtype {stack.dtype}; allowed are float32 and float64")


def vector(part: object, name: str) -> None:
    """Refuse what is neither ``None`` nor a finite vector, and leave a tensor in its place.

    Args:
        part: A frozen dataclass under construction.
        name: The field: a tensor or array (k,), k >= 1.

    Raises:
        ValueError: With its type, dtype, shape or first number that is not finite.
    """
    if (given := getattr(part, name)) is None:
        return
    v = as_tensor(given, name)
    if v.ndim != 1 or len(v) == 0:
        raise ValueError(f"{name} has shape {tuple(v.shape)}; allowed is (k,) with k >= 1")
    if not (finite := v.isfinite()).all():
        at = int(finite.logical_not().nonzero()[0])
        raise ValueError(f"{name}[{at}]={float(v[at])} must be finite")
    object.__setattr__(part, name, v)  # past the frozen dataclass, which is not finished yet


def admit(
    stack: Tensor,
    weights: ClientWeights | None,
    f: int,
    *,
    reach: float = 0.0,
    unit: float | None = None,
) -> Rows:
    """Look at every row once and let the usable ones in; who weighs nothing stays outside.

    Shares that are equal are none at all.

    Args:
        stack: The messages (n, k).
        weights: The clients' weights, (n,).
        f: How many rows may be unusable.
        reach: Length of the longest vector that the rows are compared with.
        unit: The norm > 0 that tells what is grossly large; ``None``: the median norm.

    Raises:
        ValueError: The client weights are not n finite numbers >= 0 with a positive sum.
        TooManyFaultyClients: More than f rows are unusable, or none is left.
    """
    n = len(stack)
    share = None if weights is None else normalised(weights, n)
    heard = np.ones(n, dtype=bool) if share is None else share > 0
    norms = row_norms(stack)
    norms[~heard] = np.nan
    if (odd := heard & ~np.isfinite(norms)).any():  # or is it a square that overflowed?
        norms[odd] = wide_norms(stack, odd)
    scale, middle = 1.0, unit or _middle(norms[np.isfinite(norms)])
    if not 1 / MODEST < middle < MODEST:
        norms[heard] = wide_norms(stack, heard)
        finite = norms[np.isfinite(norms)]
        scale = unit or _middle(finite) or _middle(finite[finite > 0]) or reach or 1.0
    with np.errstate(over="ignore"):
        usable = norms / scale < GROSS  # False for NaN
    n, m = int(np.count_nonzero(heard)), int(np.count_nonzero(usable))
    if n - m > f or m == 0:
        raise TooManyFaultyClients(
            f"{n - m} of {n} rows are unusable (NaN, infinite or grossly large), "
            f"but f={f} allows at most {min(f, n - 1)}"
        )
    if reach > MODEST * scale:  # then the rows are too short for their own scale to matter
        scale = reach
    if m < len(stack):
        stack, norms = stack[torch.from_numpy(usable).to(stack.device)], norms[usable]
        share = None if share is None else share[usable] / share[usable].sum()
    if share is not None and share.min() == share.max():
        share = None
    order = np.argsort(norms, kind="stable")
    return Rows(stack, usable, n - m, share, int(order[(m - 1) // 2]), scale)


def normalised(weights: ClientWeights, n: int) -> FloatArray:
    """Client weights as shares that sum to 1.

    Raises:
        ValueError: They are not n finite numbers >= 0 with a positive sum.
    """
    p = numbers(weights, "weights")
    if p.shape != (n,):
        raise ValueError(f"weights have shape {p.shape}; allowed is ({n},), one per client")
    if n == 0 or not np.isfinite(p).all() or p.min() < 0 or p.max() == 0:
        raise ValueError(f"weights={p} must be finite and >= 0, with at least one > 0")
    p = p / p.max()  # first, so that the sum cannot overflow
    return np.asarray(p / p.sum())


def numbers(values: ClientWeights, name: str) -> FloatArray:
    """Integers or real numbers of any type, shape and device as a float64 array.

    Raises:
        ValueError: They are something else.
    """
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        found = (values.double() if values.is_floating_point() else values).numpy()
    else:
        try:
            found = np.asarray(values)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name} are no list of numbers: {error}") from error
    if found.dtype.kind not in "iuf":
        raise ValueError(f"{name} have dtype {found.dtype}; allowed are real numbers")
    return found.astype(np.float64)


def row_norms(stack: Tensor) -> FloatArray:
    """Row norms as float64; not finite where a row is, or a square overflows."""
    if stack.device.type != "cpu":
        norms: FloatArray = torch.linalg.vector_norm(stack, dim=1).double().cpu().numpy()
        return norms
    kernel = summing_kernel(squared_norms, stack.numel())
    X = (stack if kernel is None else stack.contiguous()).numpy()

    def work(start: int, stop: int) -> FloatArray:
        if kernel is not None:
            return np.asarray(kernel(X, start, stop))
        # no BLAS: it would call its own threads for each row
        return np.asarray(np.einsum("ij,ij->i", X[:, start:stop], X[:, start:stop]), np.float64)

    with np.errstate(all="ignore"):
        return np.asarray(np.sqrt(summed(work, X.shape[1], len(X))))


def length(vector: Vector) -> float:
    """Norm of a finite vector (k,), without overflow or underflow of the squares."""
    return float(wide_norms(as_tensor(vector)[None], np.ones(1, dtype=bool))[0])


def safe_norms(stack: Tensor) -> FloatArray:
    """Row norms, in the wide way where a square may be out of range."""
    norms = row_norms(stack)
    if not (modest := (norms > 1 / MODEST) & (norms < MODEST)).all():
        norms[~modest] = wide_norms(stack, ~modest)
    return norms


def wide_norms(stack: Tensor, which: NDArray[np.bool_]) -> FloatArray:
    """Norms in float64 without overflow or underflow of the squares; not finite if a row is.

    Args:
        stack: Rows (n, k), of which a block of columns at a time is upcast.
        which: The rows that are asked for, (n,).

    Returns:
        One norm for each of these, in order.
    """
    n, k = stack.shape
    at = np.flatnonzero(which)
    norms = np.zeros(n)
    for columns in blocks(0, k, n, on_cpu=stack.device.type == "cpu"):
        if len(at) == 0:
            break
        part = stack[:, columns][torch.from_numpy(at).to(stack.device)].double()
        peaks = part.abs().amax(dim=1, keepdim=True)
        part /= torch.where((peaks > 0) & peaks.isfinite(), peaks, 1.0)
        found = (peaks[:, 0] * torch.linalg.vector_norm(part, dim=1)).cpu().numpy()
        norms[at] = np.hypot(norms[at], np.where(np.isfinite(found), found, np.nan))
        at = at[np.isfinite(norms[at])]
    return norms[which]


def _middle(norms: FloatArray) -> float:
    return float(np.sort(norms)[(len(norms) - 1) // 2]) if len(norms) else 0.0
