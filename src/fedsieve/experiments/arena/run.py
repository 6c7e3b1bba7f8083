"""Play an arena, or go on with it, and write its tables, figures and page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fedsieve.experiments import checks, toml
from fedsieve.experiments.arena.archive import Archive
from fedsieve.experiments.arena.board import Board
from fedsieve.experiments.arena.cell import UNDEFINED, Score
from fedsieve.experiments.arena.crew import Crew, processes
from fedsieve.experiments.arena.page import write
from fedsieve.experiments.arena.plan import Cell, Plan
from fedsieve.experiments.arena.telling import Teller, teller
from fedsieve.experiments.build import Built, build
from fedsieve.experiments.config import Config
from fedsieve.experiments.interrupts import Wish, deferred_interrupt
from fedsieve.experiments.run import manifest_of
from fedsieve.experiments.voices import Style, require_style
from fedsieve.learning.data import Dataset


@dataclass(frozen=True)
class Outcome:
    """A finished arena.

    Args:
        board: Its results.
        source: Sentence on the data.
        page: The report page; the other files lie beside it.
    """

    board: Board
    source: str
    page: Path


def arena(plan: Plan, directory: Path, *, progress: Style = "quiet") -> Outcome:
    """Play what is left of an arena.

    Args:
        plan: What is played.
        directory: Where its results are kept; one that holds this arena is gone on with.
        progress: How to tell of it.

    Raises:
        ConfigError: The base cannot be run, or the directory holds something else or is in use.
        ValueError: ``progress`` is none of its names.
        WorkerError: No process could be started.
        KeyboardInterrupt: The user stopped it; what was done is kept.
    """
    require_style(progress)
    archive, begun = Archive(directory), Archive(directory).begun
    archive.refuse_another(plan)
    _refuse_hopeless(plan)
    with archive.alone():
        with archive.holding(plan):
            with toml.refusing():
                built = build(plan.base())
            archive.begin(manifest_of(built))
        cells = list(plan.cells())
        scores = {cell: score for cell in cells if (score := archive.score(cell)) is not None}
        runs: list[tuple[Cell, Config]] = []
        for cell in cells:
            if cell not in scores:
                try:
                    runs.append((cell, _possible(plan.config(cell), built.dataset)))
                except toml.ConfigError as refused:
                    scores[cell] = Score(UNDEFINED, str(refused))
        with teller(progress, len(cells), len(cells) - len(runs)) as told:
            told.say(_place(plan, directory, begun=begun))
            _greet(told, plan, built, len(runs))
            if runs:
                with deferred_interrupt() as wish:
                    _play(plan, archive, runs, scores, told, wish)
        board = Board(plan, scores, built.dataset.task)
        source = built.dataset.source
        return Outcome(board, source, write(board, directory, source))


def _refuse_hopeless(plan: Plan) -> None:
    """Refuse an arena none of whose runs is possible, for what is wrong with the first."""
    first = None
    for cell in plan.cells():
        try:
            plan.config(cell)
        except toml.ConfigError as refused:
            first = first or refused
        else:
            return
    if first is not None:
        raise first


def _possible(config: Config, data: Dataset) -> Config:
    """The configuration of a run, if the data allow it.

    Raises:
        ConfigError: They do not: the attack flips classes, and they have none.
    """
    with toml.refusing():
        checks.fits_data(config, task=data.task, owners=data.owners is not None)
    return config


def _play(
    plan: Plan,
    archive: Archive,
    runs: list[tuple[Cell, Config]],
    scores: dict[Cell, Score],
    told: Teller,
    wish: Wish,
) -> None:
    """Play the runs, noting and keeping how each ends."""
    count = processes(plan.setup.arena.workers, len(runs))
    crew = Crew(count, runs[0][1], plan.backdoors)
    try:
        for cell, score in crew.play(runs, lambda: wish.stop):
            archive.save(cell, score)
            scores[cell] = score
            told.cell(cell, score)
    except BaseException:
        crew.kill()
        raise
    if wish.stop:
        crew.kill()
        raise KeyboardInterrupt
    crew.close()


def _place(plan: Plan, directory: Path, *, begun: bool) -> str:
    """Whether this goes on: who mistypes the directory of an arena must see that another begins."""
    how = "going on with the arena" if begun else "a new arena begins"
    return f"{how} in {directory}: {plan.setup.title}"


def _greet(told: Teller, plan: Plan, built: Built, left: int) -> None:
    lineup, n = plan.setup.arena, plan.setup.federation.clients
    told.say(built.dataset.source)
    told.say(
        f"{_number(len(lineup.rules), 'rule')}, {_number(len(plan.attacks), 'attack')} and none, "
        f"f={', '.join(map(str, lineup.byzantine))} of n={n}, "
        f"{_number(len(lineup.seeds), 'seed')}: {_number(left, 'run')} to play, "
        f"{processes(lineup.workers, max(left, 1))} at a time"
    )


def _number(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"
