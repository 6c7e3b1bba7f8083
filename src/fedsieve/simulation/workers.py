"""Persistent worker processes of one thread each, with state and messages in shared memory.

On a CPU this is the parallelism that pays: two threads on two busy cores wait for each other, two
processes do not. The parent writes the broadcast into shared tensors and tells every worker its
part of the cohort: worker w of p takes the positions w, w + p, w + 2p, ... It computes its rule for
one client after another and writes message and memory rows in place. Only a few numbers travel
through pipes, and nothing is locked: a worker that dies takes nothing with it, and the parent, who
waits for answers and deaths at once, hears of it.

Processes are spawned, so nothing of the parent's state leaks in; they ignore Ctrl-C (the parent
decides) and end by themselves when the parent's end of the pipe closes, however it died.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp
from torch import Tensor

from fedsieve.algorithms.form import Algorithm, Broadcast, Cohort, Info, Sent, Tensors
from fedsieve.learning.data import Shards
from fedsieve.learning.layout import Subspace
from fedsieve.randomness import Streams
from fedsieve.simulation.executors import averaged
from fedsieve.simulation.memory import keep_freed_memory

SHARED = Path("/dev/shm")  # noqa: S108 - where Linux keeps shared memory; elsewhere it is missing
PATIENCE = 5.0  # seconds that workers get to end by themselves

GUARD = (
    "worker processes import the script that started them; "
    'its calls belong behind `if __name__ == "__main__":`'
)


class WorkerError(RuntimeError):
    """Workers cannot be had, one of them died, or a client rule failed; the message says why."""


@dataclass(frozen=True)
class _Setting:
    """The shared tensors of a worker, by handle."""

    records: Tensors
    memory: Tensors
    broadcast: Tensors
    messages: Tensor


@dataclass(frozen=True)
class _Task:
    """What a worker is told each round; a subspace travels only when it is another one."""

    round: int
    ids: tuple[int, ...]
    rows: tuple[int, ...]
    steps: tuple[int, ...]
    numbers: int
    subspace: Subspace | None
    previous: Subspace | None
    forged: bool
    positions: range


class Workers:
    """Worker processes for algorithms whose clients compute one by one.

    Args:
        algorithm: The algorithm; it is sent to every worker once.
        shards: The clients' data; the training records go to shared memory.
        streams: The random streams.
        memory: The clients' memory; moved to shared memory, and updated there.
        broadcast: The first round's broadcast: the shapes of the shared tensors.
        cohort: Largest number of clients in a round.
        processes: Number of workers, at least 1.
        in_place: Move the records to shared memory where they are, because nobody else holds them;
            otherwise they are copied, and the caller's tensors stay what they were.

    Raises:
        WorkerError: There is too little shared memory, or a worker could not be started.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        shards: Shards,
        streams: Streams,
        memory: Tensors,
        broadcast: Broadcast,
        *,
        cohort: int,
        processes: int,
        in_place: bool = False,
    ) -> None:
        context = mp.get_context("spawn")
        if getattr(mp.current_process(), "_inheriting", False):
            raise WorkerError(GUARD)  # this is a worker that is just importing the user's script
        messages = torch.zeros(cohort, algorithm.width)
        held = {"x": shards.dataset.x, "y": shards.dataset.y}
        _refuse_excess([*held.values(), *memory.values(), *broadcast.tensors.values(), messages])
        records = {name: _shared(tensor, in_place) for name, tensor in held.items()}
        for tensor in memory.values():
            tensor.share_memory_()
        self._shared = {k: v.clone().share_memory_() for k, v in broadcast.tensors.items()}
        self._messages = messages.share_memory_()
        self._sent_subspace: Subspace | None = None
        self._processes: list[Any] = []
        self._pipes: list[Any] = []
        setting = _Setting(records, memory, self._shared, self._messages)
        recipe = pickle.dumps((algorithm, _without_records(shards), streams))
        try:
            with _interrupts_held():
                for number in range(processes):
                    self._start(context, setting, number)
            self._tell([recipe] * processes)
        except BaseException:
            self._kill()
            raise

    def _start(self, context: Any, setting: _Setting, number: int) -> None:
        ours, theirs = context.Pipe()
        self._pipes.append(ours)
        name = f"fedsieve-worker-{number}"
        # the arguments must be few: a process that ends before it has read them is waited for
        process = context.Process(target=_work, args=(theirs, setting), name=name, daemon=True)
        try:
            process.start()
        finally:
            theirs.close()  # so that a dead worker reads as an end of file
        self._processes.append(process)

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return [p.pid for p in self._processes if p.pid is not None]

    def run(self, broadcast: Broadcast, memory: Tensors, cohort: Cohort) -> Sent:
        """The messages of the cohort, valid until the next round.

        Raises:
            WorkerError: A client rule raised, or a worker died; all workers are ended then.
        """
        del memory  # the workers hold the same memory
        if not self._pipes:
            raise WorkerError("the workers have been ended; start new ones")
        for name, tensor in broadcast.tensors.items():
            self._shared[name].copy_(tensor)
        try:
            self._tell(self._tasks(broadcast, cohort))
            infos = self._answers()
        except BaseException:
            self._kill()  # what is still under way must not answer in a later round
            raise
        ordered = [infos[i] for i in range(len(cohort.ids))]
        return Sent(self._messages[: len(cohort.ids)], averaged(ordered))

    def _tasks(self, broadcast: Broadcast, cohort: Cohort) -> list[_Task]:
        known = broadcast.subspace is self._sent_subspace
        self._sent_subspace = broadcast.subspace
        workers, clients = len(self._pipes), len(cohort.ids)
        whole = _Task(
            broadcast.round,
            cohort.ids,
            cohort.rows,
            cohort.steps,
            broadcast.numbers,
            None if known else broadcast.subspace,
            broadcast.previous,
            cohort.shards.forged is not None,
            range(clients),
        )
        return [replace(whole, positions=range(w, clients, workers)) for w in range(workers)]

    def _tell(self, messages: Sequence[Any]) -> None:
        """Send each worker its message."""
        for pipe, process, message in zip(self._pipes, self._processes, messages, strict=True):
            try:
                pipe.send(message)
            except ConnectionError as error:
                raise _died(process) from error

    def _answers(self) -> dict[int, Info]:
        infos: dict[int, Info] = {}
        waiting = dict(zip(self._pipes, self._processes, strict=True))
        while waiting:
            ready = wait([*waiting, *(process.sentinel for process in waiting.values())])
            for pipe, process in list(waiting.items()):
                if pipe in ready or process.sentinel in ready:
                    infos.update(_answer(pipe, process))
                    del waiting[pipe]
        return infos

    def close(self) -> None:
        """End the workers; one that does not listen is killed."""
        for pipe in self._pipes:
            with contextlib.suppress(OSError):
                pipe.send(None)
        end = time.monotonic() + PATIENCE
        for process in self._processes:
            process.join(max(0.0, end - time.monotonic()))
        self._kill()

    def _kill(self) -> None:
        """End the workers at once; they hold nothing that would have to be put in order."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()
        for pipe in self._pipes:
            pipe.close()
        self._processes, self._pipes = [], []


def _answer(pipe: Any, process: Any) -> dict[int, Info]:
    """What a worker says, if only the cause of its failure; ``pipe`` or its death is at hand."""
    try:
        answer = pipe.recv() if pipe.poll() else None
    except (EOFError, ConnectionError):
        answer = None
    if answer is None:
        raise _died(process)
    if isinstance(answer, str):
        raise WorkerError(f"a client failed in a worker process:\n{answer}")
    infos: dict[int, Info] = answer
    return infos


def _died(process: Any) -> WorkerError:
    process.join(PATIENCE)  # the pipe closes a moment before the process has ended
    code = process.exitcode
    if code is not None and code < 0:
        reason = f"signal {-code}"
        if code == -signal.SIGKILL:
            reason += ", which the system sends when memory runs out"
        return WorkerError(f"{process.name} died of {reason}; the round is not finished")
    return WorkerError(
        f"{process.name} died with exit code {code}; if it says nothing else: {GUARD}"
    )


def _refuse_excess(tensors: Iterable[Tensor]) -> None:
    """Refuse more shared memory than there is; its first use would end the process (SIGBUS)."""
    needed = sum(tensor.nbytes for tensor in tensors if not tensor.is_shared())
    if not SHARED.is_dir():
        return
    room = os.statvfs(SHARED)
    free = room.f_bavail * room.f_frsize
    if needed > free:
        raise WorkerError(
            f"workers need {needed:,} bytes of shared memory, but {SHARED} has {free:,} bytes "
            "free; set workers=1, or allow more (docker run --shm-size)"
        )


def _shared(tensor: Tensor, in_place: bool) -> Tensor:
    """The tensor in shared memory, with a storage of its own.

    Two handles of one storage cannot be passed on.
    """
    whole = tensor.untyped_storage().nbytes() == tensor.nbytes
    own = tensor if whole and (in_place or tensor.is_shared()) else tensor.clone()
    own.share_memory_()
    return own


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Block Ctrl-C for a moment; processes that are started meanwhile never hear of it.

    They inherit the blocked signal, so that it cannot end them while they are still importing.
    """
    if not hasattr(signal, "pthread_sigmask"):  # pragma: no cover - missing on Windows only
        yield
        return
    from multiprocessing import resource_tracker  # not on Windows

    resource_tracker.ensure_running()  # the first process would start it, which unblocks Ctrl-C
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def _without_records(shards: Shards) -> Shards:
    """The shards with a single true record, for the way to a worker, which never tests."""
    data = shards.dataset
    one = {name: getattr(data, name)[:1].clone() for name in ("x", "y", "x_test", "y_test")}
    return replace(shards, dataset=replace(data, owners=None, **one))


def _work(pipe: Any, setting: _Setting) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    keep_freed_memory()
    subspace: Subspace | None = None
    with contextlib.suppress(EOFError, ConnectionError):  # the parent is gone
        algorithm, shards, streams = pickle.loads(pipe.recv())  # noqa: S301 - from our own parent
        shards = replace(shards, dataset=replace(shards.dataset, **setting.records))
        while (task := pipe.recv()) is not None:
            subspace = task.subspace or subspace
            assert subspace is not None
            broadcast = Broadcast(
                task.round, setting.broadcast, subspace, task.previous, task.numbers
            )
            held = shards if task.forged else shards.honest
            cohort = Cohort(task.ids, task.rows, held, streams, task.steps)
            try:
                pipe.send(_compute(algorithm, broadcast, cohort, setting, task.positions))
            except Exception:  # noqa: BLE001 - whatever a user's model raises is reported whole
                pipe.send(traceback.format_exc())


def _compute(
    algorithm: Algorithm,
    broadcast: Broadcast,
    cohort: Cohort,
    setting: _Setting,
    positions: range,
) -> dict[int, Info]:
    infos = {}
    for position in positions:
        sent = algorithm.client(broadcast, setting.memory, cohort.one(position))
        setting.messages[position] = sent.messages[0]
        infos[position] = sent.info
    return infos
