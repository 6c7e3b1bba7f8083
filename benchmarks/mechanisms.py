"""Figures of the mechanisms: what they cost in privacy, in variance, in bits and in time.

    python benchmarks/mechanisms.py [--repeats 9] [--out FILE]

Everything but the times is computed, not measured: the noise multiplier for a wanted epsilon
against the reference table (dp-accounting, PLD), the worst-case variance of the local mechanisms
on [-1, 1], the epsilons of published settings (those of `accounting.py`), and what integer noise
costs beside real noise: accounting at integer orders, rounding on the lattice, bits on the wire.
Times are medians, one thread, taking turns: the release of 20 clients by each law of the noise, and
the gradient engine with layers clipped apart against flat clipping. Writes JSON, and tables in
Markdown beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accounting import recomputed

from fedsieve.learning.clipping import Clip
from fedsieve.learning.flat import FlatModel
from fedsieve.learning.gradients import PerSampleGradients
from fedsieve.learning.losses import cross_entropy
from fedsieve.privacy import GaussianMechanism, IntegerMechanism, noise_multiplier, table
from fedsieve.privacy.local_dp import (
    Duchi,
    Piecewise,
    ThreeOutputs,
    hm_tp,
    hybrid,
    pm_sub,
    tuned_mixture,
)
from fedsieve.registry import component

DELTA, TARGETS = 1e-5, (0.5, 1, 2, 4, 8)
REFERENCE = {  # (q, steps): sigma for each target; PLD, rounded up by at most 2e-4
    (0.001, 100): (0.6448, 0.5755, 0.5056, 0.4269, 0.3389),
    (0.001, 1000): (0.7253, 0.641, 0.5601, 0.4724, 0.3845),
    (0.001, 10000): (0.9742, 0.7408, 0.6286, 0.5343, 0.4502),
    (0.01, 100): (1.143, 0.9021, 0.7368, 0.5905, 0.4646),
    (0.01, 1000): (2.383, 1.415, 0.9593, 0.7348, 0.5863),
    (0.01, 10000): (7.086, 3.814, 2.128, 1.288, 0.8827),
    (0.1, 100): (7.214, 3.942, 2.248, 1.386, 0.9359),
    (0.1, 1000): (22.3, 11.87, 6.391, 3.531, 2.051),
    (0.1, 10000): (70.37, 37.34, 19.97, 10.85, 6.054),
    (1, 100): (70.32, 37.31, 19.94, 10.81, 6.002),
    (1, 1000): (222.4, 118, 63.05, 34.19, 18.98),
    (1, 10000): (703.2, 373.1, 199.4, 108.1, 60.02),
}
LOCAL = (0.5, 0.8, 1.0, 1.29, 1.5, 2.0, 3.0, 4.0)
INTEGERS = [(0.01, 1000, 2.0), (0.1, 150, 4.0), (0.1, 1000, 2.0), (1.0, 100, 4.0)]  # q, T, epsilon
K, BATCH, CLIENTS = 4810, 50, 20
MODELS = [("mlp", {"hidden": (64,)}, 20, 50), ("cnn", {"groups": 0}, 1, 32)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    results = Path(__file__).parent / "results"
    parser.add_argument("--out", type=Path, default=results / "mechanisms.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    told = {
        "machine": {
            "platform": platform.platform(), "cpus": os.cpu_count(),
            "load": round(os.getloadavg()[0], 2),
        },
        "noise_for_epsilon": noise_for_epsilon(),
        "local_variances": local_variances(),
        "published_settings": recomputed(),
        "integers": integers(),
        "release_ms": releases(given.repeats),
        "layers_over_flat": layers(given.repeats),
    }  # fmt: skip
    given.out.write_text(json.dumps(told, indent=2) + "\n")
    given.out.with_suffix(".md").write_text(page(told))
    print(page(told))


# ------------------------------------------------------------------------------- computed


def noise_for_epsilon() -> list[dict[str, Any]]:
    rows = []
    for (q, steps), reference in REFERENCE.items():
        found = [
            row.noise_multiplier
            for row in table(epsilon=TARGETS, sampling_rate=[q], steps=[steps], delta=[DELTA])
        ]
        off = max(abs(a / b - 1) for a, b in zip(found, reference, strict=True))
        rows.append({"q": q, "steps": steps, "sigma": found, "off_reference": off})
    return rows


def local_variances() -> list[dict[str, Any]]:
    rows = []
    for e in LOCAL:
        mixture = hm_tp(e)
        made = {
            "Duchi": Duchi(e),
            "Three-Outputs": ThreeOutputs(e),
            "PM": Piecewise(e),
            "PM-SUB": pm_sub(e),
            "HM": hybrid(e),
            "HM-TP": mixture,
            "jointly tuned": tuned_mixture(e),
        }
        variances = {name: one.worst_variance for name, one in made.items()}
        against = variances["HM-TP"] / variances["HM"]
        odds = {"beta of HM-TP": mixture.weight, "HM-TP / HM": against}
        rows.append({"epsilon": e, **variances, "Laplace": 8 / e**2, **odds})
    return rows


def integers() -> list[dict[str, Any]]:
    rows = []
    for q, steps, target in INTEGERS:
        real = noise_multiplier(target, q, steps, DELTA)
        whole = noise_multiplier(target, q, steps, DELTA, law="discrete-gaussian")
        mechanism = IntegerMechanism(1.0, whole, BATCH, K)
        rows.append(
            {
                "q": q, "steps": steps, "epsilon": target, "sigma_real": real,
                "sigma_integers": whole,
                "accounting": whole / real,
                "rounding": mechanism.noise_std * BATCH / whole,
                "bits": mechanism.bits,
            }
        )  # fmt: skip
    return rows


# ------------------------------------------------------------------------------- measured


def median_ms(jobs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Milliseconds of each job, taking turns."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(repeats + 2):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            if turn >= 2:
                times[name].append(time.perf_counter() - start)
    return {name: 1e3 * float(np.median(t)) for name, t in times.items()}


def releases(repeats: int) -> dict[str, float]:
    sums = torch.randn(CLIENTS, K, generator=torch.Generator().manual_seed(0))
    made = {
        "gaussian": GaussianMechanism(1.0, 2.0, BATCH),
        "discrete-gaussian": IntegerMechanism(1.0, 2.0, BATCH, K, "discrete-gaussian"),
        "skellam": IntegerMechanism(1.0, 2.0, BATCH, K, "skellam"),
    }
    generators = [np.random.default_rng(i) for i in range(CLIENTS)]
    return median_ms({n: lambda m=m: m.release(sums, generators) for n, m in made.items()}, repeats)


def layers(repeats: int) -> list[dict[str, Any]]:
    rows = []
    for name, options, n, b in MODELS:
        generator = torch.Generator().manual_seed(0)
        shape = (1, 28, 28)
        net = component("model", name).build(
            input_shape=shape, outputs=10, vocabulary=0, generator=generator, **options
        )
        model = FlatModel(net, shape)
        x = torch.randn(n * b, *shape, generator=generator)
        y = torch.randint(10, (n * b,), generator=generator)
        engine = PerSampleGradients(model, cross_entropy, method="closed-form")
        theta = model.read()

        def run(
            form: str, engine: Any = engine, theta: Any = theta, x: Any = x, y: Any = y,
            counts: Any = (b,) * n,
        ) -> None:  # fmt: skip
            engine.clipped_sums(theta, x, y, counts, clip=Clip(1.0, form))

        ms = median_ms({f: lambda f=f: run(f) for f in ("flat", "per-layer")}, repeats)
        rows.append({"model": name, "clients": n, "batch": b, **ms})
        rows[-1]["ratio"] = ms["per-layer"] / ms["flat"]
    return rows


# ------------------------------------------------------------------------------- the page


def page(told: dict[str, Any]) -> str:
    noise = told["noise_for_epsilon"]
    worst = max(row["off_reference"] for row in noise)
    local = told["local_variances"]
    names = [key for key in local[0] if key != "epsilon"]
    calibrated = (
        f"delta = {DELTA:g}, add-remove, Poisson sampling, PLD. Largest distance from the "
        f"reference table (dp-accounting): {worst:.2%}."
    )
    compared = (
        f"k = {K}, batch {BATCH}, delta = {DELTA:g}. Accounting: RDP at integer orders against "
        "PLD. Rounding: noise on the lattice over sigma C."
    )
    parts = [
        "# Mechanisms\n",
        f"## Noise multiplier for a wanted epsilon\n\n{calibrated}\n",
        lines(
            ["q", "steps", *(f"epsilon {t:g}" for t in TARGETS)],
            ([f"{r['q']:g}", f"{r['steps']}", *(f"{s:.4g}" for s in r["sigma"])] for r in noise),
        ),
        "\n## Worst-case variance of local mechanisms on [-1, 1]\n",
        lines(
            ["epsilon", *names],
            ([f"{r['epsilon']:g}", *(f"{r[n]:.3f}" for n in names)] for r in local),
        ),
        "\n## Epsilons of published settings, recomputed\n",
        lines(
            ["setting", "epsilon", "statement"],
            ([n, f"{r['epsilon']:.4f}", r["statement"]]
             for n, r in told["published_settings"].items()),
        ),
        f"\n## What integer noise costs beside real noise\n\n{compared}\n",
        lines(
            ["q", "steps", "epsilon", "sigma, real", "sigma, integers", "accounting", "rounding",
             "bits a number"],
            ([f"{r['q']:g}", r["steps"], f"{r['epsilon']:g}", f"{r['sigma_real']:.4g}",
              f"{r['sigma_integers']:.4g}", f"{r['accounting']:.3f}", f"{r['rounding']:.3f}",
              r["bits"]] for r in told["integers"]),
        ),
        f"\n## Times\n\nRelease of {CLIENTS} messages of {K} numbers, ms:\n",
        lines(list(told["release_ms"]), [[f"{t:.2f}" for t in told["release_ms"].values()]]),
        "\nClipped sums, layers apart against flat, ms:\n",
        lines(
            ["model", "clients x batch", "flat", "per layer", "ratio"],
            ([r["model"], f"{r['clients']} x {r['batch']}", f"{r['flat']:.2f}",
              f"{r['per-layer']:.2f}", f"{r['ratio']:.3f}"] for r in told["layers_over_flat"]),
        ),
    ]  # fmt: skip
    return "\n".join(parts) + "\n"


def lines(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table in Markdown."""
    body = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in body)


if __name__ == "__main__":
    main()
