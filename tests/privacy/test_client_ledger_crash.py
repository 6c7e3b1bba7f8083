"""The client's ledger under faults that are real: killed processes, two at once, no disk left."""

import json
import os
import signal
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
