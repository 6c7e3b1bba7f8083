"""Small federations under each form of trust."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fedsieve.aggregation import CAF
from fedsieve.algorithms.trust import (
    OwnNoise,
    ServerNoise,
    SharedNoise,
)
from fedsieve.privacy import (
    CorrelatedGaussian,
    GaussianMechanism,
    Ledger,
)
from fedsieve.simulation.job import Job
from tests.algorithms.trusts import STREAMS, F, N


def _mechanism_of(unit: str, sigma: float = 0.5, clip: float = 1.0) -> GaussianMechanism:
    batch = 8 if unit == "record" else 1
    return GaussianMechanism(clip, sigma, batch, unit=unit)  # type: ignore[arg-type]


def _noise_of(trust: str, mechanism: GaussianMechanism, n: int = N) -> Any:
    if trust == "local":
        return OwnNoise()
    if trust == "central":
        return ServerNoise(STREAMS)
    sigma = mechanism.noise_multiplier
    shared = CorrelatedGaussian.calibrated(mechanism.clip, mechanism.batch, sigma, n, F)
    return SharedNoise(shared, F)


@pytest.fixture
def job_of(make_job: Callable[..., Job]) -> Callable[..., Job]:
    """A small federation with a protection."""

    def make(name: str, unit: str, trust: str, least: int = N, **given: Any) -> Job:
        mechanism = _mechanism_of(unit)
        noise = _noise_of(trust, mechanism, least)
        if trust != "central":
            given.setdefault("rule", CAF(1))
        ledger = Ledger(1e-5, "add-remove", repeatable=True, unit=mechanism.unit)
        return make_job(
            name, mechanism=mechanism, noise=noise, ledger=ledger, steps=3, noise_seed=1, **given
        )

    return make


@pytest.fixture(scope="session")
def mechanism_of() -> Callable[..., GaussianMechanism]:
    """A mechanism of a unit."""
    return _mechanism_of


@pytest.fixture(scope="session")
def noise_of() -> Callable[..., Any]:
    """The noise of a mechanism, as a form of trust adds it."""
    return _noise_of
