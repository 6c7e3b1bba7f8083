"""A client's ledger with records that take part once in an epoch: every message pays for its own.

An epoch never goes on in another message, so whatever the server asks for, in whatever order, the
composition is that of the epochs that the messages begin.
"""

import math

import pytest

from fedsieve.privacy import (
    BudgetExceededError,
    ClientLedger,
    Event,
    LedgerError,
    Limits,
    RefusedError,
    Terms,
    compose,
    epsilon,
)
from fedsieve.privacy.ledger_view import accounts

DELTA = 1e-5
SIGMA = 8.0
EPOCHAL = ("shuffled", "random-allocation")


def limits(budget, sampling, **changed):
    return Limits(**(
        {"epsilon": budget, "delta": DELTA, "noise_multiplier": SIGMA, "sampling_rate": 0.25,
         "clip": 1.0, "relation": "zero-out", "steps": 40, "samplings": ("poisson", sampling)}
        | changed
    ))  # fmt: skip


def terms(steps, sampling, t=4):
    return Terms(SIGMA, 1 / t, 1.0, steps, sampling=sampling)


@pytest.mark.parametrize("sampling", EPOCHAL)
@pytest.mark.parametrize(("steps", "epochs"), [(1, 1), (3, 1), (4, 1), (5, 2), (8, 2), (9, 3)])
def test_a_message_pays_for_each_epoch_that_it_begins(tmp_path, sampling, steps, epochs):
    asked, file = terms(steps, sampling), tmp_path / "ledger.db"
    with ClientLedger(file, "ward", limits(8.0, sampling)) as ledger:
        sent = ledger.message("a", 0, asked, lambda: b"x")
        assert ledger.spent() == (Event(SIGMA, 0.25, epochs, sampling=sampling),)
        ledger.message("a", 1, asked, lambda: b"y")  # begins its own, and does not go on
    with ClientLedger(file, "ward", limits(8.0, sampling)) as again:
        assert again.message("a", 0, asked, lambda: pytest.fail("was computed")) == sent
        assert again.spent() == (Event(SIGMA, 0.25, 2 * epochs, sampling=sampling),)
        expected = epsilon(SIGMA, 0.25, 2 * epochs, DELTA, "zero-out", sampling=sampling)
        assert again.guarantee() == expected
        assert f"in each of {2 * epochs} epochs of 4 steps" in again.guarantee().sentence()
    (shown,) = accounts(file)
    assert shown.spent == again_spent(2 * epochs, sampling)
    assert shown.runs[0].steps == 2 * steps


def again_spent(epochs, sampling):
    return (Event(SIGMA, 0.25, epochs, sampling=sampling),)


@pytest.mark.parametrize("sampling", EPOCHAL)
def test_the_budget_ends_with_the_epochs(tmp_path, sampling):
    budget = epsilon(SIGMA, 0.25, 5, DELTA, "zero-out", sampling=sampling).epsilon
    with ClientLedger(tmp_path / "ledger.db", "ward", limits(budget, sampling)) as ledger:
        ledger.message("a", 0, terms(8, sampling), lambda: b"")
        assert ledger.limits.budget.left(ledger.spent(), terms(4, sampling).event) == 3
        with pytest.raises(BudgetExceededError, match="nothing was released"):
            ledger.message("a", 1, terms(13, sampling), lambda: pytest.fail("was computed"))
        ledger.message("a", 1, terms(12, sampling), lambda: b"")
        for least in (terms(1, sampling), Terms(SIGMA, 0.25, 1.0)):
            with pytest.raises(BudgetExceededError):
                ledger.message("b", 0, least, lambda: b"")


MIXED = {
    "all kinds": [("shuffled", 4, 7), ("poisson", 4, 7), ("random-allocation", 4, 7)],
    "epochs of all lengths": [("shuffled", 4, 40), ("shuffled", 5, 40), ("shuffled", 20, 40)],
    "unfinished ones": [("random-allocation", 20, 1)] * 3 + [("random-allocation", 5, 6)],
}


@pytest.mark.parametrize("asked", MIXED.values(), ids=MIXED)
def test_mixed_messages_cost_what_their_composition_does(tmp_path, asked):
    """And no less than any of them alone; a ledger that is opened again adds up."""
    file = tmp_path / "ledger.db"
    own = limits(8.0, "shuffled", samplings=("poisson", *EPOCHAL))
    for round_, (sampling, t, steps) in enumerate(asked):
        with ClientLedger(file, "ward", own) as ledger:
            ledger.message("a", round_, terms(steps, sampling, t), lambda: b"x")
    events = [
        Event(SIGMA, 1 / t, steps if kind == "poisson" else math.ceil(steps / t), sampling=kind)
        for kind, t, steps in asked
    ]
    with ClientLedger(file, "ward", own) as ledger:
        found = ledger.guarantee()
    assert found == compose(events, DELTA, "zero-out")
    assert found.epsilon >= max(compose([e], DELTA, "zero-out").epsilon for e in events) * 0.999


@pytest.mark.parametrize("sampling", EPOCHAL)
def test_the_limits_are_as_strict_as_with_poisson_samples(tmp_path, sampling):
    own = limits(8.0, sampling)
    beyond = [
        (Terms(SIGMA / 2, 0.25, 1.0, 4, sampling=sampling), "noise_multiplier=4.0"),
        (Terms(SIGMA, 0.5, 1.0, 4, sampling=sampling), "sampling_rate=0.5 is asked for"),
        (Terms(SIGMA, 0.25, 1.5, 4, sampling=sampling), "clip=1.5"),
        (Terms(SIGMA, 0.25, 1.0, 41, sampling=sampling), "steps=41"),
    ]
    with ClientLedger(tmp_path / "ledger.db", "ward", own) as ledger:
        for asked, message in beyond:
            with pytest.raises(RefusedError, match=message):
                ledger.message("a", 0, asked, lambda: pytest.fail("was computed"))
        assert ledger.spent() == ()
    other = next(kind for kind in EPOCHAL if kind != sampling)
    with pytest.raises(RefusedError, match=f"accepted is poisson, {sampling}"):
        own.refuse(terms(4, other))


def test_nobody_takes_part_in_epochs_as_a_whole():
    """At client level there is one step: whoever is asked takes part."""
    own = limits(8.0, "shuffled", unit="client")
    with pytest.raises(RefusedError, match="accepted is 1 at client level"):
        own.refuse(terms(4, "shuffled"))


def test_a_round_is_not_answered_again_with_another_way_of_sampling(tmp_path):
    own = limits(8.0, "shuffled", samplings=("poisson", *EPOCHAL))
    with ClientLedger(tmp_path / "ledger.db", "ward", own) as ledger:
        ledger.message("a", 0, terms(4, "poisson"), lambda: b"x")
        for other in EPOCHAL:
            with pytest.raises(RefusedError, match="another release of the same round"):
                ledger.message("a", 0, terms(4, other), lambda: b"")


def test_a_charge_that_was_changed_to_another_kind_is_noticed(tmp_path):
    """An epoch under random allocation costs less than a shuffled one."""
    file, own = tmp_path / "ledger.db", limits(8.0, "shuffled")
    with ClientLedger(file, "ward", own) as ledger:
        ledger.message("a", 0, terms(4, "shuffled"), lambda: b"x")
        ledger._run("UPDATE spent SET sampling = 'random-allocation'")
    with pytest.raises(LedgerError, match="do not add up"):
        ClientLedger(file, "ward", own)
