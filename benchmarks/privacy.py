"""Noise: what it costs in the small dimension and in the model's, and how fast exact noise is.

    python benchmarks/privacy.py [--repeats 15] [--out FILE]

"Gaussian" is `GaussianMechanism.release` for 20 clients on one thread: noise from 20 generators,
addition, division and rounding to the public grid, at several k and at the d of an MLP. Its floor
is the drawing of as many normal numbers by numpy. Both are timed with seeded generators, as in a
simulation, and with those of a run without a seed, which draw from a cipher's key stream and are
made anew for every release. "Exact" is the number of exact integer samples in
a second: vectorised by tables, at several widths, against one by one as published; each table is
made beforehand, in the time given beside it. Everything takes turns; median and minimum are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from fedsieve.privacy import GaussianMechanism
from fedsieve.privacy.discrete import sample_discrete_gaussian
from fedsieve.privacy.discrete._laws import GaussianLaw, LaplaceLaw, PoissonLaw
from fedsieve.privacy.discrete._table import sample
from fedsieve.randomness import Streams

CLIENTS = 20
D = 203_530  # parameters of the MLP of the other benchmarks
NUMBERS = (100, 1000, 10_000, D)
SIGMAS = (1, 10, 100, 1000, 16_000)
SAMPLES = 10**6
TARGET = 2e6  # exact discrete Gaussian samples in a second


def releases():
    """What to time: the mechanism at each k, and the bare normal numbers."""
    mechanism = GaussianMechanism(clip=1.0, noise_multiplier=1.0, batch=16)
    jobs = {}
    for k in NUMBERS:
        sums = torch.randn(CLIENTS, k, generator=torch.Generator().manual_seed(0))
        generators = [np.random.default_rng(i) for i in range(CLIENTS)]
        buffer = np.empty(k)

        def seeded(generators=generators):
            return generators

        for name, drawn in ((f"k={k}", seeded), (f"without a seed k={k}", unseeded)):

            def release(sums=sums, drawn=drawn):
                mechanism.release(sums, drawn())

            def floor(drawn=drawn, buffer=buffer):
                for generator in drawn():
                    generator.standard_normal(out=buffer)

            jobs[f"Gaussian {name}"] = release
            jobs[f"normal numbers {name}"] = floor
    return jobs


def unseeded():
    """The noise streams of one round without a noise seed."""
    streams = Streams(0)
    return [streams.noise(0, client) for client in range(CLIENTS)]


def samplers():
    """What to time, and the seconds that each table took."""
    laws = {f"discrete Gaussian sigma={s}": GaussianLaw(Fraction(s) ** 2) for s in SIGMAS}
    laws["geometric scale=10"] = LaplaceLaw(Fraction(10))
    laws["Poisson mean=5000"] = PoissonLaw(Fraction(5000))
    generator, tables, jobs = np.random.default_rng(0), {}, {}
    for name, law in laws.items():
        start = time.perf_counter()
        sample(law, 1, generator)
        tables[name] = time.perf_counter() - start
        jobs[name] = lambda law=law: sample(law, SAMPLES, generator)
    return jobs, tables


def measure(jobs, repeats):
    """Seconds of each job, taking turns."""
    times = {name: [] for name in jobs}
    for job in jobs.values():
        job()
    for _ in range(repeats):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            times[name].append(time.perf_counter() - start)
    return {n: {"median": float(np.median(t)), "min": min(t)} for n, t in times.items()}


def one_by_one(count=3000):
    """Samples in a second of the published sampler."""
    generator, start = np.random.default_rng(0), time.perf_counter()
    for _ in range(count):
        sample_discrete_gaussian(Fraction(100), generator)
    return count / (time.perf_counter() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/privacy.json")
    settings = parser.parse_args()
    torch.set_num_threads(1)
    load = [os.getloadavg()]
    gaussian = measure(releases(), settings.repeats)
    jobs, tables = samplers()
    exact = measure(jobs, settings.repeats)
    load.append(os.getloadavg())

    whole = gaussian[f"Gaussian k={D}"]["median"]
    print(f"Gaussian noise for {CLIENTS} clients: ms median; share of d={D}; ratio to the floor")
    for k in NUMBERS:
        own, floor = (gaussian[f"{n} k={k}"]["median"] for n in ("Gaussian", "normal numbers"))
        print(f"  k={k:<8d} {own * 1e3:9.3f} {own / whole:8.4f} {own / floor:6.2f}")
    source = Streams(0).noise_source
    print(f"The same from {source}: ms median, ratio to seeded; ns a number, bare")
    for k in NUMBERS:
        own, floor = (
            gaussian[f"{n} without a seed k={k}"]["median"] for n in ("Gaussian", "normal numbers")
        )
        times = own / gaussian[f"Gaussian k={k}"]["median"]
        print(f"  k={k:<8d} {own * 1e3:9.3f} {times:8.2f} {floor / (CLIENTS * k) * 1e9:9.1f}")
    rates = {
        name: {
            "per_second": SAMPLES / t["median"],
            "best_per_second": SAMPLES / t["min"],
            "table_seconds": tables[name],
        }
        for name, t in exact.items()
    }
    rates["discrete Gaussian one by one sigma=10"] = {"per_second": one_by_one()}
    print("Exact samples in a second, millions")
    for name, rate in rates.items():
        print(f"  {name:40s} {rate['per_second'] / 1e6:8.3f}")
    slowest = min(r["per_second"] for n, r in rates.items() if n.startswith("discrete Gaussian s"))
    print(f"slowest vectorised discrete Gaussian: {slowest / TARGET:.2f} of the target")

    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "load_average_before_after": load,
    }
    result = {
        "machine": machine,
        "clients": CLIENTS,
        "source_without_a_seed": source,
        "seconds": gaussian,
        "exact_samples": rates,
        "target": {"per_second": TARGET, "slowest": slowest, "met": slowest >= TARGET},
    }
    settings.out.parent.mkdir(parents=True, exist_ok=True)
    settings.out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"wrote {settings.out}")


if __name__ == "__main__":
    main()
