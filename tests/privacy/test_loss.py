"""Loss distributions against dp-accounting's own, quadrature and simulation."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from fedsieve.privacy import Event, epsilon
from fedsieve.privacy._exact import gaussian_delta, gaussian_epsilon
from fedsieve.privacy._known import known_epsilon, never
from fedsieve.privacy._pld import composed_loss, grid_spacing, pld_epsilon, pld_profile
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
    event = (Event(sigma, q, steps),)
    h = grid_spacing(event, relation)
    ours = composed_loss(event, relation, h)
    library = privacy_loss_distribution.from_gaussian_mechanism(
        sigma, sampling_prob=q, value_discretization_interval=h,
        neighboring_relation=names[relation],
    ).self_compose(steps)  # fmt: skip
    for delta in (1e-3, 1e-5, 1e-8):
        found = ours.get_epsilon_for_delta(delta)
        assert found == pytest.approx(library.get_epsilon_for_delta(delta), rel=1e-5, abs=1e-7)
    asked = np.array([0.0, 0.1, 1.0, 3.0])
    deltas = ours.get_delta_for_epsilon(asked)
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
    loss = composed_loss(event, "replace-one", h)
    assert loss.get_delta_for_epsilon(asked) == pytest.approx(hit.mean(), abs=error)


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


@pytest.mark.parametrize("steps", [10**4, 10**6, 10**8])
@pytest.mark.parametrize("delta", [1e-5, 1e-8, 1e-10])
def test_rounding_of_many_steps_never_lowers_epsilon(steps, delta):
    """Without sampling it is known exactly; a power of a transform enlarges rounding."""
    found = pld_epsilon((Event(math.sqrt(steps), 1.0, steps),), delta, "add-remove")
    assert found >= gaussian_epsilon(1.0, delta)
    if steps * 1e-15 < 1e-3 * delta:
        assert found == pytest.approx(gaussian_epsilon(1.0, delta), rel=2e-3)


def test_a_profile_of_many_steps_holds():
    steps = 4 * 10**6
    epsilons, deltas = pld_profile((Event(math.sqrt(steps), 1.0, steps),), "add-remove", 50).T
    exact = np.array([gaussian_delta(1.0, e) for e in epsilons])
    assert np.all(deltas >= exact)
    assert deltas[:10] == pytest.approx(exact[:10], rel=1e-2)


@pytest.mark.parametrize("relation", ["add-remove", "replace-one"])
def test_many_kinds_of_steps_compose(relation):
    """As a ledger holds them; steps that differ by nothing that matters cost what equal ones do."""
    kinds = tuple(Event(1.0 + 1e-9 * i, 0.02, 10 + i % 3) for i in range(20))
    whole = Event(1.0, 0.02, sum(e.steps for e in kinds))
    assert pld_epsilon(kinds, DELTA, relation) == pytest.approx(
        pld_epsilon((whole,), DELTA, relation), rel=1e-4
    )


@pytest.mark.parametrize("delta", [0.3, 1 - 1e-9, 1 - 2**-53])
@pytest.mark.parametrize(("sigma", "q", "steps"), [(0.3, 0.5, 50), (0.1, 0.01, 3), (1.0, 0.1, 1)])
def test_large_deltas_have_an_epsilon(sigma, q, steps, delta):
    """The library's search goes through losses whose exponential is no float."""
    assert 0 <= pld_epsilon((Event(sigma, q, steps),), delta, "add-remove") < math.inf
