"""The directory of an arena: what was planned, and every run that is done.

    arena.toml  manifest.json  cells/RULE_ATTACK_fF_seedS.json
    arena.md  arena.csv  arena.tex  arena.json  figures/*.png  report.html

A run's file is written whole or not at all, so an arena that was killed goes on with the runs that
are not there. Only runs with figures are kept: one that failed is tried again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedsieve.experiments.arena import plan as planning
from fedsieve.experiments.arena.cell import DONE, Score
from fedsieve.experiments.arena.plan import Cell, Plan
from fedsieve.experiments.files import write_text
from fedsieve.experiments.manifest import refuse_another
from fedsieve.experiments.run_directory import RunDirectory
from fedsieve.experiments.toml import ConfigError


@dataclass(frozen=True)
class Archive:
    """An arena on disk.

    Args:
        path: The directory.
    """

    path: Path

    @property
    def begun(self) -> bool:
        """Whether there is an arena to go on with."""
        return self._plan.is_file()

    def plan(self) -> Plan:
        """What was planned."""
        return planning.load(self._plan)

    def refuse_another(self, plan: Plan) -> None:
        """Refuse to go on with another plan, or in the directory of something else.

        Raises:
            ConfigError: Naming the settings that differ.
        """
        if not self.begun:
            RunDirectory(self.path).refuse_if_taken()
            return
        if changed := planning.unlike(self.plan(), plan):
            told = "; ".join(f"{k} was {was}, is now {now}" for k, (was, now) in changed.items())
            raise ConfigError(
                f"{self.path} holds an arena with other settings: {told}; choose another --out, "
                f"or go on with the old ones by 'fedsieve arena --out {self.path}'"
            )

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep every other process out while this one works in the directory.

        Raises:
            ConfigError: Another process works in it.
        """
        new = not self.path.exists()
        try:
            with RunDirectory(self.path).alone():
                yield
        finally:
            if new:
                with suppress(OSError):  # something stands in it
                    self.path.rmdir()

    @contextmanager
    def holding(self, plan: Plan) -> Iterator[None]:
        """Write down what is to be played, before anything that takes time.

        An arena that is killed while its data are loaded then knows what it was. If it is refused
        instead, what was written is taken back.
        """
        held = self.begun
        if not held:
            write_text(self._plan, plan.dump())
        try:
            yield
        except ConfigError:
            if not held:
                self._plan.unlink()
            raise

    def begin(self, manifest: Mapping[str, Any]) -> None:
        """Write down data and versions, or see that they are those that were begun with.

        Raises:
            ConfigError: What is in the directory was played with other data, or, where its noise
                is repeatable, with other versions.
        """
        file = self.path / "manifest.json"
        if file.is_file():
            refuse_another(self.path, RunDirectory(self.path).manifest(), manifest)
            return
        write_text(file, json.dumps(manifest, indent=2) + "\n")

    def save(self, cell: Cell, score: Score) -> None:
        """Keep a run that is done."""
        if score.state == DONE:
            write_text(self._file(cell), json.dumps(score.as_dict(), allow_nan=False) + "\n")

    def score(self, cell: Cell) -> Score | None:
        """How a run ended, ``None`` if it is not done; a file that is damaged counts as none."""
        try:
            return Score(**json.loads(self._file(cell).read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    @property
    def _plan(self) -> Path:
        return self.path / "arena.toml"

    def _file(self, cell: Cell) -> Path:
        return self.path / "cells" / f"{cell.key}.json"
