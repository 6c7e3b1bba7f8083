"""What every registered rule, and every pre-aggregator before it, must do with any input."""

import numpy as np
import pytest
import torch

from fedsieve.aggregation import Rule, TooManyFaultyClients
from fedsieve.registry import components

N, F, K = 9, 2, 6
NOT_ROBUST = {"mean", "robust-learning-rate"}  # withstand unusable rows only
NOT_THE_MEAN = {"median", "majority-vote", "robust-learning-rate"}  # not even for f = 0
SIGNS = {"majority-vote"}  # hear no lengths
NOT_TRANSLATED = SIGNS | {"robust-learning-rate"}  # zero is a special place for them

RULES = {c.name: c for c in components("rule")}
PRES = {c.name: c for c in components("pre-aggregator")}
NAMES = [(None, rule) for rule in RULES] + [(pre, rule) for pre in PRES for rule in RULES]
every = pytest.mark.parametrize("name", NAMES, ids=lambda name: ">>".join(filter(None, name)))


def build(name: tuple[str | None, str], f: int = F) -> Rule:
    pre, rule = name
    last = RULES[rule].build(f=f)
    return last if pre is None else PRES[pre].build(f=f) >> last


def honest(seed: int = 0, n: int = N, k: int = K, dtype: torch.dtype = torch.float32):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(1.0, 0.25, (n, k))).to(dtype)


HOSTILE = {
    "nan row": [torch.nan] * K,
    "nan coordinate": [1.0] * (K - 1) + [torch.nan],
    "inf": [torch.inf] * K,
    "minus inf": [-torch.inf] * K,
    "mixed inf": [torch.inf, -torch.inf] * (K // 2),
    "one inf": [1.0] * (K - 1) + [torch.inf],
    "1e30": [1e30] * K,
    "1e38": [1e38] * K,
    "mixed 1e38": [1e38, -1e38] * (K // 2),
    "1e20, where float32 squares overflow": [1e20] + [0.0] * (K - 1),
}


@every
@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("where", [(7, 8), (0, 1), (3,)])
def test_hostile_rows_do_no_harm(name, kind, where):
    stack = honest()
    stack[list(where)] = torch.tensor(HOSTILE[kind])
    good = np.setdiff1d(np.arange(N), where)
    out = build(name)(stack)
    assert out.isfinite().all()
    if name[1] not in NOT_ROBUST or not np.isfinite(HOSTILE[kind]).all():
        assert (out - stack[good].mean(0)).norm() < 1


@every
def test_gross_float64_rows_count_as_unusable(name):
    stack = honest(dtype=torch.float64)
    stack[0] = 1e200
    found = build(name).aggregate(stack)
    assert found.rejected == 1
    assert (found.vector - stack[1:].mean(0)).norm() < 1


@every
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_fails_closed_when_more_than_f_rows_are_unusable(name, bad):
    stack = honest()
    stack[: F + 1, 0] = bad
    with pytest.raises(TooManyFaultyClients, match=f"{F + 1} of {N} rows are unusable.*f={F}"):
        build(name)(stack)


@every
def test_unusable_rows_reduce_n_and_f(name):
    stack = honest(dtype=torch.float64)
    without = build(name, F - 1)(torch.cat([stack[:4], stack[5:]]))
    stack[4, 2] = torch.nan
    found = build(name).aggregate(stack)
    torch.testing.assert_close(found.vector, without)
    assert found.rejected == 1
    assert found.weights[4] == 0


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_identical_rows_and_zeros_return_the_row(name, dtype):
    for value in (0.0, 1.0, -3.7, 1e30):
        stack = torch.full((N, K), value, dtype=dtype)
        row = stack[0].sign() if name[1] in SIGNS else stack[0]
        torch.testing.assert_close(build(name)(stack), row)


@every
def test_f_rows_against_identical_ones_lose(name):
    stack = torch.ones(N, K)
    stack[:F] = -50.0
    if name[1] not in NOT_ROBUST:
        torch.testing.assert_close(build(name)(stack), torch.ones(K))


@every
def test_without_byzantine_clients_it_is_the_mean(name):
    if name[1] in NOT_THE_MEAN:
        pytest.skip("it is another figure of the middle")
    stack = honest(dtype=torch.float64)
    torch.testing.assert_close(build(name, 0)(stack), stack.mean(0))
    assert build(name, 0).kappa(N) == 0


@every
def test_one_client(name):
    stack = honest(n=1)
    row = stack[0].sign() if name[1] in SIGNS else stack[0]
    torch.testing.assert_close(build(name, 0)(stack), row)


@every
def test_common_offset_with_small_spread(name):
    if name[1] in SIGNS:
        pytest.skip("it hears no lengths")
    rng = np.random.default_rng(3)
    stack = torch.from_numpy(rng.normal(1e4, 1e-3, (N, 1000))).float()
    stack[:F] = 1e4 + 0.05
    out = build(name)(stack)
    assert (out - stack[F:].mean(0)).abs().max() < (0.02 if name[1] in NOT_ROBUST else 6e-3)


@every
@pytest.mark.parametrize("scale", [1e-15, 1e-6, 1e6, 1e15, 1e60, 1e-60, 1e130, 1e-130])
def test_scale_equivariance(name, scale):
    stack = honest(dtype=torch.float64)
    stack[:F] += 3
    out = build(name)(stack * scale)
    torch.testing.assert_close(out / (1 if name[1] in SIGNS else scale), build(name)(stack))


@every
@pytest.mark.parametrize("scale", [1e-41, 1e-25, 1e25, 1e37])
def test_extreme_float32_scales(name, scale):
    stack = honest()
    stack[:F] += 3
    out = build(name)(stack * scale)
    torch.testing.assert_close(
        out.double() / (1 if name[1] in SIGNS else scale),
        build(name)(stack).double(),
        rtol=1e-3,
        atol=1e-3,
    )


@every
def test_permutation_and_translation(name):
    stack = honest(dtype=torch.float64)
    stack[:F] += 0.8
    out = build(name)(stack)
    order = np.random.default_rng(5).permutation(N)
    torch.testing.assert_close(build(name)(stack[order]), out)
    if name[1] in NOT_TRANSLATED:
        return
    shift = torch.linspace(-4, 9, K, dtype=torch.float64)
    torch.testing.assert_close(build(name)(stack + shift), out + shift)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kind_dtype_and_input_are_kept(name, dtype):
    stack = honest(dtype=dtype)
    stack[0, 0] = torch.nan
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
    assert not build(name)(honest().requires_grad_()).requires_grad


@every
def test_reported_weights(name):
    stack = honest(dtype=torch.float64)
    found = build(name).aggregate(stack)
    assert found.weights.shape == (N,)
    assert found.weights.min() >= 0
    assert found.weights.sum() == pytest.approx(1)
    assert torch.equal(found.vector, build(name)(stack))
    if hasattr(build(name), "weights"):
        torch.testing.assert_close(found.weights @ stack, found.vector)
        torch.testing.assert_close(build(name).weights(stack @ stack.T), found.weights)


@every
def test_equal_client_weights_change_nothing(name):
    stack = honest(dtype=torch.float64)
    stack[1, 3] = torch.inf
    out = build(name)(stack, weights=np.full(N, 7.0))
    torch.testing.assert_close(out, build(name)(stack))


@every
def test_a_client_of_weight_zero_is_not_heard(name):
    if name[0] is not None:
        pytest.skip("mixing attaches a client's weight to its neighbourhood")
    stack, weights = honest(dtype=torch.float64), [0.0] + [1.0] * (N - 1)
    changed = stack.clone()
    changed[0] += 0.3
    torch.testing.assert_close(build(name)(changed, weights), build(name)(stack, weights))


@every
def test_too_large_f_is_refused_with_the_largest_legal_one(name):
    n = 2 * F if name[1] not in NOT_ROBUST or name[0] is not None else F
    rule = build(name)
    most = rule.breakdown(n)
    assert most < F
    assert rule.breakdown(2 * F + 1) >= F
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


@every
@pytest.mark.parametrize(
    "weights", [[1.0] * (N - 1), [-1.0] + [1.0] * (N - 1), [torch.nan] * N, [0.0] * N]
)
def test_wrong_weights_are_refused(name, weights):
    with pytest.raises(ValueError, match="weights"):
        build(name)(honest(), weights=weights)


@pytest.mark.parametrize("name", [*RULES, *PRES])
@pytest.mark.parametrize("f", [-1, 1.0, True, None])
def test_f_must_be_a_number_of_clients(name, f):
    with pytest.raises(ValueError, match=f"f={f!r} must be an integer >= 0"):
        (RULES | PRES)[name].factory(f=f)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@every
def test_cuda_agrees_with_the_cpu(name):
    stack = honest(n=20, k=5000)
    stack[:F] += 2
    stack[5, 7] = torch.nan
    found, expected = build(name).aggregate(stack.cuda()), build(name).aggregate(stack)
    assert found.vector.is_cuda
    torch.testing.assert_close(found.vector.cpu(), expected.vector)
    torch.testing.assert_close(found.weights, expected.weights)
