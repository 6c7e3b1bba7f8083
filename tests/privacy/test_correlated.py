"""Correlated noise: it cancels, each message is hidden, colluders and drop-outs are counted."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fedsieve.privacy import CorrelatedGaussian, Event


def own(n, seed=0):
    return [np.random.default_rng([seed, i]) for i in range(n)]


def pairs(seed=0):
    return lambda i, j: np.random.default_rng([seed, 10**6, i, j])


def test_it_is_the_formula():
    mechanism = CorrelatedGaussian(clip=0.5, independent=0.3, correlated=2.0, batch=4)
    sums = torch.randn(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = mechanism.privatize(sums, own(3), pairs())
    for i, generator in enumerate(own(3)):
        u = 0.3 * generator.standard_normal(5)
        v = sum(
            np.sign(j - i) * 2.0 * pairs()(min(i, j), max(i, j)).standard_normal(5)
            for j in range(3)
            if j != i
        )
        expected = (sums[i].numpy() + 0.5 * (u + v)) / 4
        np.testing.assert_allclose(found[i].numpy(), expected, atol=mechanism.grid)


def test_the_correlated_part_cancels_in_the_mean():
    mechanism = CorrelatedGaussian(clip=1.0, independent=0.1, correlated=100.0, batch=1)
    n, k = 8, 4000
    messages = mechanism.privatize(torch.zeros(n, k, dtype=torch.float64), own(n), pairs())
    mean = messages.mean(0).numpy()
    expected = 0.1 / math.sqrt(n)
    assert abs(mean.std() / expected - 1) < 4 / math.sqrt(2 * k)
    for row in messages.numpy():  # alone, a message is all noise
        assert stats.kstest(row / mechanism.noise_std(n), "norm").pvalue > 1e-4
    assert mechanism.noise_std(n) == pytest.approx(math.sqrt(0.01 + 7 * 100.0**2))


@given(
    n=st.integers(1, 8),
    f=st.integers(0, 7),
    independent=st.floats(0.05, 5),
    correlated=st.floats(0, 20),
)
def test_the_multiplier_is_that_of_the_honest_clients_covariance(n, f, independent, correlated):
    f = min(f, n - 1)
    mechanism = CorrelatedGaussian(2.0, independent, correlated, 3)
    # every honest pair adds s_cor^2 (e_i - e_j)(e_i - e_j)^T; the colluders' pairs are known
    h = n - f
    covariance = independent**2 * np.eye(h)
    for i in range(h):
        for j in range(i):
            edge = np.eye(h)[i] - np.eye(h)[j]
            covariance += correlated**2 * np.outer(edge, edge)
    sigma = np.linalg.inv(covariance)[0, 0] ** -0.5
    assert mechanism.noise_multiplier(n, f) == pytest.approx(sigma, rel=1e-6)
    assert mechanism.event(0.1, n, f, 5) == Event(mechanism.noise_multiplier(n, f), 0.1, 5)


def test_more_colluders_reveal_more_and_the_limits_are_local_and_central():
    mechanism = CorrelatedGaussian(1.0, 0.5, 3.0, 1)
    by_colluders = [mechanism.noise_multiplier(20, f) for f in range(20)]
    assert by_colluders == sorted(by_colluders, reverse=True)
    assert by_colluders[-1] == pytest.approx(0.5)  # alone: its own noise
    large = CorrelatedGaussian(1.0, 0.5, 1e6, 1).noise_multiplier(20, 4)
    assert large == pytest.approx(0.5 * math.sqrt(16), rel=1e-6)


@pytest.mark.parametrize(("n", "f"), [(2, 0), (20, 4), (50, 20)])
@pytest.mark.parametrize("slack", [0.01, 0.1, 1.0])
def test_calibration_is_worth_the_wanted_multiplier(n, f, slack):
    mechanism = CorrelatedGaussian.calibrated(1.0, 16, 2.5, n, f, slack)
    assert mechanism.noise_multiplier(n, f) >= 2.5 * (1 - 1e-12)
    if mechanism.correlated:
        assert mechanism.noise_multiplier(n, f) == pytest.approx(2.5)
    assert mechanism.independent == pytest.approx(2.5 * math.sqrt((1 + slack) / (n - f)))


def test_repair_leaves_only_the_noise_of_those_who_are_present():
    mechanism, n, k = CorrelatedGaussian(1.0, 0.01, 50.0, 2), 6, 500
    messages = mechanism.privatize(torch.ones(n, k, dtype=torch.float64), own(n), pairs())
    present = [0, 2, 3, 5]
    broken = messages[present].mean(0) - 0.5
    assert broken.std() > 5
    repaired = mechanism.repair(messages, [1, 4], pairs())
    left = repaired[present].mean(0) - 0.5
    assert float(left.std()) == pytest.approx(0.005 / 2, rel=0.2)
    assert not repaired[[1, 4]].any()
    # each message is still hidden by the pairs among the present
    assert float(repaired[0].std()) == pytest.approx(mechanism.noise_std(4), rel=0.2)
    assert torch.equal(mechanism.repair(messages, [], pairs()), messages)
    with pytest.raises(ValueError, match=r"absent=\[6\] are no clients of 0..5"):
        mechanism.repair(messages, [6], pairs())


def test_wrong_arguments_are_refused():
    good = {"clip": 1.0, "independent": 1.0, "correlated": 1.0, "batch": 2}
    for name in good:
        with pytest.raises(ValueError, match=f"{name}=-1"):
            CorrelatedGaussian(**good | {name: -1})
    mechanism = CorrelatedGaussian(**good)
    with pytest.raises(ValueError, match="share one"):
        mechanism.privatize(torch.zeros(2, 3), own(1) * 2, pairs())
    with pytest.raises(ValueError, match="not finite"):
        mechanism.privatize(torch.full((1, 1), math.nan), own(1), pairs())
    with pytest.raises(ValueError, match="f=5 must be >= 0 and <= 4 for n=5"):
        mechanism.noise_multiplier(5, 5)
    with pytest.raises(ValueError, match="f=4 must be >= 0 and <= 3 for n=5"):
        CorrelatedGaussian.calibrated(1.0, 1, 1.0, 5, 4)
    with pytest.raises(ValueError, match="slack=0 must be > 0"):
        CorrelatedGaussian.calibrated(1.0, 1, 1.0, 5, 0, slack=0)


@given(
    present=st.sets(st.integers(0, 6), min_size=1),
    own_rows=st.integers(1, 127),
    seed=st.integers(0),
)
def test_part_of_a_cohort_gets_the_rows_that_the_whole_one_would(present, own_rows, seed):
    mechanism, k = CorrelatedGaussian(0.5, 0.3, 2.0, 4), 3
    everybody = list(range(7))
    rng = np.random.default_rng(seed)
    sums = torch.from_numpy(rng.normal(size=(7, k)))
    whole = mechanism.release(sums, own(7), pairs(), everybody).messages
    some = [i for i in everybody if own_rows >> i & 1]
    generators = [own(7)[i] for i in some]
    part = mechanism.release(sums[some], generators, pairs(), some, set(everybody)).messages
    assert torch.equal(part, whole[some])
    absent = [i for i in everybody if i not in present]
    left = [i for i in some if i in present]
    repaired = mechanism.repair(whole, absent, pairs())[left]
    assert torch.equal(mechanism.repair(whole[left], absent, pairs(), left), repaired)


@pytest.mark.parametrize(("n", "f", "uncancelled"), [(20, 4, 0), (20, 4, 4), (20, 4, 1), (7, 3, 3)])
def test_the_best_slack_leaves_the_least_noise_in_the_mean(n, f, uncancelled):
    def left(slack):
        mechanism = CorrelatedGaussian.calibrated(1.0, 1, 1.0, n, f, slack)
        return mechanism.independent**2 + uncancelled * mechanism.correlated**2

    best = CorrelatedGaussian.best_slack(n, f, uncancelled)
    assert 0.1 <= best <= n - f - 1
    for slack in np.geomspace(0.1, n - f - 1, 50):
        assert left(best) <= left(slack) * (1 + 1e-9)


def test_where_nothing_would_cancel_everybody_noises_for_himself():
    slack = CorrelatedGaussian.best_slack(10, 5, 5)
    mechanism = CorrelatedGaussian.calibrated(1.0, 1, 2.0, 10, 5, slack)
    assert mechanism.independent == pytest.approx(2.0)
    assert mechanism.correlated == pytest.approx(0.0, abs=1e-6)
