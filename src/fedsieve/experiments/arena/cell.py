"""One run of the arena, in memory: no run directory, no checkpoint, only its figures."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from fedsieve.experiments import pieces
from fedsieve.experiments.arena.plan import NO_ATTACK
from fedsieve.experiments.build import Built, Objects, build
from fedsieve.experiments.config import Config
from fedsieve.experiments.metrics import Metrics
from fedsieve.experiments.summary import summarise
from fedsieve.experiments.words import CUSTOM
from fedsieve.learning.data import Dataset
from fedsieve.learning.flat import FlatModel
from fedsieve.privacy import BudgetExceededError
from fedsieve.simulation.loop import Simulation

if TYPE_CHECKING:
    from fedsieve.experiments.sections.attack import Attack

DONE, UNDEFINED, FAILED = "done", "not defined", "failed"
"""How a run ends: with figures; before it begins, because it makes no sense; or in an error."""


class AbandonedError(Exception):
    """Nobody waits for the run any more."""


@dataclass(frozen=True)
class Score:
    """How a run ended.

    Args:
        state: `DONE`, `UNDEFINED` or `FAILED`.
        reason: Why it has no figures.
        summary: The figures under the keys of summary.json, where it has.
        skipped: Rounds in which the server kept the model, because it could not outvote f.
        terms: The resolved configuration's sections that a privacy statement needs.
        unattacked: Where nobody attacked, what would have been the success rate of each backdoor.
    """

    state: str
    reason: str = ""
    summary: dict[str, Any] | None = None
    skipped: int = 0
    terms: dict[str, Any] | None = None
    unattacked: dict[str, float] | None = None

    @property
    def quality(self) -> float | None:
        """Test accuracy, or R^2 of a regression."""
        return None if self.summary is None else self.summary["test_accuracy"]

    @property
    def success(self) -> float | None:
        """Attack success rate of a backdoor, ``None`` if the attack is none."""
        return None if self.summary is None else self.summary.get("attack_success_rate")

    def as_dict(self) -> dict[str, Any]:
        """The score as plain values."""
        return asdict(self)


def play(
    config: Config,
    data: Dataset,
    wanted: Callable[[], bool] = lambda: True,
    backdoors: Sequence[Attack] = (),
) -> Score:
    """Run a configuration and say how it ended.

    Args:
        config: The run.
        data: Its data set, which many runs share.
        wanted: Asked before every round whether to go on.
        backdoors: Those whose rate is measured, too, if nobody attacks.

    Raises:
        AbandonedError: ``wanted()`` was false.
    """
    start = time.perf_counter()
    try:
        built = build(config, Objects(data=data))
    except ValueError as error:
        # the data were named by the user, and are only passed on as an object
        reason = str(error).replace(f"{CUSTOM}{config.data.name}", config.data.name)
        return Score(UNDEFINED, reason)
    metrics = Metrics()
    with Simulation(built.job) as simulation:
        try:
            while simulation.round < built.job.rounds:
                if not wanted():
                    raise AbandonedError
                metrics.append(simulation.step())
        except BudgetExceededError as spent:
            return Score(FAILED, str(spent))
        quiet = config.attack.name == NO_ATTACK
        rates = _unattacked(built, simulation, backdoors) if quiet else None
    table = metrics.table()
    summary = summarise(built, table, time.perf_counter() - start).as_dict()
    summary["dataset"] = config.data.name
    terms = built.config.model_dump(mode="json", include={"algorithm": {"batch"}})
    return Score(DONE, "", summary, sum(table.column("skipped").to_pylist()), terms, rates)


def _unattacked(
    built: Built, simulation: Simulation, backdoors: Sequence[Attack]
) -> dict[str, float]:
    """The success rates of backdoors that nobody planted; without those the test set denies."""
    data, rates = built.job.shards.dataset, {}
    module = pieces.module(built.config, data, built.job.streams)
    model = FlatModel(module, data.input_shape)
    for settings in backdoors:
        attack = pieces.attack(built.config.model_copy(update={"attack": settings}))
        with suppress(ValueError):
            measure = pieces.success(attack, model, data)
            if measure is not None:
                rates[settings.name] = simulation.average(measure)
    return rates
