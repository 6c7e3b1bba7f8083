"""Forks a process for each run that is to die: imports and accounting are then done already."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import fedsieve
from fedsieve.cli import main
from fedsieve.simulation.loop import Simulation


def die_at(place, number):
    module, _, path = place.partition(":")
    owner, (*inner, name) = importlib.import_module(module), path.split(".")
    for part in inner:
        owner = getattr(owner, part)
    called, calls = getattr(owner, name), []

    def deadly(*args, **kwargs):
        calls.append(1)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return called(*args, **kwargs)

    setattr(owner, name, deadly)


def dawdle():
    step = Simulation.step
    Simulation.step = lambda self: (time.sleep(0.02), step(self))[1]


if __name__ == "__main__":
    warm, deaths = json.load(sys.stdin)
    fedsieve.run(warm)
    for death in deaths:
        child = os.fork()
        if child == 0:
            die_at(*death["point"]) if "point" in death else dawdle()
            os._exit(main(death["words"]))
        if "appears" in death:
            while not Path(death["appears"]).exists() and not os.waitpid(child, os.WNOHANG)[0]:
                time.sleep(0.001)
            time.sleep(death["delay"])
            os.kill(child, signal.SIGKILL)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
