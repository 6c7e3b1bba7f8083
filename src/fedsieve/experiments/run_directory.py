"""The directory that a run leaves behind, and what may stand in it.

Every file is written beside its place and then moved there, so that a reader, or a run that is
resumed after a crash, finds each file either whole or not at all::

    config.toml  manifest.json  partition.json  metrics.parquet  ledger.jsonl  summary.json
    checkpoints/  report.html  figures/*.png
"""

from __future__ import annotations

import json
import os
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fedsieve.experiments import toml
from fedsieve.experiments.config import Config
from fedsieve.experiments.files import atomically, write_text
from fedsieve.experiments.metrics import SCHEMA, Metrics

if TYPE_CHECKING:
    from fedsieve.experiments.summary import Summary

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]

JOURNAL = "ledger.jsonl"
"""Every private message that was sent, in the order of the rounds."""

RECORDS = "records"
"""What takes the place of the classes in a regression's partition."""

WRITTEN = (
    "config.toml",
    "manifest.json",
    "partition.json",
    "metrics.parquet",
    "model.safetensors",
    "report.html",
)
"""Files of a run directory besides the journal and the summary."""


@dataclass(frozen=True)
class RunDirectory:
    """A run on disk.

    Args:
        path: The directory.
    """

    path: Path

    @classmethod
    def create(cls, path: Path | str, config: Config) -> RunDirectory:
        """Make the directory of a new run and write its configuration.

        Raises:
            ConfigError: The directory holds a run that is finished or can be resumed, or is none.
        """
        run = cls(Path(path))
        run.refuse_if_taken()
        run.checkpoints.mkdir(parents=True, exist_ok=True)
        for stale in ("metrics.parquet", "report.html"):
            (run.path / stale).unlink(missing_ok=True)
        run.save_config(config)
        return run

    @classmethod
    def open(cls, path: Path | str) -> RunDirectory:
        """An existing run.

        Raises:
            ConfigError: There is no run.
        """
        run = cls(Path(path))
        if not (run.path / "config.toml").is_file():
            raise toml.ConfigError(f"{path} holds no run: there is no config.toml in it")
        return run

    def refuse_if_taken(self) -> None:
        """Never write over what another run has left.

        Raises:
            ConfigError: The directory holds a run that is finished or can be resumed, or is none;
                or nothing can be written there.
        """
        if self.path.exists() and not self.path.is_dir():
            raise toml.ConfigError(f"{self.path} is no directory; choose another --out")
        if self.finished:
            raise toml.ConfigError(f"{self.path} holds a finished run; choose another --out")
        proceed = f"fedsieve resume {shlex.quote(str(self.path))}"
        if self.resumable:
            raise toml.ConfigError(
                f"{self.path} holds a run that is not finished; choose another --out, or continue "
                f"it with: {proceed}"
            )
        journal = self.path / JOURNAL
        if journal.is_file() and journal.stat().st_size:
            raise toml.ConfigError(
                f"{journal} tells of messages that a run has sent, which left no checkpoint; "
                "choose another --out, or start it over, with all of them counted, with: "
                f"{proceed}"
            )
        foreign = [name for name in WRITTEN if (self.path / name).exists()]
        if foreign and not self.checkpoints.is_dir():  # which a run makes before anything else
            raise toml.ConfigError(
                f"{self.path} holds {foreign[0]}, which no run of FedSieve has written there and a "
                "run would replace; choose another --out"
            )
        nearest = next(place for place in (self.path, *self.path.parents) if place.exists())
        try:
            tempfile.TemporaryDirectory(dir=nearest).cleanup()
        except OSError as error:
            raise toml.ConfigError(
                f"{self.path} cannot be written: {nearest}: {error.strerror}; choose another --out"
            ) from error

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep every other process out while this one works in the directory.

        Two processes in one run would release the same rounds twice, each counting its own only.
        The system drops the lock when the process ends, however it ends. Where there are no such
        locks (Windows), nothing is kept out.

        Raises:
            ConfigError: Another process works in it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if fcntl is None:
            yield
            return
        handle = os.open(self.path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise toml.ConfigError(
                    f"{self.path} is in use by another process; wait for it, or choose another "
                    "--out"
                ) from error
            yield
        finally:
            os.close(handle)

    @property
    def checkpoints(self) -> Path:
        """Directory of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def figures(self) -> Path:
        """Directory of the PNG figures."""
        return self.path / "figures"

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end."""
        return (self.path / "summary.json").is_file()

    @property
    def resumable(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return self.checkpoints.is_dir() and any(self.checkpoints.iterdir())

    def config(self) -> Config:
        """The configuration, complete once the run has started."""
        return toml.load(self.path / "config.toml")

    def manifest(self) -> dict[str, Any]:
        """Versions, seeds, data checksums and machine; empty before the run has started."""
        return self._json("manifest.json")

    def summary(self) -> dict[str, Any]:
        """The figures under the keys of `Summary`; empty while the run is not finished."""
        return self._json("summary.json")

    def partition(self) -> dict[str, Any]:
        """Records by client and class; see `save_partition`."""
        return self._json("partition.json")

    def metrics(self) -> pa.Table:
        """One row per recorded round."""
        file = self.path / "metrics.parquet"
        if not file.is_file():
            return SCHEMA.empty_table()
        try:
            return pq.read_table(file)
        except pa.ArrowException as error:
            raise toml.ConfigError(f"{file} cannot be read: {error}") from error

    def save_config(self, config: Config) -> None:
        """Write config.toml."""
        write_text(self.path / "config.toml", toml.dump(config))

    def save_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Write manifest.json, as `fedsieve.experiments.manifest` makes it."""
        write_text(self.path / "manifest.json", _as_json(manifest))

    def save_partition(
        self, counts: np.ndarray, classes: Sequence[str], byzantine: Sequence[int]
    ) -> None:
        """Write partition.json.

        Args:
            counts: Records by client and class (n, classes); a regression has one class, `RECORDS`.
            classes: Names of the classes.
            byzantine: Ids of the malicious clients.
        """
        held = {
            "classes": list(classes),
            "counts": counts.tolist(),
            "byzantine": [int(client) for client in byzantine],
        }
        write_text(self.path / "partition.json", json.dumps(held) + "\n")

    def save_metrics(self, metrics: Metrics) -> None:
        """Write metrics.parquet as it stands now."""
        table = metrics.table()
        atomically(self.path / "metrics.parquet", lambda file: pq.write_table(table, file))

    def save_summary(self, summary: Summary) -> None:
        """Write summary.json; the run counts as finished from now on."""
        write_text(self.path / "summary.json", _as_json(summary.as_dict()))

    def _json(self, name: str) -> dict[str, Any]:
        file = self.path / name
        if not file.is_file():
            return {}
        try:
            held: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise toml.ConfigError(f"{file} is no JSON: {error}") from error
        return held


def _as_json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, allow_nan=False) + "\n"
