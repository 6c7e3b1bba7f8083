"""Columns shared out among threads: as many as torch may use, and none of torch's own.

OpenMP's workers spin for a while after each of their jobs; on few cores whoever computes next, be
it numba or BLAS, waits for them. What comes before and after a loop in these threads is therefore
better done here than by torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import reduce

import numpy as np
import torch
from numpy.typing import NDArray

GRAIN = 1 << 18  # entries that are worth a thread of their own
STRETCH = 1 << 21  # entries that are summed over at a time


def in_threads(work: Callable[[int, int], None], k: int, n: int) -> None:
    """Call ``work(start, stop)`` on equal parts of k columns, in as many threads as torch may use.

    Columns do not know each other, so that the parts change no bit.
    """
    parts = max(min(torch.get_num_threads(), n * k // GRAIN), 1)
    edges = [k * part // parts for part in range(parts + 1)]
    if parts == 1:
        return work(0, k)
    with ThreadPoolExecutor(parts) as pool:
        list(pool.map(work, edges[:-1], edges[1:]))  # a list, so that errors come to light
    return None


def summed(work: Callable[[int, int], NDArray[np.float64]], k: int, n: int) -> NDArray[np.float64]:
    """The sum of ``work(start, stop)`` over k columns, in as many threads as torch may use.

    Taken over stretches that depend on n only and added in their order, so that the number of
    threads changes no bit.
    """
    width = max(STRETCH // n, 1)
    starts = range(0, k, width)
    stops = [min(start + width, k) for start in starts]
    threads = min(torch.get_num_threads(), len(starts))
    if threads == 1:
        return added(map(work, starts, stops))
    with ThreadPoolExecutor(threads) as pool:
        return added(pool.map(work, starts, stops))


def added(parts: Iterable[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The sum of the parts, of which there is at least one."""
    return reduce(np.add, parts)
