"""The demo: equal terms for its four cases, learning rates as they were searched, its table."""

from __future__ import annotations

import json

import pytest

from fedsieve.compression.projections.dct import SHARE
from fedsieve.experiments.demo import CASES, LEARNING_RATES, compare, settings, table
from fedsieve.experiments.toml import ConfigError


def test_learning_rates_are_those_that_the_search_chose(root):
    found = json.loads((root / "benchmarks" / "results" / "learning_rates.json").read_text())
    chosen = {
        f"{data} epsilon={epsilon:g} {case}": lr
        for (data, epsilon), rates in LEARNING_RATES.items()
        for case, lr in rates.items()
    }
    assert found["chosen"] == chosen
    assert found["chosen share"] == SHARE
    tried = found["validation accuracy"]
    for name, lr in chosen.items():
        held_back = tried.get(name) or tried[f"{name} share=1/{SHARE}"]
        means = {float(key): sum(seeds.values()) / len(seeds) for key, seeds in held_back.items()}
        assert means[lr] == max(means.values())


def test_cases_differ_in_their_own_settings_only():
    made = [settings(case, 1.0) for case in CASES]
    for key in ("seed", "rounds", "data", "model", "privacy", "evaluation"):
        assert all(config[key] == made[0][key] for config in made)
    assert [c["federation"]["byzantine"] for c in made] == [0, 4, 4, 4]
    assert [c["attack"]["name"] for c in made] == ["none", "alie", "alie", "alie"]


def test_the_demo_prints_its_table_and_writes_its_report(tmp_path):
    said = []
    summaries = compare(tmp_path / "demo", rounds=3, progress="quiet", say=said.append)
    shown = "\n".join(said)
    assert [s["rounds"] for s in summaries] == [3] * 4
    assert len({s["epsilon"] for s in summaries}) == 1
    assert summaries[3]["message_dimension"] < summaries[0]["message_dimension"] / 8
    assert all(line in shown for line in table(summaries))
    assert all(len(line) <= 80 for line in table(summaries))
    assert (tmp_path / "demo" / "report.html").stat().st_size > 10_000
    assert str(tmp_path / "demo" / "report.html") in shown


def test_other_settings_have_no_learning_rates(tmp_path):
    with pytest.raises(ConfigError, match=r"mnist at epsilon 2.*mnist at epsilon 4"):
        compare(tmp_path / "demo", data="mnist", epsilon=2.0)


def test_the_readme_shows_what_was_measured(root):
    measured = root / "benchmarks" / "results" / "main_job.json"
    if not measured.exists():
        pytest.skip("benchmarks/main_job.py has not been run")
    first = next(iter(json.loads(measured.read_text()).values()))
    summaries = [first["cases"][case.key]["runs"][0] for case in CASES]
    for line in table(summaries):
        assert line in (root / "README.md").read_text()
