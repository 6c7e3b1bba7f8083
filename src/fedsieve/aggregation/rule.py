"""What an aggregation rule is: an immutable map R^{n x k} -> R^k that outvotes f clients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedsieve._arguments import integer
from fedsieve.aggregation._door import (
    ClientWeights,
    FloatArray,
    Rows,
    TooManyFaultyClients,
    admit,
    as_tensor,
    check_stack,
)
from fedsieve.aggregation.facts import Facts

Stack = TypeVar("Stack", Tensor, NDArray[np.floating])

ROUNDING = 1e-12  # of a sum of shares


@dataclass(frozen=True, eq=False)
class Aggregation:
    """An aggregate, and how it came about.

    Attributes:
        vector: The aggregate, (k,), with the stack's dtype and device.
        weights: Weight of each client in the aggregate, (n,) float64 on the CPU, >= 0 and summing
            to 1; for a coordinatewise rule the share of coordinates in which it was kept. 0 for a
            row that was unusable and for a client of weight 0. Where a rule draws on more than the
            messages (the origin, a centre), the other points have the rest of the weight. ``None``
            where no explanation was asked for.
        rejected: Number of unusable rows (NaN, infinite or grossly large).
    """

    vector: Tensor
    weights: Tensor | None
    rejected: int


@dataclass(frozen=True)
class Rule(ABC):
    """An aggregation rule that assumes at most f Byzantine clients in the cohort.

    An unusable row (a NaN, an infinity, a norm beyond 1e100 times the median) is removed and
    counted against f: the rule goes on with n - r rows and f - r Byzantine ones. A client of weight
    0 is absent, whatever it sent: the rule goes on with one row less and the same f.

    Args:
        f: Largest number of Byzantine clients, an integer >= 0 and <= ``breakdown(n)``.

    Raises:
        ValueError: ``f`` is not an integer >= 0.
    """

    f: int
    lacks: ClassVar[Facts] = Facts.NONE

    def __post_init__(self) -> None:
        integer(self, "f")

    @property
    def facts(self) -> Facts:
        """What holds for this rule whatever the messages are."""
        return ~self.lacks

    @property
    def remembers(self) -> bool:
        """Whether it starts from the previous aggregate, if it is given that."""
        return any(field.name == "v0" for field in fields(self))

    @property
    def needs_root(self) -> bool:
        """Whether it, or the rule in a composition, has to be given a trusted update first."""
        missing = _has_root(self) and getattr(self, "root", None) is None
        return missing or any(part.needs_root for part in parts_of(self).values())

    def trusting(self, root: Tensor) -> Self:
        """This rule with the update (k,) that the server computed itself, where it needs one."""
        changed: dict[str, Any] = {name: r.trusting(root) for name, r in parts_of(self).items()}
        if _has_root(self):
            changed["root"] = root
        return replace(self, **changed)

    def for_round(self, seed: int, previous: Tensor | None = None) -> Self:
        """This rule with the public draws and the memory of one round, where it uses such.

        Args:
            seed: Takes the place of ``seed`` in a rule, or pre-aggregator, that draws.
            previous: The previous aggregate (k,), the place of ``v0`` in a rule with a centre.
        """
        return of_round(self, seed, previous)

    def __call__(self, stack: Stack, weights: ClientWeights | None = None) -> Stack:
        """The aggregate of a stack, of the stack's kind, dtype and device.

        Args:
            stack: One message per row, (n, k) float32 or float64, tensor or array; never modified.
            weights: Public weights of the clients, (n,), finite and >= 0; only their ratios count.
                ``None``: all equal. See `capped_shares` for weights that are claims.

        Raises:
            ValueError: Wrong shape or dtype, (n, f) is not legal for the rule, or client weights
                for a rule that does not hear them.
            TooManyFaultyClients: More than f rows are unusable, f clients hold too much weight, or
                too few have any.
        """
        vector, _ = self._vector(as_tensor(stack), weights)
        return vector if isinstance(stack, Tensor) else vector.numpy()

    def aggregate(
        self, stack: Stack, weights: ClientWeights | None = None, *, explain: bool = True
    ) -> Aggregation:
        """The aggregate with the weight that each client got; arguments and errors as in a call.

        Args:
            stack: As in a call.
            weights: As in a call.
            explain: Whether the clients' weights are wanted; they cost a coordinatewise rule more
                than the aggregate.
        """
        if not explain:
            vector, removed = self._vector(as_tensor(stack), weights)
            return Aggregation(vector, None, removed)
        messages = as_tensor(stack)
        rows = self._admit(messages, weights)
        combined, shares = self._combine(rows, explain=True)
        vector = self._fitting(combined, messages)
        assert shares is not None
        told = np.zeros(len(rows.usable))
        told[rows.usable] = shares
        return Aggregation(vector, torch.from_numpy(told), rows.removed)

    @abstractmethod
    def breakdown(self, n: int) -> int:
        """Largest f for which the rule is defined with n clients; -1 if there is none."""

    @abstractmethod
    def kappa(self, n: int) -> float | None:
        """Robustness coefficient, ``None`` where the literature has none.

        For every set S of n - f rows, ``||R(x) - mean_S||^2 <= kappa * mean_S ||x_i - mean_S||^2``
        (Allouah et al., "Fixing by mixing", AISTATS 2023, definition of robust averaging).
        """

    def weight_limit(self, n: int) -> float:  # noqa: ARG002
        """Share of the client weights that any f of n clients must stay below; 1/2 for most."""
        return 0.5

    def check(self, n: int) -> None:
        """Refuse an f that is too large for n clients.

        Raises:
            ValueError: With the largest legal f.
        """
        check_breakdown(self, self.f, n, self.breakdown(n))

    def _check_pivot(self, n: int) -> None:
        """Refuse to trust a client by a number that none of n clients has."""
        for part in parts_of(self).values():
            part._check_pivot(n)

    def _unnumbered(self) -> Self:
        """This rule without a pivot, to be checked for rows that are not numbered as clients."""
        changed: dict[str, Any] = {name: r._unnumbered() for name, r in parts_of(self).items()}
        return replace(self, **changed) if changed else self

    def _vector(self, stack: Tensor, weights: ClientWeights | None) -> tuple[Tensor, int]:
        """The aggregate, and how many rows were unusable."""
        rows = self._admit(stack, weights)
        return self._fitting(self._combine(rows, explain=False)[0], stack), rows.removed

    def _fitting(self, vector: Tensor, stack: Tensor) -> Tensor:
        """What a caller's own rule gives, as a vector like the messages."""
        if not isinstance(vector, Tensor) or vector.shape != stack.shape[1:]:
            shape = tuple(vector.shape) if isinstance(vector, Tensor) else type(vector)
            raise ValueError(
                f"{self!r} gave {shape} as the aggregate of messages of shape "
                f"{tuple(stack.shape)}; needed is a tensor of shape {tuple(stack.shape[1:])}"
            )
        return vector.to(stack)

    @abstractmethod
    def _combine(self, rows: Rows, *, explain: bool) -> tuple[Tensor, FloatArray | None]:
        """The aggregate of usable rows and, if asked to explain, what each of them weighed."""

    def _admit(self, stack: Tensor, weights: ClientWeights | None) -> Rows:
        check_stack(stack)
        self.check(len(stack))
        self._check_weights(weights)
        rows = admit(stack, weights, self.f, reach=self._reach(), unit=self._unit())
        self._check_heard(len(rows.data) + rows.removed, len(stack))
        return rows

    def _check_heard(self, heard: int, n: int) -> None:
        """Refuse an f that is too large for the clients that weigh something."""
        if heard < n:
            try:
                self._unnumbered().check(heard)
            except ValueError as error:
                raise TooManyFaultyClients(
                    f"weights: {heard} of {n} clients have a weight > 0; {error}"
                ) from error

    def _reach(self) -> float:
        """Length of the longest vector, besides the messages, that distances are measured from."""
        return 0.0

    def _unit(self) -> float | None:
        """The norm that tells what is grossly large; ``None``: the median norm of the messages."""
        return None

    def _check_weights(self, weights: ClientWeights | None) -> None:
        if weights is not None and Facts.WEIGHTED not in self.facts:
            raise ValueError(f"weights are given to {self!r}, which has no place for them")


def check_breakdown(part: object, f: int, n: int, most: int) -> None:
    """Refuse an f above the largest legal one."""
    if most < 0:
        raise ValueError(f"{part!r} is not defined for n={n} clients, whatever f is")
    if f > most:
        raise ValueError(f"{part!r} does not allow f={f} with n={n}; largest legal f is {most}")


def minority(n: int) -> int:
    """Largest f with 2f < n, the bound of every rule without side information; -1 for n = 0."""
    return (n - 1) // 2


def largest_share(share: FloatArray | None, m: int, f: int, limit: float = 0.5) -> float:
    """Largest share of the weight that f of m clients can hold; f / m if all count the same.

    Raises:
        TooManyFaultyClients: They can hold the limit or more; at 1/2 no majority is left to trust.
    """
    if share is None:
        return f / m
    held = float(np.sort(share)[m - f :].sum())
    if held >= limit * (1 - ROUNDING):
        raise TooManyFaultyClients(
            f"weights: the f={f} heaviest of {m} clients hold {held:.3g} of the weight; "
            f"allowed is less than {limit:.3g} (cap the weights)"
        )
    return held


def _has_root(rule: Rule) -> bool:
    return any(field.name == "root" for field in fields(rule))


def parts_of(rule: Rule) -> dict[str, Rule]:
    """The rules that a composition is made of, by the names of its fields."""
    parts = {field.name: getattr(rule, field.name) for field in fields(rule)}
    return {name: part for name, part in parts.items() if isinstance(part, Rule)}


R = TypeVar("R")


def of_round(part: R, seed: int, previous: Tensor | None) -> R:
    """The part with a round's ``seed`` and previous centre ``v0``, where it has such fields."""
    offered: dict[str, Any] = {"seed": seed, "v0": previous}
    named = fields(part) if is_dataclass(part) else ()
    taken = {field.name for field in named if field.init} & offered.keys()
    taken -= {"v0"} if previous is None else set()
    changed: R = replace(part, **{name: offered[name] for name in taken}) if taken else part  # type: ignore[type-var]
    return changed
