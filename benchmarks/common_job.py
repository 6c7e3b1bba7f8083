"""The job that every simulator of `simulators.py` does, and how it is timed.

100 clients with 320 synthetic records each; 20 of them a round, drawn without replacement; 5 SGD
steps of batch 32 at step size 0.05 on the mean cross-entropy; the average of the 20 models. A round
lasts from its start to the new global model in memory; the model is evaluated once, after the last.

Imported by every peer in that peer's own environment, so at the top it needs only numpy.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from peers import _process_tree as process_tree

if TYPE_CHECKING:
    from torch import Tensor, nn

CLIENTS, COHORT, STEPS, BATCH, LR = 100, 20, 5, 32, 0.05
RECORDS, TESTS, CLASSES, PIXELS = 320, 2_000, 10, 784
ROUNDS = 30
VISITED = STEPS * BATCH  # records that a client visits in a round

FORWARD_MACS = {
    "mlp": (784 * 256, 256 * 10),
    "cnn": (16 * 24**2 * 25, 32 * 8**2 * 16 * 25, 512 * 256, 256 * 10),
}
"""Multiply-adds of one sample by layer."""

SIZES = {
    "mlp": (203_530, 784 + 2 * 256 + 10),
    "cnn": (147_146, 784 + 2 * 16 * 24**2 + 16 * 12**2 + 2 * 32 * 8**2 + 512 + 2 * 256 + 10),
}
"""Parameters, and the numbers that one sample becomes on its way through the layers."""

ACCURACY = {"mlp": (0.99, 1.0), "cnn": (0.50, 0.65)}
"""After 30 rounds; outside, the job was another one or the gradients are wrong."""


def flop(model: str) -> float:
    """Floating point operations of one round: 6 per multiply-add, 4 in the first layer."""
    macs = FORWARD_MACS[model]
    return COHORT * VISITED * (6.0 * sum(macs) - 2.0 * macs[0])


FOLDER = "COMMON_JOB_DATA"
"""Environment variable: the folder of the records, so that no engine's memory has their making."""


class Data(NamedTuple):
    """Records (N, 784) float32 and labels (N,) int64; client i holds [320 i, 320 (i + 1))."""

    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


@cache
def data(clients: int = CLIENTS) -> Data:
    """The first clients' records; read from where `simulators.py` has laid them, or made."""
    if FOLDER not in os.environ:
        return made(clients)
    folder, limit = Path(os.environ[FOLDER]), clients * RECORDS
    files = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in Data._fields)
    return Data(*(np.array(file[:limit]) for file in files))


def made(clients: int = CLIENTS) -> Data:
    """Ten prototypes in noise; on the way this takes three times the memory of the records."""
    rng = np.random.default_rng(0)
    prototypes = rng.normal(size=(CLASSES, PIXELS)).astype(np.float32)
    train = clients * RECORDS
    y = rng.integers(0, CLASSES, train + TESTS)
    x = (0.35 * prototypes[y] + rng.normal(size=(train + TESTS, PIXELS))).astype(np.float32)
    return Data(x[:train], y[:train], x[train:], y[train:])


def plan(round_: int) -> tuple[np.ndarray, np.ndarray]:
    """The cohort (20,) and the records of its batches, (20, 5, 32) positions in the whole set."""
    rng = np.random.default_rng(1000 + round_)
    cohort = rng.choice(CLIENTS, COHORT, replace=False)
    own = np.stack([rng.permutation(RECORDS)[:VISITED] for _ in cohort])
    return cohort, (own + RECORDS * cohort[:, None]).reshape(COHORT, STEPS, BATCH)


def own_order(*key: int) -> np.ndarray:
    """The records (5, 32) that a client visits, for peers whose clients draw for themselves."""
    return np.random.default_rng(key).permutation(RECORDS)[:VISITED].reshape(STEPS, BATCH)


def data_bytes() -> int:
    """Memory of the records."""
    return (CLIENTS * RECORDS + TESTS) * (4 * PIXELS + 8)


def matrix_bytes(model: str, processes: int) -> int:
    """Memory of what a round computes with, from its shapes.

    At the server the cohort's messages, as bytes and as float32, and the model before and after; in
    every process parameters, gradients and a step's result, and the activations of a batch with
    their gradients.
    """
    d, activations = SIZES[model]
    return 4 * (2 * COHORT + 2) * d + processes * 4 * (3 * d + 2 * BATCH * activations)


def torch_data(clients: int = CLIENTS) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The records as images (N, 1, 28, 28) and the labels, without a copy."""
    import torch

    x, y, x_test, y_test = (torch.from_numpy(part) for part in data(clients))
    return x.view(-1, 1, 28, 28), y, x_test.view(-1, 1, 28, 28), y_test


def module(model: str) -> nn.Module:
    """The model with its initial parameters, the same for all torch engines."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    if model == "mlp":
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
    return nn.Sequential(
        nn.Conv2d(1, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(512, 256),
        nn.ReLU(),
        nn.Linear(256, 10),
    )


def local_sgd(trained: nn.Module, x: Tensor, y: Tensor, batches: np.ndarray) -> None:
    """A client's local work, written the usual way."""
    import torch

    optimizer = torch.optim.SGD(trained.parameters(), lr=LR)
    for index in torch.from_numpy(batches):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(trained(x[index]), y[index]).backward()
        optimizer.step()


def accuracy(trained: nn.Module) -> float:
    """Share of the test records that a torch model classifies correctly."""
    import torch

    _, _, x_test, y_test = torch_data()
    with torch.inference_mode():
        return float((trained(x_test).argmax(1) == y_test).float().mean())


@dataclass
class Laps:
    """The rounds' wall-clock seconds, and the CPU seconds of the process and all its children.

    CPU seconds are counted from the end of the first round, which holds start-up, to the last.
    """

    rounds: int

    def __post_init__(self) -> None:
        self.seconds: list[float] = []
        self.cpu = float("nan")
        self._cpu_start = 0.0
        self._began = 0.0

    def start(self) -> None:
        """A round starts."""
        self._began = time.perf_counter()

    def stop(self) -> None:
        """The new global model is in memory; the next round may start at once."""
        self.seconds.append(time.perf_counter() - self._began)
        if len(self.seconds) == 1:
            self._cpu_start = process_tree.cpu_seconds()
        if len(self.seconds) == self.rounds > 1:
            self.cpu = (process_tree.cpu_seconds() - self._cpu_start) / (self.rounds - 1)
        self.start()


def arguments() -> argparse.Namespace:
    """What `simulators.py` tells a peer; a peer can be run by hand, too."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", choices=sorted(FORWARD_MACS), default="mlp")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--idle", action="store_true", help="two clients, one step: memory alone")
    parser.add_argument("--out", type=Path, help="where to write the result; default: print it")
    return parser.parse_args()


def report(args: argparse.Namespace, packages: list[str], **facts: object) -> None:
    """Tell `simulators.py` the result, and the versions that gave it."""
    versions = {name: version(name) for name in packages}
    text = json.dumps({**facts, "versions": versions})
    if args.out:
        args.out.write_text(text)
    else:
        print(text)


def report_laps(
    args: argparse.Namespace, packages: list[str], laps: Laps, reached: float, **more: object
) -> None:
    """Tell `simulators.py` the rounds' times and the accuracy."""
    report(args, packages, seconds=laps.seconds, cpu=laps.cpu, accuracy=reached, **more)
