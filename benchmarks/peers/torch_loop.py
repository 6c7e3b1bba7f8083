"""The loop that everybody writes: one module, one optimizer per client, the plan exactly."""

from __future__ import annotations

import common_job as job
import torch


def main() -> None:
    args = job.arguments()
    torch.set_num_threads(args.threads)
    x, y, _, _ = job.torch_data()
    trained = job.module(args.model)
    state = {name: value.clone() for name, value in trained.state_dict().items()}
    laps = job.Laps(args.rounds)
    for round_ in range(args.rounds):
        laps.start()
        _, orders = job.plan(round_)
        total = {name: torch.zeros_like(value) for name, value in state.items()}
        for batches in orders:
            trained.load_state_dict(state)
            job.local_sgd(trained, x, y, batches)
            for name, value in trained.state_dict().items():
                total[name] += value
        state = {name: value / job.COHORT for name, value in total.items()}
        laps.stop()
    trained.load_state_dict(state)
    job.report_laps(args, ["torch"], laps, job.accuracy(trained))


if __name__ == "__main__":
    main()
