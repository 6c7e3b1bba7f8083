"""What a folder of ``papers/`` holds: configurations, and what they are expected to give.

    papers/21-median-trimmed-mean/
      README.md        what the paper did, what is done here, what differs
      softmax.toml     a configuration that ``fedsieve run`` takes
      expected.json    the runs made of it, and the figures with provenance and tolerance
      measured.json    what ``fedsieve reproduce --full --record`` measured

All figures are test accuracies in percent, means over the seeds, or differences of two of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from fedsieve.experiments import toml
from fedsieve.experiments.config import Config
from fedsieve.experiments.words import Section

EXPECTED, MEASURED = "expected.json", "measured.json"

FREE = ("seed", "name", "data.dir", "data.download")
"""Settings that do not tell one run of a study from another, or change nothing."""

Provenance = Literal["code", "abstract", "recalled", "third party", "derived"]
"""Where an expectation comes from: the authors' public code or logs, the paper's public abstract, a
memory of the paper that nobody has checked against it, somebody else's quotation, or a conclusion.
Only the first two are to be quoted as published."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
Seeds = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]


class Bounds(Section):
    """An interval; an end that is not given is open."""

    least: float | None = None
    most: float | None = None

    def hold(self, value: float) -> bool:
        """Whether the value lies between the ends."""
        return (self.least is None or value >= self.least) and (
            self.most is None or value <= self.most
        )

    def __str__(self) -> str:
        if self.least is not None and self.most is not None:
            return f"{self.least:g} .. {self.most:g}"
        return f"<= {self.most:g}" if self.least is None else f">= {self.least:g}"


class Played(Section):
    """A run of a study: a configuration, and what ``--set`` changes in it."""

    file: str
    set: tuple[str, ...] = ()


class Reduced(Section):
    """The form that takes seconds: other seeds, and what it changes in each configuration."""

    seeds: Seeds = (0,)
    set: dict[str, tuple[str, ...]] = Field(default_factory=dict)


class Figure(Section):
    """What is expected of one run, or of the difference of two.

    Attributes:
        says: What the figure is.
        of: The run whose accuracy it is.
        minus: The run whose accuracy is subtracted.
        expected: Its value in the source, if the source has one.
        provenance: How that is known.
        source: Where it stands, in words.
        tolerance: How far from ``expected`` the measured figure may be.
        allowed: Where it must lie instead.
        reduced: Where it must lie in the reduced form; without it, that form does not judge it.
    """

    says: str
    of: str
    minus: str | None = None
    expected: float | None = None
    provenance: Provenance
    source: str
    tolerance: Annotated[float, Field(gt=0)] | None = None
    allowed: Bounds | None = None
    reduced: Bounds | None = None

    @model_validator(mode="after")
    def _one_criterion(self) -> Figure:
        if (self.tolerance is None) == (self.allowed is None):
            raise ValueError(f"{self.says!r}: give either tolerance or allowed")
        if self.tolerance is not None and self.expected is None:
            raise ValueError(f"{self.says!r}: tolerance={self.tolerance} needs expected")
        return self

    def bounds(self, *, full: bool) -> Bounds | None:
        """Where it must lie; ``None`` if it is not judged."""
        if not full:
            return self.reduced
        if self.expected is None or self.tolerance is None:
            return self.allowed
        least, most = self.expected - self.tolerance, self.expected + self.tolerance
        return Bounds(least=round(least, 6), most=round(most, 6))


class Expected(Section):
    """The content of expected.json.

    Attributes:
        paper: Authors, title, venue.
        seeds: Seeds of the full form.
        reduced: The reduced form.
        runs: Name -> what is run.
        figures: What is compared.
    """

    paper: str
    seeds: Seeds
    reduced: Reduced
    runs: dict[Name, Played]
    figures: tuple[Figure, ...]

    @model_validator(mode="after")
    def _known_runs(self) -> Expected:
        for figure in self.figures:
            for run in (figure.of, figure.minus):
                if run is not None and run not in self.runs:
                    raise ValueError(
                        f"{figure.says!r}: there is no run {run!r}; allowed are "
                        f"{', '.join(self.runs)}"
                    )
        if unknown := set(self.reduced.set) - {played.file for played in self.runs.values()}:
            raise ValueError(f"reduced.set: no run uses {', '.join(sorted(unknown))}")
        return self


@dataclass(frozen=True)
class Study:
    """A folder of ``papers/``.

    Args:
        folder: The folder.
        expected: Its expectations.
    """

    folder: Path
    expected: Expected

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    def seeds(self, *, full: bool) -> tuple[int, ...]:
        """The seeds of each run."""
        return self.expected.seeds if full else self.expected.reduced.seeds

    def config(self, run: str, seed: int, *, full: bool, data_dir: Path | None = None) -> Config:
        """The configuration of a run.

        Raises:
            ConfigError: A file or a setting that cannot be run.
        """
        played, reduced = self.expected.runs[run], self.expected.reduced.set
        overrides = [] if full else [*reduced.get(played.file, ())]
        overrides += [*played.set, f"seed={seed}"]
        if data_dir is not None and full:  # the reduced form takes the set that is carried along
            overrides.append(f"data.dir={json.dumps(str(data_dir))}")
        return toml.load(self.folder / played.file, overrides)

    def settings(self, run: str, *, full: bool) -> dict[str, Any]:
        """What the run's configuration says beyond the defaults: flat, without its seed."""
        return settings(self.config(run, 0, full=full))


def settings(config: Config) -> dict[str, Any]:
    """The settings that were given, flat, without those that tell runs of a study apart."""
    given = toml.flat(config.model_dump(mode="json", exclude_unset=True))
    return {key: value for key, value in sorted(given.items()) if key not in FREE}


def load(folder: Path) -> Study:
    """The study in a folder.

    Raises:
        ConfigError: There is none, or its expected.json is not in order.
    """
    file = folder / EXPECTED
    try:
        return Study(folder, Expected.model_validate_json(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise toml.ConfigError(f"cannot read {file}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise toml.ConfigError(f"{file}: {place}: {first['msg']}") from error


def studies(papers: Path, names: tuple[str, ...] = ()) -> list[Study]:
    """The studies of a directory, all or those named, in the order of their folders.

    Args:
        papers: The directory.
        names: Folder names, or their numbers.

    Raises:
        ConfigError: There is none, or none of such a name.
    """
    folders = sorted(file.parent for file in papers.glob(f"*/{EXPECTED}"))
    if not folders:
        raise toml.ConfigError(
            f"{papers} holds no study; give the directory papers/ of the repository with --papers"
        )
    chosen = [folder for folder in folders if not names or _named(folder.name, names)]
    for name in names:
        if not any(_named(folder.name, (name,)) for folder in folders):
            allowed = ", ".join(folder.name for folder in folders)
            raise toml.ConfigError(f"{papers} holds no study {name!r}; allowed are {allowed}")
    return [load(folder) for folder in chosen]


def _named(folder: str, names: tuple[str, ...]) -> bool:
    return folder in names or folder.partition("-")[0] in names


def runs(study: Study, *, full: bool) -> Iterator[tuple[str, int]]:
    """Every run and seed of a form."""
    for run in study.expected.runs:
        for seed in study.seeds(full=full):
            yield run, seed
