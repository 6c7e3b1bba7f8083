"""The cosine basis: scipy's transform, its order, and the models it fits."""

import numpy as np
import pytest
import torch
from scipy.fft import dctn
from torch import nn

from fedsieve.compression.projections import Dct
from fedsieve.compression.projections.dct import cosine_basis
from fedsieve.learning.flat import FlatModel
from fedsieve.learning.layout import InputBasis, Keep


def layout(module, shape):
    return FlatModel(module, shape).layout


def perceptron(*shape):
    inputs = int(np.prod(shape))
    return layout(
        nn.Sequential(nn.Flatten(), nn.Linear(inputs, 6), nn.ReLU(), nn.Linear(6, 3)), shape
    )


@pytest.mark.parametrize(("height", "width"), [(4, 4), (3, 5), (1, 7)])
def test_the_whole_basis_is_the_orthonormal_transform(height, width):
    image = np.random.default_rng(0).standard_normal((height, width))
    expected = np.sort(dctn(image, norm="ortho").ravel())
    found = np.sort(image.ravel() @ cosine_basis(1, height, width, height * width))
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_frequencies_are_ordered_and_ties_are_fixed():
    transform = dctn(np.arange(16.0).reshape(4, 4) ** 1.5, norm="ortho")
    found = (np.arange(16.0) ** 1.5) @ cosine_basis(1, 4, 4, 6)
    expected = [transform[f] for f in ((0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (2, 0))]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_every_channel_has_the_same_frequencies():
    basis = cosine_basis(3, 4, 5, 2)
    assert basis.shape == (60, 6)
    one = cosine_basis(1, 4, 5, 2)
    for c in range(3):
        np.testing.assert_array_equal(basis[20 * c : 20 * (c + 1), 2 * c : 2 * (c + 1)], one)
    assert np.count_nonzero(basis) == 3 * np.count_nonzero(one)


def test_a_smooth_image_is_captured():
    y, x = np.mgrid[:28, :28] / 28
    smooth = np.exp(-4 * ((x - 0.4) ** 2 + (y - 0.5) ** 2)).ravel()
    noise = np.random.default_rng(0).standard_normal(784)
    basis = cosine_basis(1, 28, 28, 49)
    energy = [np.sum((v @ basis) ** 2) / np.sum(v**2) for v in (smooth, noise)]
    assert energy[0] > 0.99
    assert energy[1] < 0.15


@pytest.mark.parametrize("shape", [(1, 8, 8), (8, 8), (3, 4, 4)])
def test_the_first_linear_layer_is_projected_and_the_rest_kept(shape):
    where = perceptron(*shape)
    channels = shape[0] if len(shape) == 3 else 1
    kept = where.d - where.slots[0].size
    subspace = Dct(k=kept + 6 * channels * 5 + 3).plan(where, 0, 0, None)
    assert subspace.k == kept + 6 * channels * 5
    assert isinstance(subspace.maps[0], InputBasis)
    assert subspace.maps[1:] == (Keep(), Keep(), Keep())


def test_the_default_is_a_sixteenth():
    where = perceptron(1, 28, 28)
    assert Dct().plan(where, 0, 0, None).maps[0].basis.shape == (784, 65)


def test_too_small_a_k_quotes_the_smallest():
    where = perceptron(1, 8, 8)
    kept = where.d - where.slots[0].size
    with pytest.raises(ValueError, match=f"the nearest is k={kept + 6}"):
        Dct(k=kept + 5).plan(where, 0, 0, None)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (layout(nn.Linear(7, 2), (7,)), r"shape \(7,\) and it is not an image.*'low-rank'"),
        (
            layout(nn.Sequential(nn.Conv2d(1, 2, 8), nn.Flatten()), (1, 8, 8)),
            "no linear layer sees its pixels",
        ),
    ],
)
def test_other_models_are_refused_with_advice(where, message):
    with pytest.raises(ValueError, match=message):
        Dct().plan(where, 0, 0, None)


def test_the_basis_has_the_type_of_the_parameters():
    assert Dct().plan(perceptron(1, 8, 8), 0, 0, None).maps[0].basis.dtype == torch.float32
