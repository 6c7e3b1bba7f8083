"""The pieces of a run, each made from the configuration by the name of its component."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from fedsieve.aggregation import Rule
from fedsieve.algorithms.form import Algorithm
from fedsieve.algorithms.parts import Parts, Planner, Projection, StochasticGradient
from fedsieve.algorithms.trust import Mechanism, Noise
from fedsieve.compression.codecs import Codec
from fedsieve.experiments import attacks, budget, options
from fedsieve.experiments.config import Config
from fedsieve.experiments.resolve import Facts
from fedsieve.learning.data import Dataset, Forged, Shards
from fedsieve.learning.datasets import load
from fedsieve.learning.flat import FlatModel
from fedsieve.learning.gradients import Loss, PerSampleGradients
from fedsieve.learning.losses import LOSSES, evaluate
from fedsieve.learning.partitions import partition
from fedsieve.poisoning import Attack, Backdoor, RecordAttack, Records
from fedsieve.privacy import IntegerMechanism
from fedsieve.randomness import Streams
from fedsieve.registry import component
from fedsieve.simulation.participation import Participation

MODEL, PARTITION, PROJECTION, POISON = 10, 11, 12, 13
"""Labels of these draws in their streams."""


def device(config: Config) -> torch.device:
    """The device that computes.

    Raises:
        ValueError: A CUDA device that this machine does not have.
    """
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    wanted = torch.device(config.device)
    if wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device={config.device!r}: this machine has {torch.cuda.device_count()} CUDA devices; "
            "allowed is 'cpu'"
        )
    return wanted


def dataset(config: Config) -> Dataset:
    """The named data set, from where it is found first."""
    folder = Path(config.data.dir) if config.data.dir else None
    return load(config.data.name, folder, config.data.download)


def divide(
    config: Config, data: Dataset, streams: Streams, root: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Per client the positions of its records, none of which is among the root records."""
    left = np.delete(np.arange(len(data.y)), root)
    parts = partition(
        config.data.partition,
        data.y.numpy()[left],
        config.federation.clients,
        streams.public(PARTITION),
        owners=None if data.owners is None else data.owners.numpy()[left],
        alpha=config.data.alpha,
        classes_per_client=config.data.classes_per_client,
        gamma=config.data.gamma,
        sizes=config.data.sizes,
        size_alpha=config.data.size_alpha,
    )
    return tuple(left[part] for part in parts)


def own_parts(parts: Sequence[ArrayLike], records: int) -> tuple[np.ndarray, ...]:
    """The caller's own division of the training records, sorted.

    Raises:
        ValueError: A client holds nothing, a record does not exist, or two clients hold it; or what
            is given are no positions, such as fractions or a mask.
    """
    for client, part in enumerate(parts):
        kind = np.asarray(part).dtype
        if len(np.atleast_1d(part)) and not np.issubdtype(kind, np.integer):
            raise ValueError(f"parts[{client}] holds {kind}; allowed are positions, integers >= 0")
    sorted_ = tuple(np.sort(np.asarray(part, dtype=np.int64).ravel()) for part in parts)
    empty = [client for client, part in enumerate(sorted_) if not len(part)]
    if empty or not sorted_:
        raise ValueError(f"parts: clients {empty} of {len(sorted_)} hold no record")
    held, times = np.unique(np.concatenate(sorted_), return_counts=True)
    if held[0] < 0 or held[-1] >= records:
        raise ValueError(f"parts: positions {held[0]}..{held[-1]} must lie in 0..{records - 1}")
    if times.max() > 1:
        raise ValueError(f"parts: record {held[times.argmax()]} is dealt {times.max()} times")
    return sorted_


def module(config: Config, data: Dataset, streams: Streams) -> nn.Module:
    """The named model with its initial parameters."""
    seed = int(streams.public(MODEL).integers(2**63))
    tokens = data.x.dtype == torch.int64
    made: nn.Module = component("model", config.model.name).build(
        input_shape=data.input_shape,
        outputs=max(data.classes, 1),
        hidden=config.model.hidden,
        activation=config.model.activation,
        vocabulary=int(max(data.x.max(), data.x_test.max())) + 1 if tokens else 0,
        generator=torch.Generator().manual_seed(seed),
    )
    return made


def facts(model: FlatModel, data: Dataset, divided: tuple[np.ndarray, ...]) -> Facts:
    """What `resolve` has to know."""
    return Facts(
        d=model.d,
        sizes=tuple(len(part) for part in divided),
        input_shape=data.input_shape,
        image=data.x.dtype == torch.uint8,
    )


def attack(config: Config) -> Attack | None:
    """The named attack; ``None`` if there is none."""
    return attacks.attack(config)


def shards(
    data: Dataset,
    divided: tuple[np.ndarray, ...],
    attacker: Attack | None,
    byzantine: tuple[int, ...],
    streams: Streams,
) -> Shards:
    """The clients' records, those of malicious clients poisoned where the attack does that."""
    if not isinstance(attacker, RecordAttack) or not byzantine:
        return Shards(data, divided)
    places = np.concatenate([divided[client] for client in byzantine])
    held = []
    for client in byzantine:
        own = torch.from_numpy(divided[client]).to(data.y.device)
        held.append(Records(data.x[own], data.y[own], data.classes))
    false = attacker.poison(held, [streams.attacker(POISON, client) for client in byzantine])
    x, y = torch.cat([own.x for own in false]), torch.cat([own.y for own in false])
    redrawn = x.ne(torch.cat([own.x for own in held])).reshape(len(x), -1).any(1)
    changed = redrawn | y.ne(torch.cat([own.y for own in held]))
    order = np.argsort(places)
    order = order[changed.cpu().numpy()[order]]
    if not len(order):
        return Shards(data, divided)
    at = torch.from_numpy(order).to(y.device)
    return Shards(data, divided, Forged(places[order], y[at], x[at] if redrawn.any() else None))


def success(
    attacker: Attack | None, model: FlatModel, data: Dataset
) -> Callable[[Tensor], float] | None:
    """Parameters (d,) -> success rate of the backdoor on the test set; ``None`` if it is none."""
    if not isinstance(attacker, Backdoor):
        return None
    lures = attacker.lures(Records(data.x_test, data.y_test, data.classes))
    wanted = torch.full((len(lures),), attacker.wanted, device=lures.device)
    loss = LOSSES[data.task]

    def measure(theta: Tensor) -> float:
        return evaluate(model, theta, lures, wanted, loss, normalise=data.normalise).accuracy

    return measure


def rule(config: Config) -> Rule:
    """The rule behind its pre-aggregators."""
    return options.rule(config.aggregation)


def codec(config: Config, mechanism: Mechanism | None) -> Codec:
    """The named codec; a message that is not compressed still travels as bytes."""
    name = "raw32" if config.codec.name == "none" else config.codec.name
    facts: dict[str, Any] = {}
    if name == "integers" and isinstance(mechanism, IntegerMechanism):
        facts = {"step": mechanism.step, "bits": mechanism.bits}
    made: Codec = component("codec", name).build(**facts)
    return made


def planner(
    config: Config, model: FlatModel, streams: Streams, projection: Projection | None
) -> Planner:
    """The plan of the named projection, or of the caller's own.

    Raises:
        ValueError: Layers are to be clipped apart, and the projection mixes them.
    """
    if projection is None:
        assert config.projection.name is not None
        made = component("projection", config.projection.name)
        projection = made.build(k=config.projection.k, refresh=config.projection.refresh)
    seed = int(streams.public(PROJECTION).integers(2**63))
    planned = Planner(projection, model.layout, seed=seed, device=device(config))
    apart = config.privacy is not None and config.privacy.clipping == "per-layer"
    if apart and planned.first.maps is None:
        raise ValueError(
            f"privacy.clipping='per-layer' with projection.name={config.projection.name!r}: the "
            "projection mixes the layers; allowed are 'flat' and 'automatic', or a projection that "
            "acts layer by layer, such as 'dct'"
        )
    return planned


def parts(
    config: Config,
    gradients: PerSampleGradients,
    mechanism: Mechanism | None,
    noise: Noise,
    participation: Participation,
    planned: Planner,
) -> Parts:
    """What the algorithm is composed of."""
    batch = config.algorithm.batch
    assert batch is not None
    moving = budget.adaptive(config, mechanism)
    way = config.privacy.sampling if config.privacy else "poisson"
    return Parts(
        gradient=StochasticGradient(gradients, batch, mechanism, noise, moving, way=way),
        planner=planned,
        n=config.federation.clients,
        everybody=participation.everybody,
    )


def algorithm(config: Config, composed: Parts, records: int) -> Algorithm:
    """The named algorithm; ``records`` is the largest number that a client holds."""
    settings = config.algorithm
    built: Algorithm = component("algorithm", settings.name).build(
        parts=composed,
        lr=settings.lr,
        server_lr=settings.server_lr,
        momentum=settings.momentum,
        mixing=settings.mixing,
        graph=settings.graph,
        records=records,
    )
    return built


def gradients(config: Config, model: FlatModel, loss: Loss) -> PerSampleGradients:
    """The gradient engine of the model."""
    dtype = torch.bfloat16 if config.precision == "bfloat16" else torch.float32
    return PerSampleGradients(model, loss, compute_dtype=dtype)


def require_fit(gradients: PerSampleGradients, data: Dataset) -> None:
    """The model takes the records and gives the outputs that the labels need.

    Settles, besides, how its gradients are computed, before any process gets a copy of the engine.

    Raises:
        ValueError: With the shapes that do not fit, or because the model mixes its samples.
    """
    model = gradients.model
    theta, x = model.read().to(data.x.device), data.normalise(data.x[:2])
    kind, shape = type(model.module).__name__, tuple(data.input_shape)
    if theta.dtype != torch.float32:
        raise ValueError(f"the model {kind} has {theta.dtype} parameters; allowed is torch.float32")
    try:
        with torch.no_grad():
            outputs = tuple(model.bind(theta)(x).shape)
        wanted = [(2, data.classes)] if data.classes else [(2, 1), (2,)]
        if outputs not in wanted:
            raise ValueError(
                f"the model {kind} gives outputs of shape {outputs} for 2 records; data "
                f"{data.name!r} needs {wanted[0]}"
            )
        any(  # up to the first records that decide
            gradients.settle(theta, data.normalise(records), labels)
            for records, labels in zip(data.x.split(100), data.y.split(100), strict=True)
        )
    except (RuntimeError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(
            f"the model {kind} does not take records of shape {shape}: {error}"
        ) from error


def client_weights(config: Config, divided: tuple[np.ndarray, ...]) -> Tensor | None:
    """The clients' sizes where they weigh by them; ``None`` where all count the same."""
    sizes = [len(part) for part in divided]
    if config.aggregation.weights != "sizes" or len(set(sizes)) == 1:
        return None
    return torch.tensor(sizes, dtype=torch.float64)


def workers(config: Config, built: Algorithm) -> int:
    """Number of worker processes; one process needs no worker."""
    if not built.one_by_one or device(config).type != "cpu":
        return 0
    wanted = os.cpu_count() or 1 if config.workers == "auto" else config.workers
    return 0 if wanted == 1 else wanted
