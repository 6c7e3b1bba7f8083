"""What the engine accepts, refuses, and carries to another process."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from fedsieve.learning.flat import FlatModel
from fedsieve.learning.gradients import PerSampleGradients
from fedsieve.learning.layout import Keep
from fedsieve.learning.losses import cross_entropy, squared_error

COUNTS = (3, 0, 5)


def case():
    generator = torch.Generator().manual_seed(0)
    model = FlatModel(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)), (4,))
    theta = torch.randn(model.d, generator=generator)
    return model, theta, torch.randn(8, 4, generator=generator), torch.arange(8) % 3


def test_an_engine_travels_to_another_process():
    model, theta, x, y = case()
    engine = PerSampleGradients(model, cross_entropy)
    before = engine.clipped_sums(theta, x, y, COUNTS, clip=1.0)
    again = pickle.loads(pickle.dumps(engine)).clipped_sums(theta, x, y, COUNTS, clip=1.0)
    assert torch.equal(before.sums, again.sums)


def test_only_the_parameters_travel():
    model = FlatModel(nn.Sequential(nn.Linear(100, 100), nn.Linear(100, 100)), (100,))
    engine = PerSampleGradients(model, squared_error)
    model.bind(model.read().repeat(50, 1)[7])  # a view of something large
    assert len(pickle.dumps(engine)) < 2 * 4 * model.d


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"clip": 0.0}, "clip=0.0"),
        ({"clip": float("inf")}, "clip=inf"),
        ({"counts": (3, 3)}, "counts"),
        ({"counts": (-1, 9)}, "counts"),
        ({"theta": torch.zeros(3)}, "theta has shape"),
        ({"weights": torch.zeros(3)}, "weights has shape"),
    ],
)
def test_shapes_and_values_that_do_not_fit_are_refused(arguments, message):
    model, theta, x, y = case()
    known = {"theta": theta, "counts": COUNTS, "clip": 1.0} | arguments
    engine = PerSampleGradients(model, cross_entropy)
    with pytest.raises(ValueError, match=message):
        engine.clipped_sums(known.pop("theta"), x, y, known.pop("counts"), **known)


def test_settings_that_do_not_exist_are_refused():
    model, theta, x, y = case()
    with pytest.raises(ValueError, match="method='fast'"):
        PerSampleGradients(model, cross_entropy, method="fast")
    with pytest.raises(ValueError, match="float16"):
        PerSampleGradients(model, cross_entropy, compute_dtype=torch.float16)
    with pytest.raises(ValueError, match="memory=0"):
        PerSampleGradients(model, cross_entropy, memory=0)
    with pytest.raises(ValueError, match="reduction='none'"):
        PerSampleGradients(model, nn.functional.cross_entropy).per_sample(theta, x, y)


@pytest.mark.parametrize(
    ("d", "k", "layers", "message"),
    [
        (7, 7, 4, "subspace has d=7"),
        (43, 43, 3, "3 layer maps"),
        (43, 42, 4, "layer maps give 43 numbers, not k=42"),
    ],
)
def test_subspaces_of_other_models_are_refused(d, k, layers, message):
    model, theta, x, y = case()
    plan = SimpleNamespace(d=d, k=k, maps=(Keep(),) * layers)
    with pytest.raises(ValueError, match=message):
        PerSampleGradients(model, cross_entropy).per_sample(theta, x, y, plan)
