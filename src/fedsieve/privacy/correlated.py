"""Noise that cancels between clients: the mechanism of CafCor.

Allouah, Guerraoui, Stephan, "Towards trustworthy federated learning with untrusted participants",
ICML 2025. Every two clients share a secret seed, from which both draw v_ij = -v_ji; client i sends

    y_i = ( sum_i + C ( sum_{j != i} v_ij + u_i ) ) / b,
    v_ij ~ N(0, s_cor^2 I),    u_i ~ N(0, s_ind^2 I).

The large v cancel in the mean of all messages; a robust rule keeps the gain as long as its weights
stay near uniform. What an observer learns who sees all messages and the seeds of f colluders
follows from the noise of the other h = n - f clients, per coordinate of covariance
s_ind^2 I + s_cor^2 (h I - 1 1^T). A record moves one message by C at most, in whitened units by
C / sigma with

    1 / sigma^2 = 1 / (h s_ind^2) + (1 - 1/h) / (s_ind^2 + h s_cor^2),

so the release is a Gaussian one of noise multiplier sigma (derived here; the inverse of the
covariance at (i, i)). With large s_cor, sigma is sqrt(h) s_ind: as with noise added by a trusted
server.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedsieve.privacy._grid import grid_spacing, to_grid
from fedsieve.privacy._twins import refuse_twins
from fedsieve.privacy.gaussian import Released, require_representable
from fedsieve.privacy.guarantee import Event
from fedsieve.registry import register

if TYPE_CHECKING:
    from torch import Tensor

FloatArray = NDArray[np.float64]
Pair = Callable[[int, int], np.random.Generator]
"""The generator that clients i < j share in this round; only these two can make it."""


@register(
    "mechanism",
    "correlated-gaussian",
    paper='Allouah et al., "Towards trustworthy FL with untrusted participants", ICML 2025',
)
@dataclass(frozen=True)
class CorrelatedGaussian:
    """Gaussian noise in two parts, a large one that cancels between clients and a small one.

    Args:
        clip: Norm C that no summed vector exceeds, > 0.
        independent: s_ind, standard deviation of a client's own noise over the clip, > 0.
        correlated: s_cor, standard deviation of the noise shared by two clients over the clip,
            >= 0.
        batch: Public expected number of records (or clients) in a sum, > 0.

    Raises:
        ValueError: An argument outside these ranges.

    Example:
        >>> mechanism = CorrelatedGaussian.calibrated(1.0, 16, noise_multiplier=2.0, n=20, f=4)
        >>> round(mechanism.independent, 3), round(mechanism.noise_multiplier(20, f=4), 3)
        (0.524, 2.0)
    """

    clip: float
    independent: float
    correlated: float
    batch: float

    def __post_init__(self) -> None:
        for name in ("clip", "independent", "batch"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name}={value} must be finite and > 0")
        if not (math.isfinite(self.correlated) and self.correlated >= 0):
            raise ValueError(f"correlated={self.correlated} must be finite and >= 0")
        own = self.independent * self.clip
        require_representable(own, own / self.batch, math.hypot(own, self.correlated * self.clip))

    @classmethod
    def calibrated(
        cls,
        clip: float,
        batch: float,
        noise_multiplier: float,
        n: int,
        f: int,
        slack: float = 0.1,
    ) -> CorrelatedGaussian:
        """The mechanism that is worth a given noise multiplier to n clients, f of them colluding.

        Args:
            clip: C.
            batch: b.
            noise_multiplier: The wanted sigma, > 0.
            n: Clients of the cohort.
            f: Colluders, 0 <= f <= n - 2: somebody honest must share the noise.
            slack: By how much s_ind^2 exceeds sigma^2 / h, the least possible, > 0; the smaller,
                the larger is s_cor, which a drop-out or an uneven rule leaves in the result.

        Raises:
            ValueError: An argument outside these ranges.
        """
        h = _honest(n, f, least=2)
        if not slack > 0:
            raise ValueError(f"slack={slack} must be > 0")
        variance = (1 + slack) * noise_multiplier**2 / h
        rest = (1 - 1 / h) * noise_multiplier**2 * (1 + slack) / slack
        return cls(clip, math.sqrt(variance), math.sqrt(max(rest - variance, 0) / h), batch)

    @staticmethod
    def best_slack(n: int, f: int, uncancelled: int) -> float:
        """The slack with the least noise in the mean of the h honest messages.

        They hold the noise shared with clients that send something else; with u such, the mean has
        variance (s_ind^2 + u s_cor^2) / h, which is least for slack^2 = B / A with
        A = (1 - u/h) / h, B = u (1 - 1/h) / h. At least 0.1, or s_cor would exceed every message.

        Args:
            n: Clients of the cohort.
            f: Colluders, 0 <= f <= n - 2.
            uncancelled: u, clients that may not send their part of the shared noise, >= 0.

        Example:
            >>> [round(CorrelatedGaussian.best_slack(20, 4, u), 2) for u in (0, 4)]
            [0.1, 2.24]
        """
        h = _honest(n, f, least=2)
        most = h - 1.0  # where s_cor = 0: every client noises for itself
        if uncancelled >= h:
            return max(most, 0.1)
        squared = uncancelled * (1 - 1 / h) / (1 - uncancelled / h)
        return min(max(math.sqrt(squared), 0.1), max(most, 0.1))

    @property
    def grid(self) -> float:
        """Spacing of the public grid on which messages lie."""
        return grid_spacing(self.independent * self.clip / self.batch)

    def noise_std(self, n: int) -> float:
        """Standard deviation of the noise on each number of one message of n."""
        total = math.sqrt(self.independent**2 + (n - 1) * self.correlated**2)
        return total * self.clip / self.batch

    def noise_multiplier(self, n: int, f: int = 0) -> float:
        """The sigma of the guarantee of n clients' messages towards f colluders and the server.

        Clients whose shared noise was made public by `repair` count as colluders.
        """
        h = _honest(n, f)
        rest = self.independent**2 + h * self.correlated**2
        return 1 / math.sqrt(1 / (h * self.independent**2) + (1 - 1 / h) / rest)

    def event(self, sampling_rate: float, n: int, f: int = 0, steps: int = 1) -> Event:
        """The privacy event of so many releases at this sampling rate."""
        return Event(self.noise_multiplier(n, f), sampling_rate, steps)

    def privatize(
        self, sums: Tensor, generators: Sequence[np.random.Generator], pair: Pair
    ) -> Tensor:
        """Messages (n, k) of the clients 0..n-1 for their clipped sums (n, k); see `release`."""
        return self.release(sums, generators, pair, range(len(sums))).messages

    def release(
        self,
        sums: Tensor,
        generators: Sequence[np.random.Generator],
        pair: Pair,
        clients: Sequence[int],
        peers: Collection[int] | None = None,
    ) -> Released:
        """The messages of some clients of a cohort, and how large noise and signal are in them.

        Args:
            sums: Row i (k numbers) is the sum of the clipped vectors of ``clients[i]``.
            generators: One per row, each client's own noise stream.
            pair: Gives the shared generator of clients i < j; asked once for each two.
            clients: Number of each row's client.
            peers: Everybody in the cohort, in any order; ``None``: the clients themselves.

        Raises:
            ValueError: Not one generator per row, two the same or in the same state, or a sum that
                is not finite.
        """
        import torch  # not above: the accounting commands start without it

        if sums.ndim != 2 or len(generators) != len(sums):
            raise ValueError(
                f"sums has shape {tuple(sums.shape)} and there are {len(generators)} generators; "
                "needed are shape (n, k) and n generators"
            )
        refuse_twins(generators)
        if not torch.isfinite(sums).all():
            raise ValueError("sums holds a number that is not finite: clip every vector first")
        noise = self._shared(sums.shape[1], pair, clients, clients if peers is None else peers)
        for row, generator in zip(noise, generators, strict=True):
            row += self.independent * generator.standard_normal(len(row))
        noise *= self.clip
        signal = sums.double().cpu().numpy()
        messages = to_grid((signal + noise) / self.batch, self.grid)
        noise_norm, signal_norm = (
            float(np.linalg.norm(part, axis=1).mean()) / self.batch for part in (noise, signal)
        )
        return Released(torch.from_numpy(messages).to(sums), noise_norm, signal_norm)

    def repair(
        self,
        messages: Tensor,
        absent: Collection[int],
        pair: Pair,
        clients: Sequence[int] | None = None,
    ) -> Tensor:
        """Messages (m, k) without the noise that was shared with clients whose own never arrived.

        The present clients reveal those terms. A message of an absent client that comes late must
        be refused: its noise is no longer secret.

        Args:
            messages: A row for each of the clients; the rows of absent ones are returned as zero.
            absent: Clients that dropped out.
            pair: The same generators anew, as the seeds give them.
            clients: Number of each row's client; ``None``: the rows are those of all n, 0..n-1.

        Raises:
            ValueError: An absent client is none of 0..n-1, where the rows are those of all n.
        """
        import torch

        if clients is None:
            clients = range(len(messages))
            if outside := [i for i in absent if i not in clients]:
                raise ValueError(f"absent={outside} are no clients of 0..{len(messages) - 1}")
        shared = self._shared(messages.shape[1], pair, clients, absent) * self.clip / self.batch
        repaired = (messages.double().cpu() - torch.from_numpy(shared)).to(messages)
        repaired[[row for row, client in enumerate(clients) if client in absent]] = 0
        return repaired

    def _shared(
        self, k: int, pair: Pair, clients: Sequence[int], peers: Collection[int]
    ) -> FloatArray:
        """Row i: the sum over the peers j of the v that ``clients[i]`` shares with them."""
        noise = np.zeros((len(clients), k))
        rows = {client: row for row, client in enumerate(clients)}
        ends = set(peers)
        if not self.correlated:
            return noise
        for i, j in itertools.combinations(sorted(ends | rows.keys()), 2):
            plus, minus = i in rows and j in ends, j in rows and i in ends
            if not (plus or minus):
                continue
            v = pair(i, j).standard_normal(k)
            v *= self.correlated
            if plus:
                noise[rows[i]] += v
            if minus:
                noise[rows[j]] -= v
        return noise


def _honest(n: int, f: int, least: int = 1) -> int:
    if not 0 <= f <= n - least:
        raise ValueError(f"f={f} must be >= 0 and <= {n - least} for n={n} clients")
    return n - f
