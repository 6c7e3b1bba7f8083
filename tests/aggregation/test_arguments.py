"""What every rule may be given: stacks, client weights and vectors; and how else it refuses.

(Numbers, words and flags: tests/test_arguments.py.)
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch

from fedsieve.aggregation import (
    MDA,
    NNM,
    SMEA,
    CenteredClipping,
    DnC,
    Facts,
    FLTrust,
    Hierarchical,
    Mean,
    Median,
    aggregate_blocks,
    capped_shares,
)
from fedsieve.registry import components

N, F, K = 11, 2, 4
RULES = {part.name: part for part in components("rule")}
PRES = {part.name: part for part in components("pre-aggregator")}
WEIGHTED = [name for name in RULES if Facts.WEIGHTED in ~RULES[name].factory.lacks]
VECTORS = [
    (name, field.name)
    for name, part in RULES.items()
    for field in fields(part.factory)
    if "Vector" in str(field.type)
]


def stack(dtype=np.float64):
    return np.random.default_rng(0).normal(1, 0.2, (N, K)).astype(dtype)


def built(name, **given):
    return RULES[name].build(f=F, **{"root": np.ones(K)} | given)


def test_both_rules_with_a_vector_are_found():
    assert VECTORS == [("centered-clipping", "v0"), ("fltrust", "root")]


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_tensor_gives_a_tensor_and_an_array_an_array(name, dtype):
    X = stack(dtype)
    out, array = built(name)(torch.from_numpy(X)), built(name)(X)
    assert isinstance(out, torch.Tensor)
    assert isinstance(array, np.ndarray)
    assert array.dtype == dtype
    assert np.array_equal(out.numpy(), array)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([[1.0, 2.0]] * N, "stack is a list; allowed are tensors and arrays"),
        (np.ma.masked_all((N, K)), "stack is a MaskedArray; allowed are tensors and arrays"),
        (None, "stack is a NoneType; allowed are"),
        (3.0, "stack is a float; allowed are"),
        (np.ones((N, K), np.int64), "stack has dtype int64; allowed are float32 and float64"),
        (np.ones((N, K), np.float16), "stack has dtype float16; allowed are"),
        (np.ones((N, K), complex), "stack has dtype complex128; allowed are"),
        (np.ones((N, K), ">f8"), "stack has dtype >f8; allowed are"),
        (np.full((N, K), "1"), "stack has dtype <U1; allowed are"),
        (np.full((N, K), None), "stack has dtype object; allowed are"),
        (torch.ones(N, K, dtype=torch.bool), "stack has dtype torch.bool; allowed are"),
        (torch.ones(N, K, dtype=torch.complex64), "stack has dtype torch.complex64; allowed are"),
        (np.ones(K), r"stack has shape \(4,\); allowed is \(n, k\)"),
        (np.ones((1, N, K)), r"stack has shape \(1, 11, 4\); allowed is \(n, k\)"),
        (np.float64(1), "stack is a float64; allowed are"),
        (np.array(1.0), r"stack has shape \(1?,?\); allowed is \(n, k\)"),
        (np.ones((0, K)), r"stack has shape \(0, 4\); allowed is \(n, k\)"),
        (torch.ones(N, 0), r"stack has shape \(11, 0\); allowed is \(n, k\)"),
        (torch.ones(N, K).to_sparse(), "stack is sparse; allowed"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_is_no_stack_is_refused(name, wrong, message):
    with pytest.raises(ValueError, match=message):
        built(name)(wrong)
    with pytest.raises(ValueError, match=message):
        (NNM(F) >> built(name))(wrong)


@pytest.mark.parametrize("name", WEIGHTED)
@pytest.mark.parametrize(
    "kind",
    [
        list,
        tuple,
        np.array,
        lambda w: np.array(w, np.int32),
        lambda w: np.array(w, np.float16),
        torch.tensor,
        lambda w: torch.tensor(w, dtype=torch.bfloat16),
        lambda w: torch.tensor(w).requires_grad_(),
        lambda w: [np.float32(one) for one in w],
    ],
)
def test_client_weights_may_be_of_any_kind(name, kind):
    weights = [3.0] * 5 + [4.0] * (N - 5)
    expected = built(name)(stack(), np.array(weights))
    np.testing.assert_array_equal(built(name)(stack(), kind(weights)), expected)


@pytest.mark.parametrize("name", WEIGHTED)
@pytest.mark.parametrize(
    "wrong",
    [
        "1" * N,
        ["1"] * N,
        [None] * N,
        [1j] * N,
        [True] * N,
        dict.fromkeys(range(N), 1.0),
        1.0,
        [1.0] * (N - 1),
        [[1.0]] * N,
        [[1.0], [1.0, 2.0]],
        [-1.0] + [1.0] * (N - 1),
        [np.nan] + [1.0] * (N - 1),
        [np.inf] + [1.0] * (N - 1),
        [0.0] * N,
        [],
        torch.ones(N, dtype=torch.complex64),
    ],
    ids=str,
)
def test_what_are_no_client_weights_is_refused(name, wrong):
    with pytest.raises(ValueError, match="weights"):
        built(name)(stack(), wrong)
    with pytest.raises(ValueError, match="weights"):
        built(name).aggregate(torch.from_numpy(stack()), wrong)


@pytest.mark.parametrize(("name", "argument"), VECTORS)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_vector_may_be_a_tensor_or_an_array(name, argument, kind):
    vector = np.linspace(0.5, 1.5, K).astype(kind)
    made = [built(name, **{argument: one}) for one in (vector, torch.from_numpy(vector))]
    read_only = vector[::-1][::-1]
    read_only.flags.writeable = False
    made.append(built(name, **{argument: read_only}))
    made.append(built(name, **{argument: torch.from_numpy(vector).requires_grad_()}))
    for X in (stack(np.float32), stack()):
        out = [rule(torch.from_numpy(X)) for rule in made]
        assert not any(one.requires_grad for one in out)
        assert all(torch.equal(one, out[0]) for one in out)
        assert np.array_equal(made[0](X), out[0].numpy())


@pytest.mark.parametrize(("name", "argument"), VECTORS)
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([1.0] * K, " is a list; allowed are tensors and arrays"),
        (1.0, " is a float; allowed are"),
        ("zeros", " is a str; allowed are"),
        (np.ones(K, int), " has dtype int64; allowed are float32 and float64"),
        (torch.ones(K, dtype=torch.float16), " has dtype torch.float16; allowed are"),
        (np.ones((K, 1)), r" has shape \(4, 1\); allowed is \(k,\)"),
        (torch.tensor(1.0), r" has shape \(\); allowed is \(k,\)"),
        (np.ones(0), r" has shape \(0,\); allowed is \(k,\)"),
        (np.array([1.0, np.nan]), r"\[1\]=nan must be finite"),
        (torch.tensor([1.0, 2.0, -torch.inf]), r"\[2\]=-inf must be finite"),
    ],
    ids=str,
)
def test_what_is_no_vector_is_refused(name, argument, wrong, message):
    with pytest.raises(ValueError, match=f"^{argument}{message}"):
        built(name, **{argument: wrong})


@pytest.mark.parametrize(("name", "argument"), VECTORS)
def test_a_vector_has_to_fit_the_messages(name, argument):
    with pytest.raises(ValueError, match=f"{argument} has 3 numbers; allowed are {K}"):
        built(name, **{argument: np.ones(3)})(stack())
    wide = built(name, **{argument: np.full(K, 1e300)})
    with pytest.raises(ValueError, match=f"{argument} has a number beyond the range of .*float32"):
        wide(stack(np.float32))
    assert np.isfinite(wide(stack())).all()


def test_what_a_round_gives_is_checked_alike():
    rule = NNM(F) >> CenteredClipping(F)
    assert rule.for_round(np.int64(3), np.ones(K)).rule.v0.tolist() == [1.0] * K
    with pytest.raises(ValueError, match=r"v0\[0\]=nan must be finite"):
        rule.for_round(3, torch.full((K,), torch.nan))
    with pytest.raises(ValueError, match="seed=True must be an integer"):
        DnC(F).for_round(True)
    assert FLTrust(F).trusting(np.ones(K))(stack()).shape == (K,)


REALS = [
    (part.name, field.name)
    for part in (RULES | PRES).values()
    for field in fields(part.factory)
    if "float" in str(field.type)
    and field.name not in ("L", "R", "fraction")  # within [0, 1] or so
]
BOUNDED = {"lambda_": (1e-320, 1e-160, 1e10)}  # as much noise as is asked for


@pytest.mark.parametrize(("name", "argument"), REALS)
def test_any_legal_number_gives_something_finite(name, argument):
    """Whoever sets a radius of 1e-320 or 1e308 gets a vector of numbers."""
    for value in BOUNDED.get(argument, (1e-320, 1e-160, 1e160, 1e308)):
        made = (RULES | PRES)[name].build(f=F, root=np.ones(K), **{argument: value})
        rule = made if name in RULES else made >> Median(F)
        for X in (stack(), stack(np.float32), 1e-300 * stack(), 1e200 * stack()):
            if rule.breakdown(N) >= F:
                assert np.isfinite(rule(X)).all()


@pytest.mark.parametrize("name", [*RULES, *PRES])
@pytest.mark.parametrize("f", [10**6, 10**30])
def test_a_hopeless_f_is_refused_at_once(name, f):
    if "f" not in (RULES | PRES)[name].factory.__dataclass_fields__:
        pytest.skip("it assumes nothing on the number of Byzantine clients")
    made = (RULES | PRES)[name].build(f=f, root=np.ones(K))
    with pytest.raises(ValueError, match=f"f={f} with n={N}"):
        (made if name in RULES else made >> Mean(F))(stack())


@pytest.mark.parametrize("rule", [MDA(1040), SMEA(1040)])
def test_numbers_of_subsets_beyond_all_floats_are_told(rule):
    with pytest.raises(ValueError, match="n=2100"):
        rule.check(2100)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Hierarchical(3), "rule=3 must be a fedsieve.aggregation.rule.Rule"),
        (lambda: Hierarchical(Median(1), size=4.0), "size=4.0 must be an integer >= 2"),
        (lambda: capped_shares(["a"], 2.0), "sizes have dtype <U1; allowed are real numbers"),
        (lambda: capped_shares(3.0, 2.0), r"weights have shape \(\)"),
        (lambda: capped_shares([1, 2], "2"), "cap='2' must be >= 1"),
        (lambda: capped_shares([1, 2], True), "cap=True must be >= 1"),
        (lambda: Mean().weights(["a"]), "gram's numbers have dtype <U1"),
        (lambda: Mean().weights([[1.0, 2.0]]), r"gram of shape \(1, 2\)"),
        (lambda: aggregate_blocks(Mean(), [[1.0]]), r"a block has shape \(\)"),
        (lambda: aggregate_blocks(Mean(), [np.ones((3, 2), int)]), "a block has dtype int64"),
        (lambda: aggregate_blocks(Mean(), [torch.ones(3, 2).half()]), "dtype torch.float16"),
    ],
)
def test_other_doors_refuse_as_well(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_only_rules_and_pre_aggregators_stand_behind_a_pre_aggregator():
    for wrong in (3, None, torch.ones(3, 3), Hierarchical(Median(1))):
        with pytest.raises(TypeError, match="unsupported operand"):
            NNM(1) >> wrong
