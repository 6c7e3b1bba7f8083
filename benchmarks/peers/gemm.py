"""The rate of this machine's float32 matrix products: the floor under every engine."""

from __future__ import annotations

import time

import torch
from common_job import arguments, report

SIZES = (512, 1024, 2048)
SECONDS = 1.5


def rate(size: int) -> float:
    """Best GFLOP/s of a product of two square matrices."""
    a, b, out = torch.rand(size, size), torch.rand(size, size), torch.empty(size, size)
    best, until = float("inf"), time.perf_counter() + SECONDS
    while (start := time.perf_counter()) < until:
        torch.mm(a, b, out=out)
        best = min(best, time.perf_counter() - start)
    return 2e-9 * size**3 / best


if __name__ == "__main__":
    args = arguments()
    torch.set_num_threads(args.threads)
    report(args, ["torch"], rates={size: rate(size) for size in SIZES})
