"""Ctrl-C at a round's end: a round is finished, and saved, before the run stops."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Wish:
    """Whether the user has asked to stop."""

    stop: bool = False


@contextmanager
def deferred_interrupt() -> Iterator[Wish]:
    """Note the first Ctrl-C instead of raising; the second one raises at once.

    In a thread other than the main one, where signals cannot be caught, nothing is changed.
    """
    wish = Wish()
    if threading.current_thread() is not threading.main_thread():
        yield wish
        return

    def note(number: int, frame: FrameType | None) -> None:
        if wish.stop:
            signal.default_int_handler(number, frame)
        wish.stop = True

    held = signal.signal(signal.SIGINT, note)
    try:
        yield wish
    finally:
        signal.signal(signal.SIGINT, held)
