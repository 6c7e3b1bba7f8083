"""The written pass through a chain gives what hooks and autograd record, to the bit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fedsieve.learning._closed_forms import ClosedForms
from fedsieve.learning._work import Forward
from fedsieve.learning.flat import FlatModel
from fedsieve.learning.gradients import PerSampleGradients
from fedsieve.learning.losses import cross_entropy
from fedsieve.learning.models.mlp import mlp

EXACT = Forward(cross_entropy, torch.float32)
COUNTS = [16, 0, 1, 5, 33, 2]


def label_smoothing(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets, reduction="none", label_smoothing=0.1)


def closed_forms(module: nn.Module, shape: tuple[int, ...]) -> ClosedForms:
    return ClosedForms(FlatModel(module, shape), EXACT, 2**28)


def case(forms: ClosedForms, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Parameters (n, d), samples of which one is large, and classes."""
    generator = torch.Generator().manual_seed(8)
    shape, d = forms.model.layout.input_shape, forms.model.d
    theta = 0.3 * torch.randn(len(COUNTS), d, generator=generator, dtype=dtype)
    x = torch.randn(sum(COUNTS), *shape, generator=generator, dtype=dtype)
    x[3] *= 1e3
    return theta, x, torch.randint(0, 4, (len(x),), generator=generator)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (mlp((1, 28, 28), 10, hidden=(256,)), (1, 28, 28)),
        (mlp((5, 4), 4, hidden=(19, 7), activation="tanh"), (5, 4)),
        (mlp((9,), 4, hidden=(33,), activation="sigmoid"), (9,)),
        (nn.Linear(9, 4, bias=False), (9,)),
        (nn.Sequential(nn.Identity(), nn.Linear(9, 1, bias=False), nn.Linear(1, 4)), (9,)),
    ],
)
def test_the_numbers_are_those_of_autograd(
    monkeypatch: pytest.MonkeyPatch, module, shape, own: bool, dtype: torch.dtype
):
    forms = closed_forms(module, shape)
    theta, x, y = case(forms, dtype)
    theta, counts = (theta, COUNTS) if own else (theta[:1], [len(x)])
    assert forms.written.covers(EXACT, x, y)
    found = forms._records(theta, x, y, counts)
    monkeypatch.setattr(forms.written, "covers", lambda *_: False)
    with forms:
        expected = forms._records(theta, x, y, counts)
    assert len(found) == len(expected) == sum(count > 0 for count in counts)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.losses, other.losses)
        assert one.numbers_per_sample == other.numbers_per_sample
        assert one.layers.keys() == other.layers.keys()
        for name, tensors in one.layers.items():
            for tensor, counterpart in zip(tensors, other.layers[name], strict=True):
                assert torch.equal(tensor, counterpart), name


def test_sums_are_those_of_hooks_and_autograd(monkeypatch: pytest.MonkeyPatch):
    forms = closed_forms(mlp((5, 4), 4, hidden=(19,)), (5, 4))
    theta, x, y = case(forms)
    x[7] = float("nan")

    def sums() -> list[Tensor]:
        engine = PerSampleGradients(forms.model, cross_entropy, method="closed-form")
        assert engine.settle(theta[0], x, y)
        found = engine.clipped_sums(theta, x, y, COUNTS, clip=0.5)
        return [found.sums, found.norms.nan_to_num(), found.factors, found.bad]

    written = sums()
    monkeypatch.setattr("fedsieve.learning._written_pass.chain", lambda _: None)
    for one, other in zip(written, sums(), strict=True):
        assert torch.equal(one, other)
    assert int(written[3].sum()) == 1


class Doubled(nn.ReLU):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def _patched() -> nn.Module:
    module = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
    module[1].forward = lambda x: 2 * x
    return module


def _patched_part() -> nn.Module:
    module = nn.Sequential(nn.Linear(6, 5), nn.Sequential(nn.ReLU()), nn.Linear(5, 4))
    module[1].forward = lambda x: 2 * x
    return module


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: nn.Sequential(nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 4)), (6,)),
        (lambda: nn.Sequential(nn.Linear(6, 5), Doubled(), nn.Linear(5, 4)), (6,)),
        (lambda: nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.Linear(5, 4)), (6,)),
        (lambda: nn.Sequential(nn.Linear(6, 5), nn.Flatten(), nn.Linear(10, 4)), (2, 6)),
        (lambda: nn.Sequential(nn.Flatten(2), nn.Linear(6, 4), nn.Flatten()), (1, 2, 3)),
        (_patched, (6,)),
        (_patched_part, (6,)),
    ],
)
def test_other_models_are_left_to_hooks(make: Callable[[], nn.Module], shape):
    forms = closed_forms(make(), shape)
    _, x, y = case(forms)
    assert not forms.written.covers(EXACT, x, y)


def test_other_losses_numbers_and_shapes_are_left_to_hooks():
    forms = closed_forms(nn.Linear(6, 4), (6,))
    _, x, y = case(forms)
    assert forms.written.covers(EXACT, x, y)
    assert not forms.written.covers(Forward(label_smoothing, torch.float32), x, y)
    assert not forms.written.covers(Forward(cross_entropy, torch.bfloat16), x, y)
    assert not forms.written.covers(EXACT, x.unflatten(1, (2, 3)), y)
    assert not forms.written.covers(EXACT, x, functional.one_hot(y, 4).float())


@pytest.mark.parametrize("wrong", [4, -1])
def test_a_class_that_is_none_is_refused(wrong: int):
    forms = closed_forms(nn.Linear(6, 4), (6,))
    with pytest.raises((IndexError, RuntimeError)):
        forms.written.record(forms.model.parameters, torch.zeros(1, 6), torch.tensor([wrong]))
