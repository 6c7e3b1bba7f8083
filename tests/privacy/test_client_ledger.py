"""The client's ledger: one budget per data set, the same bytes for the same round."""

import os
import sqlite3
from dataclasses import replace

import numpy as np
import pytest

from fedsieve.privacy import (
    BudgetExceededError,
    ClientLedger,
    Event,
    LedgerError,
    RefusedError,
    Terms,
    compose,
    epsilon,
)
from fedsieve.privacy.guarantee import LEAST_VARIANCE
from tests.privacy.ledgers import DELTA, TERMS, limits


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.db"


def test_the_same_round_is_answered_with_the_same_bytes_after_a_restart(path):
    drawn = []

    def make():
        drawn.append(os.urandom(100))
        return drawn[-1]

    with ClientLedger(path, "ward", limits()) as ledger:
        first = ledger.message("a", 0, TERMS, make)
    with ClientLedger(path, "ward", limits()) as ledger:
        assert ledger.message("a", 0, TERMS, make) == first == drawn[0]
        assert ledger.spent() == (Event(10.0, 1.0, 1),)
        ledger.message("a", 1, TERMS, make)
        assert ledger.spent() == (Event(10.0, 1.0, 2),)
    assert len(drawn) == 2


def test_one_budget_over_all_runs_and_restarts(path):
    for run in ("a", "b", "c"):
        with ClientLedger(path, "ward", limits(3)) as ledger:
            ledger.message(run, 7, TERMS, lambda: b"x")
    with ClientLedger(path, "ward", limits(3)) as ledger:
        with pytest.raises(BudgetExceededError, match="data='ward' would reach epsilon="):
            ledger.message("d", 0, TERMS, lambda: pytest.fail("was computed"))
        assert ledger.message("b", 7, TERMS, lambda: b"y") == b"x"  # what was sent is sent again
        assert ledger.guarantee().epsilon == ledger.limits.epsilon
        with pytest.raises(BudgetExceededError):
            ledger.message("d", 0, Terms(1000.0, 1.0, 1.0), lambda: b"")
    with ClientLedger(path, "another ward", limits(3)) as other:
        assert other.spent() == ()
        assert other.message("d", 0, TERMS, lambda: b"z") == b"z"


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        (Terms(4.999, 0.5, 1.0), "noise_multiplier=4.999 is asked for; the least is 5.0"),
        (Terms(9.0, 0.51, 1.0), "sampling_rate=0.51 is asked for; the largest is 0.5"),
        (Terms(9.0, 0.5, 2.1), "clip=2.1 is asked for; the largest is 2.0"),
        (Terms(9.0, 0.5, 1.0, steps=10**6), "steps=1000000 is asked for; the most is 1"),
        (Terms(9.0, 0.5, 1.0, law="discrete-gaussian"), "accepted is gaussian"),
        (Terms(9.0, 0.5, 1.0, sampling="shuffled"), "sampling='shuffled'.*accepted is poisson"),
        (Terms(9.0, 0.5, 1.0, sampling="random-allocation"), "accepted is poisson"),
        (Terms(9.0, 0.5, 1.0, steps=2, sampling="shuffled"), "steps=2.*the most is 1; sampling="),
        (Terms(1.0, 1.0, 9.0), "noise_multiplier.*sampling_rate.*clip"),
    ],
)
def test_a_server_cannot_ask_for_more_than_the_limits(path, terms, message):
    with ClientLedger(path, "ward", limits(sampling_rate=0.5)) as ledger:
        with pytest.raises(RefusedError, match=message):
            ledger.message("a", 0, terms, lambda: pytest.fail("was computed"))
        assert ledger.spent() == ()
        ledger.message("a", 0, Terms(5.0, 0.01, 2.0), lambda: b"")  # the limits themselves are fine


def test_a_round_is_not_answered_on_other_terms_nor_after_its_bytes_are_gone(path):
    with ClientLedger(path, "ward", limits()) as ledger:
        ledger.message("a", 0, TERMS, lambda: b"x")
        ledger.message("a", 1, TERMS, lambda: b"y")
        others = (
            Terms(11.0, 1.0, 1.0),
            Terms(10.0, 0.5, 1.0),
            Terms(10.0, 1.0, 0.5),
            Terms(10.0, 1.0, 1.0, sampling="shuffled"),
        )
        for other in others:
            with pytest.raises(RefusedError, match="another release of the same round"):
                ledger.message("a", 0, other, lambda: b"")
        ledger.forget("a", before=1)
        with pytest.raises(RefusedError, match="its message dropped"):
            ledger.message("a", 0, TERMS, lambda: b"")
        assert ledger.message("a", 1, TERMS, lambda: b"") == b"y"
        assert ledger.spent() == (Event(10.0, 1.0, 2),)


def test_no_more_rounds_than_the_client_answers(path):
    """The bound is over all runs and restarts, and what was sent is still sent again."""
    with ClientLedger(path, "ward", limits(30, rounds=2)) as ledger:
        ledger.message("a", 0, TERMS, lambda: b"x")
        ledger.message("b", 0, TERMS, lambda: b"y")
    with ClientLedger(path, "ward", limits(30, rounds=2)) as ledger:
        with pytest.raises(RefusedError, match="2 rounds were answered; rounds=2 is the most"):
            ledger.message("c", 0, TERMS, lambda: pytest.fail("was computed"))
        assert ledger.message("a", 0, TERMS, lambda: b"z") == b"x"
        ledger.forget("a", before=1)
        assert ledger.answered() == 2
    with ClientLedger(path, "another ward", limits(30, rounds=2)) as other:
        assert other.message("a", 0, TERMS, lambda: b"z") == b"z"


def test_another_process_that_takes_the_last_round_is_noticed(path):
    own = limits(30, rounds=1)
    with ClientLedger(path, "ward", own) as ledger, ClientLedger(path, "ward", own) as other:

        def meanwhile():
            other.message("b", 0, TERMS, lambda: b"first")
            return b"second"

        with pytest.raises(RefusedError, match="rounds=1 is the most"):
            ledger.message("a", 0, TERMS, meanwhile)
        assert ledger.spent() == (Event(10.0, 1.0, 1),)


def test_every_law_is_charged_as_what_it_is(path):
    laws = ("gaussian", "discrete-gaussian", "skellam")
    asked = [
        Terms(10.0, 1.0, 1.0),
        Terms(10.0, 1.0, 1.0, law="discrete-gaussian"),
        Terms(10.0, 1.0, 1.0, law="skellam", variance=50.0),
        Terms(10.0, 1.0, 1.0, law="skellam", variance=2.0**24),
    ]
    for round_, terms in enumerate(asked):  # each on a ledger that was opened again
        with ClientLedger(path, "ward", limits(30, laws=laws)) as ledger:
            ledger.message("a", round_, terms, lambda: b"x")
    with ClientLedger(path, "ward", limits(30, laws=laws)) as ledger:
        assert sorted(map(str, ledger.spent())) == sorted(str(terms.event) for terms in asked)
        assert ledger.guarantee() == compose([terms.event for terms in asked], DELTA)
        for other in (asked[0], replace(asked[2], variance=51.0)):
            with pytest.raises(RefusedError, match="was answered on"):
                ledger.message("a", 2, other, lambda: b"")
        assert ledger.message("a", 2, asked[2], lambda: b"") == b"x"


def test_the_law_decides_when_the_budget_is_spent(path):
    """Skellam noise of few units costs more than Gaussian noise of the same multiplier."""
    budget = epsilon(10.0, 1.0, 3, DELTA, law="discrete-gaussian").epsilon
    own = limits(epsilon=budget, laws=("discrete-gaussian", "skellam"))
    for law, variance, fit in (("discrete-gaussian", None, 3), ("skellam", 1.0, 0)):
        terms = Terms(10.0, 1.0, 1.0, 1, law, variance)
        with ClientLedger(path, law, own) as ledger:
            for round_ in range(fit):
                ledger.message("a", round_, terms, lambda: b"")
            with pytest.raises(BudgetExceededError):
                ledger.message("a", fit, terms, lambda: b"")


@pytest.mark.parametrize(
    "changed", [{"epsilon": 9.0}, {"delta": 1e-4}, {"relation": "replace-one"}, {"unit": "client"}]
)
def test_a_budget_does_not_change_once_it_is_open(path, changed):
    ClientLedger(path, "ward", limits()).close()
    with pytest.raises(RefusedError, match="does not change once it is open"):
        ClientLedger(path, "ward", limits(**changed))
    ClientLedger(path, "ward", limits(noise_multiplier=6.0)).close()  # terms may


def test_different_charges_share_the_budget(path):
    with ClientLedger(path, "ward", limits(3, steps=4)) as ledger:
        ledger.message("a", 0, TERMS, lambda: b"")
        ledger.message("a", 1, Terms(20.0, 1.0, 1.0, steps=4), lambda: b"")
        assert ledger.spent() == (Event(10.0, 1.0, 1), Event(20.0, 1.0, 4))
        ledger.message("a", 2, TERMS, lambda: b"")  # 1/100 + 4/400 + 1/100 = 3/100: the budget
        with pytest.raises(BudgetExceededError):
            ledger.message("a", 3, Terms(500.0, 1.0, 1.0), lambda: b"")


def test_participations_are_counted_at_client_level(path):
    own = limits(unit="client", relation="replace-one", epsilon=8.0)
    with ClientLedger(path, "ward", own) as ledger:
        for round_ in (0, 4, 9):  # the server draws cohorts; that gives nothing against it
            ledger.message("a", round_, TERMS, lambda: b"")
        spent = ledger.guarantee()
    assert spent == epsilon(10.0, 1.0, 3, DELTA, "replace-one", "client")
    assert "every participation counts in full" in spent.sentence()


def test_a_failure_while_computing_costs_nothing(path):
    with ClientLedger(path, "ward", limits()) as ledger:
        with pytest.raises(ZeroDivisionError):
            ledger.message("a", 0, TERMS, lambda: bytes(1 // 0))
        assert ledger.spent() == ()


def test_it_writes_ahead_and_flushes(path):
    with ClientLedger(path, "ward", limits()) as ledger:
        pragma = {n: ledger._run(f"PRAGMA {n}")[0][0] for n in ("journal_mode", "synchronous")}
    assert pragma == {"journal_mode": "wal", "synchronous": 2}


def test_a_full_disk_refuses_and_later_goes_on(path):
    with ClientLedger(path, "ward", limits(30)) as ledger:
        ledger.message("a", 0, TERMS, lambda: b"x")
        (pages,) = ledger._run("PRAGMA page_count")[0]
        ledger._run(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(LedgerError, match="full; nothing was sent"):
            ledger.message("a", 1, TERMS, lambda: bytes(100_000))
        assert ledger.spent() == (Event(10.0, 1.0, 1),)
        ledger._run("PRAGMA max_page_count = 100000")
        assert ledger.message("a", 1, TERMS, lambda: b"y") == b"y"
        assert ledger.spent() == (Event(10.0, 1.0, 2),)


def test_a_file_that_was_tampered_with_is_refused(path):
    with ClientLedger(path, "ward", limits()) as ledger:
        ledger.message("a", 0, TERMS, lambda: b"x")
    with sqlite3.connect(path) as db:
        db.execute("UPDATE spent SET steps = 0")
    db.close()
    with pytest.raises(LedgerError, match="do not add up"):
        ClientLedger(path, "ward", limits())


def test_what_is_no_ledger_is_refused(path):
    path.write_bytes(b"no data base" * 1000)
    with pytest.raises(LedgerError, match="nothing was sent"):
        ClientLedger(path, "ward", limits())
    with pytest.raises(LedgerError, match="unable to open"):
        ClientLedger(path.parent / "no folder" / "ledger.db", "ward", limits())


def test_no_clock_is_asked(path, monkeypatch):
    """A clock that is set back cannot bring budget back: there is no time in the file."""
    with ClientLedger(path, "ward", limits(2)) as ledger:
        ledger.message("a", 0, TERMS, lambda: b"x")
        columns = {
            row[1] for table in ("budget", "spent", "sent")
            for row in ledger._run(f"PRAGMA table_info({table})")
        }  # fmt: skip
        assert not {c for c in columns if "time" in c or "date" in c}
    os.utime(path, (0, 0))  # 1970
    for clock in ("time", "time_ns", "monotonic", "perf_counter"):
        monkeypatch.setattr(f"time.{clock}", lambda: pytest.fail("a clock was read"))
    with ClientLedger(path, "ward", limits(2)) as ledger:
        ledger.message("a", 1, TERMS, lambda: b"y")
        with pytest.raises(BudgetExceededError):
            ledger.message("a", 2, TERMS, lambda: b"z")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_has_to_open_its_own(path, monkeypatch):
    with ClientLedger(path, "ward", limits()) as ledger:
        monkeypatch.setattr(os, "getpid", lambda: -1)
        with pytest.raises(LedgerError, match="open it again in this one"):
            ledger.message("a", 0, TERMS, lambda: b"")
        monkeypatch.undo()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Terms(0.0, 0.1, 1.0), "noise_multiplier=0.0"),
        (lambda: Terms(1.0, 0.0, 1.0), "sampling_rate=0.0"),
        (lambda: Terms(1.0, 0.1, float("nan")), "clip=nan"),
        (lambda: Terms(1.0, 0.1, 1.0, 0), "steps=0 must be >= 1"),
        (lambda: Terms(1.0, 0.1, 1.0, law="cauchy"), "law='cauchy' is not one of"),
        (lambda: Terms(1.0, 0.1, 1.0, law="skellam"), "variance=None must be .* 4194304 or more"),
        (lambda: Terms(1.0, 0.1, 1.0, law="skellam", variance=0.0), "variance=0.0 must be"),
        (lambda: Terms(1.0, 0.1, 1.0, variance=9.0), "variance=9.0 belongs to law='skellam'"),
        (lambda: Terms(1.0, 0.3, 1.0, sampling="shuffled"), "the nearest rate is 1/3"),
        (lambda: Terms(1.0, 0.5, 1.0, 1.5, sampling="shuffled"), "steps=1.5 must be >= 1"),
        (lambda: Terms(1.0, 0.5, 1.0, 0, sampling="shuffled"), "steps=0 must be >= 1"),
        (
            lambda: Terms(1.0, 0.5, 1.0, 1, "discrete-gaussian", sampling="random-allocation"),
            "law='discrete-gaussian' with sampling='random-allocation'",
        ),
        (lambda: limits(samplings=()), r"samplings=\(\) must be some of poisson, "),
        (lambda: limits(samplings=("poisson", "batches")), "samplings=.*must be some of"),
        (lambda: limits(samplings=("shuffled",)), "relation='add-remove' with sampling='shuffled'"),
        (lambda: limits(steps=0), "steps=0"),
        (lambda: limits(rounds=0), "rounds=0 must be an integer >= 1, or None"),
        (lambda: limits(laws=()), "laws=\\(\\) must be some of gaussian, "),
        (lambda: limits(laws=("cauchy",)), "laws=.*must be some of"),
        (lambda: limits(epsilon=float("inf")), "limit=inf"),
        (lambda: limits(delta=0.0), "delta=0.0"),
        (lambda: limits(clip=0.0), "clip=0.0"),
        (lambda: limits(relation="swap"), "relation='swap'"),
    ],
)
def test_impossible_settings_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_negative_round_is_refused(path):
    with ClientLedger(path, "ward", limits()) as ledger, pytest.raises(ValueError, match="round_="):
        ledger.message("a", -1, TERMS, lambda: b"")


def test_a_number_of_numpy_is_the_same_round(path):
    with ClientLedger(path, "ward", limits()) as ledger:
        sent = ledger.message("a", np.int64(0), TERMS, lambda: b"x")
        assert ledger.message("a", 0, TERMS, lambda: b"y") == sent
        assert ledger.answered() == 1
        for wrong, error in ((0.5, TypeError), (2**63, ValueError)):
            with pytest.raises(error):
                ledger.message("a", wrong, TERMS, lambda: b"x")
        with pytest.raises(TypeError, match="make gave int"):
            ledger.message("a", 1, TERMS, lambda: 7)


def test_nothing_is_gained_from_sampling_clients_or_from_a_claimed_variance():
    whole = limits(unit="client", laws=("gaussian", "skellam"))
    with pytest.raises(RefusedError, match="accepted is 1 at client level"):
        whole.refuse(replace(TERMS, sampling_rate=0.01))
    whole.refuse(TERMS)
    claimed = replace(TERMS, law="skellam", variance=1e300)
    assert claimed.event.variance == claimed.variance == LEAST_VARIANCE


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("1.2", 0.01, 1.0), "noise_multiplier='1.2' must be a number"),
        ((None, 0.01, 1.0), "noise_multiplier=None must be a number"),
        ((1.2, "0.01", 1.0), "sampling_rate='0.01' must be a number"),
        ((1.2, 0.01, "1"), "clip='1' must be a number"),
        ((1.2, 0.01, 1.0, "1"), "steps='1' must be a number"),
        ((1.2, 0.01, 1.0, 1, "skellam", "9"), "variance='9' must be a number"),
    ],
)
def test_terms_that_are_no_numbers_are_refused_by_name(given, message):
    with pytest.raises(ValueError, match=message):
        Terms(*given)


def test_limits_that_are_no_numbers_are_refused_by_name():
    for changed, message in (
        ({"epsilon": "4"}, "limit='4'"),
        ({"delta": None}, "delta=None"),
        ({"rounds": "3"}, "rounds='3'"),
    ):
        with pytest.raises(ValueError, match=f"{message} must be a number"):
            limits(**changed)


@pytest.mark.parametrize("name", ["\ud800", 5, None, b"a"])
def test_a_name_that_the_file_cannot_hold_is_refused(path, name):
    with ClientLedger(path, "ward", limits()) as ledger:
        for use in (lambda: ledger.message(name, 0, TERMS, bytes), lambda: ledger.forget(name, 1)):
            with pytest.raises(RefusedError, match=r"run=.* cannot be the name of an account"):
                use()
        assert ledger.spent() == ()
    with pytest.raises(RefusedError, match=r"data=.* cannot be the name of an account"):
        ClientLedger(path, name, limits())
