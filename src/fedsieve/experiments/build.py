"""From a configuration to the objects of a simulation.

The order matters: data before model, model before the checks that need its size, and everything
that can be refused before the first round. Objects that the caller passes take the place of the
named component.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from fedsieve.aggregation import Rule
from fedsieve.algorithms.parts import Projection
from fedsieve.experiments import budget, checks, pieces
from fedsieve.experiments.config import CUSTOM, Config
from fedsieve.experiments.resolve import resolve
from fedsieve.learning.data import Dataset
from fedsieve.learning.flat import FlatModel
from fedsieve.learning.losses import LOSSES, evaluate
from fedsieve.poisoning import Attack
from fedsieve.privacy import GaussianMechanism
from fedsieve.randomness import Streams
from fedsieve.simulation.job import Job
from fedsieve.simulation.participation import Participation


@dataclass(frozen=True)
class Objects:
    """What the caller passes instead of naming it.

    Args:
        model: A module to train, with its initial parameters.
        data: A data set.
        parts: Per client the positions of its training records.
        rule: A robust rule.
        attack: What the malicious clients do.
        projection: A shared linear map.
    """

    model: nn.Module | None = None
    data: Dataset | None = None
    parts: tuple[np.ndarray, ...] | None = None
    rule: Rule | None = None
    attack: Attack | None = None
    projection: Projection | None = None

    def named(self, config: Config) -> Config:
        """The configuration with ``custom:`` names where an object takes a component's place."""
        places = {
            "model": ("model", "name"),
            "data": ("data", "name"),
            "parts": ("data", "partition"),
            "rule": ("aggregation", "rule"),
            "attack": ("attack", "name"),
            "projection": ("projection", "name"),
        }
        changed: dict[str, Any] = {}
        for given, (section, key) in places.items():
            value = getattr(self, given)
            if value is not None:
                held = changed.get(section, getattr(config, section))
                name = CUSTOM + (value.name if isinstance(value, Dataset) else type(value).__name__)
                changed[section] = held.model_copy(update={key: name})
        return config.model_copy(update=changed) if changed else config


@dataclass(frozen=True)
class Built:
    """A job and what a report says of it.

    Args:
        config: The complete configuration.
        job: What to simulate.
        dataset: The records.
        mechanism: Clip and noise, or ``None``.
        d: Number of model parameters.
        k: Numbers in one message.
    """

    config: Config
    job: Job
    dataset: Dataset
    mechanism: GaussianMechanism | None
    d: int
    k: int


def build(config: Config, objects: Objects | None = None, journal: Path | None = None) -> Built:
    """Make every object of a run.

    Args:
        config: What the user gave; open settings are filled in.
        objects: What takes the place of named components.
        journal: Where the privacy ledger writes every release; ``None`` keeps it in memory.

    Raises:
        ValueError: A setting that data or model do not allow, with key and value.
    """
    objects = objects or Objects()
    config = objects.named(config)
    streams = Streams(config.seed, config.privacy.noise_seed if config.privacy else None)
    device = pieces.device(config)
    dataset = objects.data or pieces.dataset(config)
    checks.fits_data(config, task=dataset.task, owners=dataset.owners is not None)
    parts = objects.parts or pieces.divide(config, dataset, streams)
    module = objects.model or pieces.module(config, dataset, streams)
    model = FlatModel(module, dataset.input_shape)
    config = resolve(config, pieces.facts(model, dataset, parts))
    federation = config.federation
    byzantine = tuple(range(federation.clients - federation.byzantine, federation.clients))
    participation = Participation(
        clients=federation.clients,
        size=federation.cohort,
        dropout=federation.dropout,
        stragglers=federation.stragglers,
        reliable=byzantine,
    )
    attack = objects.attack or pieces.attack(config)
    shards = pieces.shards(dataset.to(device), parts, attack, byzantine, streams)
    mechanism = budget.mechanism(config, shards, participation, streams)
    loss = LOSSES[dataset.task]
    composed = pieces.parts(
        config,
        pieces.gradients(config, model, loss),
        mechanism,
        participation,
        streams,
        objects.projection,
    )
    algorithm = pieces.algorithm(config, composed, max(len(part) for part in parts))

    def measure(theta: Tensor) -> tuple[float, float]:
        data = shards.dataset
        return evaluate(model, theta, data.x_test, data.y_test, loss, normalise=data.normalise)

    job = Job(
        algorithm=algorithm,
        theta=model.read().to(device),
        shards=shards,
        evaluate=measure,
        streams=streams,
        rule=objects.rule or pieces.rule(config),
        participation=participation,
        codec=pieces.codec(config),
        rounds=config.rounds,
        steps=config.algorithm.local_steps or 1,
        byzantine=byzantine,
        attack=attack,
        ledger=budget.ledger(config, mechanism, streams, journal),
        client_weights=pieces.client_weights(config, parts),
        evaluate_every=config.evaluation.every,
        workers=pieces.workers(config),
    )
    planned = config.projection.model_copy(update={"k": composed.k})
    config = config.model_copy(update={"projection": planned})
    return Built(config, job, dataset, mechanism, model.d, algorithm.width)
