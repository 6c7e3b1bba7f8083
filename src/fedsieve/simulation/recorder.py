"""What a round's rule did: error, weights and rejected rows of the whole stack."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from fedsieve.aggregation import Aggregation, GramRule
from fedsieve.simulation.clock import Clock
from fedsieve.simulation.job import Job

Row = dict[str, Any]
"""What is recorded of one round: the columns of metrics.parquet."""


class Recorder:
    """The rule as the exchange calls it, noting what it did to the whole stack.

    Args:
        job: The job, with the rule of this round.
        senders: Whose messages are in the stack, in this order.
        honest: Those of them who follow the protocol.
        clock: Counts the time of the rule.
        evaluated: Whether to tell weights that a rule does not have anyway.
    """

    def __init__(
        self,
        job: Job,
        senders: tuple[int, ...],
        honest: set[int],
        clock: Clock,
        *,
        evaluated: bool,
    ) -> None:
        self._job, self._clock, self._senders = job, clock, senders
        self._honest = torch.tensor([c in honest for c in senders], dtype=torch.bool)
        self._client_weights = job.weights_of(senders)
        # a Gram rule has its weights anyway; others count them coordinate by coordinate
        self._explain = isinstance(job.rule, GramRule) or evaluated
        self.row: Row = {}
        self.vector = torch.empty(0)

    def __call__(self, stack: Tensor) -> Tensor:
        """The aggregate (k,) of a stack (n, k), or of one of the smaller ones of an exchange."""
        with self._clock("aggregate"):
            whole = len(stack) == len(self._senders)
            weights = self._client_weights if whole else None
            self._job.require_outvoting(len(stack))
            first = whole and not self.row
            result = self._job.rule.aggregate(stack, weights, explain=first and self._explain)
            self.vector = result.vector
            if first:
                error = self._error(stack, result)
                self.row = {"aggregation_error": error, "rejected": result.rejected}
                if result.weights is not None:
                    told = [math.nan] * self._job.participation.clients
                    for client, weight in zip(self._senders, result.weights.tolist(), strict=True):
                        told[client] = weight
                    self.row["weights"] = told
            return result.vector

    def _error(self, stack: Tensor, result: Aggregation) -> float:
        """Distance of the aggregate from the mean of the honest messages."""
        share = self._honest.double() / self._honest.sum()
        weights = result.weights if isinstance(self._job.rule, GramRule) else None
        if weights is not None and torch.equal(weights, share):
            return 0.0  # the aggregate is that mean
        honest = stack if self._honest.all() else stack[self._honest.to(stack.device)]
        mean = honest.new_full((len(honest),), 1 / len(honest)) @ honest
        return float((result.vector - mean).norm())
