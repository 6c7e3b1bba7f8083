"""pfl: SimulatedBackend and FederatedAveraging, one local epoch over 160 random records a user."""

from __future__ import annotations

import common_job as job
import numpy as np
import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam.base import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Metrics, Weighted
from pfl.model.pytorch import PyTorchModel


class Trained(torch.nn.Module):
    """The common module with the two methods that pfl asks for."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy."""
        return torch.nn.functional.cross_entropy(self.inner(x), y)

    @torch.no_grad()
    def metrics(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, Weighted]:
        """Asked for in the first round only."""
        return {"loss": Weighted(float(self.loss(x, y)) * len(y), len(y))}


class Clock(TrainingProcessCallback):
    """Ends a round, and starts the next."""

    def __init__(self, laps: job.Laps) -> None:
        self.laps = laps

    def on_train_begin(self, *, model: PyTorchModel) -> Metrics:  # noqa: ARG002 - pfl's form
        """The first round starts."""
        self.laps.start()
        return Metrics()

    def after_central_iteration(
        self,
        aggregate_metrics: Metrics,  # noqa: ARG002
        model: PyTorchModel,  # noqa: ARG002
        *,
        central_iteration: int,  # noqa: ARG002
    ) -> tuple[bool, Metrics]:
        """The new global model is in memory."""
        self.laps.stop()
        return False, Metrics()


def main() -> None:
    args = job.arguments()
    torch.set_num_threads(args.threads)
    np.random.seed(0)  # noqa: NPY002 - pfl draws from the global generator
    x, y, _, _ = job.torch_data()
    draws = iter(range(10**9))

    def user(client: int) -> Dataset:
        index = torch.from_numpy(client * job.RECORDS + job.own_order(next(draws)).reshape(-1))
        return Dataset((x[index], y[index]), user_id=str(client))

    users = FederatedDataset(user, get_user_sampler("minimize_reuse", list(range(job.CLIENTS))))
    trained = Trained(job.module(args.model))
    model = PyTorchModel(
        trained,
        local_optimizer_create=torch.optim.SGD,
        central_optimizer=torch.optim.SGD(trained.parameters(), lr=1.0),
    )
    laps = job.Laps(args.rounds)
    FederatedAveraging().run(
        NNAlgorithmParams(
            central_num_iterations=args.rounds,
            evaluation_frequency=args.rounds,
            train_cohort_size=job.COHORT,
            val_cohort_size=0,
        ),
        SimulatedBackend(training_data=users, val_data=users),
        model,
        NNTrainHyperParams(
            local_batch_size=job.BATCH, local_num_epochs=1, local_learning_rate=job.LR
        ),
        NNEvalHyperParams(local_batch_size=None),
        callbacks=[Clock(laps)],
        send_metrics_to_platform=False,
    )
    job.report_laps(args, ["pfl", "torch"], laps, job.accuracy(trained.inner))


if __name__ == "__main__":
    main()
