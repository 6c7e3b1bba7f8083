"""The mechanisms for one number: privacy over a grid, laws, variances, published table."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsieve.privacy._grid import grid_spacing
from fedsieve.privacy.local_dp import (
    Duchi,
    Laplace,
    Mixture,
    Piecewise,
    ThreeOutputs,
    hm_tp,
    hybrid,
    pm_sub,
    tuned_mixture,
)

KINDS = {
    "duchi": Duchi,
    "piecewise": Piecewise,
    "pm-sub": pm_sub,
    "three-outputs": ThreeOutputs,
    "hm": hybrid,
    "hm-tp": hm_tp,
    "tuned-mixture": tuned_mixture,
    "laplace": Laplace,
}
EPSILONS = (0.3, 0.8, 1.5, 3.0, 6.0)
X = np.linspace(-1, 1, 21)

each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
each_epsilon = pytest.mark.parametrize("epsilon", EPSILONS)


def outputs(mechanism, points=40_001):
    """Midpoints over all reports, and their distance."""
    bound = min(mechanism.bound, 40 * 2 / mechanism.epsilon) * (1 + 1e-6)
    edges = np.linspace(-bound, bound, points)
    return (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0]


@each_kind
@each_epsilon
def test_no_input_makes_a_report_more_than_e_to_the_epsilon_as_likely(kind, epsilon):
    mechanism = kind(epsilon)
    y, _ = outputs(mechanism, 4001)
    density = mechanism.density(X[:, None], y)
    possible = density.max(axis=0) > 0
    for law in (density[:, possible], mechanism.masses(X)):
        if law.size:
            assert (law.max(axis=0) <= math.exp(epsilon) * (1 + 1e-9) * law.min(axis=0)).all()


@each_kind
@each_epsilon
def test_the_law_adds_up_and_has_the_stated_moments(kind, epsilon):
    mechanism = kind(epsilon)
    y, step = outputs(mechanism)
    density = mechanism.density(X[:, None], y) * step
    atoms, masses = mechanism.atoms, mechanism.masses(X)
    tolerance = 1e-3 * max(1.0, mechanism.worst_variance)
    np.testing.assert_allclose(density.sum(1) + masses.sum(1), 1, atol=1e-3)
    np.testing.assert_allclose(density @ y + masses @ atoms, X, atol=tolerance)
    second = density @ y**2 + masses @ atoms**2
    np.testing.assert_allclose(second - X**2, mechanism.variance(X), atol=2 * tolerance)
    assert mechanism.variance(np.linspace(-1, 1, 2001)).max() == pytest.approx(
        mechanism.worst_variance, rel=1e-5
    )


@each_kind
@pytest.mark.parametrize("epsilon", [0.8, 3.0])
@pytest.mark.parametrize("x", [-1.0, -0.35, 0.0, 0.8])
def test_reports_follow_the_law(kind, epsilon, x):
    mechanism, n = kind(epsilon), 40_000
    y = mechanism.privatize(np.full((2, n // 2), x), np.random.default_rng([7, int(x * 100) + 100]))
    assert y.shape == (2, n // 2)
    y = y.ravel()
    variance = float(mechanism.variance(x))
    assert abs(y.mean() - x) < 4 * math.sqrt(variance / n)
    fourth = ((y - y.mean()) ** 4).mean()
    assert abs(y.var() - variance) < 4 * math.sqrt(max(fourth - variance**2, 1e-12) / n)
    assert np.abs(y).max() <= mechanism.bound
    grid, step = outputs(mechanism, 40_001)
    cells = mechanism.density(x, grid) * step
    share = [cells[c].sum() for c in np.array_split(np.arange(len(grid)), 16)]
    ends = [grid[c[-1]] + step / 2 for c in np.array_split(np.arange(len(grid)), 16)]
    at_atom = np.isin(y, mechanism.atoms)
    found = np.histogram(y[~at_atom], [-np.inf, *ends[:-1], np.inf])[0]
    for expected, count in zip(share, found, strict=True):
        assert abs(count - n * expected) <= 5 * math.sqrt(n * expected) + 1 + 2e-3 * n * expected
    for atom, mass in zip(mechanism.atoms, mechanism.masses(x), strict=True):
        assert abs((y == atom).sum() - n * mass) < 5 * math.sqrt(n * mass * (1 - mass))


# worst-case variances to the digits of the table, and beta of HM-TP
@pytest.mark.parametrize(
    ("epsilon", "duchi", "three", "pm", "sub", "hm", "tp", "beta", "tuned", "laplace"),
    [
        (0.5, 16.67, 16.67, 21.22, 21.08, 16.67, 16.67, 0, None, 32),
        (0.8, 6.927, 6.876, 8.223, 8.079, 6.684, 6.792, 0.215, 6.673, 12.5),
        (1.0, 4.683, 4.456, 5.224, 5.082, 4.289, 4.418, 0.162, 4.267, 8),
        (1.29, 3.096, 2.649, 3.096, 2.959, 2.572, 2.637, 0.121, 2.536, 4.81),
        (1.5, 2.479, 1.915, 2.262, 2.129, 1.892, 1.911, 0.089, 1.847, 3.56),
        (2.0, 1.724, 1.000, 1.228, 1.105, 1.042, 0.984, 0.238, 0.982, 2),
        (3.0, 1.221, 0.456, 0.493, 0.394, 0.432, 0.355, 0.645, 0.353, 0.89),
        (4.0, 1.076, 0.318, 0.241, 0.167, 0.219, 0.155, 0.829, 0.152, 0.5),
    ],
)
def test_the_table_of_worst_case_variances(
    epsilon, duchi, three, pm, sub, hm, tp, beta, tuned, laplace
):
    expected = dict(zip(KINDS, (duchi, pm, sub, three, hm, tp, tuned, laplace), strict=True))
    for name, value in expected.items():
        if value is not None:
            found = KINDS[name](epsilon).worst_variance
            assert found == pytest.approx(value, rel=3.5e-3), name  # three digits were printed
    assert hm_tp(epsilon).weight == pytest.approx(beta, abs=2e-3)


@pytest.mark.parametrize("epsilon", [0.5, 0.7, 0.9, 1.1, 1.3, 1.6, 1.7, 1.72, 2.5])
def test_silence_is_the_published_root(epsilon):
    E = math.exp(epsilon)
    if E <= 2:
        a = 0.0
    elif E >= 5.53:
        a = E / (E + 2)
    else:
        D0 = E**4 + 14 * E**3 + 50 * E**2 - 2 * E + 25
        D1 = -2 * E**6 - 42 * E**5 - 270 * E**4 - 404 * E**3 - 918 * E**2 + 30 * E - 250
        angle = math.pi / 3 + math.acos(-D1 / (2 * D0**1.5)) / 3
        a = -(-(E**2) - 4 * E - 5 + 2 * math.sqrt(D0) * math.cos(angle)) / 6
    mechanism = ThreeOutputs(epsilon)
    assert mechanism.a == pytest.approx(a, abs=3e-4)
    grid = [ThreeOutputs(epsilon, s).worst_variance for s in np.linspace(0, E / (E + 2), 400)]
    assert mechanism.worst_variance <= min(grid) * (1 + 1e-9)


@pytest.mark.parametrize("epsilon", [0.4, 0.7, 1.0, 1.29, 2.0, 4.0, 8.0])
def test_the_tuned_mixture_is_below_all_others(epsilon):
    tuned = tuned_mixture(epsilon).worst_variance
    others = [kind(epsilon).worst_variance for kind in KINDS.values()]
    assert tuned <= min(others) * (1 + 1e-7)


def test_a_three_outputs_mechanism_that_is_never_silent_is_duchi():
    three, duchi = ThreeOutputs(1.0, 0.0), Duchi(1.0)
    np.testing.assert_allclose(three.masses(X)[:, [0, 2]], duchi.masses(X), rtol=1e-12)
    assert three.bound == pytest.approx(duchi.bound)


@each_kind
@settings(deadline=None, max_examples=25)
@given(x=st.floats(-1, 1), epsilon=st.floats(0.01, 20))
def test_any_legal_input_is_reported_within_the_bound(kind, x, epsilon):
    mechanism = kind(epsilon)
    y = mechanism.privatize(np.full(50, x), np.random.default_rng(0))
    assert np.isfinite(y).all()
    assert (np.abs(y) <= mechanism.bound).all()
    assert mechanism.variance(x) >= -1e-9


@pytest.mark.parametrize("kind", [Piecewise, pm_sub, Laplace])
def test_continuous_reports_lie_on_a_public_grid(kind):
    y = kind(2.0).privatize(np.full(1000, 0.3), np.random.default_rng(0))
    spacing = grid_spacing(0.1)  # of a smaller scale, so finer than theirs
    assert np.array_equal(y, np.rint(y / spacing) * spacing)
    assert np.array_equal(y, y.astype(np.float32))


@each_kind
@pytest.mark.parametrize("bad", [1.0000001, -2.0, float("nan"), float("inf")])
def test_numbers_outside_the_interval_are_refused(kind, bad):
    with pytest.raises(ValueError, match=r"x holds .* must lie in \[-1, 1\]"):
        kind(1.0).privatize([0.0, bad], np.random.default_rng(0))


@each_kind
@pytest.mark.parametrize("bad", [0, -1.0, 21, float("nan"), float("inf")])
def test_impossible_budgets_are_refused(kind, bad):
    with pytest.raises(ValueError, match=f"epsilon={bad} must be >= 1e-06 and <= 20"):
        kind(bad)


def test_impossible_shapes_are_refused():
    with pytest.raises(ValueError, match="shape=0 must be in"):
        Piecewise(1.0, 0)
    with pytest.raises(ValueError, match=r"silence=0\.6 must be in \[0, 0\.57"):
        ThreeOutputs(1.0, 0.6)
    with pytest.raises(ValueError, match="must be equal"):
        Mixture(Piecewise(1.0), Duchi(2.0), 0.5)
    with pytest.raises(ValueError, match="must have a density only"):
        Mixture(Duchi(1.0), Duchi(1.0), 0.5)
    with pytest.raises(ValueError, match=r"weight=1\.5 must be in \[0, 1\]"):
        Mixture(Piecewise(1.0), Duchi(1.0), 1.5)
