"""CPU seconds and resident memory of a process and all its descendants, read from /proc."""

from __future__ import annotations

import os
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def _stats() -> dict[int, list[str]]:
    """Process id -> fields of its stat file, from the third on (state, parent, ...)."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                text = (folder / "stat").read_text()
            except OSError:  # it ended meanwhile
                continue
            found[int(folder.name)] = text.rpartition(")")[2].split()
    return found


def _tree(root: int, stats: dict[int, list[str]]) -> list[int]:
    children: dict[int, list[int]] = {}
    for pid, fields in stats.items():
        children.setdefault(int(fields[1]), []).append(pid)
    members = [root]
    for pid in members:  # grows while it is walked
        members.extend(children.get(pid, []))
    return members


def members(root: int) -> list[int]:
    """The process and its descendants, parents first."""
    return _tree(root, _stats())


def cpu_seconds(root: int | None = None) -> float:
    """User and system time of the tree, with that of children that have ended."""
    stats = _stats()
    ticks = 0
    for pid in _tree(os.getpid() if root is None else root, stats):
        if pid in stats:
            ticks += sum(int(value) for value in stats[pid][11:15])
    return ticks / TICKS


def resident_bytes(root: int) -> int:
    """Sum of the resident sets of the tree; a shared page counts in each process that maps it."""
    stats = _stats()
    return PAGE * sum(int(stats[pid][21]) for pid in _tree(root, stats) if pid in stats)
