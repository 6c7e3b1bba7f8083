"""The ledger never under-counts: repeated rounds, different clients and events, limits."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsieve.privacy import BudgetExceededError, Ledger, epsilon
from fedsieve.privacy._charges import frontier
from tests.privacy.ledgers import COHORT, DELTA, new_ledger, through_json


def test_the_worst_client_governs():
    ledger = new_ledger()
    assert ledger.guarantee().epsilon == 0
    for t in range(5):
        ledger.charge(t, COHORT)
    ledger.charge(5, {0: (0.01, 1.0, 1)})
    assert ledger.spent() == {0: 6, 1: 5, "hospital": 5}
    worst = max(epsilon(1.0, q, t, DELTA).epsilon for q, t in ((0.01, 6), (0.02, 5)))
    assert ledger.guarantee().epsilon == worst


def test_different_events_of_one_client_are_composed():
    ledger = new_ledger()
    ledger.charge(0, {0: (0.5, 2.0, 3)})
    ledger.charge(1, {0: (0.5, 4.0, 1), 1: (0.5, 2.0, 3)})
    spent = ledger.guarantee()
    assert spent.steps == 4
    assert spent.epsilon > epsilon(2.0, 0.5, 3, DELTA).epsilon


def test_the_rounded_guarantee_is_an_upper_bound_that_is_seldom_computed():
    ledger = new_ledger()
    shown = set()
    for t in range(150):
        ledger.charge(t, {0: (0.5, 20.0, 1)})
        spent = ledger.guarantee(rounded=True)
        shown.add(spent.epsilon)
        assert 0 <= spent.steps - (t + 1) <= (t + 1) / 8
    assert len(shown) <= 45
    assert spent.epsilon >= ledger.guarantee().epsilon
    assert spent.epsilon == epsilon(20.0, 0.5, 160, DELTA).epsilon


def test_the_rounded_guarantee_stays_within_the_limit():
    limit = epsilon(1.0, 0.1, 17, DELTA).epsilon
    ledger = new_ledger(limit=limit)
    ledger.charge(0, {0: (0.1, 1.0, 17)})
    assert ledger.guarantee(rounded=True).epsilon == limit == ledger.guarantee().epsilon


@pytest.mark.parametrize(("repeatable", "steps"), [(True, 1), (False, 2)])
def test_a_repeated_round_counts_once_only_if_its_noise_repeats(repeatable, steps):
    ledger = new_ledger(repeatable=repeatable)
    ledger.charge(0, {0: (0.1, 1.0, 1)})
    ledger.charge(0, {0: (0.1, 1.0, 1)})
    assert ledger.spent() == {0: steps}


def test_repeating_a_round_with_other_noise_is_refused():
    ledger = new_ledger()
    ledger.charge(0, {0: (0.1, 1.0, 1)})
    with pytest.raises(ValueError, match="would reuse its noise"):
        ledger.charge(0, {0: (0.1, 2.0, 1)})


@pytest.mark.parametrize("repeatable", [True, False])
def test_state_without_a_journal_round_trips(repeatable):
    ledger = new_ledger(limit=5.0, noise_source="x", relation="zero-out", repeatable=repeatable)
    for t in range(6):
        ledger.charge(t, COHORT if t != 3 else {0: (0.03, 2.0, 2), 4: (0.01, 1.0, 1)})
    again = Ledger.restore(through_json(ledger.state()))
    assert through_json(again.state()) == through_json(ledger.state())
    assert again.guarantee() == ledger.guarantee()
    assert again.spent() == ledger.spent()
    assert (again.limit, again.relation) == (5.0, "zero-out")
    for one in (ledger, again):
        one.charge(4, COHORT)
        one.charge(6, COHORT)
    assert again.spent() == ledger.spent()
    assert again.spent()[1] == (6 if repeatable else 7)
    if repeatable:
        with pytest.raises(ValueError, match="would reuse its noise"):
            again.charge(3, {4: (0.01, 2.0, 1)})


@pytest.mark.parametrize("journal", [True, False])
def test_the_state_of_a_long_run_is_small(tmp_path, journal):
    path = tmp_path / "ledger.jsonl" if journal else None
    ledger = new_ledger(journal=path)
    clients = dict.fromkeys(range(300), (0.01, 1.0, 1))
    for t in range(300):
        ledger.charge(t, clients)
    assert len(json.dumps(ledger.state())) < 300
    assert Ledger.restore(through_json(ledger.state()), path).spent()[299] == 300


def test_clients_with_equal_terms_are_written_as_ranges(tmp_path):
    path = tmp_path / "ledger.jsonl"
    cohort = dict.fromkeys((7, 3, 1, 2, 9, 8, "a", 5), (0.1, 1.0, 1))
    ledger = new_ledger(journal=path)
    ledger.charge(0, cohort | {4: (0.2, 1.0, 1)})
    charges = json.loads(path.read_text())["charges"]
    assert charges == [[0.1, 1.0, 1, [[1, 3], 5, [7, 9], "a"]], [0.2, 1.0, 1, [4]]]
    assert Ledger.restore(new_ledger().state(), path).spent() == ledger.spent()
    assert ledger.spent() == dict.fromkeys([*cohort, 4], 1)


single = st.tuples(
    st.sampled_from([0.01, 0.02, 0.5]), st.sampled_from([1.0, 2.0]), st.integers(1, 3)
)
histories = st.lists(
    st.lists(single, min_size=1, max_size=2, unique_by=lambda c: c[:2]), min_size=1
)


@given(histories)
def test_the_frontier_leaves_out_only_who_spent_no_more_than_another(found):
    whole = {tuple(sorted(history)) for history in found}
    front = frontier(whole)
    assert set(front) <= whole
    assert len(set(front)) == len(front)

    def covers(a, b):
        return a == b or (
            len(a) == len(b) == 1
            and a[0][0] >= b[0][0] and a[0][1] <= b[0][1] and a[0][2] >= b[0][2]
        )  # fmt: skip

    for history in whole:
        assert any(covers(other, history) for other in front)
    for one in front:
        assert not any(covers(other, one) for other in front if other != one)


def test_the_limit_refuses_before_anything_is_written(tmp_path):
    path = tmp_path / "ledger.jsonl"
    limit = epsilon(1.0, 0.1, 3, DELTA).epsilon
    ledger = new_ledger(limit=limit, journal=path)
    for t in range(3):
        ledger.charge(t, {0: (0.1, 1.0, 1), 1: (0.05, 1.0, 1)})
    before = path.read_bytes()
    with pytest.raises(BudgetExceededError, match=r"client 0 would reach epsilon=.*nothing was"):
        ledger.charge(3, {1: (0.05, 1.0, 1), 0: (0.1, 1.0, 1)})
    assert path.read_bytes() == before
    assert ledger.spent() == {0: 3, 1: 3}
    ledger.charge(3, {1: (0.05, 1.0, 1)})
    ledger.charge(2, {0: (0.1, 1.0, 1)})  # a repetition is free


def test_the_limit_holds_over_different_events():
    ledger = new_ledger(limit=3.0)
    ledger.charge(0, {0: (1.0, 2.0, 1)})
    with pytest.raises(BudgetExceededError):
        ledger.charge(1, {0: (1.0, 1.9, 1)})
    ledger.charge(1, {0: (0.01, 4.0, 1)})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delta": 0.0}, "delta=0.0"),
        ({"relation": "swap"}, "relation='swap'"),
        ({"limit": 0.0}, "limit=0.0"),
        ({"limit": float("inf")}, "limit=inf"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        new_ledger(**options)


def test_sampling_of_clients_is_refused_and_a_client_level_ledger_round_trips(tmp_path):
    journal = tmp_path / "ledger.jsonl"
    ledger = new_ledger(unit="client", journal=journal)
    with pytest.raises(ValueError, match=r"sampling_rate=0\.01 with unit='client'"):
        ledger.charge(0, {0: (1.0, 1.0, 1), 1: (0.01, 1.0, 1000)})
    assert ledger.spent() == {}  # nothing of the round was recorded
    assert not journal.exists()
    ledger.charge(0, {0: (1.0, 5.0, 1)})
    again = Ledger.restore(through_json(ledger.state()), journal)
    assert (again.unit, again.guarantee()) == ("client", ledger.guarantee())
    assert again.guarantee().epsilon == epsilon(5.0, 1.0, 1, 1e-5, unit="client").epsilon


def test_an_impossible_charge_is_refused():
    with pytest.raises(ValueError, match="noise_multiplier=0"):
        new_ledger().charge(0, {0: (0.1, 0.0, 1)})


def test_no_client_is_charged_as_if_it_had_been_sampled():
    ledger = new_ledger(unit="client")
    with pytest.raises(ValueError, match=r"sampling_rate=0\.1 with unit='client'"):
        ledger.charge(0, {0: (0.1, 1.0, 1)})
    assert ledger.spent() == {}
