"""The line search: what it asks, what it returns, and its short cut over the Gram."""

import numpy as np
import pytest
import torch

from fedsieve.aggregation import CAF, NNM, Mean, TooManyFaultyClients, TrimmedMean
from fedsieve.poisoning import Scene, line_search
from fedsieve.poisoning._line_search import question


def scene(rule, f=4, h=16, k=30, seed=0, dtype=torch.float64, **more):
    rng = np.random.default_rng(seed)
    honest = torch.from_numpy(rng.normal(0.3, 1, (h, k))).to(dtype)
    own = torch.from_numpy(rng.normal(0.3, 1, (f, k))).to(dtype)
    return Scene(honest, f, rule, np.random.default_rng(1), own=own, **more)


def test_of_equally_damaging_messages_the_weakest_is_sent():
    s = scene(Mean(f=4))
    ignores = Scene(s.honest, 4, lambda stack: stack[:16].mean(0) + 1, s.rng)
    assert line_search(ignores, s.std, s.mean, lower=-10).strength == 0


def test_against_the_mean_it_goes_to_the_end_of_the_interval():
    s = scene(Mean(f=4))
    found = line_search(s, -s.std, s.mean, upper=7.0)
    assert found.strength == 7
    assert found.damage == pytest.approx(7 * 4 / 20 * float(s.std.norm()))
    torch.testing.assert_close(found.rows, (s.mean - 7 * s.std).expand(4, -1))


@pytest.mark.parametrize("rule", [TrimmedMean(f=4), CAF(f=4)], ids=str)
def test_returns_the_best_of_everything_it_tried(rule):
    s = scene(rule)
    found = line_search(s, -s.std, s.mean, lower=-10, upper=10)
    assert found.damage == max(found.tried.values()) == found.tried[found.strength]
    assert 0 in found.tried
    assert len(found.tried) <= 33
    assert min(found.tried) == -10
    assert max(found.tried) == 10
    for tau, damage in list(found.tried.items())[::7]:
        stack = torch.cat([s.honest, (s.mean - tau * s.std).expand(4, -1)])
        assert float((rule(stack) - s.mean).norm()) == pytest.approx(damage)


def test_refines_between_the_points_of_the_grid():
    s = scene(Mean(f=4), h=16, k=1)
    # a rule that is fooled up to 2.9 standard deviations and then looks away
    middle, std = float(s.mean), float(s.std)

    def rule(stack):
        far = abs(float(stack[-1]) - middle) > 2.9 * std
        return stack[:16].mean(0) if far else stack.mean(0)

    s = Scene(s.honest, 4, rule, s.rng)
    found = line_search(s, s.std, s.mean)
    assert found.strength == pytest.approx(2.9, abs=0.08)
    assert found.strength <= 2.9


@pytest.mark.parametrize("rule", [Mean(f=4), CAF(f=4), NNM(f=4) >> CAF(f=4)], ids=str)
@pytest.mark.parametrize("own", [False, True])
def test_the_gram_knows_what_the_stack_knows(rule, own):
    slow, quick = scene(rule), scene(rule, weigh=rule.weights)
    direction = -slow.own if own else -slow.std
    start = torch.zeros(30, dtype=torch.float64) if own else slow.mean
    expected = line_search(slow, direction, start)
    found = line_search(quick, direction, start)
    assert found.tried == pytest.approx(expected.tried, abs=1e-9)
    assert found.strength == expected.strength
    torch.testing.assert_close(found.rows, expected.rows)


def test_the_gram_accepts_one_start_per_client():
    rule = CAF(f=4)
    slow, quick = scene(rule), scene(rule, weigh=lambda G: rule.weights(G).numpy())
    for direction in (slow.std, slow.own):
        expected = line_search(slow, direction, slow.own)
        assert line_search(quick, direction, quick.own).tried == pytest.approx(expected.tried)


@pytest.mark.parametrize("by_gram", [False, True])
def test_candidates_that_the_rule_refuses_are_passed_over(by_gram):
    def limited(of, most):
        def refuse(stack):
            if abs(stack).max() > most:
                raise TooManyFaultyClients("too far")
            return of(stack)

        return refuse

    rule = Mean(f=4)
    weigh = limited(rule.weights, 1e4) if by_gram else None
    s = scene(limited(rule, 40), weigh=weigh, refusals=(TooManyFaultyClients,))
    found = line_search(s, 10 * s.std, s.mean, upper=10)
    assert np.isnan(found.tried[10])
    accepted = [tau for tau, damage in found.tried.items() if not np.isnan(damage)]
    assert 1 < found.strength == max(accepted) < 10
    strict = scene(limited(rule, 40), weigh=weigh)
    with pytest.raises(TooManyFaultyClients):
        line_search(strict, 10 * s.std, s.mean, upper=10)


@pytest.mark.parametrize("by_gram", [False, True])
def test_diverged_honest_messages_stop_nobody(by_gram):
    rule = Mean(f=4)
    s = scene(rule, weigh=rule.weights if by_gram else None, refusals=(TooManyFaultyClients,))
    s.honest[0, 0] = torch.nan
    found = line_search(s, s.own, s.own)
    assert np.isnan(found.damage)
    assert found.rows.shape == (4, 30)
    if not by_gram:
        assert found.rows.isfinite().all()


@pytest.mark.parametrize("by_gram", [False, True])
def test_a_plain_average_follows_every_message_by_its_share(by_gram):
    rule = Mean(f=4)
    s = scene(rule, weigh=rule.weights if by_gram else None)
    ask = question(s, -s.std, s.mean)
    for tau in (0.0, 0.5, 7.0):
        damage, pull = ask(tau)
        assert pull == pytest.approx(tau * 4 / 20)
        assert damage == pytest.approx(tau * 4 / 20 * float(s.std.norm()))
    flat = question(s, torch.zeros(30, dtype=torch.float64), s.mean)
    assert flat(3.0)[1] == 0


def test_without_malicious_clients_the_rule_is_not_asked():
    def never(stack):
        raise AssertionError

    s = Scene(torch.ones(3, 2), 0, never, np.random.default_rng(0))
    assert line_search(s, s.std, s.mean).rows.shape == (0, 2)
