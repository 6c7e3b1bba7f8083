"""How long the arena takes, and what it finds: `fedsieve arena` without a plan, in full.

    python benchmarks/arena.py [--data-dir DIR]

Twelve rules against nine attacks and none, on MNIST with softmax regression, n = 20, f = 4, 100
rounds. Target: under three minutes on two cores. Writes benchmarks/results/arena.json, arena.md and
arena.png (the heat map).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from peers._results import machine

TARGET = 180.0  # seconds
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Play it, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data-dir", help="directory with the full MNIST")
    arguments = parser.parse_args()
    chosen = ["--data-dir", arguments.data_dir] if arguments.data_dir else []
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch, "arena")
        began = time.perf_counter()
        command = [sys.executable, "-m", "fedsieve", "arena", "--quiet", "--out", str(out), *chosen]
        subprocess.run(command, check=True)
        seconds = time.perf_counter() - began
        found = json.loads((out / "arena.json").read_text())
        table = (out / "arena.md").read_text()
        (heat,) = out.glob("figures/heat_map_f*.png")
        shutil.copy(heat, RESULTS / "arena.png")
    runs = sum(place["state"] == "done" for place in found["places"])
    word = "met" if seconds <= TARGET else "MISSED"
    took = f"{runs} runs in {seconds:.0f} s on {os.cpu_count()} cores"
    verdict = f"{word}: {took}; asked {TARGET:.0f} s"
    print(f"{table}\n{verdict}")
    facts = {"seconds": round(seconds, 1), "runs": runs, "machine": machine(), "arena": found}
    text = re.sub(r" \(/[^)]*\)", "", json.dumps(facts, indent=1))  # no folder of one machine
    (RESULTS / "arena.json").write_text(text + "\n")
    (RESULTS / "arena.md").write_text(f"{table}\n{verdict}\n")


if __name__ == "__main__":
    main()
