"""Loss distributions against dp-accounting's, quadrature and simulation."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from fedsieve.privacy import Event, epsilon
from fedsieve.privacy._known import known_epsilon, never
from fedsieve.privacy._loss import compose, one_step
from fedsieve.privacy._pld import grid_spacing, pld_epsilon
from fedsieve.privacy._rdp import gaussian_rdp, rdp_epsilon

DELTA = 1e-5
JOBS = [
    (1.0, 0.01, 1000), (0.7, 0.002, 300), (2.0, 0.1, 100), (0.5, 0.001, 1), (10.0, 1.0, 9),
    (10.0, 0.9999, 9), (0.4, 0.2, 3), (30.0, 0.3, 5000),
]  # fmt: skip


@pytest.mark.parametrize("relation", ["add-remove", "replace-one"])
@pytest.mark.parametrize(("sigma", "q", "steps"), JOBS)
def test_the_librarys_numbers(sigma, q, steps, relation):
    from dp_accounting import NeighboringRelation
    from dp_accounting.pld import privacy_loss_distribution

    names = {
        "add-remove": NeighboringRelation.ADD_OR_REMOVE_ONE,
        "replace-one": NeighboringRelation.REPLACE_ONE,
    }
    h = grid_spacing((Event(sigma, q, steps),), relation)
    ours = [compose([(one, steps)]) for one in one_step(sigma, q, relation == "replace-one", h)]
    library = privacy_loss_distribution.from_gaussian_mechanism(
        sigma, sampling_prob=q, value_discretization_interval=h,
        neighboring_relation=names[relation],
    ).self_compose(steps)  # fmt: skip
    for delta in (1e-3, 1e-5, 1e-8):
        found = max(one.epsilon(delta) for one in ours)
        assert found == pytest.approx(library.get_epsilon_for_delta(delta), rel=1e-5, abs=1e-7)
    asked = np.array([0.0, 0.1, 1.0, 3.0])
    deltas = np.max([one.deltas(asked) for one in ours], axis=0)
    assert deltas == pytest.approx(library.get_delta_for_epsilon(asked), rel=1e-5, abs=1e-12)


@pytest.mark.parametrize("relation", ["add-remove", "replace-one"])
@pytest.mark.parametrize(("sigma", "q"), [(1.0, 0.05), (0.3, 0.4), (4.0, 0.9), (0.2, 1e-3)])
def test_one_step_by_quadrature(sigma, q, relation):
    """delta(epsilon) = integral of max(P - e^epsilon R, 0), the larger of both directions."""
    z = np.linspace(-15 * sigma - 2, 15 * sigma + 2, 400_001)
    p = (1 - q) * norm.pdf(z, 0, sigma) + q * norm.pdf(z, 1, sigma)
    r = norm.pdf(z, 0, sigma)
    if relation == "replace-one":
        r = (1 - q) * r + q * norm.pdf(z, -1, sigma)
    found = pld_epsilon((Event(sigma, q, 1),), DELTA, relation)
    exact = max(
        np.trapezoid(np.maximum(a - math.exp(found) * b, 0), z) for a, b in ((p, r), (r, p))
    )
    assert 0.95 * DELTA <= exact <= DELTA * (1 + 1e-6)


def test_replace_one_of_many_steps_by_simulation():
    """delta(epsilon) = E_P[max(1 - e^(epsilon - loss), 0)], 10^6 draws of 20 steps."""
    sigma, q, steps, asked = 1.0, 0.1, 20, 3.0
    rng = np.random.default_rng(0)
    loss = np.zeros(10**6)
    for _ in range(steps):
        z = rng.normal(0, sigma, len(loss)) + (rng.random(len(loss)) < q)
        p, r = (1 - q + q * np.exp((s * 2 * z - 1) / (2 * sigma**2)) for s in (1, -1))
        loss += np.log(p / r)
    hit = np.maximum(1 - np.exp(asked - loss), 0)
    error = 4 * hit.std() / math.sqrt(len(hit))
    event = (Event(sigma, q, steps),)
    h = grid_spacing(event, "replace-one")
    (composed,) = (compose([(one, steps)]) for one in one_step(sigma, q, True, h))
    assert float(composed.deltas(np.array([asked]))[0]) == pytest.approx(hit.mean(), abs=error)


@pytest.mark.parametrize("angle", [0.0, 1.0, 2.0, 3.0])
def test_no_pair_of_records_is_worse_than_opposite_ones(angle):
    """Of two records at any angle, by quadrature over the plane: hockey-stick divergences."""
    sigma, q = 0.8, 0.3
    x = np.linspace(-6, 6, 601)
    a, b = np.meshgrid(x, x)

    def density(u, v):
        return np.exp(-((a - u) ** 2 + (b - v) ** 2) / (2 * sigma**2)) / (2 * math.pi * sigma**2)

    def apart(towards, e):
        p = (1 - q) * density(0, 0) + q * density(1, 0)
        r = (1 - q) * density(0, 0) + q * density(math.cos(towards), math.sin(towards))
        return np.trapezoid(np.trapezoid(np.maximum(p - math.exp(e) * r, 0), x), x)

    for e in (-0.5, 0.0, 0.5, 1.5):
        assert apart(angle, e) <= apart(math.pi, e) + 1e-6


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize(("sigma", "q"), [(1.0, 0.05), (0.3, 0.2), (5.0, 0.5)])
def test_divergences_at_any_order_by_quadrature(sigma, q, apart):
    z = np.linspace(-60 * sigma - 5, 60 * sigma + 45, 800_001)
    log_p, log_r = (np.logaddexp(math.log1p(-q), math.log(q) + (s * 2 * z - 1) / (2 * sigma**2))
                    for s in (1, -1))  # fmt: skip
    base = norm.logpdf(z, 0, sigma)
    for order in (1.0625, 1.5, 2.0, 7.5):
        terms = base + order * log_p + ((1 - order) * log_r if apart else 0)
        expected = math.log(np.trapezoid(np.exp(terms), z)) / (order - 1)
        assert gaussian_rdp(Event(sigma, q, 1), order, apart) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("relation", ["add-remove", "replace-one"])
@pytest.mark.parametrize(("sigma", "q", "steps"), [*JOBS, (0.05, 0.01, 10), (0.1, 0.5, 20)])
def test_both_fallbacks_are_above(sigma, q, steps, relation):
    event = (Event(sigma, q, steps),)
    exact = pld_epsilon(event, DELTA, relation)
    if math.isfinite(exact):
        assert rdp_epsilon(event, DELTA, relation) >= exact * (1 - 1e-3)
        assert known_epsilon(event, DELTA, relation) >= exact * (1 - 1e-3)


def test_replace_one_at_little_noise_costs_four_times_add_remove():
    """As 2 C in place of C does; the way through the data set without the record cost far more."""
    one = epsilon(0.03, 0.01, 10, DELTA).epsilon
    two = epsilon(0.03, 0.01, 10, DELTA, "replace-one").epsilon
    assert 3 < two / one < 4.5


def test_a_record_that_never_takes_part_costs_nothing():
    assert never((Event(1e-9, 1e-8, 900),), DELTA)
    assert not never((Event(1e-9, 1e-8, 1100),), DELTA)
    assert not never((Event(1e-9, 1e-8, 900), Event(1.0, 1.0, 1)), DELTA)
    assert epsilon(1e-9, 1e-8, 900, DELTA, "replace-one").epsilon == 0
