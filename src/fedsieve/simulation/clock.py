"""Seconds by phase of a round."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch


@dataclass
class Clock:
    """Seconds by phase; an inner phase's time is taken off the outer one's."""

    device: torch.device
    spent: Counter[str] = field(default_factory=Counter)
    _inner: float = 0.0

    @contextlib.contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Time a block as a phase."""
        outer, self._inner = self._inner, 0.0
        start = time.perf_counter()
        try:
            yield
        finally:
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            passed = time.perf_counter() - start
            self.move("", phase, passed - self._inner)
            self._inner = outer + passed

    def move(self, source: str, target: str, seconds: float) -> None:
        """Book seconds on a phase, off another one if it is named."""
        self.spent[target] += seconds  # type: ignore[assignment]  # Counter is typed for ints
        if source:
            self.spent[source] -= seconds  # type: ignore[assignment]
