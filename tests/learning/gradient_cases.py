"""Networks of every kind, subspaces of every kind, and their per-sample gradients by vmap."""

from __future__ import annotations

import pickle
from dataclasses import dataclass

import torch
from torch import nn

from fedsieve.learning.flat import FlatModel
from fedsieve.learning.layout import Entries, InputBasis, Keep, Layout
from fedsieve.learning.models.resnet18 import Block
from fedsieve.registry import component


def oracle(model, loss, theta, x, y):
    """Per-sample gradients (B, d) by vmap(grad), in float64."""
    slots = model.layout.slots
    module = pickle.loads(pickle.dumps(model)).module.double()
    x = x.double() if x.is_floating_point() else x

    def one(values, a, t):
        return loss(torch.func.functional_call(module, values, (a[None],)), t[None])[0]

    values = {s.name: theta[s.start : s.stop].view(s.shape).double() for s in slots}
    rows = torch.func.vmap(torch.func.grad(one), (None, 0, 0))(values, x, y)
    return torch.cat([rows[s.name].flatten(1) for s in slots], dim=1)


def clipped(rows, counts, clip, weights=1.0):
    """Clipped weighted sums (m, k) of the rows of each client, and norms before clipping."""
    norms = rows.norm(dim=1)
    factors = torch.ones_like(norms) if clip is None else (clip / norms).clamp(max=1.0)
    usable = norms.isfinite()[:, None]
    rows = torch.where(usable, rows * (factors * weights)[:, None], 0.0)
    return torch.stack([part.sum(0) for part in rows.split(list(counts))]), norms


def close(found, expected, tolerance):
    """Relative to the norm of the whole: entries that cancel to zero have rounding of their own."""
    assert found.shape == expected.shape
    error = (found.double() - expected.double()).norm()
    assert float(error) <= tolerance * float(expected.double().norm()) + 1e-300


@dataclass(frozen=True)
class Layered:
    """A subspace given by its layer maps."""

    layout: Layout
    maps: tuple

    @property
    def d(self):
        return self.layout.d

    @property
    def k(self):
        return sum(m.width(s) for m, s in zip(self.maps, self.layout.slots, strict=True))

    def project(self, x):
        parts = []
        for layer_map, slot in zip(self.maps, self.layout.slots, strict=True):
            part = x[:, slot.start : slot.stop]
            if isinstance(layer_map, InputBasis):
                part = (part.reshape(len(x), *slot.matrix) @ layer_map.basis.to(x)).flatten(1)
            elif isinstance(layer_map, Entries):
                part = part[:, layer_map.index]
            parts.append(part)
        return torch.cat(parts, dim=1)


@dataclass(frozen=True)
class Mixing:
    """A subspace that mixes layers: any matrix (k, d)."""

    matrix: torch.Tensor
    maps = None

    @property
    def d(self):
        return self.matrix.shape[1]

    @property
    def k(self):
        return self.matrix.shape[0]

    def project(self, x):
        return x @ self.matrix.to(x).t()


def subspace(kind, layout, generator, dtype=torch.float64):
    if kind == "identity":
        return None
    if kind == "mixed":
        return Mixing(torch.randn(7, layout.d, generator=generator, dtype=dtype))
    maps = []
    for i, slot in enumerate(layout.slots):
        inputs = slot.matrix[1]
        if kind == "keep" or (kind == "alternating" and i % 3 == 0):
            maps.append(Keep())
        elif kind == "basis" or (kind == "alternating" and i % 3 == 1):
            width = max(1, inputs // 2)
            maps.append(InputBasis(torch.randn(inputs, width, generator=generator, dtype=dtype)))
        else:
            share = 0.005 if kind == "few" else 0.4
            kept = torch.rand(slot.size, generator=generator) < share
            maps.append(Entries(kept.nonzero().squeeze(1)))
    return Layered(layout, tuple(maps))


class Branches(nn.Module):
    """Two ways around, an unused layer, and a layer whose output the loss ignores."""

    def __init__(self):
        super().__init__()
        self.left = nn.Linear(6, 5)
        self.right = nn.Linear(6, 5)
        self.unused = nn.Linear(3, 2)
        self.ignored = nn.Linear(6, 2)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        self.ignored(x)
        return self.head(torch.tanh(self.left(x)) * self.right(x))


class Normed(nn.Module):
    """A sequence model: embedding, layer normalisations, linear layers on several rows."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(7, 6, padding_idx=0)
        self.norm = nn.LayerNorm(6)
        self.mix = nn.Linear(6, 6)
        self.scale = nn.RMSNorm(6)
        self.head = nn.Linear(6, 3, bias=False)

    def forward(self, tokens):
        h = self.table(tokens)
        h = h + torch.tanh(self.mix(self.norm(h)))
        return self.head(self.scale(h)).mean(1)


def convolutional():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1, padding_mode="reflect"),
        nn.GroupNorm(2, 4),
        nn.PReLU(4),
        nn.Conv2d(4, 6, (1, 3), padding="same", groups=2, dilation=(1, 2), bias=False),
        nn.InstanceNorm2d(6, affine=True),
        nn.PReLU(),
        nn.Flatten(),
        nn.Linear(6 * 4 * 5, 3),
    )


def one_dimensional():
    return nn.Sequential(
        nn.Conv1d(2, 4, 3, padding=2, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(20, 3)
    )


MODELS = {
    "softmax": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), (3, 4), 0),
    "mlp": (
        lambda: component("model", "mlp").build(input_shape=(9,), outputs=3, hidden=(8, 5)),
        (9,),
        0,
    ),
    "branches": (Branches, (6,), 0),
    "sequence": (
        lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Flatten(), nn.Linear(30, 3)),
        (6, 4),
        0,
    ),
    "normed": (Normed, (5,), 7),
    "long": (Normed, (40,), 7),
    "tokens": (
        lambda: component("model", "softmax").build(input_shape=(4,), outputs=3, vocabulary=5),
        (4,),
        5,
    ),
    "scalar tokens": (lambda: nn.Sequential(nn.Embedding(4, 3), nn.Tanh(), nn.Linear(3, 3)), (), 4),
    "convolutional": (convolutional, (2, 8, 9), 0),
    "residual": (
        lambda: nn.Sequential(
            Block(2, 4, 1, 2), Block(4, 6, 2, 3), nn.Flatten(), nn.Linear(6 * 9, 3)
        ),
        (2, 5, 6),
        0,
    ),
    "one-dimensional": (one_dimensional, (2, 7), 0),
    "cnn": (
        lambda: component("model", "cnn").build(input_shape=(1, 8, 8), outputs=3),
        (1, 8, 8),
        0,
    ),
}
KINDS = ("identity", "keep", "basis", "entries", "few", "alternating", "mixed")
COUNTS = (3, 0, 4, 1, 0)


def case(name, dtype=torch.float64, seed=0, size=8):
    make, shape, vocabulary = MODELS[name]
    generator = torch.Generator().manual_seed(seed)
    model = FlatModel(make().to(dtype), shape)
    theta = 0.25 * torch.randn(model.d, generator=generator, dtype=dtype)
    if vocabulary:
        x = torch.randint(vocabulary, (size, *shape), generator=generator)
    else:
        x = torch.randn(size, *shape, generator=generator, dtype=dtype)
    return model, theta, x, torch.randint(3, (size,), generator=generator), generator
