"""ByzFL: its Client and Server as its own training loop uses them, rule Average.

All 100 clients receive the new state each round, as in that loop. ``byzfl.benchmark`` is left out:
it only loads data sets, for which it imports torchvision, and draws.
"""

from __future__ import annotations

import sys
from functools import partial
from types import ModuleType

import common_job as job
import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

sys.modules["byzfl.benchmark"] = ModuleType("byzfl.benchmark")
import byzfl.fed_framework.models as models  # noqa: E402 - after the line above
from byzfl import Client, Server  # noqa: E402

NAME = "common_job"  # ByzFL looks models up by name


def main() -> None:
    args = job.arguments()
    torch.set_num_threads(args.threads)
    setattr(models, NAME, partial(job.module, args.model))
    x, y, x_test, y_test = job.torch_data()
    common = {
        "model_name": NAME,
        "device": "cpu",
        "optimizer_name": "SGD",
        "learning_rate": job.LR,
        "weight_decay": 0.0,
        "milestones": [],
        "learning_rate_decay": 1.0,
    }
    clients = []
    for client in range(job.CLIENTS):
        own = slice(client * job.RECORDS, (client + 1) * job.RECORDS)
        loader = DataLoader(TensorDataset(x[own], y[own]), batch_size=job.BATCH, shuffle=True)
        own_params = {
            "loss_name": "CrossEntropyLoss",
            "LabelFlipping": False,
            "nb_labels": job.CLASSES,
            "momentum": 0.0,
            "training_dataloader": loader,
            "store_per_client_metrics": False,
        }
        clients.append(Client(common | own_params))
    test = DataLoader(TensorDataset(x_test, y_test), batch_size=job.TESTS)
    server = Server(
        common
        | {
            "test_loader": test,
            "aggregator_info": {"name": "Average", "parameters": {}},
            "pre_agg_list": [],
        }
    )
    rng = np.random.default_rng(0)
    laps = job.Laps(args.rounds)
    for _ in range(args.rounds):
        laps.start()
        cohort = [clients[i] for i in rng.choice(job.CLIENTS, job.COHORT, replace=False)]
        for client in cohort:
            client.compute_model_update(job.STEPS)
        server.update_model_with_weights([client.get_flat_parameters() for client in cohort])
        state = server.get_dict_parameters()
        for client in clients:
            client.set_model_state(state)
        laps.stop()
    job.report_laps(args, ["byzfl", "torch"], laps, job.accuracy(server.model))


if __name__ == "__main__":
    main()
