"""What every registered rule, and every pre-aggregator before it, must do with any input."""

import inspect

import numpy as np
import pytest
import torch

from fedsieve.aggregation import Facts, GramRule, Rule, TooManyFaultyClients, capped_shares
from fedsieve.registry import components

N, F, K = 9, 2, 6
WIDE = 999  # columns; shares of coordinates must add up over many

RULES = {c.name: c for c in components("rule")}
PRES = {c.name: c for c in components("pre-aggregator")}
VARIANTS: dict[str, dict[str, object]] = {  # settings on which facts, or the way, depend
    "centered-clipping tau=1.0": {"tau": 1.0},
    "filter-l2 sigma=0.25": {"sigma": 0.25},
    "flame lambda_=0.01": {"lambda_": 0.01},
    "geometric-median iterations=3": {"iterations": 3},
    "krum neighbours=n-f-1": {"neighbours": "n-f-1"},
    "multi-krum m=7": {"m": 7},
}
Name = tuple[str | None, str]
NAMES: list[Name] = [(pre, rule) for pre in (None, *PRES) for rule in RULES]
NAMES += [(None, variant) for variant in VARIANTS]
SAMPLES = {"root": lambda k: torch.ones(k)}  # for arguments that have no default


def build(name: Name, f: int = F, k: int = K) -> Rule:
    pre, rule = name
    samples = {argument: make(k) for argument, make in SAMPLES.items()}
    last = RULES[rule.split()[0]].build(f=f, **samples, **VARIANTS.get(rule, {}))
    return last if pre is None else PRES[pre].build(f=f) >> last


def size(name: Name) -> int:
    """The least n >= N for which it is defined with F Byzantine clients."""
    return next(n for n in range(N, 10 * N) if build(name).breakdown(n) >= F)


def having(facts: Facts):
    """Every rule and composition that has these facts."""
    names = [name for name in NAMES if facts in build(name).facts]
    return pytest.mark.parametrize("name", names, ids=lambda name: ">>".join(filter(None, name)))


every = having(Facts.NONE)


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
LINE = [0.3, -1.2, 0.7, 1.9, -0.4, -0.8]
SCALES = [  # of two rows on one line, of which the farther may drown the nearer
    (1e16, -1e33),
    (1e8, 1e30),
    (1e30, 1e8),
    (1e10, -1e27),
    (1e18, -1e36),
    (1e-30, 1e38),
    (1e3, -1e6),
]
HOSTILE |= {f"{a:g} and {b:g}": [[a * x for x in LINE], [b * x for x in LINE]] for a, b in SCALES}
# the mean of all messages, turned around or not, goes wherever a single one wants
UNBOUNDED = {"mean", "robust-learning-rate", "geometric-median iterations=3"}


def hostile(kind: str, rows: int) -> torch.Tensor:
    return torch.tensor(HOSTILE[kind]).expand(F, K)[:rows]


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


def unequal(n: int) -> np.ndarray:
    """Client weights of mean about 1, within what every rule allows f clients to hold."""
    return np.random.default_rng(7).uniform(0.97, 1.03, n)


@having(Facts.WEIGHTED)
def test_equal_client_weights_change_nothing(name):
    stack = honest(n=size(name), dtype=torch.float64)
    stack[1, 3] = torch.inf
    found = build(name).aggregate(stack, weights=np.full(len(stack), 7.0))
    expected = build(name).aggregate(stack)
    torch.testing.assert_close(found.vector, expected.vector)
    if name[0] != "nnm":  # rounding decides which of two equally mixed rows is kept
        torch.testing.assert_close(found.weights, expected.weights)


@having(Facts.WEIGHTED)
@pytest.mark.parametrize("row", [0.3, 1e30, torch.nan])
def test_a_client_of_weight_zero_is_absent(name, row):
    rule, n = build(name), size(name) + 1
    stack, weights = honest(n=n, dtype=torch.float64), unequal(n)
    stack[-1] += 2
    stack[4], weights[4] = row, 0.0
    others = np.arange(n) != 4
    expected = rule.aggregate(stack[others], weights[others])
    found = rule.aggregate(stack, weights)
    torch.testing.assert_close(found.vector, expected.vector)
    assert found.weights[4] == 0
    if name[0] != "nnm":  # rounding decides which of two equally mixed rows is kept
        torch.testing.assert_close(found.weights[others], expected.weights)
    assert found.rejected == 0


@having(Facts.WEIGHTED)
def test_f_must_be_legal_for_the_clients_that_weigh_something(name):
    rule, present = build(name), size(name)
    n = next(n for n in range(present, 0, -1) if 0 <= rule.breakdown(n) < F)
    stack = honest(n=present)
    message = f"{n} of {present} clients have a weight > 0; .*(largest legal f is|exceeds n - f)"
    with pytest.raises(TooManyFaultyClients, match=message):
        rule(stack, [1.0] * n + [0.0] * (present - n))


@having(Facts.WEIGHTED)
@pytest.mark.parametrize("scale", [1e-200, 0.125, 1e200])
def test_only_the_ratios_of_client_weights_count(name, scale):
    stack = honest(n=size(name), dtype=torch.float64)
    stack[-F:] += 0.8
    weights = unequal(len(stack))
    torch.testing.assert_close(
        build(name)(stack, weights * scale), build(name)(stack, weights), rtol=1e-9, atol=1e-9
    )


def test_what_no_fact_promises_is_bounded_by_the_honest_lengths_or_named():
    """Three believe short messages: bounded, though not by how far the others are apart."""
    lacking = {name for name in NAMES if Facts.ROBUST not in build(name).facts}
    assert {rule for _, rule in lacking} == UNBOUNDED | {
        "cge",
        "flame",
        "flame lambda_=0.01",
        "sign-guard",
    }


@having(Facts.WEIGHTED | Facts.ROBUST)
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_rows_do_no_harm_whatever_they_claim_to_weigh(name, kind):
    rule = build(name)
    # even, for even buckets, and large enough for clients at the cap to stay below the limit
    n = next(n for n in range(20, 100, 2) if rule.breakdown(n) >= F)
    stack = honest(n=n)
    stack[-F:] = hostile(kind, F)
    claimed = [10.0] * (n - F) + [1e9] * F
    shares = capped_shares(claimed, 1.7)
    assert F * 1.7 / n < rule.weight_limit(n)
    out = rule(stack, shares)
    reach = 1 if Facts.SCALES in rule.facts else 2 * K**0.5
    assert (out - stack[:-F].mean(0)).norm() < reach


@having(Facts.WEIGHTED | Facts.ROBUST)
def test_f_clients_with_too_much_weight_are_too_many(name):
    rule, n = build(name), size(name)
    if getattr(rule, "rule", rule).breakdown(n) > (n - 1) // 2:
        pytest.skip("it needs no majority")
    with pytest.raises(
        TooManyFaultyClients, match=r"weights: the f=2 heaviest of \d+ clients hold"
    ):
        rule(honest(n=n), [1.0] * (n - F) + [1.0 * n] * F)


@every
def test_client_weights_are_heard_or_refused(name):
    rule, n = build(name), size(name)
    if Facts.WEIGHTED in rule.facts:
        assert rule(honest(n=n), weights=[1.0] * (n - 1) + [1.2]).isfinite().all()
    else:
        with pytest.raises(ValueError, match="has no place for them"):
            rule(honest(n=n), weights=[1.0] * n)


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


@having(Facts.WEIGHTED)
@pytest.mark.parametrize("wrong", [[-1.0], [torch.nan], [], [1.0, 1.0]])
def test_wrong_weights_are_refused(name, wrong):
    n = size(name)
    with pytest.raises(ValueError, match="weights"):
        build(name)(honest(n=n), weights=wrong + [1.0] * (n - 1))
    with pytest.raises(ValueError, match="weights"):
        build(name)(honest(n=n), weights=[0.0] * n)


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
