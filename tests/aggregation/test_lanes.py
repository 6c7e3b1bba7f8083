"""The order of sums against its definition, number by number; every kernel against its twin."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsieve.aggregation import _compiled, _compiled_gram, _lanes, _mixing, _plain_sums
from fedsieve.aggregation._lanes import LANES, TILE, add_dots, in_lanes, tiled


def in_order(x, y):
    """What the docstring of the module says, in Python's own numbers."""
    total = 0.0
    for left in range(0, len(x), TILE):
        lanes = [0.0] * LANES
        for c in range(left, min(left + TILE, len(x))):
            lanes[(c - left) % LANES] += float(x[c]) * float(y[c])
        while len(lanes) > 1:
            half = len(lanes) // 2
            lanes = [a + b for a, b in zip(lanes[:half], lanes[half:], strict=True)]
        total += lanes[0]
    return total


def draws(rng, *shape):
    """Numbers whose sums depend on their order."""
    return rng.normal(size=shape) * 10.0 ** rng.integers(-3, 4, shape)


def same(a, b):
    return a.tobytes() == b.tobytes()


@pytest.mark.parametrize("k", [1, 7, 8, 255, 256, 257, 1000])
def test_sums_are_in_the_order_that_is_written(k, monkeypatch):
    monkeypatch.setattr(_lanes, "BLOCK", TILE)
    monkeypatch.setattr(_lanes, "TILES", 1)
    x, y = draws(np.random.default_rng(k), 2, k)
    total = np.zeros(1)
    for columns in tiled(0, k, 3):
        add_dots(total, in_lanes(x[None, columns]), in_lanes(y[columns]))
    assert total[0] == in_order(x, y)


def test_what_fills_up_a_tile_hides_no_number_that_is_not_finite():
    X = np.array([[1.0, np.nan], [1.0, np.inf], [1e200, 1.0], [3.0, 4.0]])
    found = _plain_sums.squared_norms(X, 0, 2)
    np.testing.assert_array_equal(found, [np.nan, np.inf, np.inf, 25.0])


def kernels(X, A, y, reference, scale, start, stop):
    """Calls of the kernels by name: the module they stand in, and the arguments."""
    own = _compiled_gram
    return {
        "squared_norms": (own, (X, start, stop)),
        "norms_and_dots": (own, (X, y, start, stop)),
        "squared_offsets": (own, (X, y, start, stop)),
        "centred_gram": (own, (X, A, reference, scale, start, stop)),
    }


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 9) | st.integers(30, 33),
    a=st.integers(0, 2),
    k=st.integers(1, 20) | st.integers(250, 260) | st.integers(1000, 1100),
    double=st.booleans(),
    scale=st.sampled_from([1.0, 3.7]),
    size=st.sampled_from([1.0, 1e-41, 1e37]),
    seed=st.integers(0, 99),
)
def test_compiled_sums_equal_their_twins(n, a, k, double, scale, size, seed):
    pytest.importorskip("numba")
    rng = np.random.default_rng(seed)
    kind = np.float64 if double else np.float32
    with np.errstate(over="ignore"):
        X, A, y = ((draws(rng, *s) * size).astype(kind) for s in ((n, k), (a, k), (k,)))
    X, A, y = (np.nan_to_num(part) for part in (X, A, y))
    start, stop = int(rng.integers(0, k)), k
    for name, (module, args) in kernels(X, A, y, n - 1, scale, start, stop).items():
        compiled = _compiled.kernel(getattr(module, name), _compiled.PATIENCE)
        assert same(compiled(*args), getattr(_plain_sums, name)(*args)), name
    M, s, w = rng.normal(size=(5, n)), rng.random((5, 1)), rng.normal(size=n).astype(kind)
    for name, args, shape in (
        ("mixed_columns", lambda out: (M, s, X, start, out), (5, stop - start)),
        ("summed_columns", lambda out: (w, X, out, start, stop), (k,)),
    ):
        outs = np.zeros((2, *shape), kind)
        compiled = _compiled.kernel(getattr(_mixing, name), _compiled.PATIENCE)
        compiled(*args(outs[0]))
        getattr(_plain_sums, name)(*args(outs[1]))
        assert same(*outs), name


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "a", "k"), [(1, 0, 1), (3, 2, 300), (6, 1, 257)])
def test_interpreted_sums_equal_their_twins(n, a, k, dtype):
    rng = np.random.default_rng(0)
    X, A, y = (draws(rng, *s).astype(dtype) for s in ((n, k), (a, k), (k,)))
    for name, (module, args) in kernels(X, A, y, 0, 2.5, k // 3, k).items():
        assert same(getattr(module, name)(*args), getattr(_plain_sums, name)(*args)), name
    gram = _plain_sums.centred_gram(X, A, 0, 1.0, 0, k)
    Z = np.concatenate([X, A]).astype(float) - X[0].astype(float)
    assert gram.tolist() == [[in_order(x, z) for z in Z] for x in Z]
    assert _plain_sums.norms_and_dots(X, y, 0, k).tolist() == [
        [in_order(x, x), in_order(x, y)] for x in X
    ]
