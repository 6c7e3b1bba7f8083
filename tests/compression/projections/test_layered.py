"""Layered maps against the explicit matrix A (k, d)."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsieve.compression.projections import LayeredSubspace, carry, is_identity
from fedsieve.learning.layout import Entries, InputBasis, Keep, Layout, Slot

LAYOUT = Layout((Slot("w", (4, 6), 0), Slot("b", (4,), 24), Slot("c", (3, 2, 2), 28)), (6,))


def draw_map(rng, slot, kind):
    if kind == "keep":
        return Keep()
    if kind == "basis":
        inputs = slot.matrix[1]
        basis, _ = np.linalg.qr(rng.standard_normal((inputs, rng.integers(1, inputs + 1))))
        return InputBasis(torch.from_numpy(basis))
    chosen = rng.choice(slot.size, rng.integers(0, slot.size + 1), replace=False)
    return Entries(torch.from_numpy(np.sort(chosen)))


def draw(seed, kinds):
    rng = np.random.default_rng(seed)
    maps = tuple(draw_map(rng, s, kind) for s, kind in zip(LAYOUT.slots, kinds, strict=True))
    return LayeredSubspace(LAYOUT, maps)


def matrix(subspace):
    """A (k, d), written out from the definition of each map."""
    blocks = []
    for slot, m in zip(subspace.layout.slots, subspace.maps, strict=True):
        match m:
            case InputBasis(basis):
                blocks.append(torch.kron(torch.eye(slot.matrix[0]), basis.T.double().contiguous()))
            case Entries(index):
                blocks.append(torch.eye(slot.size)[index].double())
            case _:
                blocks.append(torch.eye(slot.size).double())
    return torch.block_diag(*blocks)


def gaussian(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


kinds = st.tuples(*[st.sampled_from(["keep", "basis", "entries"])] * 3)
seeds = st.integers(0, 2**32 - 1)


@settings(deadline=None, max_examples=60)
@given(seed=seeds, kinds=kinds)
def test_project_lift_and_norm_are_those_of_the_matrix(seed, kinds):
    subspace = draw(seed, kinds)
    A = matrix(subspace)
    assert A.shape == (subspace.k, subspace.d)
    x = torch.randn(
        2, 3, subspace.d, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    y = torch.randn(
        2, 3, subspace.k, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    torch.testing.assert_close(subspace.project(x), x @ A.T)
    torch.testing.assert_close(subspace.lift(y), y @ A)
    torch.testing.assert_close((subspace.project(x) * y).sum(), (x * subspace.lift(y)).sum())
    torch.testing.assert_close(A @ A.T, torch.eye(subspace.k, dtype=torch.float64))
    expected = float(torch.linalg.matrix_norm(A, 2)) if subspace.k else 0.0
    assert subspace.spectral_norm == pytest.approx(expected)


@settings(deadline=None, max_examples=60)
@given(seed=seeds, before=kinds, after=kinds)
def test_carry_is_lift_then_project(seed, before, after):
    old, new = draw(seed, before), draw(seed + 1, after)
    y = gaussian(2, 5, old.k)
    carried = carry(LAYOUT, old, new, y)
    assert carried.shape == (5, new.k)
    torch.testing.assert_close(carried, y @ matrix(old) @ matrix(new).T)
    torch.testing.assert_close(carry(LAYOUT, old, new, y[0]), carried[0])
    assert carry(LAYOUT, old, old, y) is y


class Mixing:
    """A subspace that mixes layers: no maps."""

    maps = None

    def __init__(self, A):
        self.A, (self.k, self.d) = A, A.shape

    def project(self, x):
        return x @ self.A.T

    def lift(self, y):
        return y @ self.A


def test_carry_through_a_subspace_that_mixes_layers():
    old = Mixing(gaussian(0, 7, LAYOUT.d))
    new = draw(0, ("basis", "keep", "entries"))
    y = gaussian(1, 3, 7)
    torch.testing.assert_close(carry(LAYOUT, old, new, y), new.project(old.lift(y)))
    assert not is_identity(old)


def test_the_identity_copies_nothing():
    subspace = LayeredSubspace(LAYOUT, (Keep(), Keep(), Keep()), unbiased=True)
    x = gaussian(0, 2, LAYOUT.d)
    assert is_identity(subspace)
    assert subspace.project(x) is x
    assert subspace.lift(x) is x
    assert not is_identity(draw(0, ("keep", "basis", "keep")))


def test_a_norm_that_is_not_one_is_told():
    wide = LayeredSubspace(LAYOUT, (InputBasis(3 * torch.eye(6)), Keep(), Keep()))
    assert wide.spectral_norm == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        ((Keep(),), "maps has 1 entries"),
        ((InputBasis(torch.eye(5)), Keep(), Keep()), "'w' has 6 inputs; its basis has 5 rows"),
        ((Keep(), Entries(torch.tensor([0, 4])), Keep()), "'b' has 4 numbers; entry 4"),
    ],
)
def test_maps_that_do_not_fit_are_refused(maps, message):
    with pytest.raises(ValueError, match=message):
        LayeredSubspace(LAYOUT, maps)


def test_vectors_of_another_size_are_refused():
    subspace = draw(0, ("keep", "basis", "entries"))
    with pytest.raises(ValueError, match="do not end in d=40"):
        subspace.project(torch.zeros(2, 39))
    with pytest.raises(ValueError, match=f"do not end in k={subspace.k}"):
        subspace.lift(torch.zeros(subspace.k + 1))


def test_a_subspace_moves_with_its_maps():
    subspace = draw(0, ("basis", "keep", "keep"))
    moved = subspace.to("meta")  # the one other device that is always there
    assert moved.maps[0].basis.device.type == "meta"
    assert moved.project(torch.empty(2, LAYOUT.d, device="meta")).shape == (2, subspace.k)
    mixed = draw(0, ("basis", "keep", "entries"))
    x = gaussian(3, 2, LAYOUT.d)
    assert torch.equal(mixed.to("cpu").project(x), mixed.project(x))
