"""The sorting network as one compiled loop, for where numba is installed (extra ``fast``).

Columns are taken in tiles: a tile is copied once, goes through all steps in the first-level cache,
and leaves as one sum per column. The steps are data, so that one compilation, kept on disk, serves
every n and f. While they run, the memory brings what the next tiles need. Without fast-math, every
operation rounds as it does in numpy and torch.

A kernel that is not on disk yet is compiled only when numpy has done its work for about as long as
that takes: a process never pays more than twice the cheaper way, and its first call little.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsieve.aggregation import _lanes, _plain_sums, _prefetch
from fedsieve.aggregation._prefetch import LINE, prefetch

TILE = 128  # columns; constant, so that the compiler knows the trip count
STRETCH = 2048  # columns copied at a time: shorter reads of every row leave the memory waiting
PADDING = 16  # columns; rows a power of two apart would compete for the same cache lines

TIE = 1e-14  # of the values: what rounding may leave between two equally far from the median
WORTH_COMPILING = 1 << 20  # entries from which numpy takes longer than it takes to load numba
PATIENCE = 1 << 26  # entries; numpy passes over them in about the time that a kernel compiles
PRODUCTS = 8  # of an entry with as many others take numpy about as long as another pass over it

Function = Callable[..., Any]
Arrays = tuple[NDArray[Any], ...]


@dataclass(frozen=True)
class Kernel:
    """What numba can compile, and the memory that it works in.

    The memory is handed in from outside: numba takes half a second to compile its first `np.zeros`.

    Attributes:
        body: Takes the arguments and, after them, that memory.
        space: Makes the memory from the arguments.
    """

    body: Function
    space: Callable[..., Arrays]

    def __call__(self, *args: Any) -> Any:
        return self.body(*args, *self.space(*args))


def compilable(space: Callable[..., Arrays] = lambda *_: ()) -> Callable[[Function], Kernel]:
    """Makes a function a kernel."""
    return lambda body: Kernel(body, space)


_loaded: dict[Kernel, Kernel | None] = {}
_done_without: dict[Kernel, float] = {}  # entries that were passed over


def kernel(function: Kernel, entries: int, passes: float = 1) -> Kernel | None:
    """The compiled kernel; ``None`` without numba, or if it is not loaded and not worth it.

    Once loaded it serves work of any size.

    Args:
        function: The kernel as it is written.
        entries: The size of the work at hand.
        passes: How many passes over the entries take numpy as long as the work.
    """
    if function not in _loaded and entries >= WORTH_COMPILING:
        done = _done_without.get(function, 0) + entries * passes
        _done_without[function] = done
        compiled = _compile(function)
        if compiled is None or done >= PATIENCE or _on_disk(compiled):
            _loaded[function] = compiled
    return _loaded.get(function)


def summing_kernel(function: Kernel, entries: int, passes: float = 1) -> Function | None:
    """The same for sums, which depend on their order; ``None`` if it is not worth it.

    Where there is none, its namesake in `_plain_sums` takes its place, to the same bits. Small work
    is left to BLAS and einsum, with numba or without, whatever was computed before.
    """
    if entries < WORTH_COMPILING:
        return None
    return kernel(function, entries, passes) or getattr(_plain_sums, function.body.__name__)


def _compile(function: Kernel) -> Kernel | None:
    try:
        from numba import njit
    except ImportError:
        return None
    _prefetch.teach()
    _lanes.teach()
    options = {"nogil": True, "error_model": "numpy"}
    try:
        compiled = njit(cache=True, **options)(function.body)
    except RuntimeError:  # no folder can be written to: compile in every process
        compiled = njit(**options)(function.body)
    return replace(function, body=compiled)


def _on_disk(compiled: Kernel) -> bool:
    """Whether an earlier process left its compilation where numba looks for it."""
    body = compiled.body.py_func  # type: ignore[attr-defined]
    folder = compiled.body.stats.cache_path  # type: ignore[attr-defined]
    name = f"{body.__module__.rpartition('.')[2]}.{body.__name__}-{body.__code__.co_firstlineno}"
    return folder is not None and any(Path(folder).glob(f"{name}.*.nbi"))


def _tiles(X: NDArray[Any], *_: Any) -> Arrays:
    n = len(X)
    stretch = np.zeros((n, STRETCH + PADDING), X.dtype)
    return stretch, np.zeros((n, TILE), X.dtype), np.zeros(TILE), np.zeros(TILE)


@compilable(_tiles)
def reduce_columns(
    X: NDArray[Any],
    steps: NDArray[np.int64],
    f: int,
    nearest: bool,
    out: NDArray[Any],
    start: int,
    stop: int,
    stretch: NDArray[Any],
    tile: NDArray[Any],
    total: NDArray[np.float64],
    median: NDArray[np.float64],
) -> bool:
    """Mean of the middle, or of the nearest to the median, of each column from start to stop.

    Returns:
        Whether all values of these columns are finite.
    """
    n, k = X.shape
    flat = X.reshape(-1)
    odd = 0  # values that are not finite
    share = np.float64(1 / (n - f if nearest else n - 2 * f))  # float32 * float64 is float64
    half = np.float64(0.5)
    line = LINE // X.itemsize  # columns
    pace = n * TILE // line // max(len(steps), 1) + 1  # lines asked for per step
    for origin in range(start, stop, STRETCH):
        width = min(STRETCH, stop - origin)
        for i in range(n):  # through views: an index that might be negative costs the vector loop
            source, target = X[i, origin : origin + width], stretch[i]
            for c in range(width):
                target[c] = source[c]
                odd += source[c] - source[c] != 0
        ahead = origin + STRETCH
        row, column = 0 if ahead + STRETCH <= stop else n, 0  # what is asked for next
        for left in range(0, width, TILE):
            for i in range(n):
                source, target = stretch[i, left : left + TILE], tile[i]
                for c in range(TILE):
                    target[c] = source[c]
            for s in range(len(steps)):
                for _ in range(pace if row < n else 0):
                    prefetch(flat, row * k + ahead + column)
                    column += line
                if column >= STRETCH:
                    row, column = row + 1, 0
                i, j = steps[s, 0], steps[s, 1]
                for c in range(TILE):
                    a, b = tile[i, c], tile[j, c]
                    tile[i, c] = a if a < b else b
                    tile[j, c] = b if a < b else a
            for c in range(TILE):
                total[c] = 0
            for i in range(f, n - f):
                for c in range(TILE):
                    total[c] += tile[i, c] * share
            if nearest:
                for c in range(TILE):
                    median[c] = half * tile[(n - 1) // 2, c] + half * tile[n // 2, c]
                for r in range(max(n // 2 - (n - f), 0), min(f, n // 2)):
                    for c in range(TILE):
                        low, high = tile[r, c], tile[r + n - f, c]
                        slack = TIE * (abs(np.float64(low)) + abs(np.float64(high)))
                        tie_or_low = median[c] - low <= high - median[c] + slack
                        total[c] += (low if tie_or_low else high) * share
            result = out[origin + left : origin + min(left + TILE, width)]
            for c in range(len(result)):
                result[c] = total[c]
    return odd == 0
