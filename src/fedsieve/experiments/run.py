"""Run a configuration from its first round to its report, or go on where a run was interrupted.

A run directory is always in one of three states: without a checkpoint (start over), with a
checkpoint (``resume`` goes on from it), finished (``summary.json`` is there). What is written at a
checkpoint is written in the order metrics, checkpoint, so metrics never lack a checkpointed round.
The manifest is the last of the files that describe a run, so where it is, the others are too.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, fields, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import safetensors.torch
import torch
from torch import Tensor

from fedsieve.experiments import budget, statement, toml
from fedsieve.experiments.build import Built, Objects, build
from fedsieve.experiments.config import Config
from fedsieve.experiments.files import atomically
from fedsieve.experiments.interrupts import deferred_interrupt
from fedsieve.experiments.manifest import manifest, refuse_another
from fedsieve.experiments.metrics import Metrics
from fedsieve.experiments.progress import teller
from fedsieve.experiments.report import report
from fedsieve.experiments.run_directory import JOURNAL, RECORDS, RunDirectory
from fedsieve.experiments.summary import remarks, summarise
from fedsieve.experiments.voices import Style, require_style
from fedsieve.learning.partitions import class_histogram
from fedsieve.privacy import BudgetExceededError, Ledger
from fedsieve.simulation.checkpoint import (
    Checkpoint,
    CheckpointError,
    newest,
    round_of,
    save,
    saved,
)
from fedsieve.simulation.loop import Simulation

MODEL = "model.safetensors"
REPORT = "report.html"


@dataclass(frozen=True)
class Result:
    """What a run gives back.

    Args:
        summary: The figures under the keys of summary.json.
        directory: The run directory, or ``None`` for a run in memory.
        metrics: One row a round.
        theta: Final parameters: (d,), or (n, d) where every client has its own.
        config: The complete configuration.
    """

    summary: dict[str, Any]
    directory: Path | None
    metrics: pa.Table
    theta: Tensor
    config: Config


def run(
    config: Config | dict[str, Any] | str | PathLike[str] | None = None,
    directory: str | PathLike[str] | None = None,
    *,
    progress: Style = "quiet",
    **objects: Any,
) -> Result:
    """Train a federated model.

    Args:
        config: A configuration, nested settings, the path of a TOML file, or nothing for the demo
            configuration.
        directory: Run directory to write; ``None`` keeps everything in memory.
        progress: ``auto``, ``plain``, ``quiet`` or ``json``.
        **objects: The caller's own ``model`` (an ``nn.Module``), ``data`` (a `Dataset`), ``parts``,
            ``rule``, ``attack`` or ``projection`` instead of named ones.

    Raises:
        ConfigError: A setting that cannot be run, or a directory that holds a run or is in use;
            nothing has been written.
        ValueError: ``progress`` is none of its names.

    Example:
        >>> import fedsieve
        >>> result = fedsieve.run({"data": {"name": "digits"}, "rounds": 2,
        ...                        "model": {"name": "softmax"}, "algorithm": {"name": "fedavg"}})
        >>> result.summary["rounds"], result.summary["epsilon"]
        (2, None)
    """
    require_style(progress)
    settled = _config(config)
    where = None if directory is None else RunDirectory(Path(directory))
    if where is not None:
        where.refuse_if_taken()
    with toml.refusing():
        built = build(settled, _own(objects))
    if where is None:
        return _finish(built, Simulation(built.job), Metrics(), None, progress)
    with where.alone():
        RunDirectory.create(where.path, built.config)
        _describe(where, built)
        built = _journalled(where, built)
        return _finish(built, Simulation(built.job), Metrics(), where, progress)


def _own(objects: dict[str, Any]) -> Objects:
    known = [field.name for field in fields(Objects)]
    if unknown := sorted(set(objects) - set(known)):
        raise TypeError(
            f"{', '.join(unknown)}: no object that can be passed; allowed are {', '.join(known)}"
        )
    return Objects(**objects)


def resume(directory: str | PathLike[str], *, progress: Style = "quiet", **objects: Any) -> Result:
    """Go on with an interrupted run; a finished one is returned as it is.

    Args:
        directory: The run directory.
        progress: ``auto``, ``plain``, ``quiet`` or ``json``.
        **objects: The objects that the run was started with, if it was started with any.

    Raises:
        ConfigError: There is no run, or it was started with objects that are not given, or with
            other objects, data or settings; where a noise seed makes the noise repeatable, also if
            it was started with other versions or on another device.
        CheckpointError: All its checkpoints are damaged, and with them finished rounds are lost.
        ValueError: ``progress`` is none of its names.
    """
    require_style(progress)
    where = RunDirectory.open(Path(directory))
    config = where.config()
    if where.finished:
        if not (where.path / REPORT).is_file():  # killed while the report was drawn
            report([where.path])
        theta = safetensors.torch.load_file(where.path / MODEL)["theta"]
        return Result(where.summary(), where.path, where.metrics(), theta, config)
    with where.alone():
        return _proceed(where, config, progress, objects)


def _proceed(
    where: RunDirectory, config: Config, progress: Style, objects: dict[str, Any]
) -> Result:
    checkpoint, loss = _last(where)
    with toml.refusing():
        built = build(config, _own(objects))
    if where.manifest():
        refuse_another(where.path, where.manifest(), manifest_of(built))
    else:  # killed before it had begun
        _describe(where, built)
    facts = {} if checkpoint is None else checkpoint.facts
    built = _journalled(where, built, facts.get("ledger"))
    simulation, metrics = Simulation(built.job), Metrics(where.metrics())
    if checkpoint is not None:
        simulation.restore(checkpoint)
    metrics.truncate(simulation.round)
    before = facts.get("seconds_total", 0.0)
    kept = None if checkpoint is None else checkpoint.round
    return _finish(built, simulation, metrics, where, progress, before, kept, loss)


def _finish(
    built: Built,
    simulation: Simulation,
    metrics: Metrics,
    where: RunDirectory | None,
    progress: Style,
    before: float = 0.0,
    kept: int | None = None,
    loss: str | None = None,
) -> Result:
    """Run what is left of the rounds, then write summary and report.

    Args:
        built: The run.
        simulation: It, between two rounds.
        metrics: The rounds that are done.
        where: Run directory.
        progress: Style of what is told.
        before: Seconds that the rounds took which are done.
        kept: Round of the checkpoint that the run goes on from.
        loss: What the user has to hear of an earlier one that could not be read.
    """
    start = time.perf_counter()
    every = built.config.checkpoint.every

    def keep() -> None:
        nonlocal kept
        if where is not None and kept != simulation.round:
            kept = simulation.round
            where.save_metrics(metrics)
            state = simulation.checkpoint()
            state.facts["seconds_total"] = before + time.perf_counter() - start
            save(where.checkpoints, state)

    voice = teller(progress, built.job.rounds, simulation.round, built.dataset.task)
    with voice as told, deferred_interrupt() as wish:
        told.say(built.dataset.source)
        for said in (loss, budget.remark(built.config, built.job.shards)):
            if said is not None:
                told.warn(said)
        with simulation:
            if every and simulation.round == 0:
                keep()  # from here on the run can be resumed, whatever happens to it
            try:
                while simulation.round < built.job.rounds:
                    row = simulation.step()
                    metrics.append(row)
                    spent = simulation.guarantee
                    told.round(row | (statement.terms(spent) if spent is not None else {}))
                    if wish.stop or (every and simulation.round % every == 0):
                        keep()
                    if wish.stop:
                        raise KeyboardInterrupt
            except BudgetExceededError as excess:
                done = f"{simulation.round} of {built.job.rounds} rounds"
                told.warn(f"stopped after {done}: {excess}")
                metrics.amend(simulation.measured())
        if every:
            keep()
        for remark in remarks(metrics.table(), simulation.theta):
            told.warn(remark)
    seconds = before + time.perf_counter() - start
    theta = simulation.theta.detach().cpu().contiguous()
    summary = summarise(built, metrics.table(), seconds)
    if where is not None:
        where.save_metrics(metrics)
        atomically(
            where.path / MODEL, lambda file: safetensors.torch.save_file({"theta": theta}, file)
        )
        where.save_summary(summary)
        report([where.path])
    path = None if where is None else where.path
    return Result(summary.as_dict(), path, metrics.table(), theta, built.config)


def _config(given: Config | dict[str, Any] | str | PathLike[str] | None) -> Config:
    if isinstance(given, Config):
        return given
    if isinstance(given, dict):
        return toml.parse(given)
    return toml.load(None if given is None else Path(given))


def _describe(where: RunDirectory, built: Built) -> None:
    """Write down what the run is, before its first round."""
    data, job = built.dataset, built.job
    where.save_config(built.config)
    parts = job.shards.parts
    if data.classes:
        counts = class_histogram(data.y.numpy(), parts, data.classes)
        names = [str(c) for c in range(data.classes)]
    else:
        counts, names = np.array([[len(part)] for part in parts]), [RECORDS]
    where.save_partition(counts, names, job.byzantine)
    where.save_manifest(manifest_of(built))


def manifest_of(built: Built) -> dict[str, Any]:
    """What it takes to repeat a run, as it is built here and now."""
    data, job = built.dataset, built.job
    counts = budget.adaptive(built.config, built.mechanism)
    if job.device.type == "cuda":
        arithmetic = torch.cuda.get_device_name(job.device)
    else:
        arithmetic = torch.backends.cpu.get_cpu_capability()
    return manifest(
        built.config,
        source=data.source,
        checksums=data.checksums,
        licence=data.licence,
        noise_source=None if job.ledger is None else job.streams.noise_source,
        noise_grid=None if built.mechanism is None else built.noise.grid(built.mechanism),
        count_grid=None if counts is None else counts.grid,
        device=f"{job.device.type} {arithmetic}",
        objects=built.objects,
    )


def _journalled(where: RunDirectory, built: Built, held: dict[str, Any] | None = None) -> Built:
    """The run with the ledger that a checkpoint holds, if any, and that writes its journal."""
    ledger = built.job.ledger
    if ledger is None:
        return built
    ledger = Ledger.restore(held or ledger.state(), where.path / JOURNAL)
    return replace(built, job=replace(built.job, ledger=ledger))


def _last(where: RunDirectory) -> tuple[Checkpoint | None, str | None]:
    """The checkpoint to go on from, and what the user has to hear of a damaged one.

    Nothing is lost with the checkpoint of round 0; the ledger's journal is a file of its own.
    """
    try:
        found = newest(where.checkpoints)
        last = saved(where.checkpoints)[-1:]
        if found is not None and found.round < round_of(last[0]):
            return found, (
                f"{last[0]} is damaged; going on from round {found.round}: the rounds since then "
                "run again, and without a noise seed they are charged again"
            )
        return found, None
    except CheckpointError as damaged:
        if any(round_of(path) for path in saved(where.checkpoints)):
            raise
        return None, f"{damaged}; starting over from round 0"
