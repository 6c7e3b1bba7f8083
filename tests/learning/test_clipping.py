"""Forms of clipping: the factor, the bound, and the engine against per-sample gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedsieve.learning.clipping import Clip
from fedsieve.learning.flat import FlatModel
from fedsieve.learning.gradients import PerSampleGradients
from fedsieve.learning.losses import cross_entropy

FORMS = ("flat", "automatic")


@pytest.mark.parametrize("form", FORMS)
@given(norm=st.floats(0, 1e300), clip=st.floats(1e-6, 1e6), gamma=st.floats(1e-6, 1e3))
def test_no_vector_is_longer_than_the_clip(form, norm, clip, gamma):
    norms = torch.tensor([norm], dtype=torch.float64)
    factor = float(Clip(clip, form, gamma).factors(norms))
    assert factor * norm <= clip * (1 + 1e-12)
    expected = min(1.0, clip / norm if norm else 1.0) if form == "flat" else clip / (norm + gamma)
    assert factor == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method", ["closed-form", "functional"])
def test_the_engine_sums_rescaled_gradients(form, method):
    generator = torch.Generator().manual_seed(0)
    model = FlatModel(nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)), (6,))
    theta = model.read().double()
    engine = PerSampleGradients(model, cross_entropy, method=method)
    x = (
        torch.randn(7, 6, generator=generator, dtype=torch.float64)
        * torch.logspace(-3, 2, 7)[:, None]
    )
    y, counts = torch.randint(3, (7,), generator=generator), (3, 0, 4)
    clip = Clip(0.4, form)
    rows = engine.per_sample(theta, x, y)
    rows = rows * clip.factors(rows.norm(dim=1))[:, None]
    expected = torch.stack([part.sum(0) for part in rows.split(counts)])
    found = engine.clipped_sums(theta, x, y, counts, clip=clip).sums
    torch.testing.assert_close(found, expected)
    if form == "flat":  # the usual form by its number
        assert torch.equal(found, engine.clipped_sums(theta, x, y, counts, clip=0.4).sums)


def test_a_record_without_a_finite_gradient_counts_as_zero():
    model = FlatModel(nn.Linear(2, 2), (2,))
    engine = PerSampleGradients(model, cross_entropy)
    x, y = torch.tensor([[1.0, 2.0], [float("nan"), 0.0]]), torch.tensor([0, 1])
    both = engine.clipped_sums(model.read(), x, y, (2,), clip=Clip(1.0, "automatic"))
    alone = engine.clipped_sums(model.read(), x[:1], y[:1], (1,), clip=Clip(1.0, "automatic"))
    assert torch.equal(both.sums, alone.sums)
    assert both.bad.tolist() == [1]


@pytest.mark.parametrize("name", ["norm", "gamma"])
@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf")])
def test_impossible_arguments_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}={value} must be > 0 and finite"):
        Clip(**{"norm": 1.0} | {name: value})


def test_an_unknown_form_is_refused():
    with pytest.raises(ValueError, match="form='soft' is not one of flat, automatic"):
        Clip(1.0, "soft")
