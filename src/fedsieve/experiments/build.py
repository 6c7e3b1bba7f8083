"""From a configuration to the objects of a simulation.

The order matters: data before model, model before the checks that need its size, and everything
that can be refused before the first round. Objects that the caller passes take the place of the
named component.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike
from torch import Tensor, nn

from fedsieve.aggregation import Rule
from fedsieve.algorithms.parts import Projection
from fedsieve.algorithms.trust import Mechanism, Noise
from fedsieve.experiments import budget, checks, pieces, protection, server_root
from fedsieve.experiments.config import Config
from fedsieve.experiments.fingerprints import fingerprints
from fedsieve.experiments.resolve import resolve
from fedsieve.experiments.words import CUSTOM
from fedsieve.learning.data import Dataset
from fedsieve.learning.flat import FlatModel
from fedsieve.learning.losses import LOSSES, evaluate
from fedsieve.poisoning import Attack, Knowledge
from fedsieve.randomness import Streams
from fedsieve.simulation.job import Job
from fedsieve.simulation.participation import Participation

PLACES = {
    "model": ("model", "name"),
    "data": ("data", "name"),
    "parts": ("data", "partition"),
    "rule": ("aggregation", "rule"),
    "attack": ("attack", "name"),
    "projection": ("projection", "name"),
}
"""What the caller may pass -> section and key of the name that it takes the place of."""


@dataclass(frozen=True)
class Objects:
    """What the caller passes instead of naming it.

    Args:
        model: A module to train, with its initial parameters.
        data: A data set.
        parts: Per client the positions of its training records, in any order.
        rule: A robust rule.
        attack: What the malicious clients do.
        projection: A shared linear map.
    """

    model: nn.Module | None = None
    data: Dataset | None = None
    parts: Sequence[ArrayLike] | None = None
    rule: Rule | None = None
    attack: Attack | None = None
    projection: Projection | None = None

    def __post_init__(self) -> None:
        wanted: dict[str, type] = {
            "model": nn.Module,
            "data": Dataset,
            "rule": Rule,
            "attack": Attack,
        }
        for name, kind in wanted.items():
            given = getattr(self, name)
            if given is not None and not isinstance(given, kind):
                raise ValueError(
                    f"{name}={given!r} is no {kind.__module__}.{kind.__name__}; allowed is an "
                    "instance of that class or of a subclass of it"
                )
        if self.projection is not None and not hasattr(self.projection, "plan"):
            raise ValueError(
                f"projection={self.projection!r} has no method plan; see fedsieve.compression"
            )

    def named(self, config: Config) -> Config:
        """The configuration with ``custom:`` names where an object takes a component's place."""
        changed: dict[str, Any] = {}
        for given, (section, key) in PLACES.items():
            value = getattr(self, given)
            if value is not None:
                held = changed.get(section, getattr(config, section))
                name = CUSTOM + (value.name if isinstance(value, Dataset) else type(value).__name__)
                changed[section] = held.model_copy(update={key: name})
        return config.model_copy(update=changed) if changed else config

    def refuse_missing(self, config: Config) -> None:
        """Refuse a configuration that names objects which are not here.

        Raises:
            ValueError: Naming the keys, and the arguments that are needed.
        """
        missing = {
            f"{section}.{key}={name!r}": f"{given}="
            for given, (section, key) in PLACES.items()
            if (name := getattr(getattr(config, section), key) or "").startswith(CUSTOM)
            and getattr(self, given) is None
        }
        if missing:
            raise ValueError(
                f"{' and '.join(missing)}: the caller's own object; give it to fedsieve.run or "
                f"fedsieve.resume as {', '.join(missing.values())}"
            )


@dataclass(frozen=True)
class Built:
    """A job and what a report says of it.

    Args:
        config: The complete configuration.
        job: What to simulate.
        dataset: The records.
        mechanism: Clip and noise, or ``None``.
        noise: Who adds it.
        d: Number of model parameters.
        k: Numbers in one message.
        objects: What the caller passed -> its fingerprint.
    """

    config: Config
    job: Job
    dataset: Dataset
    mechanism: Mechanism | None
    noise: Noise
    d: int
    k: int
    objects: dict[str, str]


def build(config: Config, objects: Objects | None = None) -> Built:
    """Make every object of a run.

    Args:
        config: What the user gave; open settings are filled in.
        objects: What takes the place of named components.

    Raises:
        ValueError: A setting that data or model do not allow, with key and value.
    """
    objects = objects or Objects()
    objects.refuse_missing(config)
    config = objects.named(config)
    streams = Streams(config.seed, config.privacy.noise_seed if config.privacy else None)
    device = pieces.device(config)
    dataset = pieces.dataset(config) if objects.data is None else objects.data
    checks.fits_data(config, task=dataset.task, owners=dataset.owners is not None)
    root, parts = server_root.divided(config, dataset, streams, objects.parts)
    module = objects.model  # which may be empty, and then counts as false
    if module is None:
        module = pieces.module(config, dataset, streams)
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
    rule = pieces.rule(config) if objects.rule is None else objects.rule
    protection.rule_fits(config, rule)
    rule.check(federation.cohort)
    checks.weights_fit(config, rule)
    attack = pieces.attack(config) if objects.attack is None else objects.attack
    if objects.attack is not None:  # a named one was asked when the configuration was made
        checks.attack_may(config, objects.attack)
    shards = pieces.shards(dataset.to(device), parts, attack, byzantine, streams)
    loss = LOSSES[dataset.task]
    gradients = pieces.gradients(config, model, loss)
    pieces.require_fit(gradients, shards.dataset)
    planner = pieces.planner(config, model, streams, objects.projection)
    cheats = byzantine if attack is not None else ()
    k = planner.first.k
    mechanism = budget.mechanism(config, shards, participation, streams, cheats, k)
    noise = budget.noise(config, mechanism, participation, streams)
    composed = pieces.parts(config, gradients, mechanism, noise, participation, planner)
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
        rule=rule,
        reference=server_root.reference(config, rule, composed, shards, root, streams),
        participation=participation,
        codec=pieces.codec(config, mechanism),
        rounds=config.rounds,
        steps=config.algorithm.local_steps or 1,
        byzantine=byzantine,
        attack=attack,
        knowledge=Knowledge.of(config.attack.knowledge or ()),
        attack_start=config.attack.start,
        attack_stop=config.attack.stop,
        attack_success=pieces.success(attack, model, shards.dataset),
        ledger=budget.ledger(config, mechanism, streams),
        client_weights=pieces.client_weights(config, parts),
        weight_cap=config.aggregation.weight_cap or math.inf,
        evaluate_every=config.evaluation.every,
        workers=pieces.workers(config, algorithm),
        own_records=objects.data is None,
    )
    planned = config.projection.model_copy(update={"k": composed.k})
    config = config.model_copy(update={"projection": planned})
    own = fingerprints({name: getattr(objects, name) for name in PLACES})
    return Built(config, job, dataset, mechanism, noise, model.d, algorithm.width, own)
