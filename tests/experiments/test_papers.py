"""The studies in papers/, how they are judged, and the command that repeats them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from fedsieve.cli import main
from fedsieve.experiments import toml
from fedsieve.experiments.papers import reproduce as repeating
from fedsieve.experiments.papers.reproduce import reproduce
from fedsieve.experiments.papers.study import (
    MEASURED,
    Bounds,
    Expected,
    Figure,
    Provenance,
    Study,
    load,
    studies,
)
from fedsieve.experiments.papers.verdict import HOLDS, MISSED, UNJUDGED, judge, table
from fedsieve.experiments.toml import ConfigError

PAPERS = Path(__file__).parents[2] / "papers"
STUDIES = studies(PAPERS)
each_study = pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)

CONFIG = """
rounds = 2
[data]
name = "digits"
[federation]
clients = 4
[model]
name = "softmax"
[algorithm]
name = "dshb"
[aggregation]
rule = "mean"
"""

EXPECTED: dict[str, Any] = {
    "paper": "Nobody, nowhere",
    "seeds": [0, 1],
    "reduced": {"seeds": [0], "set": {"job.toml": ["rounds=1"]}},
    "runs": {
        "mean": {"file": "job.toml"},
        "median": {"file": "job.toml", "set": ["aggregation.rule=median"]},
    },
    "figures": [
        {
            "says": "mean",
            "of": "mean",
            "expected": 50.0,
            "provenance": "recalled",
            "source": "nowhere",
            "tolerance": 50.0,
            "reduced": {"least": 101.0},
        },
        {
            "says": "median - mean",
            "of": "median",
            "minus": "mean",
            "provenance": "derived",
            "source": "nowhere",
            "allowed": {"least": -100.0, "most": 100.0},
        },
    ],
}


def changed(**figure: Any) -> dict[str, Any]:
    """The expectations with another first figure."""
    first, *others = EXPECTED["figures"]
    return {**EXPECTED, "figures": [{**first, **figure}, *others]}


def measured(study: Study) -> dict[str, Any]:
    """What was recorded of a study, if its full form has been run."""
    file = study.folder / MEASURED
    if not file.is_file():
        pytest.skip(f"{study.name} has not been run in full yet")
    held: dict[str, Any] = json.loads(file.read_text())
    return held


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    folder = tmp_path / "papers" / "99-nobody"
    folder.mkdir(parents=True)
    (folder / "job.toml").write_text(CONFIG)
    (folder / "expected.json").write_text(json.dumps(EXPECTED))
    return folder.parent


# What stands in papers/


@each_study
def test_every_expectation_says_where_it_comes_from(study: Study) -> None:
    held = json.loads((study.folder / "expected.json").read_text())
    assert held["figures"]
    for figure in held["figures"]:
        assert figure["provenance"] in get_args(Provenance)
        assert figure["source"].strip()


@each_study
def test_every_study_explains_itself_and_its_configurations(study: Study) -> None:
    text = (study.folder / "README.md").read_text()
    for file in study.folder.glob("*.toml"):
        assert file.name in text
        toml.load(file)
        assert any(run.file == file.name for run in study.expected.runs.values())


@each_study
@pytest.mark.parametrize("full", [False, True], ids=["reduced", "full"])
def test_every_run_can_be_configured(study: Study, full: bool) -> None:
    for run in study.expected.runs:
        config = study.config(run, 3, full=full)
        assert config.seed == 3


@each_study
def test_what_was_measured_is_what_is_configured(study: Study) -> None:
    held = measured(study)
    assert held["paper"] == study.expected.paper
    assert tuple(held["seeds"]) == study.expected.seeds
    assert list(held["runs"]) == list(study.expected.runs)
    for run, played in held["runs"].items():
        assert played["settings"] == study.settings(run, full=True), run
        assert tuple(one["seed"] for one in played["by_seed"]) == study.expected.seeds
    accuracies = {
        run: [one["accuracy"] for one in played["by_seed"]] for run, played in held["runs"].items()
    }
    verdicts = judge(study.expected, accuracies, full=True)
    assert held["figures"] == [verdict.as_dict() for verdict in verdicts]


@each_study
def test_a_miss_is_named_in_the_readme(study: Study) -> None:
    held = measured(study)
    missed = any(figure["verdict"] == MISSED for figure in held["figures"])
    assert ("## What does not hold" in (study.folder / "README.md").read_text()) == missed


@pytest.mark.slow
@each_study
def test_the_reduced_form_holds(study: Study, tmp_path: Path) -> None:
    outcome = reproduce(study, tmp_path)
    assert any(verdict.verdict == HOLDS for verdict in outcome.verdicts)
    assert outcome.missed == 0, "\n" + table(outcome.verdicts)


# How it is judged


def test_a_figure_is_the_mean_over_the_seeds_and_a_difference_is_taken_seed_by_seed() -> None:
    expected = Expected.model_validate_json(json.dumps(EXPECTED))
    one, two = judge(expected, {"mean": [60.0, 80.0], "median": [61.0, 83.0]}, full=True)
    assert (one.measured, one.deviation, one.allowed) == (70.0, 20.0, "0 .. 100")
    assert one.spread == pytest.approx(14.14)
    assert (two.measured, two.spread, two.deviation) == (2.0, 1.41, None)


@pytest.mark.parametrize(
    ("bounds", "inside", "outside", "told"),
    [
        (Bounds(least=1), 1.0, 0.99, ">= 1"),
        (Bounds(most=-1.5), -1.5, -1.0, "<= -1.5"),
        (Bounds(least=0, most=2), 2.0, 2.01, "0 .. 2"),
    ],
)
def test_bounds_hold_their_ends(bounds: Bounds, inside: float, outside: float, told: str) -> None:
    assert bounds.hold(inside)
    assert not bounds.hold(outside)
    assert str(bounds) == told


def test_only_what_has_bounds_is_judged() -> None:
    expected = Expected.model_validate_json(json.dumps(EXPECTED))
    measured = {"mean": [70.0], "median": [70.0]}
    assert [v.verdict for v in judge(expected, measured, full=True)] == [HOLDS, HOLDS]
    assert [v.verdict for v in judge(expected, measured, full=False)] == [MISSED, UNJUDGED]


def test_the_table_tells_a_figure_and_how_far_it_is_trusted() -> None:
    expected = Expected.model_validate_json(json.dumps(EXPECTED))
    text = table(judge(expected, {"mean": [70.0], "median": [70.0]}, full=True))
    assert len({len(line) for line in text.splitlines()}) == 1
    assert [cell.strip() for cell in text.splitlines()[2].split("|")[1:-1]] == [
        "mean",
        "50",
        "recalled",
        "70.00",
        "+20.00",
        "0 .. 100",
        "holds",
    ]


# What is refused


@pytest.mark.parametrize(
    ("held", "complaint"),
    [
        (changed(of="mode"), "there is no run 'mode'; allowed are mean, median"),
        (changed(allowed={"most": 3.0}), "give either tolerance or allowed"),
        (changed(tolerance=None), "give either tolerance or allowed"),
        (changed(expected=None), "tolerance=50.0 needs expected"),
        (changed(provenance="hearsay"), "figures.0.provenance"),
        ({**EXPECTED, "seeds": []}, "seeds"),
        ({**EXPECTED, "reduced": {"set": {"other.toml": []}}}, "no run uses other.toml"),
    ],
)
def test_a_senseless_expectation_is_refused(
    papers: Path, held: dict[str, Any], complaint: str
) -> None:
    (papers / "99-nobody" / "expected.json").write_text(json.dumps(held))
    with pytest.raises(ConfigError) as refused:
        load(papers / "99-nobody")
    assert complaint in str(refused.value)


def test_a_figure_without_provenance_is_refused() -> None:
    with pytest.raises(ValueError, match="provenance"):
        Figure.model_validate({"says": "x", "of": "y", "source": "z", "allowed": Bounds(least=0)})


def test_studies_are_found_by_name_and_number(papers: Path, tmp_path: Path) -> None:
    assert [s.name for s in studies(papers, ("99",))] == ["99-nobody"]
    assert [s.name for s in studies(papers, ("99-nobody",))] == ["99-nobody"]
    with pytest.raises(ConfigError, match="no study '98'; allowed are 99-nobody"):
        studies(papers, ("98",))
    with pytest.raises(ConfigError, match="holds no study; give the directory"):
        studies(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="cannot read"):
        load(tmp_path)


def test_a_run_that_is_impossible_is_told_with_its_reason(papers: Path, tmp_path: Path) -> None:
    held = {**EXPECTED, "runs": {**EXPECTED["runs"], "mean": {"file": "job.toml", "set": []}}}
    held["reduced"] = {"seeds": [0], "set": {"job.toml": ["algorithm.batch=100000"]}}
    (papers / "99-nobody" / "expected.json").write_text(json.dumps(held))
    with pytest.raises(ConfigError, match=r"99-nobody, mean: algorithm\.batch=100000"):
        reproduce(load(papers / "99-nobody"), tmp_path)


# The command


@pytest.fixture
def call(papers: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*words: str) -> tuple[int, str, str]:
        where = ["--papers", str(papers), "--out", str(papers.parent / "runs")]
        code = main(["reproduce", *words, *where])
        return code, *capsys.readouterr()

    return run


def test_a_missed_figure_ends_with_1(call: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = call("99")
    assert code == 1
    assert "missed" in out
    assert "1 of 2 figures lie outside their tolerance" in err


def test_the_full_form_is_recorded_where_it_belongs(
    call: Callable[..., tuple[int, str, str]], papers: Path
) -> None:
    code, out, _ = call("--full", "--record", "--json", "--quiet")
    assert code == 0
    held = json.loads((papers / "99-nobody" / MEASURED).read_text())
    assert json.loads(out) == [held]
    assert held["command"] == "fedsieve reproduce 99-nobody --full"
    assert held["versions"].keys() >= {"fedsieve", "torch", "numpy"}
    test_what_was_measured_is_what_is_configured(load(papers / "99-nobody"))


def test_the_reduced_form_is_not_recorded(
    call: Callable[..., tuple[int, str, str]], papers: Path
) -> None:
    code, _, err = call("--record")
    assert code == 2
    assert "--record needs --full" in err
    assert not (papers / "99-nobody" / MEASURED).exists()


def test_a_study_goes_on_where_it_was(
    papers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, played = load(papers / "99-nobody"), []
    original = repeating.play

    def counted(config: Any, data: Any) -> Any:
        played.append(config.aggregation.rule)
        return original(config, data)

    monkeypatch.setattr(repeating, "play", counted)
    first = reproduce(study, tmp_path)
    assert played == ["mean", "median"]
    again = reproduce(study, tmp_path)
    assert played == ["mean", "median"]
    assert again.as_dict() == first.as_dict()

    kept = tmp_path / "99-nobody" / "reduced"
    (kept / "median.seed0.json").write_text("{ damaged")
    reproduce(study, tmp_path)
    assert played == ["mean", "median", "median"]

    (study.folder / "job.toml").write_text(CONFIG.replace("clients = 4", "clients = 5"))
    reproduce(study, tmp_path)
    assert played[3:] == ["mean", "median"]
