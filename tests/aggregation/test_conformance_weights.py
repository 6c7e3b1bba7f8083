"""What every rule does with weights of its clients, where it hears them."""

import numpy as np
import pytest
import torch

from fedsieve.aggregation import Facts, TooManyFaultyClients, capped_shares
from tests.aggregation.every_rule import (
    HOSTILE,
    F,
    K,
    build,
    every,
    having,
    honest,
    hostile,
    size,
)


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


@having(Facts.WEIGHTED)
@pytest.mark.parametrize("wrong", [[-1.0], [torch.nan], [], [1.0, 1.0]])
def test_wrong_weights_are_refused(name, wrong):
    n = size(name)
    with pytest.raises(ValueError, match="weights"):
        build(name)(honest(n=n), weights=wrong + [1.0] * (n - 1))
    with pytest.raises(ValueError, match="weights"):
        build(name)(honest(n=n), weights=[0.0] * n)
