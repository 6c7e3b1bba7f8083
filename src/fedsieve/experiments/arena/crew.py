"""The processes that play an arena: each loads the data once and plays one run after another.

A process that dies fails the run that it was at; another takes its place, and the others go on.
"""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import wait
from typing import Any

from fedsieve.experiments import pieces
from fedsieve.experiments.arena.cell import FAILED, AbandonedError, Score, play
from fedsieve.experiments.arena.plan import Cell
from fedsieve.experiments.config import Config
from fedsieve.experiments.sections.attack import Attack
from fedsieve.simulation.processes import (
    Processes,
    WorkerError,
    heard,
    interrupts_held,
    settle,
)

LOOK = 0.1  # seconds between two looks at whether the user wants to stop
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

STARTING: Any = object()
"""Stands for the run of a process that is still loading."""


class Crew(Processes):
    """Worker processes that play runs.

    Args:
        processes: How many, at least 1.
        data: A configuration that names the data set of all runs.
        backdoors: Those whose rate is measured where nobody attacks.
    """

    def __init__(self, processes: int, data: Config, backdoors: Sequence[Attack] = ()) -> None:
        super().__init__(_serve)
        self._told = data, tuple(backdoors)
        try:
            with _one_thread_each():
                self._start(processes, *self._told)
        except BaseException:
            self.kill()
            raise

    def play(
        self, runs: Sequence[tuple[Cell, Config]], stopped: Callable[[], bool]
    ) -> Iterator[tuple[Cell, Score]]:
        """Play every run, in the order given as far as processes are free.

        Args:
            runs: What to play.
            stopped: Asked ten times a second whether to stop; runs under way are then lost.

        Raises:
            WorkerError: A process died before it could play anything.
        """
        left, at = list(reversed(runs)), dict.fromkeys(range(len(self._pipes)), STARTING)
        while at and not stopped():
            ready = wait(
                [end for i in at for end in (self._pipes[i], self._processes[i].sentinel)], LOOK
            )
            for i in list(at):
                if self._pipes[i] not in ready and self._processes[i].sentinel not in ready:
                    continue
                cell = at.pop(i)
                try:
                    answer = heard(self._pipes[i], self._processes[i])
                except WorkerError as death:
                    if cell is STARTING:
                        raise
                    answer = Score(FAILED, str(death))
                    if left:
                        self._replace(i)
                        at[i] = STARTING
                if cell is not STARTING:
                    yield cell, answer
                if i not in at and left:
                    at[i], config = left.pop()
                    self._send(i, config)

    def _send(self, i: int, config: Config) -> None:
        with contextlib.suppress(ConnectionError):  # its death is heard of by who waits for it
            self._pipes[i].send(config)

    def _replace(self, i: int) -> None:
        self._pipes[i].close()
        with _one_thread_each(), interrupts_held():
            self._processes[i], self._pipes[i] = self._started(i, *self._told)


def processes(wanted: int | str, runs: int) -> int:
    """How many processes are of use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(int(cores or 1) if wanted == "auto" else int(wanted), runs))


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let processes that are started meanwhile have libraries of one thread."""
    held = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in held.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(pipe: Any, first: Config, backdoors: Sequence[Attack]) -> None:
    """Play what the parent sends, until it sends nothing or is gone."""
    settle()
    with contextlib.suppress(EOFError, ConnectionError):
        data = pieces.dataset(first)
        pipe.send("ready")
        while (config := pipe.recv()) is not None:
            try:
                # whatever stands in the pipe before the answer is asked for, is the parent's end
                score = play(config, data, lambda: not pipe.poll(), backdoors)
            except AbandonedError:
                return
            except Exception as error:  # noqa: BLE001 - one run's error must not end the others
                last = traceback.extract_tb(error.__traceback__)[-1]
                place = f"{os.path.basename(last.filename)}, line {last.lineno}"
                score = Score(FAILED, f"{type(error).__name__}: {error} ({place})")
            pipe.send(score)
