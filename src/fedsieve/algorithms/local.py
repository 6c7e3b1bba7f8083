"""Local steps: what FedAvg, SCAFFOLD and peer-to-peer learning do between two exchanges.

The steps run in R^d along gradients that were computed in R^k; with the identity projection that is
ordinary local SGD. A stack of one, without projection and without noise in its steps, takes the
fast path: one ordinary backward pass a step, straight into a flat buffer.
"""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from fedsieve.algorithms.form import Cohort, Info
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
    if plain and correction is None:
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
