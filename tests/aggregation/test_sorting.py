"""The networks by the 0-1 principle; their means against numpy; all paths against each other."""

import builtins
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsieve.aggregation import (
    NNM,
    Clipping,
    Krum,
    MeaMed,
    Median,
    TooManyFaultyClients,
    TrimmedMean,
    _compiled,
    _mixing,
    _prefetch,
    _threads,
)
from fedsieve.aggregation import _sorting as sorting
from fedsieve.aggregation._sorting import Ranks, mean_of, mean_of_finite


def run(steps, X):
    rows = list(X.copy())
    for i, j in steps:
        rows[i], rows[j] = np.minimum(rows[i], rows[j]), np.maximum(rows[i], rows[j])
    return np.array(rows)


def every_binary_column(n):
    return np.array(list(product([0, 1], repeat=n)), dtype=np.int8).T


@pytest.fixture
def paths(monkeypatch):
    """Each way of computing, as a function that switches to it."""

    def switch(kernel):
        return lambda: monkeypatch.setitem(_compiled._loaded, _compiled.reduce_columns, kernel)

    ways = {"numpy": switch(None), "interpreted": switch(_compiled.reduce_columns)}
    if (compiled := _compiled.kernel(_compiled.reduce_columns, _compiled.PATIENCE)) is not None:
        ways["compiled"] = switch(compiled)
    return ways


@pytest.mark.parametrize("n", range(1, 13))
def test_sorts(n):
    X = every_binary_column(n)
    assert np.array_equal(run(sorting.sorting_network(n), X), np.sort(X, axis=0))


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("n", range(1, 13))
def test_separates(n, ordered):
    X = every_binary_column(n)
    ranked = np.sort(X, axis=0)
    for f in range((n - 1) // 2 + 1):
        out = run(sorting.separating_network(n, f, ordered=ordered), X)
        for part in (slice(0, f), slice(f, n - f), slice(n - f, n)):
            assert np.array_equal(out[part].sum(0), ranked[part].sum(0))
        if ordered:
            assert np.array_equal(out[f : n - f], ranked[f : n - f])


@pytest.mark.parametrize("n", range(1, 13))
def test_tells_the_nearest_apart(n):
    X = every_binary_column(n)
    ranked = np.sort(X, axis=0)
    for f in range(n):
        out = run(sorting.nearest_network(n, f), X)
        paired = [r for low in sorting.pairs_of(n, f) for r in (low, low + n - f)]
        assert np.array_equal(out[paired], ranked[paired])
        for part in (slice(f, n - f), [(n - 1) // 2, n // 2]):
            assert np.array_equal(out[part].sum(0), ranked[part].sum(0))


def test_published_sizes():
    sizes = {n: len(sorting.sorting_network(n)) for n in (8, 10, 16, 20, 25, 32, 50, 64)}
    assert sizes == {8: 19, 10: 32, 16: 63, 20: 103, 25: 140, 32: 191, 50: 403, 64: 543}


def test_needs_fewer_steps_the_less_is_asked():
    steps = [sorting.separating_network(20, 4), sorting.nearest_network(20, 4)]
    assert [len(each) for each in (*steps, sorting.sorting_network(20))] == [88, 94, 103]
    assert sorting.separating_network(20, 0) == ()


@pytest.mark.parametrize("n", [1, 5, 65])
def test_sorted_blocks_leave_the_stack_alone(n):
    X = torch.randn(n, 100, generator=torch.Generator().manual_seed(0))
    before = X.clone()
    for columns, values in sorting.sorted_blocks(X):
        assert torch.equal(values, X[:, columns].sort(0).values)
    assert torch.equal(X, before)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 12) | st.sampled_from([64, 65, 70]),
    k=st.integers(1, 20) | st.integers(120, 140),
    seed=st.integers(0, 99),
    double=st.booleans(),
    data=st.data(),
)
def test_interpreted_and_numpy_give_the_same_bits(n, k, seed, double, data):
    rng = np.random.default_rng(seed)
    f = data.draw(st.integers(0, (n - 1) // 2))
    values = rng.choice([rng.normal(size=(n, k)), rng.integers(-2, 3, (n, k)) * 0.5])
    values *= rng.choice([1, -1, 1e-41, 1e37])  # zeros of both signs, subnormals, near overflow
    X = torch.from_numpy(values).to(torch.float64 if double else torch.float32)
    for drop, nearest in ((f, False), (f, True), (n - 1, True)):
        into = X.new_empty(k)
        steps = sorting._array(n, drop, nearest)
        _compiled.reduce_columns(X.numpy(), steps, drop, nearest, into.numpy(), 0, k)
        rows = sorting._ranked(X, sorting._steps(n, drop, nearest), n)
        out = sorting._mean(rows, drop, nearest)
        assert out.numpy().tobytes() == into.numpy().tobytes()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("nearest", [False, True])
def test_numpy_and_compiled_give_the_same_bits(paths, nearest, dtype):
    if "compiled" not in paths:
        pytest.skip("numba is not installed")
    generator = torch.Generator().manual_seed(1)
    for n, f in [(1, 0), (5, 2), (20, 4), (64, 20), (65, 20), (100, 49)]:
        X = torch.randn(n, 4500, generator=generator, dtype=dtype)
        X[:, ::3] = X[:, ::3].round(decimals=1)  # ties
        for stack in (X, X.T.contiguous().T):
            found = {}
            for way in ("numpy", "compiled"):
                paths[way]()
                found[way] = mean_of(Ranks(f, nearest), stack).numpy().tobytes()
            assert found["compiled"] == found["numpy"]


@pytest.mark.parametrize("nearest", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0), (4, 4499), (2, 2048)])
def test_what_is_not_finite_is_seen_on_the_way(paths, nearest, bad, place):
    if "compiled" not in paths:
        pytest.skip("numba is not installed")
    X = torch.randn(5, 4500, generator=torch.Generator().manual_seed(4))
    X[1, 7] = 3e38
    paths["compiled"]()
    assert torch.equal(mean_of_finite(Ranks(1, nearest), X), mean_of(Ranks(1, nearest), X))
    X[place] = bad
    assert mean_of_finite(Ranks(1, nearest), X) is None
    paths["numpy"]()
    assert mean_of_finite(Ranks(1, nearest), X) is None
    X[place] = 0
    assert torch.equal(mean_of_finite(Ranks(1, nearest), X), mean_of(Ranks(1, nearest), X))


@pytest.mark.parametrize("rule", [Median(f=2), TrimmedMean(f=2), MeaMed(f=2)])
@pytest.mark.parametrize("unusable", [[], [3], [0, 4]])
def test_reading_once_changes_nothing(paths, rule, unusable):
    X = torch.randn(9, 300, generator=torch.Generator().manual_seed(5))
    for row in unusable:
        X[row, 17 * row] = torch.nan
    for way in paths.values():
        way()
        once, looked = rule.aggregate(X, explain=False), rule.aggregate(X)
        assert once.rejected == looked.rejected == len(unusable)
        assert torch.equal(once.vector, looked.vector)


def test_reading_once_fails_as_looking_first_does(paths):
    X = torch.full((5, 300), torch.nan)
    X[:2] = 0
    for way in paths.values():
        way()
        with pytest.raises(TooManyFaultyClients, match="3 of 5 rows"):
            Median(f=2)(X)


def test_in_place_and_by_values_take_the_same_minima():
    X = torch.randn(20, 50, generator=torch.Generator().manual_seed(2))
    steps = sorting.separating_network(20, 4)
    assert torch.equal(
        torch.stack(sorting._by_values(X, steps)), torch.stack(sorting._ranked(X, steps, 20))
    )


def test_threads_change_no_bit(monkeypatch):
    X = torch.randn(7, 2001, generator=torch.Generator().manual_seed(3))
    alone = mean_of(Ranks(2), X)
    monkeypatch.setattr(_threads, "GRAIN", 100)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert torch.equal(mean_of(Ranks(2), X), alone)


@pytest.fixture
def cold(monkeypatch):
    """No kernel is loaded or on disk, and none is compiled."""
    monkeypatch.setattr(_compiled, "_loaded", {})
    monkeypatch.setattr(_compiled, "_done_without", {})
    monkeypatch.setattr(_compiled, "_compile", lambda kernel: kernel)
    monkeypatch.setattr(_compiled, "_on_disk", lambda _: False)


def test_a_kernel_is_loaded_for_large_stacks_and_once_they_make_up_for_it(cold, monkeypatch):
    monkeypatch.setattr(_compiled, "WORTH_COMPILING", 32)
    monkeypatch.setattr(_compiled, "PATIENCE", 96)
    for size, times in ((7, 99), (8, 2)):
        for _ in range(times):
            mean_of(Ranks(1), torch.ones(4, size))
        assert _compiled._loaded == {}
    mean_of(Ranks(1), torch.ones(4, 8))
    assert _compiled._loaded == {_compiled.reduce_columns: _compiled.reduce_columns}


def test_a_kernel_on_disk_is_loaded_at_once(cold, monkeypatch):
    monkeypatch.setattr(_compiled, "WORTH_COMPILING", 32)
    monkeypatch.setattr(_compiled, "_on_disk", lambda _: True)
    mean_of(Ranks(1), torch.ones(4, 8))
    assert _compiled._loaded == {_compiled.reduce_columns: _compiled.reduce_columns}


def test_what_numba_keeps_is_found_on_disk(tmp_path, monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setattr("numba.core.config.CACHE_DIR", str(tmp_path))
    compiled = _compiled._compile(_mixing.summed_columns)
    assert not _compiled._on_disk(compiled)
    compiled(np.ones(2), np.ones((2, 3)), np.empty(3), 0, 3)
    assert _compiled._on_disk(_compiled._compile(_mixing.summed_columns))


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        (Median(f=2), ["reduce_columns"]),
        (Krum(f=2), ["squared_norms", "centred_gram", "summed_columns"]),
        (
            NNM(2) >> TrimmedMean(f=2),
            ["squared_norms", "centred_gram", "reduce_columns", "mixed_columns"],
        ),
        (Clipping() >> MeaMed(f=2), ["squared_norms", "reduce_columns"]),
    ],
    ids=str,
)
def test_a_first_call_compiles_nothing_and_asks_for_little(rule, wanted, cold):
    rule(torch.randn(16, 1 << 16, generator=torch.Generator().manual_seed(6)))
    assert _compiled._loaded == {}
    assert [kernel.body.__name__ for kernel in _compiled._done_without] == wanted


def test_without_numba_there_is_no_kernel(monkeypatch):
    really_import = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "numba":
            raise ImportError(name)
        return really_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    assert _compiled._compile(_compiled.reduce_columns) is None


def test_without_a_folder_for_its_cache_numba_compiles_in_memory(monkeypatch):
    numba = pytest.importorskip("numba")
    asked = []

    def njit(**options):
        asked.append(options)
        if options.get("cache"):
            raise_on_use = RuntimeError("cannot cache function: no locator available")
            return lambda function: (_ for _ in ()).throw(raise_on_use)
        return lambda function: function

    monkeypatch.setattr(numba, "njit", njit)
    assert _compiled._compile(_compiled.reduce_columns) == _compiled.reduce_columns
    assert [options.get("cache") for options in asked] == [True, None]


def test_asking_for_memory_does_nothing_that_is_seen():
    numba = pytest.importorskip("numba")
    assert _prefetch.prefetch(np.ones(3), 1) is None
    _prefetch.teach()
    row, ask = np.arange(9.0), _prefetch.prefetch
    assert numba.njit(lambda row: ask(row, 10**6))(row) is None
    assert row.tolist() == list(range(9))
