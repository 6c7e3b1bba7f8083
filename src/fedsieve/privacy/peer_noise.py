"""Personalised peer-to-peer learning: every node noises its own gradient when it wakes up.

A. Bellet, R. Guerraoui, M. Taziki, M. Tommasi, "Personalized and Private Peer-to-Peer Machine
Learning", AISTATS 2018. Node i holds m_i records and a model Theta_i. At its t-th wake-up it takes
one step towards its neighbours and against its gradient, and sends the new model to them::

    g_i = grad L_i(Theta_i) + eta_i(t)
    Theta_i <- (1 - a) Theta_i + a (sum_j (W_ij / D_ii) Theta_j - mu c_i g_i)

    Laplace:   eta_i(t) ~ Lap(2 L_0 / (epsilon_i(t) m_i)) in every number,    L_0 in the l1 norm
    Gaussian:  eta_i(t) ~ N(0, (sigma_i(t) L_0 / m_i)^2 I),                   L_0 in the l2 norm

with grad L_i the mean over all m_i records, and L_0 the Lipschitz constant of one record's loss.
Here a record's gradient is clipped to L_0, so that it holds for any loss. Neighbours differ in one
record of the node, replaced by another: m_i is public, and the mean moves by at most 2 L_0 / m_i.
sigma_i(t) is the least at which one such Gaussian release is (epsilon_i(t), delta_i)-DP.

What a node has spent depends on its own records and wake-ups alone, whatever its neighbours do
with its models. The paper composes T_i wake-ups by the theorem in `fedsieve.privacy.pure`, with

    delta = 1 - (1 - delta') prod_t (1 - delta_i(t));

`PeerNoise.published` is that and `PeerNoise.spent` the tight figure. Both count from a start that
does not depend on the node's records; a local model in its place has to be paid for as well.

Later wake-ups deserve more of the budget: an error that is made early shrinks by every later step.
`split_budget` minimises sum_t rho^(T - t) / epsilon_t^2, the noise left at the end if each wake-up
keeps a share rho of the squared error, at a given sum_t epsilon_t: epsilon_t ~ rho^((T - t) / 3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from fedsieve.privacy._digits import rounded_up
from fedsieve.privacy._grid import grid_spacing, to_grid
from fedsieve.privacy.accounting import GAUSSIAN, compose
from fedsieve.privacy.calibration import noise_multiplier
from fedsieve.privacy.gaussian import GaussianMechanism
from fedsieve.privacy.guarantee import NEIGHBOURS, Event, check_epsilon, check_target
from fedsieve.privacy.pure import advanced_composition, optimal_composition

if TYPE_CHECKING:
    from torch import Tensor

PURE = "optimal composition of pure releases"

PeerLaw = Literal["laplace", "gaussian"]
"""Of a node's noise."""


@dataclass(frozen=True)
class PeerNoise:
    """One node's plan: what each of its wake-ups may cost, and the noise that follows from it.

    Args:
        clip: L_0 > 0, norm that no record's gradient exceeds: l1 (Laplace) or l2 (Gaussian).
        records: m_i >= 1, public number of the node's records.
        epsilons: epsilon_i(t) > 0 of wake-ups 0, 1, ...; there is no noise for any later one.
        law: ``laplace`` or ``gaussian``.
        delta: delta_i of each Gaussian wake-up, in (0, 1); 0 with Laplace noise.

    Raises:
        ValueError: An argument outside these ranges.

    Example:
        >>> import torch
        >>> node = PeerNoise(clip=1.0, records=100, epsilons=split_budget(2.0, wake_ups=40))
        >>> round(node.published(40, delta=1e-2), 3), round(node.spent(40, delta=1e-2), 3)
        (0.891, 0.492)
        >>> node.release(torch.zeros(100, 2), 0, np.random.default_rng(0)).round(decimals=3)
        tensor([0.2640, 0.4070], dtype=torch.float64)
    """

    clip: float
    records: int
    epsilons: tuple[float, ...]
    law: PeerLaw = "laplace"
    delta: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.clip) and self.clip > 0):
            raise ValueError(f"clip={self.clip} must be finite and > 0")
        if self.records != int(self.records) or self.records < 1:
            raise ValueError(f"records={self.records} must be an integer >= 1")
        for wake_up, one in enumerate(self.epsilons):
            check_epsilon(one, f"epsilons[{wake_up}]")
        if self.law not in get_args(PeerLaw):
            raise ValueError(f"law={self.law!r} is not one of {', '.join(get_args(PeerLaw))}")
        if self.law == "laplace" and self.delta != 0:
            raise ValueError(f"delta={self.delta} with law='laplace': allowed is 0, it needs none")
        if self.law == "gaussian" and not 0 < self.delta < 1:
            raise ValueError(f"delta={self.delta} with law='gaussian' must be in (0, 1)")

    def noise_std(self, wake_up: int) -> float:
        """Standard deviation of each number of eta_i at a wake-up (from 0).

        Raises:
            ValueError: A wake-up that the plan does not cover.
        """
        if self.law == "gaussian":
            return self._gaussian(wake_up).noise_std
        return math.sqrt(2) * 2 * self.clip / (self._epsilon(wake_up) * self.records)

    def clipped_sum(self, gradients: Tensor) -> Tensor:
        """Sum (k,) of the records' gradients (m_i, k), each clipped; not finite counts as zero.

        Raises:
            ValueError: Not one gradient per record.
        """
        import torch  # not above: the accounting commands start without it

        if len(gradients) != self.records or gradients.ndim != 2:
            raise ValueError(
                f"gradients has shape {tuple(gradients.shape)}; needed is ({self.records}, k): the "
                "node's public number of records"
            )
        finite = gradients.isfinite().all(dim=1, keepdim=True)
        held = torch.where(finite, gradients, 0.0).double()
        norms = torch.linalg.vector_norm(held, ord=1 if self.law == "laplace" else 2, dim=1)
        factors = (self.clip / norms.clamp(min=self.clip))[:, None]
        total: Tensor = (held * factors).sum(0)
        return total

    def release(self, gradients: Tensor, wake_up: int, generator: np.random.Generator) -> Tensor:
        """The noisy gradient g_i (k,), in float64: all that a wake-up uses of the records.

        It lies on a public grid, see `fedsieve.privacy.gaussian`.

        Args:
            gradients: One per record of the node, (m_i, k).
            wake_up: How many wake-ups came before this one; each is released once.
            generator: The node's own noise stream.

        Raises:
            ValueError: As `noise_std` and `clipped_sum`.
        """
        import torch

        total = self.clipped_sum(gradients)
        if self.law == "gaussian":
            return self._gaussian(wake_up).privatize(total[None], [generator])[0]
        std = self.noise_std(wake_up)
        first, second = generator.standard_exponential((2, len(total)))
        noised = total.cpu().numpy() / self.records + std / math.sqrt(2) * (first - second)
        return torch.from_numpy(to_grid(noised, grid_spacing(std))).to(total.device)

    def published(self, wake_ups: int, delta: float) -> float:
        """Epsilon after so many wake-ups by the paper's theorem, replacing one record.

        Args:
            wake_ups: T_i, from 0 to the length of the plan.
            delta: Of the whole, in (0, 1); with Gaussian noise that of every wake-up goes off it.

        Raises:
            ValueError: An argument outside these ranges, or nothing of delta is left.
        """
        check_target(delta, "replace-one")
        spent = self._first(wake_ups)
        kept = (1 - self.delta) ** wake_ups
        left = 1 - (1 - delta) / kept
        if left <= 0:
            raise ValueError(
                f"delta={delta} is used up by {wake_ups} wake-ups of delta={self.delta} each; it "
                f"must be above {1 - kept:.6g}"
            )
        return advanced_composition(spent, left)

    def spent(self, wake_ups: int, delta: float) -> float:
        """Epsilon after so many wake-ups by this library's accountants, replacing one record.

        Laplace noise counts as the worst release that is epsilon_i(t)-DP; Gaussian noise exactly.

        Args:
            wake_ups: T_i, from 0 to the length of the plan.
            delta: Of the whole, in (0, 1).

        Raises:
            ValueError: An argument outside these ranges.
        """
        spent = self._first(wake_ups)
        if self.law == "laplace":
            return optimal_composition(spent, delta)
        events = [Event(_least_multiplier(epsilon, self.delta), 1.0, 1) for epsilon in spent]
        return compose(events, delta, "replace-one").epsilon

    def sentence(self, wake_ups: int, delta: float) -> str:
        r"""What `spent` says, with all that it depends on, the epsilon rounded up.

        Example:
            >>> said = PeerNoise(1.0, 100, (0.5, 0.5)).sentence(2, delta=1e-6)
            >>> print(*said.split("; "), sep=";\n")
            epsilon = 1.0000 at delta = 1e-06 (unit: record;
            neighbours: one record replaced by another;
            no sampling: every wake-up may use every record;
            2 wake-ups with Laplace noise;
            accountant: optimal composition of pure releases)
        """
        words = "; ".join(
            (
                "unit: record",
                f"neighbours: {NEIGHBOURS['replace-one'].format(unit='record')}",
                "no sampling: every wake-up may use every record",
                f"{wake_ups} wake-ups with {self.law.capitalize()} noise",
                f"accountant: {PURE if self.law == 'laplace' else GAUSSIAN}",
            )
        )
        epsilon = rounded_up(self.spent(wake_ups, delta))
        return f"epsilon = {epsilon} at delta = {delta:g} ({words})"

    def _gaussian(self, wake_up: int) -> GaussianMechanism:
        sigma = _least_multiplier(self._epsilon(wake_up), self.delta)
        return GaussianMechanism(self.clip, sigma, self.records)

    def _epsilon(self, wake_up: int) -> float:
        if not 0 <= wake_up < len(self.epsilons):
            raise ValueError(
                f"wake_up={wake_up} is not in the plan: epsilons covers 0..{len(self.epsilons) - 1}"
            )
        return self.epsilons[wake_up]

    def _first(self, wake_ups: int) -> tuple[float, ...]:
        if wake_ups != int(wake_ups) or not 0 <= wake_ups <= len(self.epsilons):
            raise ValueError(
                f"wake_ups={wake_ups} must be an integer in 0..{len(self.epsilons)}, the plan"
            )
        return self.epsilons[:wake_ups]


def split_budget(epsilon: float, wake_ups: int, kept: float = 1.0) -> tuple[float, ...]:
    """How a node divides its budget, sum_t epsilon_t = epsilon, over its wake-ups.

    Args:
        epsilon: Budget by basic composition, > 0.
        wake_ups: T_i >= 1, in how many parts.
        kept: rho in (0, 1], share of a squared error that is left after one more wake-up; 1 divides
            into equal parts.

    Raises:
        ValueError: An argument outside these ranges.

    Example:
        >>> [round(one, 3) for one in split_budget(1.0, 3, kept=0.5)]
        [0.26, 0.327, 0.413]
    """
    check_epsilon(epsilon)
    if wake_ups != int(wake_ups) or wake_ups < 1:
        raise ValueError(f"wake_ups={wake_ups} must be an integer >= 1")
    if not 0 < kept <= 1:
        raise ValueError(f"kept={kept} must be in (0, 1]")
    weights = [kept ** ((wake_ups - t) / 3) for t in range(1, wake_ups + 1)]
    total = math.fsum(weights)
    return tuple(epsilon * weight / total for weight in weights)


@lru_cache(maxsize=4096)
def _least_multiplier(epsilon: float, delta: float) -> float:
    """Noise over L_0 at which one release is (epsilon, delta)-DP under replacement."""
    return noise_multiplier(epsilon, 1.0, 1, delta, "replace-one")
