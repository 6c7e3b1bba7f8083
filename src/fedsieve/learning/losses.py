"""Losses per sample, and the evaluation of a model on a whole data set."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from fedsieve.learning._autograd import evaluating
from fedsieve.learning.data import Task
from fedsieve.learning.flat import FlatModel

CHUNK = 1000
"""Records evaluated at once."""


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """-log softmax(outputs)[target] of each sample (B,), in nats.

    Args:
        outputs: Scores (B, classes).
        targets: Classes (B,), int64.
    """
    return functional.cross_entropy(outputs, targets, reduction="none")


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """(output - target)^2 / 2 of each sample (B,): its derivative is the residual.

    Args:
        outputs: Predictions (B,) or (B, 1).
        targets: Values (B,).
    """
    return (outputs.reshape(targets.shape) - targets).square() / 2


LOSSES: dict[Task, Callable[[Tensor, Tensor], Tensor]] = {
    "classification": cross_entropy,
    "regression": squared_error,
}
"""The loss of each task."""


class Evaluation(NamedTuple):
    """Quality on a data set.

    Args:
        accuracy: Classification: the share of records whose class is predicted, in [0, 1].
            Regression: the coefficient of determination R^2 = 1 - sum (y - f)^2 / sum (y - mean)^2,
            at most 1; nan if all targets are equal.
        loss: Mean loss.
    """

    accuracy: float
    loss: float


@torch.inference_mode()
def evaluate(
    model: FlatModel,
    theta: Tensor,
    x: Tensor,
    y: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    normalise: Callable[[Tensor], Tensor] = torch.Tensor.contiguous,
    chunk: int = CHUNK,
) -> Evaluation:
    """Accuracy and mean loss of the parameters on a data set, ``chunk`` records at a time.

    Args:
        model: The model; float targets make it a regression.
        theta: Parameters (d,).
        x: Records (N, ...) as stored, N >= 1.
        y: Classes (N,) int64, or targets (N,) float32.
        loss: Per-sample loss.
        normalise: Stored records -> records as the model sees them (`Dataset.normalise`).
        chunk: Records at a time, >= 1.

    Raises:
        ValueError: No records, or ``chunk`` < 1.
    """
    if len(x) == 0 or chunk < 1:
        raise ValueError(f"{len(x)} records with chunk={chunk}: both must be at least 1")
    with torch.inference_mode(False):
        module = model.bind(theta)
    total = right = residual = torch.zeros((), dtype=torch.float64, device=theta.device)
    with evaluating(module):
        for lo in range(0, len(x), chunk):
            outputs, targets = module(normalise(x[lo : lo + chunk])), y[lo : lo + chunk]
            total = total + loss(outputs, targets).double().sum()
            if targets.is_floating_point():
                off = outputs.reshape(targets.shape) - targets
                residual = residual + off.double().square().sum()
            else:
                right = right + (outputs.argmax(1) == targets).sum()
    mean = float(total) / len(x)
    if not y.is_floating_point():
        return Evaluation(float(right) / len(x), mean)
    spread = float((y.double() - y.double().mean()).square().sum())
    return Evaluation(1.0 - float(residual) / spread if spread else float("nan"), mean)
