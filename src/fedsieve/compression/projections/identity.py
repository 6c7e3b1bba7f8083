"""R^d itself: nothing is projected away."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fedsieve.compression.projections._layered import LayeredSubspace
from fedsieve.compression.projections._settings import check_settings, check_size
from fedsieve.learning.layout import Keep, Layout
from fedsieve.registry import register


@register("projection", "identity", paper="folklore")
@dataclass(frozen=True)
class Identity:
    """Every number of the model: a message has k = d numbers.

    Args:
        k: The model's d, or ``None``.
        refresh: Without effect: the plan is the same in every round.

    Raises:
        ValueError: k or refresh out of range.
    """

    k: int | None = None
    refresh: int = 0

    def __post_init__(self) -> None:
        check_settings(self.k, self.refresh)

    def plan(
        self, layout: Layout, round: int, seed: int, history: Tensor | None
    ) -> LayeredSubspace:
        """The identity of the model's R^d.

        Raises:
            ValueError: k is not d.
        """
        if self.k is not None:
            check_size(self.k, layout.d, layout.d, "the identity keeps all d numbers")
        return LayeredSubspace(layout, tuple(Keep() for _ in layout.slots), unbiased=True)
