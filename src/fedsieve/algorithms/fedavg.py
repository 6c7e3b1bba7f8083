"""Federated averaging.

H. B. McMahan, E. Moore, D. Ramage, S. Hampson, B. Agüera y Arcas, "Communication-Efficient Learning
of Deep Networks from Decentralized Data", AISTATS 2017::

    client i:  y <- theta_t;  repeat K times:  y <- y - eta_l g_i(y)
               send Delta_i = y - theta_t
    server:    theta_{t+1} = theta_t + eta_g F(Delta_1, ..., Delta_n)

With a privacy mechanism at record level each of the K gradients is noised, and K releases are
charged a round. At client level the steps are free of noise; Delta_i as a whole is clipped and
noised, and one release is charged (H. B. McMahan, D. Ramage, K. Talwar, L. Zhang, "Learning
Differentially Private Recurrent Language Models", ICLR 2018).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fedsieve.algorithms.central import Central
from fedsieve.algorithms.form import Aggregate, Broadcast, Cohort, Sent, Tensors
from fedsieve.algorithms.local import local_noise, local_steps
from fedsieve.algorithms.parts import Parts
from fedsieve.algorithms.trust import WHOLE_UPDATES, require_offered
from fedsieve.registry import register


@register("algorithm", "fedavg", paper="McMahan et al., AISTATS 2017")
@dataclass(frozen=True)
class FedAvg(Central):
    """Local SGD on every client, then the average (or a robust rule) of the model differences.

    Args:
        parts: What the algorithm is composed of.
        lr: Local step size eta_l > 0.
        server_lr: Server step size eta_g > 0.

    Raises:
        ValueError: A mechanism at record level whose noise is not each client's own.
    """

    parts: Parts
    lr: float
    server_lr: float = 1.0

    one_by_one = True
    offers = WHOLE_UPDATES

    def __post_init__(self) -> None:
        gradient = self.parts.gradient
        require_offered("fedavg", self.offers, gradient.noise, gradient.mechanism)

    def start(self, theta: Tensor) -> tuple[Tensors, Tensors]:
        """theta_0; the clients remember nothing."""
        return self.shared(theta), {}

    def client(self, broadcast: Broadcast, memory: Tensors, cohort: Cohort) -> Sent:
        """Delta_i, projected."""
        theta, subspace = broadcast.tensors["theta"], broadcast.subspace
        start = theta.expand(len(cohort.ids), -1)
        y, _, info = local_steps(
            self.parts.gradient, start, subspace, cohort, broadcast.round, self.lr
        )
        delta = subspace.project(y.sub_(theta))
        message, protected = self.parts.gradient.whole(delta, cohort, broadcast.round)
        return Sent(message, info | protected)

    def noise_std(
        self, broadcast: Broadcast, memory: Tensors, cohort: Cohort
    ) -> tuple[float | None, ...]:
        """That of the local steps, or of Delta_i as a whole."""
        return (local_noise(self.parts.gradient, broadcast, cohort, self.lr),)

    def exchange(
        self,
        shared: Tensors,
        broadcast: Broadcast,
        stack: Tensor,
        senders: tuple[int, ...],
        aggregate: Aggregate,
    ) -> Tensors:
        """theta_{t+1} = theta_t + eta_g lift(F(Delta_1, ..., Delta_n))."""
        direction = self.aggregated(broadcast, stack, aggregate)
        return self.move(shared, broadcast, direction, self.server_lr)
