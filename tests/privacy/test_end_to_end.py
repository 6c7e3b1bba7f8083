"""The privacy statement against the code that computes messages: sampling, engine and mechanism.

Not against the mechanism's formula (test_gaussian.py does that): a fault in how the parts are put
together would leave every part's own test green.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta
from torch import Tensor, nn

from fedsieve.algorithms.form import Cohort
from fedsieve.algorithms.parts import StochasticGradient
from fedsieve.compression.projections import Identity
from fedsieve.learning import sampling
from fedsieve.learning.data import Batch, Dataset, Shards
from fedsieve.learning.flat import FlatModel
from fedsieve.learning.gradients import PerSampleGradients
from fedsieve.learning.layout import Subspace
from fedsieve.learning.losses import cross_entropy, squared_error
from fedsieve.privacy import GaussianMechanism, epsilon
from fedsieve.randomness import Streams
from fedsieve.registry import component

# -------------------------------------------------------------------------------- sensitivity

INPUTS, CLASSES = 6, 3
SCALES = (0.0, 1e-3, 1.0, 1e4, 1e18, math.nan, math.inf, -math.inf)
"""Of a record; some let its gradient overflow."""


@pytest.fixture(scope="module")
def network() -> FlatModel:
    rng = torch.Generator().manual_seed(0)
    module = nn.Sequential(nn.Linear(INPUTS, 5), nn.Tanh(), nn.Linear(5, CLASSES))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=rng))
    return FlatModel(module, (INPUTS,))


@pytest.fixture(scope="module")
def engine(network: FlatModel) -> PerSampleGradients:
    return PerSampleGradients(network, cross_entropy)


@pytest.fixture(scope="module", params=["identity", "random-mask", "random-basis", "low-rank"])
def subspace(request: pytest.FixtureRequest, network: FlatModel) -> Subspace:
    options = {} if request.param == "identity" else {"k": 20}
    recipe = component("projection", request.param).build(**options)
    plan: Subspace = recipe.plan(network.layout, 0, 1, None)
    return plan


@given(
    seed=st.integers(0, 2**32 - 1),
    scales=st.lists(st.sampled_from(SCALES), min_size=1, max_size=9),
    clip=st.sampled_from([1e-3, 0.5, 1.0, 1e3]),
    own=st.booleans(),
)
def test_one_record_moves_its_clients_sum_by_at_most_the_clip_and_no_other(
    network: FlatModel,
    engine: PerSampleGradients,
    subspace: Subspace,
    seed: int,
    scales: list[float],
    clip: float,
    own: bool,
) -> None:
    rng = np.random.default_rng(seed)
    b = len(scales)
    x = torch.from_numpy(rng.normal(size=(b, INPUTS)) * np.array(scales)[:, None]).float()
    y = torch.from_numpy(rng.integers(CLASSES, size=b))
    theta = network.read() * 10 ** rng.uniform(-2, 1)
    theta = theta.repeat(2, 1) if own else theta  # a client's own parameters, or shared ones
    first = int(rng.integers(b))  # records of client 0; the last record is client 1's

    def sums(records: int) -> Tensor:
        counts = (first, records - first)
        return engine.clipped_sums(
            theta, x[:records], y[:records], counts, clip=clip, subspace=subspace
        ).sums.double()

    with_record, without = sums(b), sums(b - 1)
    assert bool(with_record.isfinite().all())
    moved = (with_record - without).norm(dim=1)
    assert moved[1] <= clip * (1 + 1e-5 * b)
    assert moved[0] <= clip * 1e-5 * b
    if not math.isfinite(scales[-1]):
        assert moved[1] <= clip * 1e-5 * b


# ----------------------------------------------------------------------------- distinguishing

TRIALS = 4000  # of each world
SIGMA, CLIP, RECORDS, BATCH, STEPS = 1.0, 1.0, 8, 2, 4  # q = 1/4
DELTA = 0.01  # large, so that so few trials can tell
THRESHOLD = 3.5  # on the summed score, in units of the clip; chosen on another simulation


def score(mechanism: GaussianMechanism, *, canary: bool) -> np.ndarray:
    """<y_1 + ... + y_T, direction of the canary's gradient> b / C of every trial.

    Every trial is a client of one cohort. Its canary has a gradient of 10 C; in the world without
    it, a record without a gradient stands in its place. The others are orthogonal to it.
    """
    inputs = torch.eye(RECORDS)
    targets = -torch.ones(RECORDS)
    targets[0] = -10.0 if canary else 0.0
    data = Dataset("canary", inputs, targets, inputs, targets, classes=0)
    module = nn.Linear(RECORDS, 1, bias=False)
    nn.init.zeros_(module.weight)
    model = FlatModel(module, (RECORDS,))
    gradient = StochasticGradient(PerSampleGradients(model, squared_error), BATCH, mechanism)
    cohort = Cohort(
        ids=tuple(range(TRIALS)),
        rows=tuple(range(TRIALS)),
        shards=Shards(data, (np.arange(RECORDS),) * TRIALS),
        streams=Streams(0, noise_seed=1 + canary),
        steps=(1,) * TRIALS,
    )
    plan = Identity().plan(model.layout, 0, 0, None)
    total = torch.zeros(TRIALS)
    for t in range(STEPS):
        messages, _ = gradient(model.read(), gradient.draw(cohort, t), plan, cohort, t)
        total += messages[:, 0]
    return (total * BATCH / CLIP).numpy()


def epsilon_from_below(mechanism: GaussianMechanism) -> float:
    """A bound that the true epsilon exceeds with 95 % confidence (Clopper-Pearson, two-sided)."""
    hits, alarms = (int((score(mechanism, canary=c) > THRESHOLD).sum()) for c in (True, False))
    power = beta.ppf(0.025, hits, TRIALS - hits + 1)
    level = beta.ppf(0.975, alarms + 1, TRIALS - alarms)
    return math.log((power - DELTA) / level)


@pytest.fixture(scope="module")
def claim() -> float:
    return epsilon(SIGMA, BATCH / RECORDS, STEPS, DELTA, "zero-out").epsilon


def test_a_canary_cannot_be_told_better_than_claimed(claim: float) -> None:
    found = epsilon_from_below(GaussianMechanism(CLIP, SIGMA, BATCH))
    assert 0.3 * claim < found < claim  # below it, but not because nothing was looked for


def everybody(
    shards: Shards, clients: tuple[int, ...], batch: float, streams: Streams, *labels: int
) -> Batch:
    return sampling.minibatch(shards, clients, RECORDS, streams)


@pytest.mark.parametrize(
    ("mechanism", "sampler"),
    [
        pytest.param(GaussianMechanism(CLIP, SIGMA / 2, BATCH), None, id="half the noise"),
        pytest.param(GaussianMechanism(10 * CLIP, SIGMA / 10, BATCH), None, id="no clip"),
        pytest.param(GaussianMechanism(CLIP, SIGMA, BATCH), everybody, id="no sampling"),
    ],
)
def test_planted_faults_are_found(
    claim: float,
    mechanism: GaussianMechanism,
    sampler: Callable[..., Batch] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if sampler is not None:
        monkeypatch.setattr(sampling, "poisson", sampler)
    assert epsilon_from_below(mechanism) > 1.1 * claim
