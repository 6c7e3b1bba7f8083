"""The private quantile: its sensitivity, its price, where it settles."""

import math

import numpy as np
import pytest

from fedsieve.privacy import AdaptiveClip, Event


def own(n, seed=0):
    return [np.random.default_rng([seed, i]) for i in range(n)]


def test_shares_are_the_formula_and_an_empty_batch_is_pure_noise():
    adaptive = AdaptiveClip(noise_std=2.0)
    norms = [np.array([0.1, 3.0, 1.0]), np.empty(0), np.array([np.inf, np.nan])]
    found = adaptive.shares(norms, clip=1.0, batch=10, generators=own(3))
    for share, total, generator in zip(found, (0.5, 0.0, -1.0), own(3), strict=True):
        noise = 2.0 * generator.standard_normal()
        assert share == pytest.approx(0.5 + (total + noise) / 10, abs=1e-5)


@pytest.mark.parametrize("extra", [0.0, 5.0, np.inf])
def test_one_record_moves_the_count_by_one_half(extra):
    adaptive, norms = AdaptiveClip(noise_std=2.0), np.array([0.1, 3.0, 1.0])
    first = adaptive.shares([norms], 1.0, 10, own(1))
    second = adaptive.shares([np.append(norms, extra)], 1.0, 10, own(1))
    assert abs(first - second)[0] * 10 == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize("sigma", [0.5, 2.0])
def test_both_releases_together_are_worth_the_wanted_multiplier(sigma):
    adaptive = AdaptiveClip(noise_std=1.5)
    gradient = adaptive.gradient_multiplier(sigma)
    assert gradient > sigma
    event = adaptive.event(gradient, 0.1, 7)
    assert event.noise_multiplier == pytest.approx(sigma)
    assert (event.sampling_rate, event.steps) == (0.1, 7)
    # the whitened move of one record: C / (gradient C) and 0.5 / s
    assert math.hypot(1 / gradient, 0.5 / 1.5) == pytest.approx(1 / sigma)
    assert isinstance(event, Event)


def test_the_clip_settles_at_the_quantile():
    adaptive, generator = AdaptiveClip(noise_std=5.0, quantile=0.7), np.random.default_rng(0)
    clip, seen = 50.0, []
    for t in range(300):
        norms = [generator.exponential(size=generator.poisson(100)) for _ in range(3)]
        clip = adaptive.next_clip(clip, adaptive.shares(norms, clip, 100, own(3, t + 1)).mean())
        seen.append(clip)
    assert np.mean(seen[100:]) == pytest.approx(-math.log(0.3), rel=0.05)


def test_wrong_arguments_are_refused():
    for name in ("noise_std", "rate"):
        with pytest.raises(ValueError, match=f"{name}=0 must be finite and > 0"):
            AdaptiveClip(**{"noise_std": 1.0} | {name: 0})
    with pytest.raises(ValueError, match=r"quantile=1 must be in \(0, 1\)"):
        AdaptiveClip(1.0, quantile=1)
    with pytest.raises(ValueError, match=r"noise_std=1\.0 must be > 1\.5"):
        AdaptiveClip(1.0).gradient_multiplier(3.0)
    with pytest.raises(ValueError, match="each needs its own"):
        AdaptiveClip(1.0).shares([np.ones(1)] * 2, 1.0, 2, own(1) * 2)


@pytest.mark.parametrize("share", [0.001, 0.02, 0.5])
def test_counts_may_be_given_a_share_of_the_cost(share):
    adaptive = AdaptiveClip.costing(1.7, share, quantile=0.3, rate=0.1)
    assert (adaptive.quantile, adaptive.rate) == (0.3, 0.1)
    own = adaptive.gradient_multiplier(1.7)
    assert own == pytest.approx(1.7 / math.sqrt(1 - share))
    assert adaptive.event(own, 0.1).noise_multiplier == pytest.approx(1.7)
    with pytest.raises(ValueError, match=r"share=1\.5 must be in \(0, 1\)"):
        AdaptiveClip.costing(1.7, 1.5)
