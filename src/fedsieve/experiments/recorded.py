"""A run as its directory tells it, ready to be printed or drawn."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fedsieve.experiments.quality import QUALITY, Quality
from fedsieve.experiments.run_directory import RECORDS, RunDirectory

if TYPE_CHECKING:
    from fedsieve.learning.data import Task


@dataclass(frozen=True)
class Run:
    """What the files of a run directory say, ready to be drawn."""

    directory: RunDirectory

    @cached_property
    def table(self) -> pa.Table:
        """One row per round."""
        return self.directory.metrics()

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration as nested values, as the file has them."""
        return tomllib.loads((self.directory.path / "config.toml").read_text(encoding="utf-8"))

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The final figures; empty while the run goes on."""
        return self.directory.summary()

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """Versions, seeds, data, machine."""
        return self.directory.manifest()

    @cached_property
    def partition(self) -> dict[str, Any]:
        """Records by client and class, and who is malicious."""
        return self.directory.partition()

    @property
    def task(self) -> Task:
        """What its model predicts; a regression has no classes to count its records by."""
        return "regression" if self.partition.get("classes") == [RECORDS] else "classification"

    @property
    def k(self) -> int | None:
        """Numbers in each vector of a message; ``None`` where the configuration leaves it open."""
        held: int | None = self.config.get("projection", {}).get("k")
        return held

    @property
    def quality(self) -> Quality:
        """How its model is measured."""
        return QUALITY[self.task]

    @property
    def label(self) -> str:
        """The run's name in legends."""
        return str(self.config.get("name") or self.directory.path.resolve().name)

    @property
    def byzantine(self) -> frozenset[int]:
        """Ids of the malicious clients."""
        return frozenset(self.partition.get("byzantine", ()))

    def column(self, name: str) -> np.ndarray:
        """A column as float64 (rounds,), NaN where a round does not have the number."""
        values = self.table.column(name).to_pylist()
        return np.array([np.nan if v is None else v for v in values], dtype=np.float64)

    def weights(self) -> np.ndarray | None:
        """Weights (rounds, clients), NaN where a client sent nothing; ``None`` without any."""
        rows = [row or [] for row in self.table.column("weights").to_pylist()]
        clients = max(map(len, rows), default=0)
        weights = np.full((len(rows), clients), np.nan)
        for round_, row in enumerate(rows):
            weights[round_, : len(row)] = row
        return weights if np.isfinite(weights).any() else None
