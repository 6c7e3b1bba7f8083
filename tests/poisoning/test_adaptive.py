"""Attacks adapted to projections, privacy noise and memories, and ROP."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from fedsieve.compression.projections import RandomMask
from fedsieve.learning.layout import Layout, Slot
from fedsieve.poisoning import ROP, HideInNoise, MaskAware, SketchCollision, SlowBias, UnNoised

LAYOUT = Layout((Slot("w", (1, 400), 0),), (400,))
MASK = RandomMask(k=40, refresh=1)


def mask(t):
    return MASK.plan(LAYOUT, t, 3, None)


def test_mask_aware_strikes_in_the_better_quarter_of_the_rounds(scene):
    """The gradient has few large entries: some masks hold them and most do not."""
    heavy = torch.zeros(400, dtype=torch.float64)
    heavy[::40] = 1.0
    attack = MaskAware(strength=1.0)
    struck, captured = [], []
    for t in range(60):
        s = scene(
            honest=mask(t).project(heavy).expand(6, -1).contiguous(),
            own=torch.full((2, 40), 0.5, dtype=torch.float64),
            k=40,
            subspace=mask(t),
            foresee=lambda i, t=t: mask(t + i),
            memory={"aim": heavy},
        )
        rows = attack.craft(s)
        struck.append(not torch.equal(rows, s.own))
        captured.append(float(mask(t).project(heavy).norm()))
        if struck[-1]:
            torch.testing.assert_close(rows, (-s.mean).expand(2, -1))
        later = [float(mask(t + i).project(heavy).norm()) for i in range(8)]
        assert struck[-1] == (later[0] >= np.quantile(later, 0.75))
    kept = np.array(captured)
    assert 0.2 < np.mean(struck) < 0.65  # ties count as favourable
    assert kept[struck].mean() > 1.3 * kept[~np.array(struck)].mean()


def test_mask_aware_remembers_where_training_goes(scene):
    s = scene(k=40, subspace=mask(0))
    memory = MaskAware().remember(s, s.own)
    torch.testing.assert_close(memory["aim"], mask(0).lift(s.mean))
    later = replace(s, memory=memory, subspace=mask(1))
    expected = 0.9 * memory["aim"] + 0.1 * mask(1).lift(s.mean)
    torch.testing.assert_close(MaskAware().remember(later, s.own)["aim"], expected)


class CountSketch:
    """Buckets of unequal size, signs at random: the lift makes full buckets long."""

    d, k, maps = 60, 10, None

    def __init__(self):
        rng = np.random.default_rng(0)
        bucket = np.minimum(rng.geometric(0.3, 60) - 1, 9)
        bucket[:10] = np.arange(10)
        self.A = torch.zeros(10, 60, dtype=torch.float64)
        self.A[bucket, np.arange(60)] = torch.from_numpy(rng.choice([-1.0, 1.0], 60))

    def project(self, x):
        return x @ self.A.T

    def lift(self, y):
        return y @ self.A

    def to(self, device):
        return self


def test_sketch_collision_is_the_worst_message_at_its_distance(scene):
    sketch = CountSketch()
    s = scene(k=10, subspace=sketch)
    rows = SketchCollision(strength=1.0).craft(s)
    shift = rows[0] - s.mean
    torch.testing.assert_close(shift.norm(), s.std.norm())
    largest = torch.linalg.matrix_norm(sketch.A, 2) * s.std.norm()
    torch.testing.assert_close(sketch.lift(shift).norm(), largest)
    assert sketch.lift(shift) @ sketch.lift(s.mean) <= 0
    others = torch.from_numpy(np.random.default_rng(1).normal(size=(200, 10)))
    others *= s.std.norm() / others.norm(dim=1, keepdim=True)
    assert sketch.lift(others).norm(dim=1).max() <= largest
    assert sketch.lift(shift).norm() > 1.5 * sketch.lift(-s.mean).norm() * (
        s.std.norm() / s.mean.norm()
    )


def test_orthonormal_lifts_have_no_collisions(scene):
    s = scene(k=40, subspace=mask(0))
    for seed in range(5):
        shift = torch.from_numpy(np.random.default_rng(seed).normal(size=40))
        torch.testing.assert_close(mask(0).lift(shift).norm(), shift.norm())
    shift = SketchCollision(strength=2.0).craft(s)[0] - s.mean
    torch.testing.assert_close(shift, -2 * s.std.norm() * s.mean / s.mean.norm())


def private(scene, n=20, f=4, k=2000, std=0.1, **more):
    """Messages whose noise is much larger than their common mean."""
    rng = np.random.default_rng(0)
    mean = torch.full((k,), 0.01, dtype=torch.float64)
    honest = mean + torch.from_numpy(rng.normal(0, std, (n - f, k)))
    own = mean + torch.from_numpy(rng.normal(0, std, (f, k)))
    return scene(honest=honest, own=own, f=f, k=k, noise_std=std, **more), mean


def test_a_payload_as_long_as_the_noise_is_no_outlier(scene):
    s, mean = private(scene)
    rows = HideInNoise().craft(s)
    length = 0.1 * math.sqrt(2000)
    torch.testing.assert_close((rows[0] - s.mean).norm(), torch.tensor(length, dtype=torch.float64))
    stack = torch.cat([s.honest, rows])
    scores = torch.cdist(stack, stack).sort(dim=1).values[:, 1:15].square().sum(dim=1)
    assert scores[16:].max() < scores[:16].min()  # nearest to their neighbours
    moved = (stack.mean(dim=0) - s.mean) @ s.mean / s.mean.norm()
    assert float(moved) == pytest.approx(-4 / 20 * length)
    assert s.mean @ mean > 0  # which is where training goes, as far as anybody can tell
    # without seeing the others the direction is known less well, the length just as well
    alone = HideInNoise(partial=True).craft(s)
    assert float((alone[0] - s.own.mean(dim=0)).norm()) == pytest.approx(length)


def test_whoever_omits_the_noise_wins_krum(scene):
    wins = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        honest = torch.from_numpy(rng.normal(0, 0.1, (16, 500)))
        s = scene(honest=honest, own=torch.zeros(4, 500, dtype=torch.float64) + 0.01, f=4, k=500)
        stack = torch.cat([honest, UnNoised().craft(s)[:1]])  # one of them is enough
        scores = torch.cdist(stack, stack).square().sort(dim=1).values[:, 1:11].sum(dim=1)
        wins += int(scores.argmin()) == 16
    assert wins == 20
    assert UnNoised.omits_noise


def test_slow_bias_against_the_transcription(scene):
    """Never longer than the median honest message, and in the end nothing but bias."""
    attack, memory = SlowBias(strength=0.2), {}
    e, u = torch.zeros(30, dtype=torch.float64), None
    cosines = []
    for t in range(40):
        s = scene(h=9, f=3, k=30, seed=t, memory=memory)
        r = s.honest.norm(dim=1).sort().values[4]
        u = -s.mean / s.mean.norm() if u is None else u
        sent = [x + e for x in s.own]
        sent = torch.stack([m * min(1.0, float(r / m.norm())) for m in sent])
        rows = attack.craft(s)
        torch.testing.assert_close(rows, sent)
        assert (rows.norm(dim=1) <= r * (1 + 1e-12)).all()
        e = e + 0.2 * r * u
        memory = attack.remember(s, rows)
        torch.testing.assert_close(memory["residual"], e)
        cosines.append(float(rows[0] @ u / rows[0].norm()))
    assert cosines[0] < 0.3 < 0.9 < cosines[-1]


def test_rop_is_orthogonal_to_its_reference_and_of_the_declared_length(scene):
    s = scene(h=10, k=20)
    r, mu = s.last, s.mean
    c = 0.9 * r + 0.1 * mu
    shift = ROP(strength=2.0).craft(s)[0] - r
    assert float(shift @ c) == pytest.approx(0, abs=1e-9)
    assert shift @ mu < 0
    torch.testing.assert_close(shift.norm(), 2 * s.std.norm())
    first = ROP(relocation=0.5).craft(replace(s, last=None))[0]
    # without history there is nothing but the mean
    assert float(first @ mu / first.norm() / mu.norm()) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ROP(relocation=1.5), r"relocation=1.5 must lie in \[0, 1\]"),
        (lambda: ROP(strength=-1), "or None for 1"),
        (lambda: MaskAware(horizon=0), "horizon=0 must be an integer >= 1"),
        (lambda: MaskAware(strength=-1), "strength=-1 must be finite and >= 0"),
        (lambda: SketchCollision(strength=math.nan), "strength=nan must be finite"),
        (lambda: HideInNoise(strength=-2), "or None for 1"),
        (lambda: SlowBias(strength=-2), "or None for 0.1"),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
