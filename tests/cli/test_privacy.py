"""``fedsieve privacy``: what its commands print, and what they refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fedsieve.privacy import (
    ClientLedger,
    Limits,
    Sampling,
    Setting,
    Terms,
    epsilon,
    max_sampling_rate,
    max_steps,
    noise_multiplier,
    published,
)
from fedsieve.privacy.guarantee import kept_variance
from tests.cli.telling import Told

JOB = ("--noise-multiplier", "10", "--sampling-rate", "1", "--delta", "1e-5")
SAID = ("unit: record", "one record added or removed", "delta = 1e-05", "no sampling", "exact")


@pytest.fixture
def call(call: Callable[..., Told]) -> Callable[..., Told]:
    """Run one of the commands of ``fedsieve privacy``."""
    return lambda *words: call("privacy", *words)


def refused(told: Told) -> str:
    assert (told.code, told.out, told.err.count("\n")) == (2, "", 1)
    return str(told.err)


def test_rounds(call: Callable[..., Told]) -> None:
    told = call("rounds", "--epsilon", "4", *JOB)
    most = max_steps(4.0, 10.0, 1.0, 1e-5)
    assert told.code == 0
    assert told.out.startswith(f"{most} rounds of 1 noisy release fit")
    for words in SAID:
        assert words in told.out
    found = json.loads(call("rounds", "--epsilon", "4", *JOB, "--local-steps", "5", "--json").out)
    assert found["rounds"] == most // 5
    assert found["epsilon"] == epsilon(10.0, 1.0, most // 5 * 5, 1e-5).epsilon <= 4
    none = json.loads(call("rounds", "--epsilon", "0.001", *JOB, "--json").out)
    assert (none["rounds"], none["epsilon"]) == (0, 0)
    client = call("rounds", "--epsilon", "4", *JOB, "--unit", "client").out
    assert "unit: client" in client


def test_rate(call: Callable[..., Told]) -> None:
    job = ("--epsilon", "2", "--noise-multiplier", "8", "--steps", "100", "--delta", "1e-5")
    found = json.loads(call("rate", *job, "--json").out)
    assert found["sampling_rate"] == max_sampling_rate(2.0, 8.0, 100, 1e-5)
    assert found["epsilon"] <= 2
    told = call("rate", *job).out
    printed = float(told.removeprefix("sampling rate ").partition(":")[0])
    assert found["sampling_rate"] * (1 - 1e-5) < printed <= found["sampling_rate"]
    assert "PLD" in told


@pytest.mark.parametrize("law", ["gaussian", "discrete-gaussian", "skellam"])
def test_every_command_knows_the_law(call: Callable[..., Told], law: str) -> None:
    given = ("--noise", law, "--delta", "1e-5", "--json")
    noise = law, kept_variance(law)  # type: ignore[arg-type]
    sigma, q = ("--noise-multiplier", "10"), ("--sampling-rate", "1")
    target, steps = ("--epsilon", "4"), ("--steps", "100")

    def told(command: str, *words: str) -> dict[str, float]:
        return json.loads(call(command, *words, *given).out)  # type: ignore[no-any-return]

    own = epsilon(10.0, 1.0, 100, 1e-5, law=noise[0], variance=noise[1]).epsilon  # type: ignore[arg-type]
    assert told("epsilon", *sigma, *q, *steps)["epsilon"] == own
    assert told("curve", *sigma, *q, "--rounds", "100")["epsilon"] == own
    assert told("noise", *target, *q, *steps)["noise_multiplier"] == noise_multiplier(
        4.0, 1.0, 100, 1e-5, "add-remove", *noise
    )
    assert told("rounds", *target, *sigma, *q)["rounds"] == max_steps(
        4.0, 10.0, 1.0, 1e-5, "add-remove", *noise
    )
    assert told("rate", *target, *sigma, *steps)["sampling_rate"] == max_sampling_rate(
        4.0, 10.0, 100, 1e-5, "add-remove", *noise
    )
    (row,) = told("table", *sigma, *q, *steps)
    assert row["epsilon"] == own  # type: ignore[index, comparison-overlap]


@pytest.mark.parametrize("way", ["shuffled", "random-allocation"])
def test_sampling_by_epochs(call: Callable[..., Told], way: Sampling) -> None:
    """Thirty steps begin two epochs of twenty."""
    job = ("--sampling-rate", "0.05", "--steps", "30", "--delta", "1e-5", "--relation", "zero-out")
    given = (*job, "--sampling", way, "--json")
    found = json.loads(call("epsilon", "--noise-multiplier", "2", *given).out)
    assert found["epsilon"] == epsilon(2.0, 0.05, 2, 1e-5, "zero-out", sampling=way).epsilon
    assert "2 epochs of 20 steps" in found["sampling"]
    found = json.loads(call("noise", "--epsilon", "4", *given).out)
    wanted = noise_multiplier(4.0, 0.05, 2, 1e-5, "zero-out", sampling=way)
    assert found["noise_multiplier"] == wanted
    assert found["epsilon"] <= 4


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (("--sampling", "bins"), "sampling='bins' is not one of"),
        (("--sampling", "shuffled"), "relation='add-remove'"),
        (("--sampling", "random-allocation", "--sampling-rate", "0.3"), "the nearest rate is 1/3"),
        (("--sampling", "random-allocation", "--noise", "skellam"), "Gaussian noise only"),
    ],
)
def test_sampling_without_a_valid_accounting_is_refused(
    call: Callable[..., Told], changed: tuple[str, ...], told: str
) -> None:
    job = ("--sampling-rate", "0.05", "--steps", "30", "--delta", "1e-5")
    assert told in refused(call("epsilon", "--noise-multiplier", "2", *job, *changed))
    assert told in refused(call("noise", "--epsilon", "2", *job, *changed))


def test_skellam_noise_of_few_units_costs_more(call: Callable[..., Told]) -> None:
    job = (*JOB, "--steps", "100", "--noise", "skellam")
    told = call("epsilon", *job, "--variance", "50").out
    assert "Skellam releases with noise multiplier 10 and variance 50 or more" in told
    few, many = (
        json.loads(call("epsilon", *job, *more, "--json").out)["epsilon"]
        for more in (("--variance", "50"), ())
    )
    assert few > many


@pytest.mark.parametrize("target", ["1e-6", "3e-9", "0.00012"])
def test_a_printed_epsilon_is_never_smaller_than_the_true_one(
    call: Callable[..., Told], target: str
) -> None:
    job = ("noise", "--epsilon", target, "--sampling-rate", "1", "--steps", "3", "--delta", "1e-7")
    true = json.loads(call(*job, "--json").out)["epsilon"]
    printed = float(call(*job).out.split("epsilon = ")[1].split()[0])
    assert true <= printed <= 1.001 * true
    assert printed <= 1.001 * float(target)


def test_table(call: Callable[..., Told]) -> None:
    grid = ("--epsilon", "1", "--epsilon", "8", "--sampling-rate", "1", "--steps", "100")
    told = call("table", *grid, "--relation", "add-remove", "--relation", "replace-one")
    assert told.code == 0
    lines = told.out.splitlines()
    assert [line.split()[0] for line in lines] == ["noise", "37.31", "74.62", "6.0029", "12.006",
                                                   "unit:"]  # fmt: skip
    assert "1e-05, replace-one, exact Gaussian" in lines[2]
    found = json.loads(call("table", *grid, "--json").out)
    assert [row["epsilon"] <= e for row, e in zip(found, (1, 8), strict=True)] == [True, True]
    assert {"unit", "relation", "delta", "sampling", "accountant"} <= set(found[0])


def test_published(call: Callable[..., Told]) -> None:
    told = call("published")
    text = " ".join(told.out.split())
    assert told.code == 0
    assert max(map(len, told.out.splitlines())) <= 80
    for row in published():
        assert row.gap in text
        assert f"epsilon = {row.theirs:.4g} by the {row.method}" in text
    assert text.count("printed not known to us first-hand") == 3
    found = json.loads(call("published", "--json").out)
    assert [entry["printed"] for entry in found] == [None, 1.34, 8.68, None, None]
    assert found[3]["ours"]["relation"] == "replace-one"


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


def test_ledger(call: Callable[..., Told], client: Path) -> None:
    told = call("ledger", str(client))
    text = " ".join(told.out.split())
    assert told.code == 0
    for words in (*SAID, "2 Gaussian releases",
                  "7 messages of 1 release, Gaussian noise of multiplier 10, Poisson sampling",
                  "run run a 2 rounds from 0 to 4", "2 messages kept", "ward 8"):  # fmt: skip
        assert words in text
    assert "secret" not in told.out
    seven, eight = json.loads(call("ledger", str(client), "--json").out)
    assert (seven["data"], seven["rounds"], seven["releases"]) == ("ward 7", 2, 2)
    assert seven["epsilon"] == epsilon(10.0, 1.0, 2, 1e-5).epsilon < seven["budget"]
    assert seven["left"][0]["messages"] == 7
    assert (eight["epsilon"], eight["left"], eight["runs"]) == (0, [], [])
    asked = ("--noise-multiplier", "20", "--sampling-rate", "1", "--steps", "2", "--json")
    other = json.loads(call("ledger", str(client), *asked).out)
    assert [one["left"][0]["messages"] for one in other] == [14, 18]


def test_what_is_left_of_a_ledger_in_epochs(call: Callable[..., Told], client: Path) -> None:
    asked = ("--noise-multiplier", "20", "--sampling-rate", "0.1", "--steps", "15")
    told = " ".join(
        call("ledger", str(client), *asked, "--sampling", "random-allocation").out.split()
    )
    assert "of 2 epochs of 10 releases, Gaussian noise of multiplier 20, random allocation" in told
    error = refused(call("ledger", str(client), *asked, "--sampling", "shuffled"))
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
    call: Callable[..., Told], epochal: Path
) -> None:
    told = call("ledger", str(epochal))
    text = " ".join(told.out.split())
    noise = "Gaussian noise of multiplier 5"
    for words in (
        f"messages of 1 epoch of 20 releases, {noise}, shuffled batches",
        f"messages of 1 epoch of 20 releases, {noise}, random allocation",
        f"messages of 1 release, {noise}, Poisson sampling with rate 0.05",
    ):
        assert words in text
    (found,) = json.loads(call("ledger", str(epochal), "--json").out)
    assert found["releases"] == 60 + 60 + 50  # three epochs that began count whole
    assert {(left["sampling"], left["steps"], left["releases"]) for left in found["left"]} == {
        ("shuffled", 1, 20), ("random-allocation", 1, 20), ("poisson", 1, 1)
    }  # fmt: skip


def test_ledger_tells_what_is_left_for_a_way_of_sampling(
    call: Callable[..., Told], epochal: Path
) -> None:
    asked = ("--noise-multiplier", "5", "--sampling-rate", "0.05", "--steps", "50")
    left = {}
    for way in ("poisson", "shuffled", "random-allocation"):
        told = call("ledger", str(epochal), *asked, "--sampling", way, "--json")
        (left[way],) = json.loads(told.out)[0]["left"]
    assert [left[way]["steps"] for way in left] == [50, 3, 3]
    assert left["poisson"]["messages"] > left["shuffled"]["messages"] > 0
    words = call("ledger", str(epochal), *asked, "--sampling", "shuffled").out
    assert "messages of 3 epochs of 20 releases" in " ".join(words.split())
    assert "sampling='bins'" in refused(call("ledger", str(epochal), *asked, "--sampling", "bins"))


def test_noise_is_rounded_alike_wherever_it_is_printed(
    call: Callable[..., Told],
) -> None:
    for target in ("1.1", "1.3", "1.7", "2.3", "3.1", "4.7"):
        told = call("noise", "--epsilon", target, "--sampling-rate", "1", "--steps", "7", "--delta",
                    "1e-5").out  # fmt: skip
        above = told.removeprefix("noise multiplier ").split(":")[0]
        assert told.split("with noise multiplier ")[1].split(";")[0] == above
    given = call("epsilon", *JOB[2:], "--noise-multiplier", "1.1", "--steps", "7").out
    assert given.startswith("noise multiplier 1.1: ")


def test_ledger_refuses(call: Callable[..., Told], client: Path) -> None:
    assert "nothing.db is no file" in refused(call("ledger", "nothing.db"))
    half = ("ledger", str(client), "--noise-multiplier", "20")
    assert "needs both, or neither" in refused(call(*half))
    assert "steps=0" in refused(call(*half, "--sampling-rate", "1", "--steps", "0"))
    (client.parent / "text").write_text("no ledger" * 1000)
    told = call("ledger", str(client.parent / "text"))
    assert (told.code, told.err.count("\n")) == (1, 1)
    assert "not a database" in told.err


def test_curve(call: Callable[..., Told], tmp_path: Path) -> None:
    told = call("curve", *JOB, "--rounds", "100", "--out", "there/curve.png")
    assert (told.code, told.err) == (0, "wrote there/curve.png\n")
    assert (tmp_path / "there" / "curve.png").read_bytes().startswith(b"\x89PNG")
    for words in (*SAID, "sampling rate 0.5", "replace-one", "zero-out", "steps 200"):
        assert words in told.out
    assert max(map(len, told.out.splitlines()[1:])) <= 80
    found = json.loads(call("curve", *JOB, "--rounds", "100", "--json").out)
    assert found["epsilon"] == epsilon(10.0, 1.0, 100, 1e-5).epsilon
    assert found["curve"][-1] == {"rounds": 100, "epsilon": found["epsilon"]}
    values = [point["epsilon"] for point in found["curve"]]
    assert values == sorted(values)
    for turn in found["knobs"]:
        less = turn["knob"] in ("noise multiplier", "delta") and turn["value"] > 1e-5
        less = (less and turn["value"] != 5) or turn["value"] in (0.5, 50)
        if turn["value"] != "zero-out":
            assert (turn["epsilon"] < found["epsilon"]) == less
        assert {"unit", "relation", "delta", "sampling", "accountant"} <= set(turn)


@pytest.mark.parametrize("name", ["curve.gif", "curve", "."])
def test_a_curve_that_cannot_be_written_is_refused_before_it_is_computed(
    call: Callable[..., Told], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(Setting, "guarantee", None)
    told = refused(call("curve", *JOB, "--rounds", "100", "--out", name))
    assert f"--out {name} " in told
    assert ".png" in told
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("rounds", "--epsilon", "0", *JOB), "epsilon=0.0"),
        (("rounds", "--epsilon", "1", *JOB, "--local-steps", "0"), "local_steps=0"),
        (("rounds", "--epsilon", "1", *JOB, "--relation", "swap"), "relation='swap'"),
        (("rounds", "--epsilon", "1", *JOB, "--unit", "user"), "unit='user'"),
        (("rounds", "--epsilon", "1", *JOB[2:], "--noise-multiplier", "0"), "noise_multiplier=0.0"),
        (("curve", *JOB, "--rounds", "0"), "rounds=0"),
        (("rounds", "--epsilon", "1", *JOB, "--noise", "cauchy"), "law='cauchy'"),
        (("rounds", "--epsilon", "1", *JOB, "--variance", "9"), "variance=9.0 belongs to"),
        (("table", "--epsilon", "1"), "noise_multiplier, sampling_rate, steps is left out"),
        (("curve", *JOB[:4], "--delta", "1", "--rounds", "3"), "delta=1.0"),
        (("explain", "nowhere"), "nowhere holds no run"),
    ],
)
def test_bad_input_is_refused(call: Callable[..., Told], words: tuple[str, ...], part: str) -> None:
    assert part in refused(call(*words))


def test_explain_tells_what_was_paid_for_and_flags_what_was_not(
    call: Callable[..., Told], invented: Callable[..., Path], tmp_path: Path
) -> None:
    run = invented(tmp_path / "private", rounds=3)
    told = call("explain", str(run))
    text = " ".join(told.out.split()).replace("- ", "-")  # words that were broken
    assert told.code == 0
    for words in ("epsilon 3.999 at delta 1e-05, per record (add-remove), Poisson sampling, PLD",
                  "! records by client and class", "! noise_norm", "! signal_norm",
                  "! clipped_fraction",
                  "test set", "nominal sizes N"):  # fmt: skip
        assert words in text
    assert max(map(len, told.out.splitlines())) <= 80
    found = json.loads(call("explain", str(run), "--json").out)
    kinds = {entry["what"].split()[0]: entry["kind"] for entry in found["released"]}
    assert kinds["messages"] == "paid for"
    assert kinds["test"] == "free"
    assert kinds["records"] == "simulator only"
    assert all(e["flagged"] == (e["kind"] in ("simulator only", "unprotected"))
               for e in found["released"])  # fmt: skip


def test_explain_without_privacy_or_with_a_seed_or_unfinished(
    call: Callable[..., Told], invented: Callable[..., Path], tmp_path: Path
) -> None:
    open_ = json.loads(call("explain", str(invented(tmp_path / "o", private=False)), "--json").out)
    assert open_["released"][0]["kind"] == "unprotected"
    assert "no epsilon holds" in open_["released"][0]["cost"]
    half = invented(tmp_path / "h", rounds=2, finished=False)
    assert "ledger.jsonl holds what was spent" in " ".join(call("explain", str(half)).out.split())
    manifest = json.loads((half / "manifest.json").read_text())
    manifest["seeds"]["noise_seed"] = 7
    (half / "manifest.json").write_text(json.dumps(manifest))
    assert "! noise seed 7" in call("explain", str(half)).out
    (half / "config.toml").write_text("= 3")
    assert "config.toml cannot be read" in refused(call("explain", str(half)))


@pytest.mark.parametrize("words", [("rounds", "--epsilon", "4", *JOB), ("explain", "DIR")])
def test_neither_torch_nor_matplotlib_is_loaded(
    invented: Callable[..., Path], tmp_path: Path, words: tuple[str, ...]
) -> None:
    run = str(invented(tmp_path / "run", rounds=2))
    line = ["privacy", *(run if word == "DIR" else word for word in words)]
    code = (
        f"import sys; from fedsieve.cli import main; code = main({line!r});"
        "print(*{'torch', 'matplotlib'} & set(sys.modules), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (0, "")


def test_curve_needs_no_torch(tmp_path: Path) -> None:
    line = ["privacy", "curve", *JOB, "--rounds", "9", "--out", str(tmp_path / "c.png")]
    code = (
        f"import sys; from fedsieve.cli import main; main({line!r});"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_no_round_that_fits_is_told_with_what_one_costs(
    call: Callable[..., Told],
) -> None:
    job = (
        "--epsilon",
        "0.01",
        "--noise-multiplier",
        "1",
        "--sampling-rate",
        "0.1",
        "--delta",
        "1e-5",
    )
    told = call("rounds", *job).out
    assert told.startswith(
        "0 rounds fit within epsilon=0.01: one of 1 noisy release costs epsilon = "
    )


@pytest.mark.parametrize("command", ["rounds", "rate", "table"])
def test_every_calibration_knows_shuffled_batches(call: Callable[..., Told], command: str) -> None:
    job = ["--epsilon", "2", "--noise-multiplier", "4", "--relation", "zero-out", "--delta", "1e-5"]
    job += ["--steps", "100"] if command == "rate" else ["--sampling-rate", "0.1"]
    assert "shuffled batches" in call(command, *job, "--sampling", "shuffled").out
