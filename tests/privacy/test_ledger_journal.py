"""What the ledger promised is on the disk: crashes, restored runs, journals of others."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from fedsieve.privacy import ClientLedger, Ledger, _journal
from fedsieve.privacy._journal import Journal
from tests.privacy.ledgers import COHORT, limits, new_ledger, through_json


def test_the_record_is_on_disk_when_charge_returns(tmp_path):
    path = tmp_path / "ledger.jsonl"
    ledger = new_ledger(journal=path, noise_source="simulation seed 3")
    ledger.charge(0, COHORT)
    (line,) = path.read_text().splitlines()
    assert json.loads(line) == {
        "round": 0,
        "noise": "simulation seed 3",
        "charges": [[0.01, 1.0, 1, [0]], [0.02, 1.0, 1, [1, "hospital"]]],
    }


@pytest.mark.parametrize("repeatable", [True, False])
def test_a_crash_between_checkpoints_loses_nothing(tmp_path, repeatable):
    path = tmp_path / "ledger.jsonl"
    ledger = new_ledger(journal=path, repeatable=repeatable)
    for t in range(3):
        ledger.charge(t, COHORT)
    checkpoint = through_json(ledger.state())
    for t in range(3, 5):
        ledger.charge(t, COHORT)
    # killed here; rounds 3 and 4 run again
    resumed = Ledger.restore(checkpoint, path)
    assert resumed.spent() == ledger.spent()
    for t in range(3, 8):
        resumed.charge(t, COHORT)
    whole = new_ledger(repeatable=repeatable)
    for t in range(8):
        whole.charge(t, COHORT)
    if repeatable:
        assert resumed.guarantee() == whole.guarantee()
    else:
        assert resumed.spent() == dict.fromkeys(COHORT, 10)


@pytest.fixture
def synced(monkeypatch):
    """The files and folders that were flushed; empty names where the system does not tell them."""
    found = []

    def fsync(handle):
        found.append(os.readlink(f"/proc/self/fd/{handle}") if os.path.exists("/proc") else "")

    monkeypatch.setattr(os, "fsync", fsync)
    return found


def test_a_release_is_on_the_disk_before_it_is_sent(tmp_path, synced):
    path = tmp_path / "ledger.jsonl"
    ledger = new_ledger(journal=path)
    ledger.charge(0, COHORT)
    assert len(synced) == 1 + (os.name == "posix")  # the file, and its new name
    ledger.charge(1, COHORT)
    ledger.charge(1, COHORT)  # a repetition writes nothing
    assert len(synced) == 2 + (os.name == "posix")
    if synced[0]:
        assert synced == [str(path), str(tmp_path), str(path)]


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs names of open files")
def test_behind_a_link_the_name_of_the_file_is_flushed_and_not_the_links(tmp_path, synced):
    links, disk = tmp_path / "links", tmp_path / "disk"
    links.mkdir()
    disk.mkdir()
    for name in ("ledger.jsonl", "ledger.db"):
        (links / name).symlink_to(disk / name)
    new_ledger(journal=links / "ledger.jsonl").charge(0, COHORT)
    assert synced == [str(disk / "ledger.jsonl"), str(disk)]
    synced.clear()
    ClientLedger(links / "ledger.db", "ward", limits()).close()
    assert synced == [str(disk)]  # SQLite flushes the file by itself


def test_the_digest_in_the_state_is_that_of_the_first_lines(tmp_path):
    path = tmp_path / "ledger.jsonl"
    ledger = new_ledger(journal=path)
    ledger.charge(0, COHORT)
    ledger.charge(1, COHORT)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert ledger.state()["journal"] == {"records": 2, "sha256": digest}
    ledger.charge(2, COHORT)
    assert Ledger.restore(new_ledger().state(), path).state() == ledger.state()


def test_a_journal_that_lacks_what_the_checkpoint_has_seen_is_refused(tmp_path):
    path = tmp_path / "ledger.jsonl"
    ledger = new_ledger(journal=path)
    ledger.charge(0, COHORT)
    ledger.charge(1, COHORT)
    state = through_json(ledger.state())
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(ValueError, match="holds 1 records, but the checkpoint has seen 2: what"):
        Ledger.restore(state, path)
    path.unlink()
    with pytest.raises(ValueError, match="holds 0 records"):
        Ledger.restore(state, path)
    with pytest.raises(ValueError, match="journal=None, but the checkpoint relies on 2 records"):
        Ledger.restore(state)
    assert not path.exists()


def test_a_foreign_journal_is_refused(tmp_path):
    path, elsewhere = tmp_path / "ledger.jsonl", tmp_path / "other.jsonl"
    new_ledger(journal=path).charge(0, {0: (0.5, 1.0, 1)})
    other, unwritten = new_ledger(journal=elsewhere), new_ledger()
    for ledger in (other, unwritten):
        ledger.charge(0, COHORT)
    with pytest.raises(ValueError, match="does not belong"):
        Ledger.restore(other.state(), path)
    with pytest.raises(ValueError, match="written without a journal"):
        Ledger.restore(unwritten.state(), path)
    with pytest.raises(ValueError, match=r"Ledger\.restore"):
        new_ledger(journal=path)


def test_a_changed_line_is_noticed(tmp_path):
    path = tmp_path / "ledger.jsonl"
    ledger = new_ledger(journal=path)
    for t in range(3):
        ledger.charge(t, COHORT)
    state = ledger.state()
    path.write_text(path.read_text().replace('"round": 1', '"round": 7'))
    with pytest.raises(ValueError, match="does not belong"):
        Ledger.restore(state, path)


WRITER = """
import sys
from pathlib import Path
from fedsieve.privacy import Ledger

ledger = Ledger(1e-5, "add-remove", repeatable=False, journal=Path(sys.argv[1]))
for t in range(10**9):
    ledger.charge(t, {0: (0.01, 1.0, 1)})
    print(t, flush=True)  # the message leaves
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_for_real_every_sent_round_is_in_the_journal(tmp_path):
    path = tmp_path / "ledger.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, env=os.environ.copy()
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.05)
    process.kill()
    sent = 1 + len(process.communicate()[0].splitlines())
    resumed = Ledger.restore(new_ledger(repeatable=False).state(), path)
    assert resumed.spent()[0] >= sent


def test_after_a_failed_write_the_journal_takes_no_more(tmp_path, monkeypatch):
    journal = Journal(tmp_path / "journal")
    journal.append({"round": 0})

    def half(path, line):
        with path.open("ab") as file:
            file.write(line[: len(line) // 2])
        raise OSError(errno.ENOSPC, "no space left")

    with monkeypatch.context() as full:
        full.setattr(_journal, "_write", half)
        with pytest.raises(OSError, match="no space left"):
            journal.append({"round": 1})
    with pytest.raises(OSError, match="must be read again first"):
        journal.append({"round": 1})
    again = Journal(tmp_path / "journal")
    again.append({"round": 1})
    assert Journal(tmp_path / "journal").found == [{"round": 0}, None, {"round": 1}]
