"""Attacks of one line: noise, cancellation, garbage, false labels, wrong scales, rare indices."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fedsieve.poisoning import (
    ALIE,
    Garbage,
    Gaussian,
    IndexPoisoning,
    Knowledge,
    RandomLabels,
    ScaleAbuse,
    TargetedLabelFlip,
    ZeroGradient,
    published_z,
)


def test_gaussian_has_the_declared_mean_and_spread(scene):
    s = scene(f=20, k=500)
    rows = Gaussian(strength=3.0).craft(s)
    n = rows.numel()
    assert float(rows.mean()) == pytest.approx(0, abs=4 * 3 / math.sqrt(n))
    assert float(rows.std()) == pytest.approx(3, abs=4 * 3 / math.sqrt(2 * n))
    assert not torch.equal(rows[0], rows[1])
    around = Gaussian(strength=0.0, centre="mean")
    torch.testing.assert_close(around.craft(s), s.mean.expand(20, -1))
    assert around.knowledge == Knowledge.UPDATES
    assert float(Gaussian().craft(s).std()) == pytest.approx(200, rel=0.03)


def test_zero_gradient_stops_the_average(scene):
    s = scene(h=8, f=3)
    stack = torch.cat([s.honest, ZeroGradient().craft(s)])
    torch.testing.assert_close(stack.mean(dim=0), torch.zeros_like(s.mean))


@pytest.mark.parametrize("kind", ["nan", "inf", "huge", "bytes"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_garbage(scene, kind, dtype):
    rows = Garbage(kind=kind).craft(scene(f=3, k=400, dtype=dtype))
    if kind == "nan":
        assert rows.isnan().sum(dim=1).tolist() == [1, 1, 1]
    elif kind == "inf":
        assert rows.isinf().all()
        assert set(rows[0].tolist()) == {math.inf, -math.inf}
    elif kind == "huge":
        assert rows.isfinite().all()
        assert rows.float().square().isinf().all()
    else:
        exponents = rows[rows.isfinite()].abs().log10()
        assert float(exponents.max() - exponents.min()) > 30


def test_published_alie_and_its_partial_form(scene):
    s = scene(h=38, f=12)
    z = published_z(50, 12)
    expected = s.mean - z * s.std
    torch.testing.assert_close(ALIE(strength="published").craft(s), expected.expand(12, -1))
    own = s.own.mean(dim=0) - z * s.own.std(dim=0, correction=0)
    partial = ALIE(strength="published", partial=True)
    torch.testing.assert_close(partial.craft(s), own.expand(12, -1))
    with pytest.raises(ValueError, match="partial=True needs a strength"):
        ALIE(partial=True)


def test_random_labels_are_wrong_and_uniform():
    labels = torch.full((9000,), 3)
    wrong = RandomLabels().poison_labels(labels, 10, np.random.default_rng(0))
    counts = torch.bincount(wrong, minlength=10)
    assert counts[3] == 0
    error = math.sqrt(9000 * (1 / 9) * (8 / 9))
    assert ((counts[counts > 0] - 1000).abs() < 4 * error).all()
    some = RandomLabels(strength=0.25).poison_labels(labels, 10, np.random.default_rng(0))
    assert float((some != 3).float().mean()) == pytest.approx(
        0.25, abs=4 * math.sqrt(0.1875 / 9000)
    )


def test_targeted_label_flip():
    labels = torch.tensor([0, 4, 9, 4])
    attack = TargetedLabelFlip(source=4, target=2)
    assert attack.poison_labels(labels, 10, np.random.default_rng(0)).tolist() == [0, 2, 9, 2]
    with pytest.raises(ValueError, match=r"must lie in 0\.\.3"):
        attack.poison_labels(labels, 4, np.random.default_rng(0))
    with pytest.raises(ValueError, match="source=2 and target=2 must be two classes"):
        TargetedLabelFlip(source=2, target=2)


def test_a_wrong_scale_keeps_the_direction(scene):
    s = scene()
    torch.testing.assert_close(ScaleAbuse().craft(s), 1e6 * s.own)


def test_index_poisoning_takes_what_nobody_sends(scene):
    sparse = torch.zeros(8, 100, dtype=torch.float64)
    sparse[:, :90] = torch.from_numpy(np.random.default_rng(0).normal(size=(8, 90)))
    sparse[0, 90:95] = 100.0  # large, but of one client only
    sparse[:, 0] *= 1e-6  # small, but everybody's
    s = scene(honest=sparse, k=100)
    rows = IndexPoisoning(strength=0.07).craft(s)
    used = torch.nonzero(rows[0]).flatten()
    assert set(range(95, 100)) < set(used.tolist()) < set(range(90, 100))
    assert len(used) == 7
    assert torch.equal(rows[0], rows[1])
    torch.testing.assert_close(rows[0].norm(), sparse.norm(dim=1).median())
    senders = (torch.cat([sparse, rows]) != 0).sum(dim=0).clamp(min=1)
    captured = torch.cat([sparse, rows]).sum(dim=0) / senders
    torch.testing.assert_close(captured[95:], rows[0, 95:])  # the mean over senders is theirs
    robust = torch.cat([sparse, rows]).median(dim=0).values
    assert robust[95:].eq(0).all()  # the median is not


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gaussian(strength=-1), "strength=-1 must be finite and >= 0, or None for 200"),
        (lambda: Gaussian(centre="median"), "centre='median' is not one of zero, mean"),
        (lambda: Garbage(kind="zip"), "kind='zip' is not one of nan, inf, huge, bytes"),
        (lambda: IndexPoisoning(strength=0.0), r"strength=0.0 must lie in \(0, 1\]"),
        (lambda: RandomLabels(strength=2), r"must lie in \[0, 1\]"),
        (lambda: ALIE(strength="strong"), "None for a line search, or 'published'"),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
