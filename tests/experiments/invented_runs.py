"""A run directory as a run would leave it, made in a blink."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fedsieve.experiments import toml
from fedsieve.experiments.manifest import manifest
from fedsieve.experiments.metrics import PHASES, Metrics
from fedsieve.experiments.run_directory import RunDirectory
from fedsieve.experiments.summary import Summary

CLASSES = (
    "top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "boot",
)


def invent(
    path: Path,
    *,
    title: str = "sieve",
    rounds: int = 150,
    private: bool = True,
    byzantine: int = 4,
    attack: str = "alie",
    regression: bool = False,
    weights: bool = True,
    top: float = 0.84,
    message: int = 4810,
    finished: bool = True,
) -> Path:
    rng = np.random.default_rng(3)
    n = 20
    config = toml.parse(
        {
            "name": title,
            "rounds": rounds,
            "federation": {"clients": n, "byzantine": byzantine},
            "attack": {"name": attack if byzantine else "none"},
            "algorithm": {"name": "sieve", "lr": 0.1, "momentum": 0.9, "batch": 50},
            **({"privacy": {"epsilon": 4.0, "clip": 1.0}} if private else {}),
        }
    )
    run = RunDirectory.create(path, config)
    run.save_manifest(
        manifest(
            config,
            source="fashion-mnist: 10,000 training and 2,000 test examples, the embedded subset "
            f"(sha256 of train-images-idx3-ubyte: {'5b' * 32}).",
            checksums={"train-images": "5b" * 32},
            licence="MIT",
            noise_source="operating system entropy, expanded by AES-128-CTR" if private else None,
            noise_grid=2.0**-20 if private else None,
            device="cpu AVX2",
            objects={},
        )
    )
    bad = list(range(n - byzantine, n))
    classes = ("records",) if regression else CLASSES
    counts = rng.dirichlet(np.full(len(classes), 0.5), n) * 500
    run.save_partition(counts.astype(int), classes, bad)
    metrics = Metrics()
    base = np.where(np.isin(np.arange(n), bad), 0.012, 1 / n)
    for t in range(rounds):
        gone = 1 - np.exp(-(t + 1) / rounds * 6)
        w = base * rng.uniform(0.7, 1.3, n)
        w /= w.sum()
        w[t % n] = np.nan
        evaluated = t % 5 == 4 or t == rounds - 1
        metrics.append(
            {
                "round": t,
                "accuracy": top * gone if evaluated and not regression else float("nan"),
                "loss": 2.3 - 1.8 * gone + 0.02 * rng.normal() if evaluated else None,
                "epsilon": 4.0 * ((t + 1) / rounds) ** 0.55 if private else None,
                "clipped_fraction": 0.95 - 0.3 * gone if private else None,
                "noise_norm": 1.7 if private else None,
                "signal_norm": 0.8 * (1 - 0.7 * gone) if private else None,
                "aggregation_error": 0.4 * (1.02 - gone) * rng.uniform(0.8, 1.2),
                "bits_up": 32 * message * n,
                "bits_down": 32 * message * n,
                "senders": n - 1,
                "rejected": 0,
                "weights": w if weights else None,
                **{f"seconds_{p}": s for p, s in zip(PHASES, rng.uniform(0, 0.01, 7), strict=True)},
            }
        )
    run.save_metrics(metrics)
    if finished:
        run.save_summary(summary(private=private, byzantine=byzantine, rounds=rounds, top=top))
    return path


def summary(**given: Any) -> Summary:
    private = given.get("private", True)
    byzantine = given.get("byzantine", 4)
    return Summary(
        algorithm="sieve",
        dataset="fashion-mnist",
        model="mlp",
        seed=0,
        n_clients=20,
        n_byzantine=byzantine,
        attack="alie" if byzantine else "none",
        rule="caf",
        root_records=None,
        projection="dct",
        dimension=50890,
        message_dimension=4810,
        rounds=given.get("rounds", 150),
        test_accuracy=given.get("top", 0.84),
        test_loss=0.51,
        attack_success_rate=None,
        backdoor_half_life=None,
        epsilon=3.9987 if private else None,
        delta=1e-5 if private else None,
        privacy_unit="record" if private else None,
        neighbouring_relation="add-remove" if private else None,
        accountant="PLD (dp-accounting, pessimistic)" if private else None,
        noise_multiplier=1.234 if private else None,
        noise_source="operating system entropy, expanded by AES-128-CTR" if private else None,
        trust="local" if private else None,
        holds_against="everybody who sees the messages, the server included" if private else None,
        uplink_bits_per_client_round=32 * 4810,
        downlink_bits_per_client_round=32 * 4810,
        seconds_total=21.5,
        seconds_by_phase=dict.fromkeys(PHASES, 1.0),
        peak_memory_bytes=512_000_000,
    )
