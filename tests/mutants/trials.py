"""A form of the library, the fault planted in it, and both on trial."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from fedsieve.privacy import GaussianMechanism

Patch = pytest.MonkeyPatch
Verdict = tuple[float, float]
"""The bound, and the claim."""

K = 8
"""Numbers in a message."""

ONE = GaussianMechanism(clip=1.0, noise_multiplier=1.0, batch=1.0)


@dataclass(frozen=True)
class Case:
    """What is tried, the fault planted in it, and how close the bound comes to the claim."""

    name: str
    verdict: Callable[[Any], Verdict]
    fault: Callable[[Patch], None]
    court: str = "court"
    looks: float = 0.15

    def heard(self, request: pytest.FixtureRequest) -> Verdict:
        """Bound and claim, as the library now is."""
        found, claim = self.verdict(request.getfixturevalue(self.court))
        print(f"{found:.3f} of {claim:.3f}")
        return found, claim


def each(cases: Sequence[Case]) -> pytest.MarkDecorator:
    """A test for every one of them."""
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)
