"""Distributed stochastic heavy ball: FedSGD with momentum at the client and a robust rule.

S. Farhadkhani, R. Guerraoui, N. Gupta, R. Pinot, J. Stephan, "Byzantine Machine Learning Made Easy
by Resilient Averaging of Momentums", ICML 2022::

    client i:  g_i = stochastic gradient at theta_t
               m_i <- beta m_i + (1 - beta) g_i
    server:    theta_{t+1} = theta_t - gamma F(m_1, ..., m_n)

With a privacy mechanism g_i is noised before the momentum (SAFE-DSHB: Y. Allouah, R. Guerraoui,
N. Gupta, R. Pinot, J. Stephan, "On the Privacy-Robustness-Utility Trilemma in Distributed
Learning", ICML 2023). Noise that the clients share makes it CafCor (Y. Allouah, R. Guerraoui,
J. Stephan, "Towards Trustworthy Federated Learning with Untrusted Participants", ICML 2025). Where
the noise is not a client's own, the momentum may move to the server, see
`fedsieve.algorithms.momentum`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from fedsieve.algorithms.central import Descent
from fedsieve.algorithms.form import Broadcast, Cohort, Sent, Tensors
from fedsieve.algorithms.momentum import at_rest, heavy_ball
from fedsieve.algorithms.parts import Parts, require_fixed
from fedsieve.algorithms.trust import EVERYTHING
from fedsieve.registry import register


@register("algorithm", "dshb", paper="Farhadkhani et al., ICML 2022; Allouah et al., ICML 2023")
@dataclass(frozen=True)
class DSHB(Descent):
    """FedSGD with heavy-ball momentum at the client and a robust rule at the server.

    Args:
        parts: What the algorithm is composed of.
        lr: Step size gamma > 0.
        momentum: beta in [0, 1).

    Raises:
        ValueError: The projection changes during the run (`Sieve` carries its momentum along).
    """

    parts: Parts
    lr: float
    momentum: float = 0.9

    offers = EVERYTHING
    one_gradient = True

    def __post_init__(self) -> None:
        require_fixed(self.parts, "dshb")

    def start(self, theta: Tensor) -> tuple[Tensors, Tensors]:
        """theta_0 and m = 0, at the clients or at the server."""
        served, memory = at_rest(self.parts, theta)
        return self.shared(theta) | served, memory

    def client(self, broadcast: Broadcast, memory: Tensors, cohort: Cohort) -> Sent:
        """m_i, after one stochastic gradient."""
        g = self.parts.gradient.once(broadcast, cohort)
        std = self.parts.gradient.noise_std(broadcast, cohort)
        m = heavy_ball(memory, cohort.rows, g.messages, self.momentum, std)
        return replace(g, messages=m)
