"""Sieve: private, robust and compressed federated learning in one shared subspace.

The flow of FedSieve (see docs/architecture.md). With P_t a public linear map R^d -> R^k, the same
for the whole cohort::

    client i:  h_x = P_t grad_x(theta_t);   h_x <- h_x min(1, C / |h_x|)          project, then clip
               g_i = (1/b) (sum_{x in Poisson batch} h_x + sigma C Z_i),   Z_i ~ N(0, I_k)
               m_i <- P_t P_{t-1}^T m_i              where the round changes the basis
               m_i <- beta m_i + (1 - beta) g_i;   send m_i                       (k numbers)
    server:    theta_{t+1} = theta_t - gamma P_t^T F(m_1, ..., m_n)

Clip, noise, momentum and the robust rule F (CAF on the n x n Gram by default) all work in R^k; only
the lift P_t^T touches R^d. The privacy statement is that of the Poisson-subsampled Gaussian
mechanism with noise multiplier sigma, for any public P_t: it does not depend on k, d or P_t.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from fedsieve.algorithms.central import Descent
from fedsieve.algorithms.form import Broadcast, Cohort, Sent, Tensors
from fedsieve.algorithms.momentum import at_rest, carry_momentum, heavy_ball
from fedsieve.algorithms.parts import Parts
from fedsieve.algorithms.trust import EVERYTHING
from fedsieve.registry import register


@register("algorithm", "sieve", paper="FedSieve: the combination of this project")
@dataclass(frozen=True)
class Sieve(Descent):
    """Project, clip, noise and aggregate robustly in one shared subspace of k numbers.

    Args:
        parts: What the algorithm is composed of.
        lr: Step size gamma > 0.
        momentum: beta in [0, 1).
    """

    parts: Parts
    lr: float
    momentum: float = 0.9

    offers = EVERYTHING
    one_gradient = True

    def start(self, theta: Tensor) -> tuple[Tensors, Tensors]:
        """theta_0 and m = 0, at the clients or at the server."""
        served, memory = at_rest(self.parts, theta)
        return self.shared(theta) | served, memory

    def prepare(self, broadcast: Broadcast, memory: Tensors) -> None:
        """m_i <- P_t P_{t-1}^T m_i where the round changes the basis."""
        if broadcast.previous is not None:
            layout = self.parts.planner.layout
            carry_momentum(memory, layout, broadcast.previous, broadcast.subspace)

    def client(self, broadcast: Broadcast, memory: Tensors, cohort: Cohort) -> Sent:
        """m_i, moved by one private gradient."""
        g = self.parts.gradient.once(broadcast, cohort)
        std = self.parts.gradient.noise_std(broadcast, cohort)
        m = heavy_ball(memory, cohort.rows, g.messages, self.momentum, std)
        return replace(g, messages=m)
