"""What every registered projection promises."""

import itertools
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from fedsieve.compression.projections import LowRank, RandomBasis, RandomMask, is_identity
from fedsieve.learning.flat import FlatModel
from fedsieve.learning.layout import Keep
from fedsieve.registry import component, components

NAMES = [c.name for c in components("projection")]
MODULE = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 5))
LAYOUT = FlatModel(MODULE, (1, 8, 8)).layout
BASES = ("random-basis", "low-rank")
SMALLEST = {"identity": LAYOUT.d, "random-mask": 1, "dct": 12 + 77} | dict.fromkeys(BASES, 34)


def plan(name, k=None, round_=0, seed=1, history=None, **more):
    return component("projection", name).build(k=k, **more).plan(LAYOUT, round_, seed, history)


def history(seed=0):
    return torch.randn(LAYOUT.d, generator=torch.Generator().manual_seed(seed))


def same(a, b):
    probe = history(9)
    return a.k == b.k and torch.equal(a.project(probe), b.project(probe))


def test_all_of_them_are_here():
    assert set(NAMES) == set(SMALLEST)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("k", [None, 200, 400, LAYOUT.d])
def test_rows_are_orthonormal_and_no_more_than_k(name, k):
    k = LAYOUT.d if name == "identity" else k
    for known in (None, history(), torch.zeros(LAYOUT.d)):
        subspace = plan(name, k, history=known)
        assert subspace.d == LAYOUT.d
        assert subspace.k == sum(
            m.width(s) for m, s in zip(subspace.maps, LAYOUT.slots, strict=True)
        )
        if k is not None:
            assert subspace.k <= k
            assert subspace.k == k or name not in ("identity", "random-mask")
            assert k < LAYOUT.d or is_identity(subspace) or subspace.k == LAYOUT.d
        A = subspace.project(torch.eye(LAYOUT.d, dtype=torch.float64)).T
        torch.testing.assert_close(
            A @ A.T, torch.eye(subspace.k, dtype=torch.float64), atol=1e-6, rtol=0
        )
        assert subspace.spectral_norm == pytest.approx(
            float(torch.linalg.matrix_norm(A, 2)), rel=1e-6
        )


@pytest.mark.parametrize("name", ["dct", "random-basis", "low-rank"])
def test_one_more_number_would_not_fit(name):
    found = sorted({plan(name, k).k for k in range(SMALLEST[name], LAYOUT.d + 1)})
    assert found[0] == SMALLEST[name]
    for below, above in itertools.pairwise(found):
        assert plan(name, above - 1).k == below
        assert plan(name, above).k == above


@pytest.mark.parametrize("name", NAMES)
def test_the_stated_unbiasedness_is_true(name):
    k = LAYOUT.d if name == "identity" else 120
    x = history(3)
    draws = [plan(name, k, seed=s) for s in range(300)]
    lifted = torch.stack([s.lift(s.project(x)) for s in draws]).double()
    error = lifted.mean(0) - x
    standard = (lifted.std(0) / len(draws) ** 0.5).norm()
    assert draws[0].unbiased == (float(error.norm()) <= 5 * float(standard) + 1e-6)


@pytest.mark.parametrize("name", ["random-mask", "random-basis"])
def test_a_random_projection_keeps_its_share_of_the_energy(name):
    # the first layer alone: other layers are kept by the bases
    first = LAYOUT.slots[0]
    x = torch.zeros(LAYOUT.d)
    x[: first.size] = history(4)[: first.size]
    draws = [plan(name, 300, seed=s) for s in range(200)]
    shares = torch.stack([s.project(x).square().sum() / x.square().sum() for s in draws])
    expected = 300 / LAYOUT.d
    if name == "random-basis":
        expected = draws[0].maps[0].basis.shape[1] / first.matrix[1]
    assert abs(shares.mean() - expected) <= 5 * shares.std() / len(draws) ** 0.5


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_map_and_the_key_is_the_round_block(name):
    assert same(plan(name, seed=7), plan(name, seed=7))
    refreshed = {"refresh": 3, "seed": 7}
    assert same(plan(name, round_=3, **refreshed), plan(name, round_=5, **refreshed))
    drawn = name in ("random-mask", "random-basis", "low-rank")
    assert same(plan(name, round_=2, **refreshed), plan(name, round_=3, **refreshed)) != drawn
    assert same(plan(name, seed=7), plan(name, seed=8)) != drawn
    assert same(plan(name, round_=0, refresh=0), plan(name, round_=99, refresh=0))


@pytest.mark.parametrize("name", NAMES)
def test_only_a_learning_projection_reads_the_history(name):
    learns = bool(getattr(component("projection", name).build(), "learns", False))
    known = plan(name, history=history(), refresh=10)
    assert same(known, plan(name, refresh=10)) != learns
    assert learns == (name == "low-rank")


@pytest.mark.parametrize("name", NAMES)
def test_a_plan_can_be_sent_to_a_worker(name):
    subspace = plan(name)
    assert same(pickle.loads(pickle.dumps(subspace)), subspace)


@pytest.mark.parametrize("name", NAMES)
def test_k_outside_the_legal_range_is_refused_with_the_nearest(name):
    smallest = SMALLEST[name]
    with pytest.raises(ValueError, match=rf"k={LAYOUT.d + 1} is not in .*nearest is k={LAYOUT.d}"):
        plan(name, LAYOUT.d + 1)
    if smallest > 1:
        with pytest.raises(ValueError, match=f"k={smallest - 1} .*nearest is k={smallest}"):
            plan(name, smallest - 1)
    plan(name, smallest)
    with pytest.raises(ValueError, match=r"k=0 must be >= 1"):
        plan(name, 0)
    with pytest.raises(ValueError, match=r"refresh=-1 must be >= 0"):
        plan(name, refresh=-1)


def test_a_mask_chooses_every_coordinate_equally_often():
    counts = torch.zeros(LAYOUT.d)
    for seed in range(400):
        counts += plan("random-mask", 200, seed=seed).lift(torch.ones(200))
    expected = 400 * 200 / LAYOUT.d
    deviation = (expected * (1 - 200 / LAYOUT.d)) ** 0.5
    assert float(((counts - expected) / deviation).abs().max()) < 5


def test_small_layers_are_kept_whole():
    for made in (RandomBasis(k=300), LowRank(k=300)):
        maps = made.plan(LAYOUT, 0, 0, None).maps
        assert [m == Keep() for m in maps] == [False, True, True, True]
    assert RandomMask(k=1).plan(LAYOUT, 0, 0, None).k == 1


def test_energy_of_the_history_is_captured():
    generator = np.random.default_rng(0)
    first = LAYOUT.slots[0]
    released = torch.zeros(LAYOUT.d)
    thin = generator.standard_normal((12, 3)) @ generator.standard_normal((3, 64))
    released[: first.size] = torch.from_numpy(thin).float().flatten()
    learned, random = (LowRank(k=300, refresh=r).plan(LAYOUT, 10, 0, released) for r in (10, 0))
    kept = [float(s.project(released).norm() / released.norm()) for s in (learned, random)]
    assert kept[0] == pytest.approx(1.0, abs=1e-5)
    assert kept[1] < 0.8


def test_exploration_brings_new_directions():
    released = history()
    one, two = (LowRank(k=300, refresh=10).plan(LAYOUT, t, 0, released) for t in (10, 20))
    assert not same(one, two)
    r = one.maps[0].basis.shape[1]
    shared = one.maps[0].basis.T @ two.maps[0].basis
    singular = torch.linalg.svdvals(shared)
    assert int((singular > 1 - 1e-5).sum()) == min(r - max(1, -(-r // 4)), 12)
    with pytest.raises(ValueError, match="exploration=0"):
        LowRank(exploration=0.0)
