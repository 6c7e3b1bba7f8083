"""Local steps: what FedAvg, SCAFFOLD and peer-to-peer learning do between two exchanges.

The steps run in R^d along gradients that were computed in R^k; with the identity projection that is
ordinary local SGD. A stack of one, without projection and without noise in its steps, takes the
fast path: one ordinary backward pass a step, straight into a flat buffer.
"""

from __future__ import annotations

import math
from collections import Counter

import torch
from torch import Tensor

from fedsieve.algorithms.form import Broadcast, Cohort, Info
from fedsieve.algorithms.momentum import carried
from fedsieve.algorithms.parts import StochasticGradient
from fedsieve.compression.projections import is_identity
from fedsieve.learning.layout import Subspace


def local_steps(
    gradient: StochasticGradient,
    start: Tensor,
    subspace: Subspace,
    cohort: Cohort,
    round_: int,
    lr: float,
    correction: Tensor | None = None,
) -> tuple[Tensor, Tensor | None, Info]:
    """Take each client's local steps y <- y - lr lift(g(y) + correction).

    Args:
        gradient: The stochastic gradient.
        start: Where each client starts, (m, d).
        subspace: The round's projection.
        cohort: The m clients; client i takes ``cohort.steps[i]`` steps.
        round_: Number of the round.
        lr: Local step size.
        correction: Added to every gradient, (m, k), or ``None``.

    Returns:
        End points y (m, d); the mean of the K gradients (m, k) where a correction is given, else
        ``None``; diagnostics averaged over the steps.
    """
    plain = not gradient.per_record and len(cohort.ids) == 1 and is_identity(subspace)
    near = gradient.near
    if plain and correction is None and near is None:
        y = start.clone()
        for step in range(cohort.steps[0]):
            batch = gradient.draw(cohort, round_, step)
            gradient.gradients.descend(y[0], batch.x, batch.y, lr)
        return y, None, {}
    y, total = start.clone(), None if correction is None else torch.zeros_like(correction)
    info: Counter[str] = Counter()
    steps = torch.tensor(cohort.steps, device=y.device)
    buffer = torch.empty_like(y[0]) if plain else None
    for step in range(max(cohort.steps)):
        batch = gradient.draw(cohort, round_, step)
        if buffer is not None:
            g = gradient.gradients.mean(y[0], batch.x, batch.y, out=buffer)[None]
        else:
            g, diagnostics = gradient(y, batch, subspace, cohort, round_, step)
            info.update(diagnostics)  # Counter adds; divided below
        if near is not None:
            g = near.blend(g, subspace.project(near.gradient(y, start)))
        if correction is not None and total is not None:
            active = (step < steps)[:, None]
            total += g * active
            g = g + correction
        direction = g if plain else subspace.lift(g)
        if len(cohort.ids) > 1:
            direction = direction * (step < steps)[:, None]
        y.sub_(direction, alpha=lr)
    mean = None if total is None else total / steps[:, None]
    return y, mean, {key: value / max(cohort.steps) for key, value in info.items()}


def local_noise(
    gradient: StochasticGradient, broadcast: Broadcast, cohort: Cohort, lr: float
) -> float | None:
    """Standard deviation of the noise that the steps y <- y - lr g leave in each number of y.

    Every step adds its own; that a noisy y also changes the gradients to come is left out. Root
    mean square over clients that take different numbers of steps, as y comes out of the projection.
    """
    std = gradient.noise_std(broadcast, cohort)
    if std is None or not gradient.per_record:
        return std  # at client level y is noised as a whole, after its steps
    layout, subspace = gradient.gradients.model.layout, broadcast.subspace
    steps = sum(cohort.steps) / len(cohort.steps)
    device = next(iter(broadcast.tensors.values())).device
    return std * lr * math.sqrt(steps * carried(layout, subspace, subspace, device))
