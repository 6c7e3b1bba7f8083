"""Steps in place: along the mean gradient, and as autograd says where they are written out."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fedsieve.learning.flat import FlatModel
from fedsieve.learning.gradients import PerSampleGradients
from fedsieve.learning.losses import cross_entropy


def label_smoothing(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets, reduction="none", label_smoothing=0.1)


@pytest.mark.parametrize("loss", [cross_entropy, label_smoothing])
@pytest.mark.parametrize(
    "activation",
    [nn.ReLU(), nn.ReLU(inplace=True), nn.Tanh(), nn.Sigmoid(), nn.Identity(), nn.GELU()],
)
@pytest.mark.parametrize("bias", [True, False])
def test_a_step_is_what_autograd_says(loss, activation: nn.Module, bias: bool):
    generator = torch.Generator().manual_seed(5)
    module = nn.Sequential(
        nn.Flatten(), nn.Linear(6, 7, bias=bias), activation, nn.Linear(7, 5), activation,
        nn.Sequential(nn.Linear(5, 4, bias=bias)),
    ).double()  # fmt: skip
    reference = copy.deepcopy(module)
    x = torch.randn(8, 2, 3, generator=generator, dtype=torch.float64)
    y = torch.randint(0, 4, (8,), generator=generator)
    engine = PerSampleGradients(FlatModel(module, (2, 3)), loss)
    assert engine._linear is not None
    known = loss is cross_entropy and not isinstance(activation, nn.GELU)
    assert engine._linear._written == known
    theta = engine.model.read()
    parameters = [p.requires_grad_() for p in reference.parameters()]
    gradients = torch.autograd.grad(loss(reference(x), y).mean(), parameters)
    expected = [p.detach() - 0.3 * g for p, g in zip(parameters, gradients, strict=True)]
    engine.descend(theta, x, y, lr=0.3)
    for view, value in zip(engine.model.views(theta), expected, strict=True):
        torch.testing.assert_close(view, value, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("wrong", [4, -1])
def test_a_class_that_is_none_is_refused(wrong: int):
    engine = PerSampleGradients(FlatModel(nn.Linear(6, 4), (6,)), cross_entropy)
    with pytest.raises((IndexError, RuntimeError)):
        engine.descend(engine.model.read(), torch.zeros(1, 6), torch.tensor([wrong]), lr=0.3)


class Reversed(nn.Module):
    """Uses a weight outside its layer: no chain."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) + 0.1 * (x.flip(1) @ self.inner.weight.T)


def _twice() -> nn.Module:
    shared = nn.Linear(6, 6)
    return nn.Sequential(shared, nn.Tanh(), shared, nn.ReLU(), nn.Linear(6, 4, bias=False))


def _partly_frozen() -> nn.Module:
    module = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
    module[0].weight.requires_grad_(False)
    return module


def _frozen_head() -> nn.Module:
    module = nn.Sequential(nn.Linear(6, 5), nn.Sequential(nn.GELU(), nn.Linear(5, 4)))
    module[1][1].requires_grad_(False)
    return module


def _hooked() -> nn.Module:
    module = nn.Sequential(nn.Linear(6, 4), nn.Tanh())
    module[1].register_forward_hook(_doubled)
    return module


def _patched() -> nn.Module:
    module = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
    module[1].forward = _twice_its_input
    return module


def _patched_part() -> nn.Module:
    module = nn.Sequential(nn.Linear(6, 5), nn.Sequential(nn.ReLU()), nn.Linear(5, 4))
    module[1].forward = _twice_its_input
    return module


def _twice_its_input(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


def _doubled(_module: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
    return 2 * output


@pytest.mark.parametrize(
    ("make", "fused"),
    [
        (lambda: nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)), True),
        (lambda: nn.Linear(6, 4), True),
        (_twice, True),
        (_partly_frozen, False),
        (_frozen_head, False),
        (_hooked, False),
        (_patched, False),
        (_patched_part, False),
        (lambda: nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6), nn.Linear(6, 4)), False),
        (Reversed, False),
    ],
)
def test_a_step_in_place_is_a_step_along_the_mean_gradient(
    make: Callable[[], nn.Module], fused: bool
):
    generator = torch.Generator().manual_seed(3)
    engine = PerSampleGradients(FlatModel(make(), (6,)), cross_entropy)
    assert (engine._linear is not None) == fused
    x, y = torch.randn(8, 6, generator=generator), torch.randint(0, 4, (8,), generator=generator)
    start = engine.model.read()
    for one in (engine, pickle.loads(pickle.dumps(engine))):
        theta = start.clone()
        for _ in range(2):
            expected = theta - 0.3 * engine.mean(theta, x, y)
            one.descend(theta, x, y, lr=0.3)
            torch.testing.assert_close(theta, expected, rtol=1e-5, atol=1e-6)
