"""Byrd-SAGA: variance reduction at every client, a robust rule at the server.

Z. Wu, Q. Ling, T. Chen, G. B. Giannakis, "Federated Variance-Reduced Stochastic Gradient Descent
with Robustness to Byzantine Attacks", IEEE Transactions on Signal Processing 2020::

    client i:  draw j;  v_i = grad_j(theta_t) - a_ij + (1/J) sum_j a_ij;   a_ij <- grad_j(theta_t)
    server:    theta_{t+1} = theta_t - gamma F(v_1, ..., v_n)

Each client keeps a table a_ij of its J per-sample gradients, in R^k where a projection is used. A
client fills its table when it first takes part; mini-batches of b records replace the single j.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedsieve.algorithms.central import Descent
from fedsieve.algorithms.form import Broadcast, Cohort, Sent, Tensors
from fedsieve.algorithms.parts import Parts, require_fixed
from fedsieve.learning.data import Batch
from fedsieve.registry import register

TABLE_LIMIT = 8 * 2**30
"""Largest table in bytes: beyond it a laptop swaps."""


@register("algorithm", "byrd-saga", paper="Wu et al., IEEE TSP 2020")
@dataclass(frozen=True)
class ByrdSaga(Descent):
    """SAGA's table of per-sample gradients at every client, a robust rule at the server.

    Args:
        parts: What the algorithm is composed of; no privacy mechanism, a fixed projection.
        lr: Step size gamma > 0.
        records: Largest number J of records that a client holds.

    Raises:
        ValueError: A mechanism is given (every released difference would be a query of its own),
            the projection changes, or the table would not fit in memory.
    """

    parts: Parts
    lr: float
    records: int

    def __post_init__(self) -> None:
        require_fixed(self.parts, "byrd-saga")
        if self.parts.gradient.mechanism is not None:
            raise ValueError(
                "byrd-saga has no privacy mechanism: a record's gradient stays in the table and "
                "enters every later message, which per-round clipping does not bound"
            )
        size = 4 * self.parts.n * self.records * self.parts.k
        if size > TABLE_LIMIT:
            raise ValueError(
                f"byrd-saga's table of {self.parts.n} clients x {self.records} records x "
                f"k={self.parts.k} needs {size / 2**30:.1f} GiB (limit {TABLE_LIMIT / 2**30:.0f}); "
                "use a projection with a smaller k"
            )

    def start(self, theta: Tensor) -> tuple[Tensors, Tensors]:
        """theta_0 and empty tables."""
        n, k = self.parts.n, self.parts.k
        memory = {
            "table": torch.zeros(n, self.records, k, device=theta.device),
            "average": torch.zeros(n, k, device=theta.device),
            "filled": torch.zeros(n, dtype=torch.bool, device=theta.device),
        }
        return self.shared(theta), memory

    def client(self, broadcast: Broadcast, memory: Tensors, cohort: Cohort) -> Sent:
        """v_i, after the visited rows of the table have been replaced."""
        batch = self.parts.gradient.draw(cohort, broadcast.round)
        fresh = self._gradients(broadcast, batch)
        assert batch.records is not None
        messages, start = [], 0
        for client, row, b in zip(cohort.ids, cohort.rows, batch.counts, strict=True):
            if not memory["filled"][row]:
                self._fill(broadcast, memory, cohort, client, row)
            grad = fresh[start : start + b]
            part = cohort.shards.parts[client]
            j = torch.from_numpy(np.searchsorted(part, batch.records[start : start + b]))
            table, average = memory["table"][row], memory["average"][row]
            change = grad - table[j]
            messages.append(change.mean(0) + average)
            average += change.sum(0) / len(part)
            table[j] = grad
            start += b
        return Sent(torch.stack(messages))

    def _gradients(self, broadcast: Broadcast, batch: Batch) -> Tensor:
        theta, subspace = broadcast.tensors["theta"], broadcast.subspace
        return self.parts.gradient.gradients.per_sample(theta, batch.x, batch.y, subspace)

    def _fill(
        self, broadcast: Broadcast, memory: Tensors, cohort: Cohort, client: int, row: int
    ) -> None:
        part = cohort.shards.parts[client]
        table = memory["table"][row]
        for start in range(0, len(part), 256):  # bounded memory while the table is filled
            records = part[start : start + 256]
            batch = cohort.shards.gather(records, (len(records),))
            table[start : start + len(records)] = self._gradients(broadcast, batch)
        memory["average"][row] = table[: len(part)].mean(0)
        memory["filled"][row] = True
