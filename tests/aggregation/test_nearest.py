"""Distances to one point against their definition, and against what the Gram says."""

import numpy as np
import pytest
import torch

from fedsieve.aggregation import CGE, MoNNA, _compiled
from fedsieve.aggregation._compiled_gram import squared_offsets
from fedsieve.aggregation._door import admit
from fedsieve.aggregation._gram import PointRule, gram, squared_distances
from fedsieve.aggregation._nearest import _squared_distances_to


@pytest.fixture(params=["numpy", "compiled"])
def way(request, monkeypatch):
    monkeypatch.setattr(_compiled, "_loaded", {})
    if request.param == "compiled":
        pytest.importorskip("numba")
        monkeypatch.setattr(_compiled, "WORTH_COMPILING", 1)
        monkeypatch.setattr(_compiled, "PATIENCE", 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("offset", "spread"), [(0, 1), (1e4, 1e-2), (0, 1e-20), (0, 1e25)])
def test_distances_to_a_row_and_to_the_origin(dtype, offset, spread, way):
    draw = offset + spread * np.random.default_rng(0).normal(size=(9, 700))
    X = torch.from_numpy(draw).to(dtype)
    rows = admit(X, None, 0)
    for point in (X[4:5], torch.zeros(1, 700, dtype=dtype)):
        found = _squared_distances_to(point, rows) * rows.scale**2
        expected = (X.double() - point.double()).square().sum(1)
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert _squared_distances_to(X[4:5], rows)[4] == 0


@pytest.mark.parametrize("rule", [CGE(f=3), MoNNA(f=3, pivot=2)])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_gram_tells_the_same(rule, weighted, way):
    X = torch.randn(11, 300, generator=torch.Generator().manual_seed(1))
    X[5], X[8] = torch.nan, X[0]
    p = torch.arange(11) + 20.0 if weighted else None
    rows = admit(X, p, rule.f)
    vector, w = rule._combine(rows, explain=True)
    slow, told = PointRule._combine(rule, rows, explain=True)
    np.testing.assert_allclose(w, told, atol=1e-15)
    torch.testing.assert_close(vector, slow)
    assert squared_distances(gram(rows))[0, 7] == 0  # equal rows stay equal without row 5
    assert w[0] == pytest.approx(w[7]) or weighted


def test_interpreted_and_compiled_agree(way):
    X = np.random.default_rng(2).normal(size=(6, 90)).astype(np.float32)
    rows = admit(torch.from_numpy(X), None, 0)
    np.testing.assert_allclose(
        squared_offsets(X, X[3], 0, 90), _squared_distances_to(rows.data[3:4], rows), rtol=1e-12
    )
