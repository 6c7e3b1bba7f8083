"""How a process of ours treats the memory that it frees."""

from __future__ import annotations

import contextlib
import ctypes


def keep_freed_memory() -> None:
    """Keep freed memory for the next allocation: rounds allocate the same tensors again and again.

    glibc hands blocks above 128 KiB back to the system when they are freed, and every fresh page
    costs a fault: some 20,000 a round for a model of 150,000 parameters. Worker processes and the
    command line call this; a library must not decide it for its caller's process. Where there is
    no glibc, it does nothing.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD


def release_freed_memory() -> None:
    """Hand freed memory back to the system, whatever `keep_freed_memory` said; glibc only."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
