"""How far one record moves the sum of a large batch: rounding must not add to the clip.

The bound is in `fedsieve.learning._work`. Records that all pull one way are the hardest case: their
sum grows as long as it can, and a float32 sum of 10^4 such vectors of norm C is rounded at 2^-10 C.
"""

from __future__ import annotations

import functools
import itertools
import warnings

import pytest
import torch
from torch import Tensor, nn

from fedsieve.learning import _work
from fedsieve.learning.clipping import Clip
from fedsieve.learning.flat import FlatModel
from fedsieve.learning.gradients import PerSampleGradients, SlowPathWarning
from fedsieve.learning.layers import _bilinear
from fedsieve.learning.losses import cross_entropy, squared_error
from fedsieve.privacy.discrete.sum_lattice import SLACK
from tests.learning.gradient_cases import case, clipped, subspace

NAMES = ("mlp", "cnn", "sequence", "normed")
CLIP = 0.805
LAST_BITS = 2.0**-16
"""Share of the clip by which the last bits of all the others' gradients were allowed to move."""
WAYS = {"one pass": {}, "many passes": {"memory": 2**16}, "built": {"method": "functional"}}


@functools.cache
def aligned(n: int) -> tuple[Tensor, Tensor]:
    """Records whose gradients point nearly one way, all of them longer than the clip."""
    generator = torch.Generator().manual_seed(1777)
    x = torch.rand(n, 2, generator=generator) + 3
    return x, -(torch.rand(n, generator=generator) * 5 + 5)


def linear(**way: object) -> PerSampleGradients:
    return PerSampleGradients(FlatModel(nn.Linear(2, 1, bias=False), (2,)), squared_error, **way)


@pytest.mark.parametrize("own", [False, True], ids=["shared", "own"])
@pytest.mark.parametrize(
    ("n", "way"), [*itertools.product([10_074], WAYS), (100_000, "one pass"), (100_000, "built")]
)
def test_one_record_of_a_large_batch_moves_the_sum_by_the_clip(n: int, way: str, own: bool) -> None:
    engine, (x, y) = linear(**WAYS[way]), aligned(n)
    theta = torch.zeros(1, 2) if own else torch.zeros(2)

    def total(x: Tensor, y: Tensor) -> Tensor:
        found = engine.clipped_sums(theta, x, y, (len(x),), clip=CLIP).sums
        assert found.dtype == torch.float64
        return found[0]

    whole = total(x, y)
    for place in (0, 117, n // 2, n - 1):
        kept = torch.arange(n) != place
        removed = total(x[kept], y[kept])
        assert float((whole - removed).norm()) <= CLIP * (1 + LAST_BITS)
        opposite, spoilt = y.clone(), x.clone()
        opposite[place], spoilt[place] = 9.0, torch.nan
        assert float((whole - total(x, opposite)).norm()) <= 2 * CLIP * (1 + LAST_BITS)
        assert float((removed - total(spoilt, y)).norm()) <= CLIP * LAST_BITS


@pytest.mark.parametrize("n", [_work.FEW, _work.FEW + 1, 2 * _work.FEW])
@pytest.mark.parametrize("name", NAMES)
def test_one_record_of_a_usual_batch_moves_the_sum_by_the_clip(name: str, n: int) -> None:
    """Both sides of the change from float32 to float64, where one of the sums is still float32."""
    model, theta, x, y, generator = case(name, torch.float32)
    at = torch.randint(len(x), (n,), generator=generator)
    engine = PerSampleGradients(model, cross_entropy)
    engine.settle(theta, x, y)
    whole = engine.clipped_sums(theta, x[at], y[at], (n,), clip=1e-3).sums[0].double()
    for place in (0, n // 2, n - 1):
        rest = torch.cat([at[:place], at[place + 1 :]])
        removed = engine.clipped_sums(theta, x[rest], y[rest], (n - 1,), clip=1e-3).sums[0]
        assert float((whole - removed.double()).norm()) <= 1e-3 * (1 + SLACK / 10)


def test_the_worst_case_of_a_sum_stays_within_the_allowance() -> None:
    assert 2 * _work.FEW**2 * 2.0**-24 / (1 - _work.FEW * 2.0**-24) <= SLACK
    assert 2 * _work.MOST**2 * 2.0**-53 / (1 - _work.MOST * 2.0**-53) <= SLACK / 4 * (1 + 1e-9)


def test_a_sum_of_more_than_the_bound_covers_is_refused() -> None:
    engine = PerSampleGradients(FlatModel(nn.Linear(1, 1, bias=False), (1,)), squared_error)
    x = torch.ones(_work.MOST + 1, 1)
    with pytest.raises(ValueError, match=f"counts holds {2**20 + 1}: .* allowed is {2**20}"):
        engine.clipped_sums(torch.zeros(1), x, x[:, 0], (len(x),), clip=1.0)


@pytest.mark.parametrize("form", ["flat", "automatic", "per-layer"])
@pytest.mark.parametrize("name", NAMES)
def test_a_clipped_gradient_is_never_longer_than_the_clip(name: str, form: str) -> None:
    """Not by a unit in the last place: each record is a client of its own, its norm in float64."""
    model, theta, x, y, _ = case(name, torch.float32)
    for norm in (1e-3, 3.3e-3, 0.01):
        found = PerSampleGradients(model, cross_entropy).clipped_sums(
            theta, x, y, (1,) * len(x), clip=Clip(norm, form)
        )
        assert float(found.sums.double().norm(dim=1).max()) <= norm
        if form == "flat":
            assert float(found.factors.min()) < 1


@pytest.mark.parametrize("kind", ["identity", "alternating", "few", "mixed"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("built", [False, True])
def test_a_wide_sum_is_that_of_the_clipped_gradients(
    name: str, kind: str, built: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every layer and projection, kept and built anew; beside it a client that stays in float32."""
    if built:
        monkeypatch.setattr(_bilinear, "DENSE_BYTES", 0)
    model, theta, x, y, generator = case(name, torch.float32)
    plan = subspace(kind, model.layout, generator, torch.float32)
    at = torch.randint(len(x), (203,), generator=generator)
    counts = (3, 200)
    engine = PerSampleGradients(model, cross_entropy, method="closed-form")
    rows = engine.per_sample(theta, x[at], y[at], plan).double()
    clip = float(rows.norm(dim=1).median()) or 1.0
    found = engine.clipped_sums(theta, x[at], y[at], counts, clip=clip, subspace=plan)
    assert found.sums.dtype == torch.float64
    error = (found.sums - clipped(rows, counts, clip)[0]).norm(dim=1)
    assert float(error[1]) <= 1e-5 * 200 * clip
    assert torch.equal(found.sums[0], found.sums[0].float().double())
    for own in (theta, theta.repeat(2, 1)):
        again = engine.clipped_sums(own, x[at], y[at], counts, clip=clip, subspace=plan)
        assert float((again.sums - found.sums).norm()) <= 1e-5 * 203 * clip


@pytest.mark.parametrize("way", WAYS)
def test_the_bits_of_a_small_batch_do_not_depend_on_a_large_one_beside_it(way: str) -> None:
    generator = torch.Generator().manual_seed(0)
    module = nn.Sequential(nn.Linear(5, 400), nn.Tanh(), nn.Linear(400, 3))
    model = FlatModel(module, (5,))
    engine = PerSampleGradients(model, cross_entropy, **WAYS[way])
    x = torch.randn(380, 5, generator=generator)
    y = torch.randint(3, (380,), generator=generator)
    thetas = model.read().repeat(2, 1)
    engine.settle(thetas[0], x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SlowPathWarning)
        both = engine.clipped_sums(thetas, x, y, (80, 300), clip=0.1).sums
        alone = engine.clipped_sums(thetas[0], x[:80], y[:80], (80,), clip=0.1).sums
    assert (both.dtype, alone.dtype) == (torch.float64, torch.float32)
    assert torch.equal(both[0], alone[0].double())


def test_without_a_clip_nothing_is_widened() -> None:
    x, y = aligned(10_074)
    assert linear().clipped_sums(torch.zeros(2), x, y, (len(x),), clip=None).sums.dtype == x.dtype
