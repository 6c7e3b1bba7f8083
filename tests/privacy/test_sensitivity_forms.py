"""How far one record moves its client's clipped sum, over all there is to choose from.

Every registered projection and every form of clipping, on the models that the library builds
(GroupNorm included), in both call forms (parameters shared by the cohort, or a client's own), in
one fused pass or in several, by closed forms or by `torch.func`, with activations in float32 or
bfloat16. Records may be zero, tiny, huge, NaN or infinite.

In real numbers the sum moves by at most C (2 C where a record is replaced). float32 rounds the
sums: `ROUNDING` C is allowed for every record of the client, where the worst of 2700 random cases
took 2^-24 C. The integer lattice allows 2^-10 C for all records together.
"""

from __future__ import annotations

import functools
import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fedsieve.learning.clipping import Clip
from fedsieve.learning.flat import FlatModel
from fedsieve.learning.gradients import PerSampleGradients, SlowPathWarning
from fedsieve.learning.layout import Subspace
from fedsieve.learning.losses import cross_entropy
from fedsieve.registry import component, components

CLASSES = 3
IMAGE = (1, 8, 8)
ROUNDING = 2.0**-20
SCALES = (0.0, 1e-30, 1e-3, 1.0, 1e4, 1e18, 1e38, math.nan, math.inf, -math.inf)
CLIPS = (
    ("flat", "equal"),
    ("automatic", "equal"),
    ("per-layer", "equal"),
    ("per-layer", "size"),
)
MODELS = {
    "softmax": {},
    "mlp": {"hidden": (6,)},
    "cnn": {"groups": 0},
    "cnn with GroupNorm": {"groups": 4},
}


def built(name: str) -> FlatModel:
    generator = torch.Generator().manual_seed(0)
    make = component("model", name.split()[0]).build
    module = make(input_shape=IMAGE, outputs=CLASSES, generator=generator, **MODELS[name])
    assert isinstance(module, nn.Module)
    return FlatModel(module, IMAGE)


@functools.cache
def engine(name: str, **way: Any) -> PerSampleGradients:
    model = built(name)
    made = PerSampleGradients(model, cross_entropy, **way)
    rng = torch.Generator().manual_seed(1)
    made.settle(model.read(), torch.randn(4, *IMAGE, generator=rng), torch.arange(4) % CLASSES)
    return made


@functools.cache
def plan(model: str, projection: str) -> Subspace | None:
    """The plan of a later round, so that a basis has been learned; ``None``: not for this model."""
    layout = built(model).layout
    history = torch.randn(layout.d, generator=torch.Generator().manual_seed(2))
    try:
        found: Subspace = component("projection", projection).build().plan(layout, 40, 3, history)
    except ValueError:
        return None
    return found


PROJECTIONS = [projection.name for projection in components("projection")]
COMBINATIONS = [(m, p) for m in MODELS for p in PROJECTIONS if plan(m, p)]


@pytest.mark.parametrize(("name", "projection"), COMBINATIONS)
@settings(max_examples=20)
@given(data=st.data())
def test_one_record_moves_its_clients_sum_by_the_clip_alone(
    name: str, projection: str, data: st.DataObject
) -> None:
    draw = data.draw
    subspace = plan(name, projection)
    assert subspace is not None
    forms = CLIPS if subspace.maps is not None else CLIPS[:2]
    form, split = draw(st.sampled_from(forms))
    clip = Clip(draw(st.sampled_from([1e-3, 1.0, 1e3])), form, split=split)  # type: ignore[arg-type]
    way = {
        "method": draw(st.sampled_from(["auto", "functional"])),
        "memory": draw(st.sampled_from([2**28, 2**16])),  # one pass, or many of a few records
        "compute_dtype": draw(st.sampled_from([torch.float32, torch.bfloat16])),
    }
    scales = draw(st.lists(st.sampled_from(SCALES), min_size=2, max_size=7))
    own = draw(st.booleans())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    made = engine(name, **way)
    b = len(scales)
    weight = np.array(scales).reshape(-1, 1, 1, 1)
    x = torch.from_numpy(rng.normal(size=(b, *IMAGE)) * weight).float()
    y = torch.from_numpy(rng.integers(CLASSES, size=b))
    theta = made.model.read() * 10 ** rng.uniform(-1, 1)
    if own:
        theta = torch.stack([theta * 0.7, theta])
    first = int(rng.integers(b - 1))  # records of another client before; the last two are replaced

    def sums(records: list[int]) -> Tensor:
        counts = (first, len(records) - first)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SlowPathWarning)
            found = made.clipped_sums(
                theta, x[records], y[records], counts, clip=clip, subspace=subspace
            )
        assert bool(found.sums.isfinite().all())
        return found.sums.double()

    everything = list(range(b))
    added, one, other = sums(everything), sums(everything[:-1]), sums([*everything[:-2], b - 1])
    slack = ROUNDING * clip.norm * b
    assert (added - one).norm(dim=1)[1] <= clip.norm + slack  # the last one added, or removed
    assert (added - other).norm(dim=1)[1] <= clip.norm + slack  # the last but one
    assert (one - other).norm(dim=1)[1] <= 2 * clip.norm + slack  # the one replaced by the other
    assert (added - one).norm(dim=1)[0] <= slack  # somebody else's record
    if not math.isfinite(scales[-1]):
        assert (added - one).norm(dim=1)[1] <= slack
