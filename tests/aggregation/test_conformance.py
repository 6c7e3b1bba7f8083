"""What every registered rule, and every pre-aggregator before it, must do with any input."""

import inspect

import numpy as np
import pytest
import torch

from fedsieve.aggregation import Facts, GramRule, TooManyFaultyClients
from tests.aggregation.every_rule import (
    HOSTILE,
    NAMES,
    PRES,
    RULES,
    UNBOUNDED,
    WIDE,
    F,
    K,
    build,
    every,
    having,
    honest,
    hostile,
    size,
)


@every
@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("where", [(-2, -1), (1, 2), (3,)])
def test_hostile_rows_do_no_harm(name, kind, where):
    rule, n = build(name), size(name)
    stack = honest(n=n)
    stack[list(where)] = hostile(kind, len(where))
    good = np.delete(np.arange(n), where)
    out = rule(stack)
    assert out.isfinite().all()
    if name[1] not in UNBOUNDED or not np.isfinite(HOSTILE[kind]).all():
        # honest rows have norms near sqrt(K); what has no scale of its own stays in their hull
        reach = 1 if Facts.SCALES in rule.facts else 2 * K**0.5
        assert (out - stack[good].mean(0)).norm() < reach


@every
def test_gross_float64_rows_count_as_unusable(name):
    stack = honest(n=size(name), dtype=torch.float64)
    stack[1] = 1e200
    found = build(name).aggregate(stack)
    assert found.rejected == 1
    assert found.vector.isfinite().all()


@every
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_fails_closed_when_more_than_f_rows_are_unusable(name, bad):
    n = size(name)
    stack = honest(n=n)
    stack[1 : F + 2, 0] = bad
    with pytest.raises(TooManyFaultyClients, match=f"{F + 1} of {n} rows are unusable.*f={F}"):
        build(name)(stack)


@every
def test_unusable_rows_reduce_n_and_f(name):
    stack = honest(n=size(name), dtype=torch.float64)
    without = build(name, F - 1)(torch.cat([stack[:4], stack[5:]]))
    stack[4, 2] = torch.nan
    found = build(name).aggregate(stack)
    torch.testing.assert_close(found.vector, without)
    assert found.rejected == 1
    assert found.weights[4] == 0


@having(Facts.UNANIMOUS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_identical_rows_and_zeros_return_the_row(name, dtype):
    for value in (0.0, 1.0, -3.7, 1e-40, 1e30):
        stack = torch.full((size(name), K), value, dtype=dtype)
        torch.testing.assert_close(build(name)(stack), stack[0])


@every
@pytest.mark.parametrize("value", [0.0, 1.0, 1e-40, 1e30])
def test_identical_rows_give_something_finite(name, value):
    assert build(name)(torch.full((size(name), K), value)).isfinite().all()


@having(Facts.UNANIMOUS | Facts.ROBUST | Facts.SCALES)
@pytest.mark.parametrize("lie", [-50.0, 0.0, 0.2, 0.9, 2.0])
def test_f_rows_against_identical_ones_lose(name, lie):
    stack = torch.ones(size(name), K)
    stack[-F:] = lie
    torch.testing.assert_close(build(name)(stack), torch.ones(K))


@having(Facts.AVERAGES)
def test_without_byzantine_clients_it_is_the_mean(name):
    stack = honest(n=size(name), dtype=torch.float64)
    torch.testing.assert_close(build(name, 0)(stack), stack.mean(0))
    assert build(name, 0).kappa(len(stack)) == 0


@every
def test_one_client(name):
    stack, rule = honest(n=1), build(name, 0)
    if rule.breakdown(1) < 0:
        with pytest.raises(ValueError, match="is not defined for n=1 clients, whatever f is"):
            rule(stack)
    elif Facts.UNANIMOUS in rule.facts:
        torch.testing.assert_close(rule(stack), stack[0])
    else:
        assert rule(stack).isfinite().all()


@having(Facts.TRANSLATES | Facts.SCALES)
def test_common_offset_with_small_spread(name):
    rng = np.random.default_rng(3)
    stack = torch.from_numpy(rng.normal(1e4, 1e-3, (size(name), 1000))).float()
    stack[-F:] = 1e4 + 0.05
    rule = build(name, k=1000)
    out = rule(stack)
    assert (out - stack[:-F].mean(0)).abs().max() < (6e-3 if Facts.ROBUST in rule.facts else 0.02)


@having(Facts.SCALES)
@pytest.mark.parametrize("scale", [1e-15, 1e-6, 1e6, 1e15, 1e60, 1e-60, 1e130, 1e-130])
def test_scale_equivariance(name, scale):
    stack = honest(n=size(name), dtype=torch.float64)
    stack[-F:] += 3
    out = build(name)(stack * scale)
    torch.testing.assert_close(out / scale, build(name)(stack))


@every
@pytest.mark.parametrize("scale", [1e-41, 1e-25, 1e25, 1e37])
def test_extreme_float32_scales(name, scale):
    stack, rule = honest(n=size(name)), build(name)
    stack[-F:] += 3
    out = rule(stack * scale)
    assert out.isfinite().all()
    if Facts.SCALES in rule.facts:
        torch.testing.assert_close(out.double() / scale, rule(stack).double(), rtol=1e-3, atol=1e-3)


@having(Facts.SYMMETRIC)
def test_permutation(name):
    stack = honest(n=size(name), dtype=torch.float64)
    stack[-F:] += 0.8
    order = np.random.default_rng(5).permutation(len(stack))
    torch.testing.assert_close(build(name)(stack[order]), build(name)(stack))


@having(Facts.TRANSLATES)
def test_translation(name):
    stack = honest(n=size(name), dtype=torch.float64)
    stack[-F:] += 0.8
    shift = torch.linspace(-4, 9, K, dtype=torch.float64)
    torch.testing.assert_close(build(name)(stack + shift), build(name)(stack) + shift)


@every
def test_a_gram_rule_moves_with_the_messages(name):
    rule = build(name)
    assert Facts.TRANSLATES in rule.facts or not isinstance(rule, GramRule)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kind_dtype_and_input_are_kept(name, dtype):
    stack = honest(n=size(name), dtype=dtype)
    stack[1, 0] = torch.nan
    before = stack.clone()
    out = build(name)(stack)
    array = stack.numpy().copy()
    array.flags.writeable = False
    from_array = build(name)(array)
    assert out.dtype == dtype
    assert out.shape == (K,)
    assert isinstance(from_array, np.ndarray)
    assert np.array_equal(from_array, out.numpy())
    torch.testing.assert_close(stack, before, equal_nan=True, rtol=0, atol=0)
    assert torch.equal(build(name)(stack.T.contiguous().T), out)


@every
def test_gradients_are_left_outside(name):
    assert not build(name)(honest(n=size(name)).requires_grad_()).requires_grad


@every
def test_reported_weights(name):
    stack, rule = honest(n=size(name), k=WIDE, dtype=torch.float64), build(name, k=WIDE)
    found = rule.aggregate(stack)
    assert found.weights.shape == (len(stack),)
    assert found.weights.isfinite().all()
    if Facts.CONVEX in rule.facts:
        assert found.weights.min() >= 0
        assert found.weights.sum() == pytest.approx(1, abs=1e-12)
    assert torch.equal(found.vector, rule(stack))
    if isinstance(rule, GramRule):
        torch.testing.assert_close(found.weights @ stack, found.vector)
        torch.testing.assert_close(rule.weights(stack @ stack.T), found.weights)


def test_what_no_fact_promises_is_bounded_by_the_honest_lengths_or_named():
    """Three believe short messages: bounded, though not by how far the others are apart."""
    lacking = {name for name in NAMES if Facts.ROBUST not in build(name).facts}
    assert {rule for _, rule in lacking} == UNBOUNDED | {
        "cge",
        "flame",
        "flame lambda_=0.01",
        "sign-guard",
    }


@every
def test_a_rule_of_a_round_is_the_same_rule(name):
    rule = build(name)
    stack = honest(n=size(name))
    changed = rule.for_round(5)
    assert type(changed) is type(rule)
    assert changed.facts == rule.facts
    assert changed.for_round(6)(stack).isfinite().all()
    assert torch.equal(rule.for_round(5)(stack), changed(stack))


@every
def test_too_large_f_is_refused_with_the_largest_legal_one(name):
    rule = build(name)
    n = next(n for n in range(size(name), 0, -1) if 0 <= rule.breakdown(n) < F)
    most = rule.breakdown(n)
    with pytest.raises(ValueError, match=f"f={F} with n={n}; largest legal f is {most}"):
        rule(honest(n=n))


@every
@pytest.mark.parametrize(
    ("stack", "message"),
    [
        (torch.ones(2, 3, 4), r"shape \(2, 3, 4\)"),
        (torch.ones(0, 3), r"shape \(0, 3\)"),
        (torch.ones(9, 0), r"shape \(9, 0\)"),
        (torch.ones(9, 3, dtype=torch.int64), "dtype torch.int64"),
        (torch.ones(9, 3, dtype=torch.bfloat16), "dtype torch.bfloat16"),
    ],
)
def test_wrong_stacks_are_refused(name, stack, message):
    with pytest.raises(ValueError, match=message):
        build(name)(stack)


@pytest.mark.parametrize("name", [*RULES, *PRES])
@pytest.mark.parametrize("f", [-1, 1.0, True, None])
def test_f_must_be_a_number_of_clients(name, f):
    found = (RULES | PRES)[name]
    if "f" not in inspect.signature(found.factory).parameters:
        pytest.skip("it assumes nothing on the number of Byzantine clients")
    with pytest.raises(ValueError, match=f"f={f!r} must be an integer >= 0"):
        found.build(f=f, root=torch.ones(K))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@every
def test_cuda_agrees_with_the_cpu(name):
    stack, rule = honest(n=25, k=5000), build(name, k=5000)
    stack[-F:] += 2
    stack[5, 7] = torch.nan
    found, expected = rule.aggregate(stack.cuda()), rule.aggregate(stack)
    assert found.vector.is_cuda
    torch.testing.assert_close(found.vector.cpu(), expected.vector)
    torch.testing.assert_close(found.weights, expected.weights)
