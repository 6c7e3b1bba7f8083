"""CPU seconds and memory of a process and all its descendants, read from /proc."""

from __future__ import annotations

import os
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


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
    """Memory of the tree; a page that several processes map counts once (PSS), swap included."""
    return sum(map(_proportional_bytes, members(root)))


def _proportional_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it ended meanwhile, or is about to
        return 0
    kilobytes = (line.split()[1] for line in lines if line.startswith(("Pss:", "SwapPss:")))
    return 1024 * sum(map(int, kilobytes))
