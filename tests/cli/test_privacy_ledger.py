"""``fedsieve privacy ledger``: what a client is told of its budgets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fedsieve.privacy import ClientLedger, Limits, Sampling, Terms, epsilon
from tests.cli.telling import SAID, Told, bad_input


@pytest.fixture
def client(tmp_path: Path) -> Path:
    """A client's ledger, with room for 7 more rounds."""
    path = tmp_path / "ledger.db"
    limits = Limits(epsilon(10.0, 1.0, 9, 1e-5).epsilon, 1e-5, 5.0, 1.0, 1.0)
    with ClientLedger(path, "ward 7", limits) as ledger:
        for round_ in (0, 4):
            ledger.message("run a", round_, Terms(10.0, 1.0, 1.0), lambda: b"secret")
    with ClientLedger(path, "ward 8", limits):
        pass
    return path


def test_ledger(privacy: Callable[..., Told], client: Path) -> None:
    told = privacy("ledger", str(client))
    text = " ".join(told.out.split())
    assert told.code == 0
    for words in (*SAID, "2 Gaussian releases",
                  "7 messages of 1 release, Gaussian noise of multiplier 10, Poisson sampling",
                  "run run a 2 rounds from 0 to 4", "2 messages kept", "ward 8"):  # fmt: skip
        assert words in text
    assert "secret" not in told.out
    seven, eight = json.loads(privacy("ledger", str(client), "--json").out)
    assert (seven["data"], seven["rounds"], seven["releases"]) == ("ward 7", 2, 2)
    assert seven["epsilon"] == epsilon(10.0, 1.0, 2, 1e-5).epsilon < seven["budget"]
    assert seven["left"][0]["messages"] == 7
    assert (eight["epsilon"], eight["left"], eight["runs"]) == (0, [], [])
    asked = ("--noise-multiplier", "20", "--sampling-rate", "1", "--steps", "2", "--json")
    other = json.loads(privacy("ledger", str(client), *asked).out)
    assert [one["left"][0]["messages"] for one in other] == [14, 18]


def test_what_is_left_of_a_ledger_in_epochs(privacy: Callable[..., Told], client: Path) -> None:
    asked = ("--noise-multiplier", "20", "--sampling-rate", "0.1", "--steps", "15")
    told = " ".join(
        privacy("ledger", str(client), *asked, "--sampling", "random-allocation").out.split()
    )
    assert "of 2 epochs of 10 releases, Gaussian noise of multiplier 20, random allocation" in told
    error = bad_input(privacy("ledger", str(client), *asked, "--sampling", "shuffled"))
    assert "relation='add-remove' with sampling='shuffled'" in error


@pytest.fixture
def epochal(tmp_path: Path) -> Path:
    """A client's ledger with equal noise and rate, and records drawn in all three ways."""
    path = tmp_path / "ledger.db"
    ways: tuple[Sampling, ...] = ("shuffled", "random-allocation", "poisson")
    own = Limits(40.0, 1e-5, 1.0, 1.0, 1.0, relation="zero-out", steps=100, samplings=ways)
    with ClientLedger(path, "ward", own) as ledger:
        for round_, way in enumerate(ways):
            ledger.message("a", round_, Terms(5.0, 1 / 20, 1.0, 50, sampling=way), lambda: b"x")
    return path


def test_ledger_tells_ways_of_sampling_apart_and_counts_epochs_as_such(
    privacy: Callable[..., Told], epochal: Path
) -> None:
    told = privacy("ledger", str(epochal))
    text = " ".join(told.out.split())
    noise = "Gaussian noise of multiplier 5"
    for words in (
        f"messages of 1 epoch of 20 releases, {noise}, shuffled batches",
        f"messages of 1 epoch of 20 releases, {noise}, random allocation",
        f"messages of 1 release, {noise}, Poisson sampling with rate 0.05",
    ):
        assert words in text
    (found,) = json.loads(privacy("ledger", str(epochal), "--json").out)
    assert found["releases"] == 60 + 60 + 50  # three epochs that began count whole
    assert {(left["sampling"], left["steps"], left["releases"]) for left in found["left"]} == {
        ("shuffled", 1, 20), ("random-allocation", 1, 20), ("poisson", 1, 1)
    }  # fmt: skip


def test_ledger_tells_what_is_left_for_a_way_of_sampling(
    privacy: Callable[..., Told], epochal: Path
) -> None:
    asked = ("--noise-multiplier", "5", "--sampling-rate", "0.05", "--steps", "50")
    left = {}
    for way in ("poisson", "shuffled", "random-allocation"):
        told = privacy("ledger", str(epochal), *asked, "--sampling", way, "--json")
        (left[way],) = json.loads(told.out)[0]["left"]
    assert [left[way]["steps"] for way in left] == [50, 3, 3]
    assert left["poisson"]["messages"] > left["shuffled"]["messages"] > 0
    words = privacy("ledger", str(epochal), *asked, "--sampling", "shuffled").out
    assert "messages of 3 epochs of 20 releases" in " ".join(words.split())
    assert "sampling='bins'" in bad_input(
        privacy("ledger", str(epochal), *asked, "--sampling", "bins")
    )


def test_ledger_refuses(privacy: Callable[..., Told], client: Path) -> None:
    assert "nothing.db is no file" in bad_input(privacy("ledger", "nothing.db"))
    half = ("ledger", str(client), "--noise-multiplier", "20")
    assert "needs both, or neither" in bad_input(privacy(*half))
    assert "steps=0" in bad_input(privacy(*half, "--sampling-rate", "1", "--steps", "0"))
    (client.parent / "text").write_text("no ledger" * 1000)
    told = privacy("ledger", str(client.parent / "text"))
    assert (told.code, told.err.count("\n")) == (1, 1)
    assert "not a database" in told.err
