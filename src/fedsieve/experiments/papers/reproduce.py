"""Run a study, or what is left of it, and compare.

Every run leaves one file, RUN.seedS.json, beside which a run of the same settings and versions is
not done again; a study that was stopped therefore goes on where it was.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from fedsieve._version import __version__
from fedsieve.experiments import pieces, toml
from fedsieve.experiments.arena.cell import DONE, play
from fedsieve.experiments.config import Config
from fedsieve.experiments.files import write_text
from fedsieve.experiments.papers.study import MEASURED, Study, runs, settings
from fedsieve.experiments.papers.verdict import MISSED, Verdict, judge
from fedsieve.learning.data import Dataset

KEPT = ("rounds", "dimension", "seconds_total")
"""What is kept of a run's summary besides its accuracy."""


@dataclass(frozen=True)
class Outcome:
    """A study that has been run.

    Args:
        study: The study.
        full: Whether in its full form.
        played: Run -> its settings, and by seed accuracy (percent), rounds, dimension, seconds.
        source: Sentence on the data.
        verdicts: What became of each figure.
    """

    study: Study
    full: bool
    played: dict[str, dict[str, Any]]
    source: str
    verdicts: list[Verdict]

    @property
    def missed(self) -> int:
        """How many figures do not lie where they must."""
        return sum(verdict.verdict == MISSED for verdict in self.verdicts)

    def as_dict(self) -> dict[str, Any]:
        """The content of measured.json."""
        form = " --full" if self.full else ""
        return {
            "paper": self.study.expected.paper,
            "command": f"fedsieve reproduce {self.study.name}{form}",
            "versions": versions(),
            "machine": f"{platform.system()} {platform.machine()}, CPU",
            "data": self.source,
            "seeds": list(self.study.seeds(full=self.full)),
            "runs": self.played,
            "figures": [verdict.as_dict() for verdict in self.verdicts],
        }

    def record(self) -> Path:
        """Write measured.json into the study's folder."""
        file = self.study.folder / MEASURED
        text = json.dumps(self.as_dict(), indent=2, allow_nan=False, ensure_ascii=False)
        write_text(file, text + "\n")
        return file


def reproduce(
    study: Study,
    directory: Path,
    *,
    full: bool = False,
    data_dir: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Run what is left of a study and compare.

    Args:
        study: The study.
        directory: Where its runs are kept.
        full: The published size, minutes; otherwise the reduced form, seconds.
        data_dir: Where the data sets of the full form are.
        say: Told of every run.

    Raises:
        ConfigError: A run that is not possible, with the reason.
    """
    where = directory / study.name / ("full" if full else "reduced")
    shelf: dict[str, Dataset] = {}
    played: dict[str, dict[str, Any]] = {}
    for run, seed in runs(study, full=full):
        config = study.config(run, seed, full=full, data_dir=data_dir)
        file = where / f"{run}.seed{seed}.json"
        kept = _kept(file, config)
        if kept is None:
            kept = _play(f"{study.name}, {run}", config, shelf)
            write_text(file, json.dumps(kept, indent=2, allow_nan=False) + "\n")
        say(f"{study.name}  {run}, seed {seed}: {kept['accuracy']:.2f} %")
        entry = played.setdefault(run, {"settings": kept["settings"], "by_seed": []})
        entry["by_seed"].append({key: kept[key] for key in ("seed", "accuracy", *KEPT)})
        source = kept["data"]
    accuracies = {
        run: [one["accuracy"] for one in entry["by_seed"]] for run, entry in played.items()
    }
    verdicts = judge(study.expected, accuracies, full=full)
    return Outcome(study, full, played, source, verdicts)


def versions() -> dict[str, str]:
    """What the last digits depend on."""
    packages = ("torch", "numpy", "scipy")
    return {
        "fedsieve": __version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in packages},
    }


def _play(title: str, config: Config, shelf: dict[str, Dataset]) -> dict[str, Any]:
    name = config.data.name
    if name not in shelf:
        with toml.refusing():
            shelf[name] = pieces.dataset(config)
    score = play(config, shelf[name])
    if score.state != DONE or score.summary is None:
        raise toml.ConfigError(f"{title}: {score.reason}")
    return {
        "settings": settings(config),
        "versions": versions(),
        "data": _sentence(shelf[name]),
        "seed": config.seed,
        "accuracy": round(100 * score.summary["test_accuracy"], 2),
        **{key: score.summary[key] for key in KEPT},
    }


def _sentence(data: Dataset) -> str:
    """Which data, without the place where they happened to lie."""
    sums = ", ".join(f"{name} sha256 {sum_[:12]}" for name, sum_ in sorted(data.checksums.items()))
    return f"{data.name}, {len(data.y):,} training and {len(data.y_test):,} test records; {sums}"


def _kept(file: Path, config: Config) -> dict[str, Any] | None:
    """What an earlier call kept of this run; a file that is damaged or of another run is none."""
    try:
        kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        same = kept["settings"] == settings(config) and kept["versions"] == versions()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return kept if same and {"accuracy", "data", "seed", *KEPT} <= kept.keys() else None
