"""SCAFFOLD: local steps whose drift is corrected by control variates.

S. P. Karimireddy, S. Kale, M. Mohri, S. J. Reddi, S. U. Stich, A. T. Suresh, "SCAFFOLD: Stochastic
Controlled Averaging for Federated Learning", ICML 2020 (Algorithm 1, option II)::

    client i:  y <- x;  repeat K times:  y <- y - eta_l (g_i(y) - c_i + c)
               c_i+ = c_i - c + (x - y) / (K eta_l)   (= the mean of the K gradients)
               send Delta y = y - x, Delta c = c_i+ - c_i;   c_i <- c_i+
    server:    x <- x + eta_g F(Delta y_i),   c <- c + (|S| / N) F(Delta c_i)

Both halves travel in one message of 2k numbers; variates live in R^k. After a round that the server
could not use, x and c stay, and so does every c_i: c follows the changes of the c_i alone, so one
that it missed would be missing for good. With a privacy mechanism
every g_i is noised before it is used, so the variates are post-processing (as in DP-SCAFFOLD:
M. Noble, A. Bellet, A. Dieuleveut, AISTATS 2022) and K releases are charged a round. The paper's
own accounting is in `fedsieve.privacy.dp_scaffold`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fedsieve.algorithms.central import Central
from fedsieve.algorithms.form import Aggregate, Broadcast, Cohort, Sent, Tensors
from fedsieve.algorithms.local import local_noise, local_steps
from fedsieve.algorithms.parts import Parts, require_fixed
from fedsieve.algorithms.trust import require_offered
from fedsieve.registry import register


@register("algorithm", "scaffold", paper="Karimireddy et al., ICML 2020")
@dataclass(frozen=True)
class Scaffold(Central):
    """Local SGD corrected by control variates, for heterogeneous clients and partial participation.

    Args:
        parts: What the algorithm is composed of; the projection must be fixed.
        lr: Local step size eta_l > 0.
        server_lr: Server step size eta_g > 0.

    Raises:
        ValueError: The projection changes during the run; the variates would lose their meaning.
            Or a mechanism at client level, or with noise that is not each client's own.
    """

    parts: Parts
    lr: float
    server_lr: float = 1.0

    one_by_one = True
    undone = ("variates", "variate_noise")
    halves = 2

    def __post_init__(self) -> None:
        gradient = self.parts.gradient
        require_offered("scaffold", self.offers, gradient.noise, gradient.mechanism)
        require_fixed(self.parts, "scaffold")

    def start(self, theta: Tensor) -> tuple[Tensors, Tensors]:
        """The model x and c = c_i = 0."""
        k, n = self.parts.k, self.parts.n
        shared = {**self.shared(theta), "variate": torch.zeros(k, device=theta.device)}
        memory = {"variates": torch.zeros(n, k, device=theta.device)}
        if self.parts.gradient.mechanism is not None:
            memory["variate_noise"] = torch.zeros(n, 2, dtype=torch.float64, device=theta.device)
        return shared, memory

    def client(self, broadcast: Broadcast, memory: Tensors, cohort: Cohort) -> Sent:
        """(Delta y_i, Delta c_i)."""
        x, c = broadcast.tensors["theta"], broadcast.tensors["variate"]
        rows = torch.tensor(cohort.rows, device=x.device)
        c_i = memory["variates"][rows]
        start, correction = x.expand(len(cohort.ids), -1), c - c_i
        y, mean_gradient, info = local_steps(
            self.parts.gradient,
            start,
            broadcast.subspace,
            cohort,
            broadcast.round,
            self.lr,
            correction,
        )
        assert mean_gradient is not None
        memory["variates"][rows] = mean_gradient
        if (noise := memory.get("variate_noise")) is not None:  # in c_i as it was, and as it is
            std = self.parts.gradient.noise_std(broadcast, cohort) or 0.0
            now = std**2 / torch.tensor(cohort.steps, dtype=noise.dtype, device=noise.device)
            noise[rows] = torch.stack([noise[rows, 1], now], dim=1)
        delta_y = broadcast.subspace.project(y - x)
        return Sent(torch.cat([delta_y, mean_gradient - c_i], dim=1), info)

    def noise_std(
        self, broadcast: Broadcast, memory: Tensors, cohort: Cohort
    ) -> tuple[float | None, ...]:
        """That of the local steps, and in both halves that of c_i as it was."""
        stepped = local_noise(self.parts.gradient, broadcast, cohort, self.lr)
        if stepped is None:
            return None, None
        before, now = memory["variate_noise"][list(cohort.rows)].cpu().unbind(dim=1)
        steps = torch.tensor(cohort.steps, dtype=before.dtype)
        kept = float((steps**2 * before).mean())
        delta_y = math.sqrt(stepped**2 + self.lr**2 * kept)
        return delta_y, math.sqrt(float((before + now).mean()))

    def exchange(
        self,
        shared: Tensors,
        broadcast: Broadcast,
        stack: Tensor,
        senders: tuple[int, ...],
        aggregate: Aggregate,
    ) -> Tensors:
        """Move x <- x + eta_g F(Delta y), c <- c + (|S|/N) F(Delta c): each half by its own F."""
        delta_y, delta_c = stack.chunk(2, dim=1)
        moved = self.move(shared, broadcast, aggregate(delta_y.contiguous()), self.server_lr)
        share = len(senders) / self.parts.n
        return {**moved, "variate": shared["variate"] + share * aggregate(delta_c.contiguous())}
