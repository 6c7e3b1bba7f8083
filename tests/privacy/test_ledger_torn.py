"""A journal that ends in the middle of a line, wherever that is, counts no less than the truth."""

import math

import pytest

from fedsieve.privacy import BudgetExceededError, Event, Ledger, compose, epsilon
from tests.privacy.ledgers import COHORT, DELTA, new_ledger, through_json


def _cut_at(path, kept):
    data = path.read_bytes()
    lines = data.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]) + lines[-1][:kept])


@pytest.mark.parametrize("kept", [1, 10, 30])
def test_a_torn_line_counts_as_spent(tmp_path, kept):
    path = tmp_path / "ledger.jsonl"
    ledger = new_ledger(journal=path, repeatable=False)
    for t in range(4):
        ledger.charge(t, COHORT)
    empty = new_ledger(repeatable=False).state()
    _cut_at(path, kept)
    resumed = Ledger.restore(empty, path)
    assert resumed.spent() == ledger.spent()  # three read, one assumed
    resumed.charge(3, COHORT)
    assert resumed.spent() == dict.fromkeys(COHORT, 5)
    again = Ledger.restore(empty, path)  # the torn line stays counted
    assert again.spent() == resumed.spent()
    assert Ledger.restore(through_json(resumed.state()), path).spent() == resumed.spent()


@pytest.mark.parametrize("kept", [1, 30])
def test_a_torn_line_of_repeatable_noise_counts_until_its_round_runs_again(tmp_path, kept):
    path = tmp_path / "ledger.jsonl"
    ledger = new_ledger(journal=path)
    for t in range(4):
        ledger.charge(t, COHORT)
    _cut_at(path, kept)
    resumed = Ledger.restore(new_ledger().state(), path)
    assert resumed.spent() == ledger.spent()
    resumed.charge(3, COHORT)
    assert resumed.guarantee() == ledger.guarantee()
    assert Ledger.restore(new_ledger().state(), path).guarantee() == ledger.guarantee()


def test_a_journal_with_nothing_but_a_torn_line_promises_nothing(tmp_path):
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b'{"round": 0, "no')
    resumed = Ledger.restore(new_ledger(repeatable=False).state(), path)
    assert resumed.guarantee().epsilon == float("inf")
    assert "infinite" in resumed.guarantee().sentence()
    resumed.charge(0, {0: (0.1, 1.0, 1)})
    assert resumed.spent() == {0: 2}


def test_a_missing_newline_alone_loses_nothing(tmp_path):
    path = tmp_path / "ledger.jsonl"
    ledger = new_ledger(journal=path, repeatable=False)
    ledger.charge(0, COHORT)
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    resumed = Ledger.restore(new_ledger(repeatable=False).state(), path)
    resumed.charge(1, COHORT)
    assert len(path.read_text().splitlines()) == 2
    assert resumed.spent() == dict.fromkeys(COHORT, 2)


def _truth(releases, delta=DELTA):
    """Epsilon of the client who spent most, from releases as they were made."""
    spent = {}
    for clients in releases:
        for client, (q, sigma, steps) in clients.items():
            spent.setdefault(client, []).append(Event(sigma, q, steps))
    return max((compose(events, delta).epsilon for events in spent.values()), default=0.0)


LOCAL_STEPS = [  # slow clients take fewer steps, some are away, one comes for the first time
    {0: (1.0, 40.0, 3), 1: (1.0, 40.0, 3), "hospital": (1.0, 40.0, 2)},
    {0: (1.0, 40.0, 1), 1: (1.0, 40.0, 3)},
    {0: (1.0, 40.0, 3), 2: (1.0, 40.0, 3), "hospital": (1.0, 40.0, 3)},
]


@pytest.mark.parametrize("repeatable", [True, False])
def test_cut_at_any_byte_the_charge_is_no_less_than_the_truth(tmp_path, repeatable):
    """A message is sent once its line is on the disk. All that may be lost is the newline.

    And where a disk lost the end of a line that it had promised, the message is out: that counts,
    too, once there is any record of what the run releases.
    """
    path = tmp_path / "ledger.jsonl"
    ledger = new_ledger(journal=path, repeatable=repeatable)
    ends = [0]
    for t, clients in enumerate(LOCAL_STEPS):
        ledger.charge(t, clients)
        ends.append(path.stat().st_size)
    written = path.read_bytes()
    empty = new_ledger(repeatable=repeatable).state()
    truths = [_truth(LOCAL_STEPS[:rounds]) for rounds in range(4)]
    assert truths[0] < truths[1] < truths[2] < truths[3]
    for cut in range(len(written) + 1):
        path.write_bytes(written[:cut])
        whole = sum(end - 1 <= cut for end in ends[1:])
        begun = sum(end < cut for end in ends[:-1])
        found = Ledger.restore(empty, path).guarantee().epsilon
        if begun == whole:
            assert found == truths[whole]
        else:
            assert found >= truths[begun]
            assert found < math.inf or whole == 0


@pytest.mark.parametrize("repeatable", [True, False])
@pytest.mark.parametrize("cut", [1, 20, -2])
def test_a_run_that_goes_on_after_a_cut_counts_no_less_than_the_truth(tmp_path, repeatable, cut):
    """The torn round is run again: the same message, or one more release beside what was lost."""
    path = tmp_path / "ledger.jsonl"
    ledger = new_ledger(journal=path, repeatable=repeatable)
    ledger.charge(0, LOCAL_STEPS[0])
    ledger.charge(1, LOCAL_STEPS[1])
    checkpoint = ledger.state()
    ledger.charge(2, LOCAL_STEPS[2])
    _cut_at(path, cut)
    resumed = Ledger.restore(through_json(checkpoint), path)
    resumed.charge(2, LOCAL_STEPS[2])
    again = Ledger.restore(through_json(resumed.state()), path)
    assert again.guarantee() == resumed.guarantee()
    made = LOCAL_STEPS if repeatable else [*LOCAL_STEPS, LOCAL_STEPS[2]]
    assert resumed.guarantee().epsilon >= _truth(made)
    if repeatable:
        assert resumed.guarantee().epsilon == _truth(made)


def test_a_limit_holds_with_a_torn_line(tmp_path):
    """Who is not on record pays for it, too."""
    path = tmp_path / "ledger.jsonl"
    limit = epsilon(40.0, 1.0, 5, DELTA).epsilon
    ledger = new_ledger(journal=path, repeatable=False, limit=limit)
    ledger.charge(0, {0: (1.0, 40.0, 3)})
    ledger.charge(1, {1: (1.0, 40.0, 2)})
    _cut_at(path, 9)
    resumed = Ledger.restore(new_ledger(repeatable=False, limit=limit).state(), path)
    for client in (0, 1, "new"):
        with pytest.raises(BudgetExceededError, match=f"client {client} would reach"):
            resumed.charge(2, {client: (1.0, 40.0, 3)})
    resumed.charge(2, {"new": (1.0, 40.0, 2)})
    assert resumed.spent() == {0: 6, "new": 5}


def _torn(tmp_path, repeatable, limit, rounds=()):
    """A ledger restored from whole rounds and a torn line."""
    path = tmp_path / "ledger.jsonl"
    ledger = new_ledger(journal=path, repeatable=repeatable, limit=limit)
    for t, clients in enumerate(rounds):
        ledger.charge(t, clients)
    with path.open("ab") as journal:
        journal.write(b'{"round": 9, "noi')
    return Ledger.restore(new_ledger(repeatable=repeatable, limit=limit).state(), path)


@pytest.mark.parametrize("fits", [1, 2])
def test_a_torn_first_line_is_counted_with_the_charge_that_sets_its_terms(tmp_path, fits):
    """A limit for one release must refuse it: the torn line may have been one."""
    limit = epsilon(5.0, 1.0, fits, DELTA).epsilon
    resumed = _torn(tmp_path, False, limit)
    if fits == 1:
        with pytest.raises(BudgetExceededError, match="client 0 would reach"):
            resumed.charge(0, {0: (1.0, 5.0, 1)})
        assert resumed.spent() == {}
    else:
        resumed.charge(0, {0: (1.0, 5.0, 1)})
        assert resumed.guarantee().epsilon <= limit
        assert resumed.spent() == {0: 2}


def test_a_charge_that_makes_the_torn_line_worse_is_paid_for_by_everybody(tmp_path):
    """Client 1 could pay for its own charge, but not client 0 for the torn line on its terms."""
    limit = epsilon(40.0, 1.0, 12, DELTA).epsilon
    whole = [{0: (1.0, 40.0, 4), 1: (1.0, 40.0, 1)}, {0: (1.0, 40.0, 4)}]
    resumed = _torn(tmp_path, False, limit, whole)
    with pytest.raises(BudgetExceededError, match="client 0 would reach"):
        resumed.charge(2, {1: (1.0, 40.0, 5)})
    resumed.charge(2, {1: (1.0, 40.0, 4)})  # no worse than what is on record: client 1 alone pays
    assert resumed.spent() == {0: 12, 1: 9}
    assert resumed.guarantee().epsilon <= limit


def test_a_torn_round_of_repeatable_noise_runs_again_within_the_limit(tmp_path):
    """Its message is the same one, so the last round that a budget allows can be run again."""
    limit = epsilon(40.0, 1.0, 2, DELTA).epsilon
    resumed = _torn(tmp_path, True, limit, [{0: (1.0, 40.0, 1)}])
    resumed.charge(1, {0: (1.0, 40.0, 1)})
    assert resumed.guarantee().epsilon <= limit
    with pytest.raises(BudgetExceededError):
        resumed.charge(2, {0: (1.0, 40.0, 1)})
