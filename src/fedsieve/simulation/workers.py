"""Persistent worker processes of one thread each, with state and messages in shared memory.

On a CPU this is the parallelism that pays: two threads on two busy cores wait for each other, two
processes do not. The parent writes the broadcast into shared tensors and wakes the workers; each
takes the next client off a shared counter, computes its rule as a stack of one and writes message
and memory rows in place. Only a few numbers travel through pipes.

Processes are spawned, so nothing of the parent's state leaks in; they ignore Ctrl-C (the parent
decides) and end by themselves when the parent's end of the pipe closes, however it died.
"""

from __future__ import annotations

import contextlib
import pickle
import signal
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
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


class WorkerError(RuntimeError):
    """A client rule failed in a worker, or the worker died; the message holds the cause."""


@dataclass(frozen=True)
class _Setting:
    """What a worker is given once: shared tensors by handle, everything else by value."""

    recipe: bytes
    records: Tensors
    memory: Tensors
    broadcast: Tensors
    messages: Tensor
    counter: Any


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
    ) -> None:
        context = mp.get_context("spawn")
        labels = shards.dataset.y if shards.labels is None else shards.labels
        records = {"x": _own(shards.dataset.x), "y": _own(labels)}
        for tensor in (*records.values(), *memory.values()):
            tensor.share_memory_()
        self._shared = {k: v.clone().share_memory_() for k, v in broadcast.tensors.items()}
        self._messages = torch.zeros(cohort, algorithm.width).share_memory_()
        self._counter = context.Value("q", 0)
        self._sent_subspace: Subspace | None = None
        self._processes, self._pipes = [], []
        setting = _Setting(
            pickle.dumps((algorithm, _without_records(shards), streams)),
            records,
            memory,
            self._shared,
            self._messages,
            self._counter,
        )
        with _interrupts_held():
            for number in range(processes):
                ours, theirs = context.Pipe()
                name = f"fedsieve-worker-{number}"
                process = context.Process(
                    target=_work, args=(theirs, setting), name=name, daemon=True
                )
                process.start()
                theirs.close()  # so that a dead worker reads as an end of file
                self._processes.append(process)
                self._pipes.append(ours)

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return [p.pid for p in self._processes if p.pid is not None]

    def run(self, broadcast: Broadcast, memory: Tensors, cohort: Cohort) -> Sent:
        """The messages of the cohort, valid until the next round.

        Raises:
            WorkerError: A client rule raised, or a worker died.
        """
        del memory  # the workers hold the same memory
        for name, tensor in broadcast.tensors.items():
            self._shared[name].copy_(tensor)
        known = broadcast.subspace is self._sent_subspace
        self._sent_subspace = broadcast.subspace
        task = _Task(
            broadcast.round,
            cohort.ids,
            cohort.rows,
            cohort.steps,
            broadcast.numbers,
            None if known else broadcast.subspace,
            broadcast.previous,
        )
        self._counter.value = 0
        infos: dict[int, Info] = {}
        try:
            for pipe in self._pipes:
                pipe.send(task)
            for pipe in self._pipes:
                answer = pipe.recv()
                if isinstance(answer, str):
                    raise WorkerError(f"a client failed in a worker process:\n{answer}")
                infos.update(answer)
        except (EOFError, OSError) as error:
            raise WorkerError(f"a worker process died ({error!r}); round not finished") from error
        ordered = [infos[i] for i in range(len(cohort.ids))]
        return Sent(self._messages[: len(cohort.ids)], averaged(ordered))

    def close(self) -> None:
        """End the workers; a worker that does not listen is terminated."""
        for pipe in self._pipes:
            with contextlib.suppress(OSError):
                pipe.send(None)
            pipe.close()
        for process in self._processes:
            process.join(timeout=5)
            if process.is_alive():
                process.terminate()
                process.join()
        self._processes, self._pipes = [], []


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Block Ctrl-C for a moment; processes that are started meanwhile never hear of it.

    They inherit the blocked signal, so that it cannot end them while they are still importing.
    """
    if not hasattr(signal, "pthread_sigmask"):  # pragma: no cover - missing on Windows only
        yield
        return
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def _own(tensor: Tensor) -> Tensor:
    """The tensor with a storage of its own: two handles of one storage cannot be passed on."""
    whole = tensor.untyped_storage().nbytes() == tensor.nbytes
    return tensor if whole else tensor.clone()


def _without_records(shards: Shards) -> Shards:
    """The shards with a single record, for the way to a worker, which never tests."""
    data = shards.dataset
    one = {name: getattr(data, name)[:1].clone() for name in ("x", "y", "x_test", "y_test")}
    return Shards(replace(data, owners=None, **one), shards.parts)


def _work(pipe: Any, setting: _Setting) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    keep_freed_memory()
    algorithm, shards, streams = pickle.loads(setting.recipe)  # noqa: S301 - from our own parent
    shards = replace(shards, dataset=replace(shards.dataset, **setting.records))
    subspace: Subspace | None = None
    with contextlib.suppress(EOFError, OSError):
        while (task := pipe.recv()) is not None:
            subspace = task.subspace or subspace
            assert subspace is not None
            broadcast = Broadcast(
                task.round, setting.broadcast, subspace, task.previous, task.numbers
            )
            cohort = Cohort(task.ids, task.rows, shards, streams, task.steps)
            try:
                pipe.send(_compute(algorithm, broadcast, cohort, setting))
            except Exception:  # noqa: BLE001 - whatever a user's model raises is reported whole
                pipe.send(traceback.format_exc())


def _compute(
    algorithm: Algorithm, broadcast: Broadcast, cohort: Cohort, setting: _Setting
) -> dict[int, Info]:
    infos = {}
    while (position := _next(setting.counter)) < len(cohort.ids):
        sent = algorithm.client(broadcast, setting.memory, cohort.one(position))
        setting.messages[position] = sent.messages[0]
        infos[position] = sent.info
    return infos


def _next(counter: Any) -> int:
    with counter.get_lock():
        position = int(counter.value)
        counter.value += 1
    return position
