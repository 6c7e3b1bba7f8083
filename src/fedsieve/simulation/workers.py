"""Worker processes that compute the clients of a round, with state and messages in shared memory.

On a CPU this is the parallelism that pays: two threads on two busy cores wait for each other, two
processes do not. The parent writes the broadcast into shared tensors and tells every worker its
part of the cohort: worker w of p takes the positions w, w + p, w + 2p, ... It computes its rule for
one client after another and writes message and memory rows in place. Only a few numbers travel
through pipes (`fedsieve.simulation.processes`).
"""

from __future__ import annotations

import contextlib
import os
import pickle
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedsieve.algorithms.form import Algorithm, Broadcast, Cohort, Info, Sent, Tensors
from fedsieve.learning.data import Shards
from fedsieve.learning.layout import Subspace
from fedsieve.randomness import Streams
from fedsieve.simulation.executors import averaged
from fedsieve.simulation.memory import release_freed_memory
from fedsieve.simulation.processes import Processes, WorkerError, heard, settle

SHARED = Path("/dev/shm")  # noqa: S108 - where Linux keeps shared memory; elsewhere it is missing


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
    peers: tuple[int, ...]
    absent: tuple[int, ...]
    taken: tuple[int, ...]
    numbers: int
    subspace: Subspace | None
    previous: Subspace | None
    forged: bool
    positions: range


class Workers(Processes):
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
        super().__init__(_work)
        messages = torch.zeros(cohort, algorithm.width)
        held = {"x": shards.dataset.x, "y": shards.dataset.y}
        _refuse_excess([*held.values(), *memory.values(), *broadcast.tensors.values(), messages])
        records = {name: _shared(tensor, in_place) for name, tensor in held.items()}
        release_freed_memory()  # where the records were
        for tensor in memory.values():
            tensor.share_memory_()
        self._shared = {k: v.clone().share_memory_() for k, v in broadcast.tensors.items()}
        self._messages = messages.share_memory_()
        self._sent_subspace: Subspace | None = None
        setting = _Setting(records, memory, self._shared, self._messages)
        recipe = pickle.dumps((algorithm, _without_records(shards), streams))
        try:
            self._start(processes, setting)
            self._tell([recipe] * processes)
        except BaseException:
            self.kill()
            raise

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
            self.kill()  # what is still under way must not answer in a later round
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
            cohort.peers,
            cohort.absent,
            cohort.taken,
            broadcast.numbers,
            None if known else broadcast.subspace,
            broadcast.previous,
            cohort.shards.forged is not None,
            range(clients),
        )
        return [replace(whole, positions=range(w, clients, workers)) for w in range(workers)]

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


def _answer(pipe: Any, process: Any) -> dict[int, Info]:
    """The diagnostics that a worker sends, by position in the cohort."""
    answer = heard(pipe, process)
    if isinstance(answer, str):
        raise WorkerError(f"a client failed in a worker process:\n{answer}")
    infos: dict[int, Info] = answer
    return infos


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
    if whole and (in_place or tensor.is_shared()):
        tensor.share_memory_()
        return tensor
    # shared while it is empty: pages that nobody has touched take no memory
    copy = torch.empty(tensor.shape, dtype=tensor.dtype)
    copy.share_memory_()
    return copy.copy_(tensor)


def _without_records(shards: Shards) -> Shards:
    """The shards with a single true record, for the way to a worker, which never tests."""
    data = shards.dataset
    one = {name: getattr(data, name)[:1].clone() for name in ("x", "y", "x_test", "y_test")}
    return replace(shards, dataset=replace(data, owners=None, **one))


def _work(pipe: Any, setting: _Setting) -> None:
    settle()
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
            cohort = Cohort(
                task.ids,
                task.rows,
                held,
                streams,
                task.steps,
                task.peers,
                task.absent,
                task.taken,
            )
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
