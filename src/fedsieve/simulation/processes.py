"""Persistent worker processes of one thread each, and what is said to them through pipes.

Nothing is locked: a worker that dies takes nothing with it, and the parent, who waits for answers
and deaths at once, hears of it. Processes are spawned, so nothing of the parent's state leaks in;
they ignore Ctrl-C (the parent decides) and end by themselves when the parent's end of the pipe
closes, however it died.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.multiprocessing as mp

from fedsieve.simulation.memory import keep_freed_memory

PATIENCE = 5.0  # seconds that workers get to end by themselves

GUARD = (
    "worker processes import the script that started them; "
    'its calls belong behind `if __name__ == "__main__":`'
)


class WorkerError(RuntimeError):
    """Workers cannot be had, one of them died, or its work failed; the message says why."""


class Processes:
    """Worker processes, each at the other end of a pipe.

    Args:
        target: What a worker runs: ``target(pipe, *arguments)``, a module-level function that calls
            `settle` first.

    Raises:
        WorkerError: This is a worker that is just importing the user's script.
    """

    def __init__(self, target: Callable[..., None]) -> None:
        self._context = mp.get_context("spawn")
        if getattr(mp.current_process(), "_inheriting", False):
            raise WorkerError(GUARD)
        self._target = target
        self._processes: list[Any] = []
        self._pipes: list[Any] = []

    def _start(self, count: int, *arguments: Any) -> None:
        """Start so many workers more."""
        with interrupts_held():
            for number in range(len(self._processes), len(self._processes) + count):
                process, pipe = self._started(number, *arguments)
                self._processes.append(process)
                self._pipes.append(pipe)

    def _started(self, number: int, *arguments: Any) -> tuple[Any, Any]:
        """A new process and our end of its pipe; hold interrupts meanwhile."""
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=self._target,
            # the arguments must be few: a process that ends before it has read them is waited for
            args=(theirs, *arguments),
            name=f"fedsieve-worker-{number}",
            daemon=True,
        )
        try:
            process.start()
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()  # so that a dead worker reads as an end of file
        return process, ours

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return [p.pid for p in self._processes if p.pid is not None]

    def _tell(self, messages: Sequence[Any]) -> None:
        """Send each worker its message."""
        for pipe, process, message in zip(self._pipes, self._processes, messages, strict=True):
            try:
                pipe.send(message)
            except ConnectionError as error:
                raise died(process) from error

    def close(self) -> None:
        """End the workers; one that does not listen is killed."""
        for pipe in self._pipes:
            with contextlib.suppress(OSError):
                pipe.send(None)
        end = time.monotonic() + PATIENCE
        for process in self._processes:
            process.join(max(0.0, end - time.monotonic()))
        self.kill()

    def kill(self) -> None:
        """End the workers at once; they hold nothing that would have to be put in order."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()
        for pipe in self._pipes:
            pipe.close()
        self._processes, self._pipes = [], []


def settle() -> None:
    """What a worker does first: one thread, its memory kept, and Ctrl-C left to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    keep_freed_memory()


def heard(pipe: Any, process: Any) -> Any:
    """What a worker says; ``pipe`` has something to read, or its process has ended.

    Raises:
        WorkerError: It has died without a word.
    """
    try:
        answer = pipe.recv() if pipe.poll() else None
    except (EOFError, ConnectionError):
        answer = None
    if answer is None:
        raise died(process)
    return answer


def died(process: Any) -> WorkerError:
    """Why a process has ended, as an error to raise."""
    process.join(PATIENCE)  # the pipe closes a moment before the process has ended
    code = process.exitcode
    if code is not None and code < 0:
        reason = f"signal {-code}"
        if code == -signal.SIGKILL:
            reason += ", which the system sends when memory runs out"
        return WorkerError(f"{process.name} died of {reason}; its work is not finished")
    return WorkerError(
        f"{process.name} died with exit code {code}; if it says nothing else: {GUARD}"
    )


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
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
