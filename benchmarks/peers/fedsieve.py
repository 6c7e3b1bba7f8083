"""FedSieve: FedAvg, identity projection, plain mean, messages as raw float32 bytes.

Cohorts and batches are FedSieve's own draws of the same sizes. With ``--processes 1`` the clients
compute in the simulation's own process, with more in that many workers.
"""

from __future__ import annotations

import math

import common_job as job
import numpy as np

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


def compose(model: FlatModel, rounds: int, workers: int) -> Job:
    """The common job as FedSieve's objects."""
    x, y, x_test, y_test = job.torch_data()
    dataset = Dataset("common-job", x, y, x_test, y_test, classes=job.CLASSES)
    engine = PerSampleGradients(model, cross_entropy)
    parts = Parts(
        gradient=StochasticGradient(engine, job.BATCH),
        planner=Planner(component("projection", "identity").build(k=None), model.layout, seed=0),
        n=job.CLIENTS,
        everybody=False,
    )
    return Job(
        algorithm=FedAvg(parts, lr=job.LR),
        theta=model.read(),
        shards=Shards(dataset, tuple(np.arange(len(y)).reshape(job.CLIENTS, job.RECORDS))),
        evaluate=lambda _theta: (math.nan, math.nan),  # once, after the clock has stopped
        streams=Streams(seed=0),
        rule=Mean(),
        participation=Participation(job.CLIENTS, job.COHORT),
        codec=component("codec", "raw32").build(),
        rounds=rounds,
        steps=job.STEPS,
        evaluate_every=rounds,
        workers=workers,
    )


def main() -> None:
    args = job.arguments()
    model = FlatModel(job.module(args.model), (1, 28, 28))
    laps = job.Laps(args.rounds)
    with Simulation(
        compose(model, args.rounds, args.processes if args.processes > 1 else 0)
    ) as simulation:
        for _ in range(args.rounds):
            laps.start()
            simulation.step()
            laps.stop()
    reached = job.accuracy(model.bind(simulation.theta))
    job.report_laps(args, ["fedsieve", "torch"], laps, reached)


if __name__ == "__main__":
    main()
