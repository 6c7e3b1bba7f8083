"""``fedsieve privacy epsilon``, ``noise``, ``rounds`` and ``rate``, and what they refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fedsieve.privacy import (
    Sampling,
    epsilon,
    max_sampling_rate,
    max_steps,
    noise_multiplier,
)
from fedsieve.privacy.guarantee import kept_variance
from tests.cli.telling import JOB, SAID, Told, bad_input


def test_epsilon_and_noise_there_and_back(privacy: Callable[..., Told]) -> None:
    job = ("--sampling-rate", "0.01", "--steps", "1000", "--delta", "1e-5")
    spent = json.loads(privacy("epsilon", "--noise-multiplier", "1", *job, "--json").out)
    # dp-accounting's published PLD value for this job is 1.828
    assert spent["epsilon"] == pytest.approx(1.828, abs=2e-3)
    assert (spent["noise_multiplier"], spent["relation"]) == (1.0, "add-remove")
    assert "PLD" in spent["accountant"]
    back = json.loads(privacy("noise", "--epsilon", str(spent["epsilon"]), *job, "--json").out)
    assert back["noise_multiplier"] == pytest.approx(1.0, rel=1e-3)
    assert back["epsilon"] <= spent["epsilon"]
    assert {"epsilon", "noise_multiplier", "relation", "accountant"} <= set(back)


def test_epsilon_by_relation_with_its_words(privacy: Callable[..., Told]) -> None:
    job = ("--noise-multiplier", "2", "--sampling-rate", "1", "--steps", "10", "--delta", "1e-5")

    def spent(*more: str) -> float:
        return float(json.loads(privacy("epsilon", *job, "--json", *more).out)["epsilon"])

    assert spent("--relation", "replace-one") > spent("--relation", "add-remove")
    told = privacy("epsilon", *job).out
    for words in ("unit: record", "added or removed", "delta = 1e-05", "exact Gaussian"):
        assert words in told


@pytest.mark.parametrize(
    ("option", "value", "part"),
    [
        ("--noise-multiplier", "0", "noise_multiplier=0.0"),
        ("--sampling-rate", "1.5", "sampling_rate=1.5"),
        ("--steps", "-1", "steps=-1"),
        ("--steps", "many", "--steps"),
        ("--delta", "0", "delta=0.0"),
        ("--relation", "swap", "relation='swap'"),
    ],
)
def test_epsilon_refuses(privacy: Callable[..., Told], option: str, value: str, part: str) -> None:
    job = {
        "--noise-multiplier": "1",
        "--sampling-rate": "0.1",
        "--steps": "10",
        "--delta": "1e-5",
        option: value,
    }
    words = [word for pair in job.items() for word in pair]
    assert part in bad_input(privacy("epsilon", *words))


def test_rounds(privacy: Callable[..., Told]) -> None:
    told = privacy("rounds", "--epsilon", "4", *JOB)
    most = max_steps(4.0, 10.0, 1.0, 1e-5)
    assert told.code == 0
    assert told.out.startswith(f"{most} rounds of 1 noisy release fit")
    for words in SAID:
        assert words in told.out
    found = json.loads(
        privacy("rounds", "--epsilon", "4", *JOB, "--local-steps", "5", "--json").out
    )
    assert found["rounds"] == most // 5
    assert found["epsilon"] == epsilon(10.0, 1.0, most // 5 * 5, 1e-5).epsilon <= 4
    none = json.loads(privacy("rounds", "--epsilon", "0.001", *JOB, "--json").out)
    assert (none["rounds"], none["epsilon"]) == (0, 0)
    client = privacy("rounds", "--epsilon", "4", *JOB, "--unit", "client").out
    assert "unit: client" in client


def test_rate(privacy: Callable[..., Told]) -> None:
    job = ("--epsilon", "2", "--noise-multiplier", "8", "--steps", "100", "--delta", "1e-5")
    found = json.loads(privacy("rate", *job, "--json").out)
    assert found["sampling_rate"] == max_sampling_rate(2.0, 8.0, 100, 1e-5)
    assert found["epsilon"] <= 2
    told = privacy("rate", *job).out
    printed = float(told.removeprefix("sampling rate ").partition(":")[0])
    assert found["sampling_rate"] * (1 - 1e-5) < printed <= found["sampling_rate"]
    assert "PLD" in told


@pytest.mark.parametrize("law", ["gaussian", "discrete-gaussian", "skellam"])
def test_every_command_knows_the_law(privacy: Callable[..., Told], law: str) -> None:
    given = ("--noise", law, "--delta", "1e-5", "--json")
    noise = law, kept_variance(law)  # type: ignore[arg-type]
    sigma, q = ("--noise-multiplier", "10"), ("--sampling-rate", "1")
    target, steps = ("--epsilon", "4"), ("--steps", "100")

    def told(command: str, *words: str) -> dict[str, float]:
        return json.loads(privacy(command, *words, *given).out)  # type: ignore[no-any-return]

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
def test_sampling_by_epochs(privacy: Callable[..., Told], way: Sampling) -> None:
    """Thirty steps begin two epochs of twenty."""
    job = ("--sampling-rate", "0.05", "--steps", "30", "--delta", "1e-5", "--relation", "zero-out")
    given = (*job, "--sampling", way, "--json")
    found = json.loads(privacy("epsilon", "--noise-multiplier", "2", *given).out)
    assert found["epsilon"] == epsilon(2.0, 0.05, 2, 1e-5, "zero-out", sampling=way).epsilon
    assert "2 epochs of 20 steps" in found["sampling"]
    found = json.loads(privacy("noise", "--epsilon", "4", *given).out)
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
def test_sampling_without_a_valid_accounting_is_bad_input(
    privacy: Callable[..., Told], changed: tuple[str, ...], told: str
) -> None:
    job = ("--sampling-rate", "0.05", "--steps", "30", "--delta", "1e-5")
    assert told in bad_input(privacy("epsilon", "--noise-multiplier", "2", *job, *changed))
    assert told in bad_input(privacy("noise", "--epsilon", "2", *job, *changed))


def test_skellam_noise_of_few_units_costs_more(privacy: Callable[..., Told]) -> None:
    job = (*JOB, "--steps", "100", "--noise", "skellam")
    told = privacy("epsilon", *job, "--variance", "50").out
    assert "Skellam releases with noise multiplier 10 and variance 50 or more" in told
    few, many = (
        json.loads(privacy("epsilon", *job, *more, "--json").out)["epsilon"]
        for more in (("--variance", "50"), ())
    )
    assert few > many


@pytest.mark.parametrize("target", ["1e-6", "3e-9", "0.00012"])
def test_a_printed_epsilon_is_never_smaller_than_the_true_one(
    privacy: Callable[..., Told], target: str
) -> None:
    job = ("noise", "--epsilon", target, "--sampling-rate", "1", "--steps", "3", "--delta", "1e-7")
    true = json.loads(privacy(*job, "--json").out)["epsilon"]
    printed = float(privacy(*job).out.split("epsilon = ")[1].split()[0])
    assert true <= printed <= 1.001 * true
    assert printed <= 1.001 * float(target)


def test_noise_is_rounded_alike_wherever_it_is_printed(
    privacy: Callable[..., Told],
) -> None:
    for target in ("1.1", "1.3", "1.7", "2.3", "3.1", "4.7"):
        told = privacy("noise", "--epsilon", target, *JOB[2:], "--steps", "7").out
        above = told.removeprefix("noise multiplier ").split(":")[0]
        assert told.split("with noise multiplier ")[1].split(";")[0] == above
    given = privacy("epsilon", *JOB[2:], "--noise-multiplier", "1.1", "--steps", "7").out
    assert given.startswith("noise multiplier 1.1: ")


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
def test_bad_input_is_refused(
    privacy: Callable[..., Told], words: tuple[str, ...], part: str
) -> None:
    assert part in bad_input(privacy(*words))


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


def test_no_round_that_fits_is_told_with_what_one_costs(
    privacy: Callable[..., Told],
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
    told = privacy("rounds", *job).out
    assert told.startswith(
        "0 rounds fit within epsilon=0.01: one of 1 noisy release costs epsilon = "
    )


@pytest.mark.parametrize("command", ["rounds", "rate", "table"])
def test_every_calibration_knows_shuffled_batches(
    privacy: Callable[..., Told], command: str
) -> None:
    job = ["--epsilon", "2", "--noise-multiplier", "4", "--relation", "zero-out", "--delta", "1e-5"]
    job += ["--steps", "100"] if command == "rate" else ["--sampling-rate", "0.1"]
    assert "shuffled batches" in privacy(command, *job, "--sampling", "shuffled").out
