"""The client's ledger under faults that are real: killed processes, two at once, no disk left."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from fedsieve.privacy import ClientLedger, Limits, Terms, epsilon

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")

DELTA, ROUNDS = 1e-5, 40
TERMS = Terms(noise_multiplier=10.0, sampling_rate=1.0, clip=1.0)
LIMITS = Limits(epsilon(10.0, 1.0, ROUNDS, DELTA).epsilon, DELTA, 5.0, 1.0, 1.0)
STEPS = ("asked", "checked", "made", "locked", "written", "committed", "sent")
BEFORE_COMMIT = STEPS[: STEPS.index("committed")]

CLIENT = """
import json, os, resource, signal, sys
from fedsieve.privacy import BudgetExceededError, ClientLedger, LedgerError, Limits, Terms
path, limits, plan = sys.argv[1], Limits(*json.loads(sys.argv[2])), json.loads(sys.argv[3])

def step(name):
    if name == plan.get("kill") and at == plan["round"]:
        os.kill(os.getpid(), signal.SIGKILL)

at = -1
ledger = ClientLedger(path, "ward", limits, on_step=step)
print("ready", flush=True)
if plan.get("wait"):
    sys.stdin.readline()
if "bytes" in plan:
    most = os.path.getsize(path + "-wal") + plan["bytes"]
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
for at in range(plan["rounds"]):
    try:
        message = ledger.message(plan["run"], at, Terms(10.0, 1.0, 1.0), lambda: os.urandom(2000))
    except (BudgetExceededError, LedgerError) as error:
        print(json.dumps([at, type(error).__name__]), flush=True)
        continue
    print(json.dumps([at, message.hex()]), flush=True)  # the message leaves
    step("sent")
"""


def start(path, **plan):
    facts = [LIMITS.epsilon, DELTA, 5.0, 1.0, 1.0]
    words = [sys.executable, "-c", CLIENT, str(path), json.dumps(facts)]
    plan = {"run": "a", "rounds": 4} | plan
    return subprocess.Popen(
        [*words, json.dumps(plan)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ.copy(),
    )  # fmt: skip


def finished(process):
    """What left the process: round -> message, or the name of the refusal."""
    out, _ = process.communicate(timeout=120)
    return dict(map(json.loads, out.splitlines()[1:]))


def account(path):
    with ClientLedger(path, "ward", LIMITS) as ledger:
        return sum(event.steps for event in ledger.spent())


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_of_a_send_nothing_is_forgotten(tmp_path, step):
    path = tmp_path / "ledger.db"
    process = start(path, kill=step, round=2)
    sent = finished(process)
    assert process.returncode == -signal.SIGKILL
    assert len(sent) == (3 if step == "sent" else 2)
    assert account(path) == (2 if step in BEFORE_COMMIT else 3) >= len(sent)
    again = finished(start(path))  # restarted: the server asks for everything once more
    assert {at: again[at] for at in sent} == sent
    assert account(path) == 4


@pytest.mark.parametrize("moment", [0.0, 0.004, 0.02])
def test_killed_at_any_moment_every_message_that_left_is_on_the_account(tmp_path, moment):
    path = tmp_path / "ledger.db"
    process = start(path, rounds=ROUNDS, wait=True)
    process.stdout.readline()
    process.stdin.write("\n")
    process.stdin.flush()
    time.sleep(moment)
    process.kill()
    lines = process.communicate()[0].splitlines(keepends=True)
    sent = dict(json.loads(line) for line in lines if line.endswith("\n"))
    assert account(path) >= len(sent)
    with ClientLedger(path, "ward", LIMITS) as ledger:
        for at, told in sent.items():
            kept = ledger.message("a", at, TERMS, lambda: pytest.fail("drawn anew"))
            assert kept.hex() == told


def test_two_processes_that_answer_the_same_requests_send_the_same_bytes(tmp_path):
    path = tmp_path / "ledger.db"
    both = [start(path, rounds=15, wait=True) for _ in range(2)]
    for process in both:
        assert process.stdout.readline() == "ready\n"
    for process in both:
        process.stdin.write("\n")
        process.stdin.flush()
    told = []
    for process in both:
        out, _ = process.communicate(timeout=120)
        told.append(dict(map(json.loads, out.splitlines())))
    assert told[0] == told[1]
    assert account(path) == 15


def test_two_processes_cannot_spend_the_budget_twice(tmp_path):
    path = tmp_path / "ledger.db"
    both = [start(path, run=run, rounds=ROUNDS) for run in "ab"]  # both open the new file at once
    told = [list(finished(process).values()) for process in both]
    refused = sum(one.count("BudgetExceededError") for one in told)
    assert refused == ROUNDS
    assert account(path) == ROUNDS


@pytest.mark.parametrize("room", [0, 1000, 5000, 20_000])
def test_a_disk_that_fills_up_stops_the_client_and_loses_nothing(tmp_path, room):
    path = tmp_path / "ledger.db"
    first = start(path, bytes=room, rounds=8)
    told = finished(first)
    assert first.returncode == 0
    sent = {at: message for at, message in told.items() if message != "LedgerError"}
    assert len(sent) < 8
    assert account(path) >= len(sent)
    again = finished(start(path, rounds=8))  # there is room again
    assert {at: again[at] for at in sent} == sent
    assert account(path) == 8


def first_version(path):
    """A ledger as it was written before it knew the law of the noise, two rounds spent."""
    db = sqlite3.connect(path)
    db.executescript(
        "PRAGMA journal_mode = WAL;"
        "CREATE TABLE budget (data TEXT PRIMARY KEY, epsilon REAL NOT NULL, delta REAL NOT NULL,"
        " relation TEXT NOT NULL, unit TEXT NOT NULL);"
        "CREATE TABLE spent (data TEXT NOT NULL, sampling_rate REAL NOT NULL,"
        " noise_multiplier REAL NOT NULL, steps INTEGER NOT NULL,"
        " PRIMARY KEY (data, sampling_rate, noise_multiplier));"
        "CREATE TABLE sent (data TEXT NOT NULL, run TEXT NOT NULL, round INTEGER NOT NULL,"
        " sampling_rate REAL NOT NULL, noise_multiplier REAL NOT NULL, steps INTEGER NOT NULL,"
        " clip REAL NOT NULL, message BLOB, PRIMARY KEY (data, run, round));"
        f"INSERT INTO budget VALUES ('ward', {LIMITS.epsilon!r}, {DELTA}, 'add-remove', 'record');"
        "INSERT INTO spent VALUES ('ward', 1.0, 10.0, 2);"
        "INSERT INTO sent VALUES ('ward', 'a', 0, 1.0, 10.0, 1, 1.0, x'01'),"
        " ('ward', 'a', 1, 1.0, 10.0, 1, 1.0, x'02');"
    )
    db.close()


BRINGING_UP = """
import os, signal, sys
from pathlib import Path
from fedsieve.privacy import _ledger_file
place = int(sys.argv[2])
real = _ledger_file._bring_up
def bring_up(db, path):
    seen = 0
    def trace(statement):
        nonlocal seen
        seen += 1
        if seen == place:
            os.kill(os.getpid(), signal.SIGKILL)
    db.set_trace_callback(trace)
    real(db, path)
_ledger_file._bring_up = bring_up
_ledger_file.opened(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("place", [4, 8])
def test_killed_while_an_old_ledger_is_brought_up_nothing_is_forgotten(tmp_path, place):
    path = tmp_path / "ledger.db"
    first_version(path)
    words = [sys.executable, "-c", BRINGING_UP, str(path), str(place)]
    assert subprocess.run(words, env=os.environ.copy()).returncode == -signal.SIGKILL
    assert account(path) == 2
    told = finished(start(path))
    assert (told[0], told[1]) == ("01", "02")
    assert account(path) == 4


def test_two_processes_that_bring_up_an_old_ledger_agree(tmp_path):
    path = tmp_path / "ledger.db"
    first_version(path)
    both = [start(path, run=run, rounds=3) for run in "bc"]
    assert all(len(finished(process)) == 3 for process in both)
    assert account(path) == 8
