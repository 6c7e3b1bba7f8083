"""One library's aggregation rules on one stack, in a process of its own: a line of JSON each.

Memory is the high-water mark of the process during a call (Linux, /proc) above what it held before.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

Call = Callable[[], Any]
REPEATS = 9
HOSTILE = ("trimmed-mean", "krum", "caf")  # rules that also meet a row with a NaN
SLOW = 1.0  # seconds; a call that takes longer is not repeated
MIXED = 1 << 29  # entries of the (n, n, d) tensor that ByzFL's NNM makes, at most
RESET = "5"  # written to clear_refs, it resets the high-water mark


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", choices=list(LIBRARIES), required=True)
    for name in ("n", "d", "f", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument(
        "--budget", type=float, required=True, help="seconds for the calls of a rule"
    )
    parser.add_argument("--only", nargs="*", default=[], help="rules; none: all")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rng = np.random.default_rng(0)
    X = torch.from_numpy(rng.standard_normal((args.n, args.d), dtype=np.float32))

    w = torch.full((args.n,), 1 / args.n)
    tell("X.mean(0)", lambda: X.mean(0), args.budget)
    tell("X @ X.T", lambda: X @ X.T, args.budget)
    tell("w @ X", lambda: w @ X, args.budget)
    for name, make in LIBRARIES[args.library](X, args.f):
        if args.only and name not in args.only:
            continue
        try:
            tell(name, make(), args.budget)
        except Exception as error:  # noqa: BLE001 - a peer's failure is a result
            print(
                json.dumps({"rule": name, "error": str(error).partition("\n")[0][:120]}), flush=True
            )


def tell(rule: str, call: Call, budget: float) -> None:
    """Print the times, in seconds, and the extra memory, in bytes, of a call."""
    first = seconds(call)
    times = [first] if first > SLOW else []
    end = time.perf_counter() + budget
    if not times:
        seconds(call)  # settled
    while not times or (len(times) < REPEATS and first <= SLOW and time.perf_counter() < end):
        times.append(seconds(call))
    Path("/proc/self/clear_refs").write_text(RESET)
    before = resident("VmRSS")
    call()
    extra = max(resident("VmHWM") - before, 0)
    row = {"rule": rule, "median": statistics.median(times), "minimum": min(times)}
    print(json.dumps({**row, "first": first, "repeats": len(times), "extra": extra}), flush=True)


def seconds(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def floors(X: torch.Tensor, f: int) -> Iterator[tuple[str, Callable[[], Call]]]:  # noqa: ARG001
    """Torch's own median, beside what every process measures."""
    yield "torch.median", lambda: lambda: X.median(0)


def fedsieve(X: torch.Tensor, f: int) -> Iterator[tuple[str, Callable[[], Call]]]:
    """All registered rules, trusting a message where they need to, and pre-aggregators."""
    from fedsieve.aggregation import _compiled
    from fedsieve.registry import component, components

    _compiled.PATIENCE = 0  # kernels are there from the first call on, as later in a long process

    def alone(part: Any) -> Callable[[], Call]:
        def make() -> Call:
            rule = part.build(f=f)
            rule.check(len(X))
            rule = rule.trusting(X[0]) if rule.needs_root else rule
            return lambda: rule(X)

        return make

    def before(part: Any, name: str) -> Callable[[], Call]:
        rule = component("rule", name).build(f=f)
        return lambda: lambda: (part.build(f=f) >> rule)(X)

    for part in components("rule"):
        yield part.name, alone(part)
    for part in components("pre-aggregator"):
        for name in ("trimmed-mean", "median"):
            yield f"{part.name} >> {name}", before(part, name)

    def hostile(name: str) -> Callable[[], Call]:
        def make() -> Call:
            rule, spoiled = component("rule", name).build(f=f), X.clone()
            rule.check(len(X))
            spoiled[0, -1] = torch.nan
            return lambda: rule(spoiled)

        return make

    for name in HOSTILE:
        yield f"{name}, one NaN", hostile(name)


def byzfl(X: torch.Tensor, f: int) -> Iterator[tuple[str, Callable[[], Call]]]:
    """ByzFL's rules under our names; its data sets, for which it imports torchvision, left out."""
    sys.modules["byzfl.benchmark"] = ModuleType("byzfl.benchmark")
    import byzfl as library

    names = {
        "mean": ("Average", {}),
        "median": ("Median", {}),
        "trimmed-mean": ("TrMean", {"f": f}),
        "meamed": ("Meamed", {"f": f}),
        "krum": ("Krum", {"f": f}),
        "multi-krum": ("MultiKrum", {"f": f}),
        "geometric-median": ("GeometricMedian", {}),
        "centered-clipping": ("CenteredClipping", {"L": 3, "tau": 100.0}),
        "monna": ("MoNNA", {"f": f}),
        "caf": ("CAF", {"f": f}),
    }

    def make(name: str, options: dict[str, Any]) -> Callable[[], Call]:
        rule = getattr(library, name)(**options)
        return lambda: lambda: rule(X)

    for ours, (name, options) in names.items():
        yield ours, make(name, options)
    reducers = {"trimmed-mean": library.TrMean(f=f), "median": library.Median()}

    def before(pre: Any, name: str, stack: torch.Tensor) -> Callable[[], Call]:
        return lambda: lambda: reducers[name](pre(stack))

    for name in reducers:
        if len(X) * X.numel() <= MIXED:
            yield f"nnm >> {name}", before(library.NNM(f=f), name, X)
    clipped = X.clone()  # its clipping writes into what it is given
    for name in reducers:
        yield f"arc >> {name}", before(library.ARC(f=f), name, clipped)


def byzpy(X: torch.Tensor, f: int) -> Iterator[tuple[str, Callable[[], Call]]]:
    """ByzPy's aggregators under our names, on a list of rows as it wants them."""
    from byzpy.aggregators import coordinate_wise, geometric_wise, norm_wise

    rules = {
        "median": lambda: coordinate_wise.CoordinateWiseMedian(),
        "trimmed-mean": lambda: coordinate_wise.CoordinateWiseTrimmedMean(f=f),
        "meamed": lambda: coordinate_wise.MeanOfMedians(f=f),
        "krum": lambda: geometric_wise.Krum(f=f),
        "multi-krum": lambda: geometric_wise.MultiKrum(f=f, q=len(X) - f),
        "caf": lambda: norm_wise.CAF(f=f),
        "cge": lambda: norm_wise.ComparativeGradientElimination(f=f),
        "monna": lambda: geometric_wise.MoNNA(f=f),
        "geometric-median": lambda: geometric_wise.GeometricMedian(),
        "centered-clipping": lambda: norm_wise.CenteredClipping(c_tau=100.0, M=3),
    }

    def make(name: str) -> Callable[[], Call]:
        def made() -> Call:
            rule, gradients = rules[name](), list(X)
            return lambda: rule.aggregate(gradients)

        return made

    for name in rules:
        yield name, make(name)


LIBRARIES = {"torch": floors, "fedsieve": fedsieve, "byzfl": byzfl, "byzpy": byzpy}

if __name__ == "__main__":
    main()
