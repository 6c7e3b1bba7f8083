"""FedSieve: FedAvg, identity projection, plain mean, messages as raw float32 bytes.

Cohorts and batches are FedSieve's own draws of the same sizes. With ``--processes 1`` the clients
compute in the simulation's own process, with more in that many workers. ``--idle`` tells the memory
of a job without data to speak of: what interpreters and libraries take.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import common_job as job
import numpy as np
import torch
from peers._process_tree import resident_bytes

from fedsieve.aggregation import _compiled
from fedsieve.aggregation.mean import Mean
from fedsieve.algorithms.fedavg import FedAvg
from fedsieve.algorithms.parts import Parts, Planner, StochasticGradient
from fedsieve.learning.data import Dataset, Shards
from fedsieve.learning.flat import FlatModel
from fedsieve.learning.gradients import PerSampleGradients
from fedsieve.learning.losses import cross_entropy
from fedsieve.randomness import Streams
from fedsieve.registry import component
from fedsieve.simulation.job import Job
from fedsieve.simulation.loop import Simulation
from fedsieve.simulation.participation import Participation


def compose(model: FlatModel, data: Sequence[torch.Tensor], rounds: int, workers: int) -> Job:
    """The common job, or its first clients, as FedSieve's objects."""
    x, y, x_test, y_test = data
    clients = len(y) // job.RECORDS
    dataset = Dataset("common-job", x, y, x_test, y_test, classes=job.CLASSES)
    engine = PerSampleGradients(model, cross_entropy)
    parts = Parts(
        gradient=StochasticGradient(engine, job.BATCH),
        planner=Planner(component("projection", "identity").build(k=None), model.layout, seed=0),
        n=clients,
        everybody=False,
    )
    return Job(
        algorithm=FedAvg(parts, lr=job.LR),
        theta=model.read(),
        shards=Shards(dataset, tuple(np.arange(len(y)).reshape(clients, job.RECORDS))),
        evaluate=lambda _theta: (math.nan, math.nan),  # once, after the clock has stopped
        streams=Streams(seed=0),
        rule=Mean(),
        participation=Participation(clients, min(job.COHORT, clients)),
        codec=component("codec", "raw32").build(),
        rounds=rounds,
        steps=job.STEPS,
        evaluate_every=rounds,
        workers=workers,
        own_records=True,
    )


def main() -> None:
    args = job.arguments()
    model = FlatModel(job.module(args.model), (1, 28, 28))
    if args.idle:
        _compiled.PATIENCE = 0  # compiles what is not on disk, which the job finds there
        Mean()(torch.zeros(job.COHORT, 1 << 16))  # loads the compiled kernels
    data = job.torch_data(2 if args.idle else job.CLIENTS)
    job.data.cache_clear()  # the simulation's records are the only ones
    laps = job.Laps(args.rounds)
    composed = compose(model, data, args.rounds, args.processes if args.processes > 1 else 0)
    del data
    with Simulation(composed) as simulation:
        for _ in range(args.rounds):
            laps.start()
            simulation.step()
            laps.stop()
        resident = resident_bytes(os.getpid())
    reached = job.accuracy(model.bind(simulation.theta))
    job.report_laps(args, ["fedsieve", "torch"], laps, reached, resident=resident)


if __name__ == "__main__":
    main()
