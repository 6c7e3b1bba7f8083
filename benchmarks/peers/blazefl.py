"""BlazeFL: the FedAvg of its contributed modules, trained serially.

One epoch over each client's first 160 records, shuffled.
"""

from __future__ import annotations

import common_job as job
import torch
from blazefl.contrib.fedavg import (
    FedAvgBaseClientTrainer,
    FedAvgBaseServerHandler,
    FedAvgPartitionType,
)
from torch.utils.data import DataLoader, TensorDataset


class Models:
    """BlazeFL's ModelSelector."""

    def select_model(self, model_name: str) -> torch.nn.Module:
        """The common module."""
        return job.module(model_name)


class Records:
    """BlazeFL's PartitionedDataset."""

    def __init__(self) -> None:
        x, y, _, _ = job.torch_data()
        starts = range(0, job.CLIENTS * job.RECORDS, job.RECORDS)
        visited = [slice(start, start + job.VISITED) for start in starts]
        self.parts = [TensorDataset(x[own], y[own]) for own in visited]

    def get_dataloader(
        self,
        type_: FedAvgPartitionType,  # noqa: ARG002 - BlazeFL's form
        cid: int,
        batch_size: int,
        generator: torch.Generator | None = None,
    ) -> DataLoader:
        """One epoch of a client."""
        return DataLoader(self.parts[cid], batch_size, shuffle=True, generator=generator)


def main() -> None:
    args = job.arguments()
    torch.set_num_threads(args.threads)
    records, models = Records(), Models()
    server = FedAvgBaseServerHandler(
        model_selector=models,
        model_name=args.model,
        dataset=records,
        global_round=args.rounds,
        num_clients=job.CLIENTS,
        sample_ratio=job.COHORT / job.CLIENTS,
        device="cpu",
        batch_size=job.BATCH,
        seed=0,
    )
    trainer = FedAvgBaseClientTrainer(
        model_selector=models,
        model_name=args.model,
        dataset=records,
        device="cpu",
        num_clients=job.CLIENTS,
        epochs=1,
        batch_size=job.BATCH,
        lr=job.LR,
        seed=0,
    )
    laps = job.Laps(args.rounds)
    while not server.if_stop():
        laps.start()
        trainer.local_process(server.downlink_package(), server.sample_clients())
        for message in trainer.uplink_package():
            server.load(message)
        laps.stop()
    job.report_laps(args, ["blazefl", "torch"], laps, job.accuracy(server.model))


if __name__ == "__main__":
    main()
