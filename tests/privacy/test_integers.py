"""Integer noise on clipped sums: the lattice's bound, what is sent, and what sampling leaves of it.

The accounting is checked against exact divergences of the integers' laws, in both directions.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import ive, logsumexp
from torch import nn

from fedsieve.learning.flat import FlatModel
from fedsieve.learning.gradients import PerSampleGradients
from fedsieve.learning.losses import cross_entropy, squared_error
from fedsieve.privacy import (
    Event,
    IntegerMechanism,
    Ledger,
    compose,
    epsilon,
    integers,
    noise_multiplier,
)
from fedsieve.privacy._rdp import excess, sampled_gaussian_rdp
from fedsieve.privacy.accounting import RDP_INTEGER
from fedsieve.privacy.discrete import SumLattice
from fedsieve.privacy.discrete.sum_lattice import SLACK
from fedsieve.privacy.guarantee import LEAST_VARIANCE, kept_variance

LAWS = ("discrete-gaussian", "skellam")


def generators(n: int, seed: int = 0) -> list[np.random.Generator]:
    return [np.random.default_rng([seed, i]) for i in range(n)]


# ------------------------------------------------------------------------------- the lattice


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    d=st.integers(1, 60),
    spacing=st.sampled_from([1e-6, 1e-3, 0.1, 0.7, 3.0]),
    scale=st.sampled_from([0.0, 1.0, 1e3]),
    short=st.floats(0.0, 1.0),
)
def test_neighbouring_sums_stay_within_the_bounds(
    seed: int, d: int, spacing: float, scale: float, short: float
) -> None:
    lattice, rng = SumLattice(1.0, spacing, d), np.random.default_rng(seed)
    one = rng.standard_normal(d)
    total = scale * rng.standard_normal(d)
    total[::2] = np.rint(total[::2]) + spacing / 2  # where rounding decides
    moved = total + short * (1 + SLACK) * one / np.linalg.norm(one)
    a, b = lattice.round(np.stack([total, moved]))
    difference = [int(v) for v in a - b]
    assert sum(v * v for v in difference) <= lattice.squared_norm
    assert sum(map(abs, difference)) <= lattice.l1
    assert np.abs(a - total / spacing).max() <= 0.5 + 1e-6


def test_the_allowance_covers_what_float32_sums_lose() -> None:
    """Adding a record to a batch moves the engine's sum by C and a small part of the allowance."""
    generator = torch.Generator().manual_seed(0)
    module = nn.Sequential(nn.Linear(30, 40), nn.Tanh(), nn.Linear(40, 5))
    model = FlatModel(module, (30,))
    engine = PerSampleGradients(model, cross_entropy)
    for size in (2, 17, 128, 500):
        x = 3 * torch.randn(size, 30, generator=generator)
        y = torch.randint(5, (size,), generator=generator)
        sums = [
            engine.clipped_sums(model.read(), x[:n], y[:n], (n,), clip=0.01).sums.double()
            for n in (size, size - 1)
        ]
        assert float((sums[0] - sums[1]).norm()) <= 0.01 * (1 + SLACK / 10)


@pytest.mark.parametrize("sigma", [0.5, 20.0])
def test_the_lattice_covers_one_record_of_the_largest_batch(sigma: float) -> None:
    """From the engine to the integers, at a realised batch above the largest expected one."""
    generator = torch.Generator().manual_seed(1777)
    n, clip = round(integers.LARGEST_BATCH + 4 * math.sqrt(integers.LARGEST_BATCH)), 0.805
    engine = PerSampleGradients(FlatModel(nn.Linear(2, 1, bias=False), (2,)), squared_error)
    x = torch.rand(n, 2, generator=generator) + 3
    y = -(torch.rand(n, generator=generator) * 5 + 5)
    lattice = IntegerMechanism(clip, sigma, integers.LARGEST_BATCH, 2).lattice

    def rounded(x: torch.Tensor, y: torch.Tensor) -> np.ndarray:
        found = engine.clipped_sums(torch.zeros(2), x, y, (len(x),), clip=clip)
        return lattice.round(found.sums.numpy())[0]

    whole = rounded(x, y)
    for place in (0, 117, n - 1):
        kept = torch.arange(n) != place
        difference = [int(v) for v in whole - rounded(x[kept], y[kept])]
        assert sum(v * v for v in difference) <= lattice.squared_norm
        # the allowance is hardly touched: so much is left for gradients of other last bits
        assert math.hypot(*difference) <= clip / lattice.spacing * (1 + SLACK / 10) + math.sqrt(2)


@pytest.mark.parametrize("name", ["clip", "spacing"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_an_impossible_lattice_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name}={value} must be finite and > 0"):
        SumLattice(**{"clip": 1.0, "spacing": 0.1, "d": 2} | {name: value})


def test_sums_that_are_no_sums_are_refused() -> None:
    lattice = SumLattice(1.0, 0.1, 2)
    with pytest.raises(ValueError, match="not finite"):
        lattice.round([[1.0, math.nan]])
    with pytest.raises(ValueError, match=r"needed is shape \(n, 2\)"):
        lattice.round([[1.0, 2.0, 3.0]])
    with pytest.raises(ValueError, match="spacing=1e-12 must be > "):
        SumLattice(1.0, 1e-12, 2)


# ------------------------------------------------------------------------------- the mechanism


@settings(deadline=None, max_examples=6)
@given(
    clip=st.sampled_from([1e-3, 0.7, 40.0]),
    sigma=st.sampled_from([0.5, 1.3, 20.0]),
    batch=st.sampled_from([1, 50, 1000]),
    k=st.sampled_from([1, 33, 2000]),
    law=st.sampled_from(LAWS),
)
def test_what_is_sent_are_integers_that_float32_and_the_wire_hold(
    clip: float, sigma: float, batch: int, k: int, law: str
) -> None:
    mechanism = IntegerMechanism(clip, sigma, batch, k, law)
    assert math.frexp(mechanism.step)[0] == 0.5
    assert 2**11 <= mechanism.noise.noise_std <= 2**14
    assert mechanism.noise.noise_std**2 >= LEAST_VARIANCE
    ideal = sigma * clip / batch
    assert ideal <= mechanism.noise_std
    assert (
        mechanism.noise_std <= ideal * (1 + SLACK) + sigma * math.sqrt(k) * mechanism.step + 1e-12
    )
    sums = torch.randn(2, k, generator=torch.Generator().manual_seed(1))
    sums *= clip * torch.tensor([[1.0], [1e9]])  # the second is beyond every bit
    messages = mechanism.release(sums, generators(2)).messages
    whole = messages.double() / mechanism.step
    assert torch.equal(whole, whole.round())
    assert whole.abs().max() < 2 ** (mechanism.bits - 1) <= 2**24


@pytest.mark.parametrize("law", LAWS)
def test_messages_are_the_means_with_noise_of_the_stated_law(law: str) -> None:
    n, k = 40, 500
    mechanism = IntegerMechanism(0.5, 2.0, 25, k, law)
    sums = torch.randn(n, k, generator=torch.Generator().manual_seed(0))
    released = mechanism.release(sums, generators(n))
    noise = (released.messages.double() - sums.double() / 25).numpy().ravel()
    scaled = noise / mechanism.noise_std
    assert stats.kstest(scaled, "norm").pvalue > 1e-4
    assert abs(scaled.var() - 1) <= 5 * math.sqrt(2 / len(scaled))
    assert released.noise_norm == pytest.approx(math.sqrt(k) * mechanism.noise_std, rel=0.05)
    norms = np.linalg.norm(sums.double().numpy() / 25, axis=1)
    assert released.signal_norm == pytest.approx(norms.mean())


def test_equal_streams_give_equal_noise_and_different_ones_do_not() -> None:
    mechanism, sums = IntegerMechanism(1.0, 1.0, 8, 200), torch.zeros(2, 200)
    first, again = (mechanism.release(sums, generators(2)).messages for _ in range(2))
    assert torch.equal(first, again)
    assert abs(np.corrcoef(first.numpy())[0, 1]) < 5 / math.sqrt(200)
    with pytest.raises(ValueError, match="share one"):
        mechanism.release(sums, [np.random.default_rng(0)] * 2)


@pytest.mark.parametrize(
    ("given_", "text"),
    [
        ({"clip": 0.0}, "clip=0.0 must be in"),
        ({"noise_multiplier": math.inf}, "noise_multiplier=inf must be in"),
        ({"law": "gaussian"}, "law='gaussian' is not one of discrete-gaussian, skellam"),
        ({"unit": "house"}, "unit='house' is not one of record, client"),
        ({"clipping": "soft"}, "clipping='soft' is not one of"),
        ({"split": "depth"}, "split='depth' is not one of"),
        ({"noise_multiplier": 100.0, "k": 10_000}, "allowed is k <= 6710"),
    ],
)
def test_impossible_mechanisms_are_refused(given_: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        IntegerMechanism(**{"clip": 1.0, "noise_multiplier": 1.0, "batch": 8, "k": 5} | given_)


# ------------------------------------------------------------------------------- accounting


def log_gaussian(points: np.ndarray, variance: float) -> np.ndarray:
    log = -(points**2) / (2 * variance)
    return log - logsumexp(log)


def log_skellam(points: np.ndarray, variance: float) -> np.ndarray:
    return np.log(ive(np.abs(points), variance))


def renyi(log_p: np.ndarray, log_q: np.ndarray, order: int) -> float:
    return float(logsumexp(order * log_p + (1 - order) * log_q)) / (order - 1)


def plane(one, shift: tuple[int, int], variance: float, reach: int) -> tuple:
    """Logarithms of the integers' law in the plane, and of the same moved."""
    x = np.arange(-reach, reach + 1)
    rows = [one(x - s, variance) for s in (0, *shift)]
    here = rows[0][:, None] + rows[0][None]
    return here.ravel(), (rows[1][:, None] + rows[2][None]).ravel()


@pytest.mark.parametrize("q", [0.01, 0.3, 1.0])
@pytest.mark.parametrize("shift", [(1, 0), (2, 1), (3, 3)])
@pytest.mark.parametrize("scale", [0.8, 2.0])
def test_sampled_integers_diverge_by_no_more_than_the_sampled_gaussian(
    q: float, shift: tuple[int, int], scale: float
) -> None:
    """Exact sums over the plane, far narrower noise than in a run, both directions."""
    norm = math.hypot(*shift)
    sigma = scale
    log_q, log_p = plane(log_gaussian, shift, (sigma * norm) ** 2, 240)
    mixture = np.logaddexp(math.log1p(-q) + log_q, math.log(q) + log_p) if q < 1 else log_p
    for order in (2, 3, 8, 32):
        bound = sampled_gaussian_rdp(Event(sigma, q, 1, "discrete-gaussian"), order)
        assert renyi(mixture, log_q, order) <= bound * (1 + 1e-9)
        assert renyi(log_q, mixture, order) <= renyi(mixture, log_q, order) * (1 + 1e-9)


@pytest.mark.parametrize("q", [0.05, 1.0])
@pytest.mark.parametrize("sigma", [0.7, 3.0])
def test_sampled_skellam_noise_stays_within_its_excess(q: float, sigma: float) -> None:
    deviation = math.sqrt(LEAST_VARIANCE)
    shift = round(deviation / sigma)
    x = np.arange(-12 * round(deviation), 12 * round(deviation) + shift).astype(float)
    with np.errstate(divide="ignore"):
        log_q, log_p = (log_skellam(x - s, float(LEAST_VARIANCE)) for s in (0, shift))
    kept = np.isfinite(log_q) & np.isfinite(log_p)
    log_q, log_p = log_q[kept], log_p[kept]
    mixture = np.logaddexp(math.log1p(-q) + log_q, math.log(q) + log_p) if q < 1 else log_p
    for order in (2, 5, 16):
        event = Event(deviation / shift, q, 1, "skellam", LEAST_VARIANCE)
        bound = sampled_gaussian_rdp(event, order)
        for one, other in ((mixture, log_q), (log_q, mixture)):
            assert renyi(one, other, order) <= bound * (1 + 1e-6)


@pytest.mark.parametrize("variance", [0.5, 5.0, 50.0, float(LEAST_VARIANCE)])
def test_the_excess_covers_the_published_bound(variance: float) -> None:
    """The stated divergence at every order from 2 on, with D1 = D2^2."""
    sigma = 1.3
    stated = 1 / (2 * sigma**2) * (1 + excess(Event(sigma, 1.0, 1, "skellam", variance)))
    for j in range(2, 200):
        published = j / (2 * sigma**2) + (2 * j + 5) / (4 * sigma**2 * variance)
        assert published <= stated * j * (1 + 1e-12)


@pytest.mark.parametrize("q", [0.02, 0.3, 1.0])
@pytest.mark.parametrize("shift", [(1, 0), (2, 1), (3, 3)])
@pytest.mark.parametrize("variance", [1.0, 5.0, 50.0])
def test_skellam_noise_of_few_units_diverges_by_no_more_than_its_variance_says(
    q: float, shift: tuple[int, int], variance: float
) -> None:
    """Exact sums over the plane, both directions, at variances far below those of a run."""
    log_q, log_p = plane(log_skellam, shift, variance, 120)
    kept = np.isfinite(log_q) & np.isfinite(log_p)
    log_q, log_p = log_q[kept], log_p[kept]
    mixture = np.logaddexp(math.log1p(-q) + log_q, math.log(q) + log_p) if q < 1 else log_p
    event = Event(math.sqrt(variance) / math.hypot(*shift), q, 1, "skellam", variance)
    for order in (2, 3, 8):
        bound = sampled_gaussian_rdp(event, order)
        for one, other in ((mixture, log_q), (log_q, mixture)):
            assert renyi(one, other, order) <= bound * (1 + 1e-9)


@given(
    ratio=st.floats(1e-12, 1e12), q=st.floats(1e-6, 1.0), order=st.floats(1.0, 12.0)
)  # fmt: skip
def test_the_reverse_divergence_is_the_smaller_one_point_by_point(
    ratio: float, q: float, order: float
) -> None:
    """Theorem 5 of Mironov, Talwar, Zhang, whose proof needs an involution and nothing else."""
    a, b = 1 - q + q * ratio, 1 - q + q / ratio
    forward, backward = a**order + ratio * b**order, a ** (1 - order) + ratio * b ** (1 - order)
    assert forward >= backward * (1 - 1e-9)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("relation", ["add-remove", "replace-one", "zero-out"])
@pytest.mark.parametrize(
    ("q", "sigma", "steps"), [(0.01, 1.0, 1000), (0.1, 2.0, 100), (1, 10, 100)]
)
def test_epsilon_of_integers_is_a_little_above_that_of_real_noise(
    law: str, relation: str, q: float, sigma: float, steps: int
) -> None:
    real = epsilon(sigma, q, steps, 1e-5, relation).epsilon
    found = epsilon(sigma, q, steps, 1e-5, relation, law=law, variance=kept_variance(law))
    loose = 1.25 if relation != "replace-one" or q == 1 else 1.8  # the weak triangle inequality
    assert real <= found.epsilon <= loose * real
    assert found.accountant == RDP_INTEGER
    words = {"discrete-gaussian": "discrete Gaussian", "skellam": "Skellam"}[law]
    assert f"{steps} {words} releases" in found.sentence()


@pytest.mark.parametrize("law", LAWS)
def test_the_exact_delta_of_one_step_is_within_the_statement(law: str) -> None:
    """Hockey-stick divergences of the integers' laws themselves, no Renyi in between."""
    q, sigma, delta = 0.2, 1.0, 1e-4
    deviation = 2.0**11
    shift = round(deviation / sigma)
    x = np.arange(-10 * round(deviation), 10 * round(deviation) + shift).astype(float)
    one = log_gaussian if law == "discrete-gaussian" else log_skellam
    p, base = np.exp(one(x - shift, deviation**2)), np.exp(one(x, deviation**2))
    mixture = (1 - q) * base + q * p
    variance = deviation**2 if law == "skellam" else None
    claimed = epsilon(sigma, q, 1, delta, law=law, variance=variance).epsilon
    for upper, lower in ((mixture, base), (base, mixture)):
        exact = np.maximum(upper - math.exp(claimed) * lower, 0.0).sum()
        assert exact <= delta
        assert exact > delta / 20 or upper is base


def test_calibration_and_ledger_know_the_law() -> None:
    sigma = noise_multiplier(2.0, 0.05, 200, 1e-5, law="discrete-gaussian")
    assert epsilon(sigma, 0.05, 200, 1e-5, law="discrete-gaussian").epsilon <= 2.0
    assert sigma > noise_multiplier(2.0, 0.05, 200, 1e-5)
    ledger = Ledger(1e-5, "add-remove", repeatable=True, limit=2.0, law="skellam")
    ledger.charge(0, {0: (0.05, 1.01 * sigma, 200)})
    assert ledger.guarantee().accountant == RDP_INTEGER
    again = Ledger.restore(ledger.state())
    assert again.law == "skellam"
    assert again.guarantee() == ledger.guarantee()


def test_different_laws_compose() -> None:
    least = float(LEAST_VARIANCE)
    mixed = compose([Event(2.0, 0.1, 50), Event(2.0, 0.1, 50, "skellam", least)], 1e-5)
    same = epsilon(2.0, 0.1, 100, 1e-5, law="skellam", variance=least).epsilon
    assert mixed.epsilon == pytest.approx(same)
    assert mixed.law == "Gaussian and Skellam"
    with pytest.raises(ValueError, match="law='cauchy' is not one of gaussian"):
        Event(1.0, 0.1, 1, "cauchy")


def test_no_skellam_noise_is_accounted_without_its_variance() -> None:
    for variance in (None, 0.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=r"variance=.* must be finite and > 0"):
            Event(1.0, 0.1, 1, "skellam", variance)
    with pytest.raises(ValueError, match=r"variance=4.0 belongs to law='skellam', not 'gaussian'"):
        Event(1.0, 0.1, 1, variance=4.0)
    narrow, wide = (epsilon(2.0, 0.1, 50, 1e-5, law="skellam", variance=v) for v in (4.0, 400.0))
    assert narrow.epsilon > wide.epsilon > epsilon(2.0, 0.1, 50, 1e-5).epsilon


def test_the_event_of_a_mechanism_tells_its_variance(monkeypatch: pytest.MonkeyPatch) -> None:
    mechanism = IntegerMechanism(1.0, 2.0, 16, 33, "skellam")
    event = mechanism.event(0.1, 3)
    assert event == Event(2.0, 0.1, 3, "skellam", float(mechanism.noise.variance))
    assert IntegerMechanism(1.0, 2.0, 16, 33).event(0.1) == Event(2.0, 0.1, 1, "discrete-gaussian")
    # with tables so narrow that what calibration and ledger assume would not hold
    monkeypatch.setattr(integers, "WIDEST", 2**10)
    with pytest.raises(ValueError, match=r"Skellam noise of variance .* 4194304 or more.* step <="):
        IntegerMechanism(1.0, 2.0, 16, 33, "skellam")
    assert IntegerMechanism(1.0, 2.0, 16, 33).noise_std > 0  # which has no such limit


def test_a_batch_whose_last_bits_are_more_than_the_allowance_is_refused():
    assert (integers.LARGEST_BATCH + 4 * math.sqrt(integers.LARGEST_BATCH)) * 2.0**-24 < SLACK
    IntegerMechanism(1.0, 5.0, 10_000.0, 8)
    with pytest.raises(ValueError, match=r"batch=10001 with integer noise: .* allowed is 10000"):
        IntegerMechanism(1.0, 5.0, 10_001, 8)
