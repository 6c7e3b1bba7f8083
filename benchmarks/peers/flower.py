"""Flower's simulation on Ray: its FedAvg strategy, one actor of one CPU per process.

Data and model are cached in the actor; clients draw their own batches of the same sizes. A round is
the time between two calls of the central evaluation function, which only looks at the clock.
"""

from __future__ import annotations

from functools import cache

import common_job as job
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

client_app = ClientApp()


@cache
def held(model: str) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    """What an actor keeps between two messages."""
    torch.set_num_threads(1)
    x, y, _, _ = job.torch_data()
    return job.module(model), x, y


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """A client's local work."""
    config = message.content["config"]
    trained, x, y = held(config["model"])
    trained.load_state_dict(message.content["arrays"].to_torch_state_dict())
    client = int(context.node_config["partition-id"])
    batches = client * job.RECORDS + job.own_order(int(config["server-round"]), client)
    job.local_sgd(trained, x, y, batches)
    content = RecordDict(
        {
            "arrays": ArrayRecord(trained.state_dict()),
            "metrics": MetricRecord({"num-examples": job.VISITED}),
        }
    )
    return Message(content=content, reply_to=message)


def main() -> None:
    args = job.arguments()
    laps = job.Laps(args.rounds)
    trained = job.module(args.model)
    server_app = ServerApp()

    def clock(round_: int, arrays: ArrayRecord) -> None:
        if round_ == 0:
            laps.start()
            return
        laps.stop()
        if round_ == args.rounds:
            trained.load_state_dict(arrays.to_torch_state_dict())

    @server_app.main()
    def serve(grid: Grid, context: Context) -> None:  # noqa: ARG001 - Flower's form
        strategy = FedAvg(
            fraction_train=job.COHORT / job.CLIENTS,
            fraction_evaluate=0.0,
            min_available_nodes=job.CLIENTS,
        )
        strategy.start(
            grid=grid,
            initial_arrays=ArrayRecord(trained.state_dict()),
            num_rounds=args.rounds,
            train_config=ConfigRecord({"model": args.model}),
            evaluate_fn=clock,
        )

    run_simulation(
        server_app,
        client_app,
        num_supernodes=job.CLIENTS,
        backend_config={
            "init_args": {"num_cpus": args.processes, "include_dashboard": False},
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        },
    )
    job.report_laps(args, ["flwr", "ray", "torch"], laps, job.accuracy(trained))


if __name__ == "__main__":
    # Actors import this module by its name: what they cache stays with them between messages.
    from peers import flower

    flower.main()
