"""Fill what a configuration leaves open with the algorithm's own defaults.

The defaults of every algorithm stand in one table; `resolve` needs a few facts on the data and the
model (`Facts`) for the rest, and returns a configuration in which nothing is left to be guessed.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, TypeVar

from fedsieve.experiments import checks
from fedsieve.experiments.config import Config
from fedsieve.experiments.sections.aggregation import Aggregation
from fedsieve.experiments.words import CUSTOM, Section
from fedsieve.registry import component

FITTED = "fitted"
"""Stands for the projection that fits data and model, see `_fitted`."""

CAP = 2.0
"""Largest weight by size, in equal weights: a minority f < n/4 stays one, whatever it claims."""

S = TypeVar("S", bound=Section)

IMAGE_MODELS_WITH_LINEAR_INPUT = ("softmax", "mlp")
"""Models whose first layer sees the pixels themselves, so that a cosine basis means something."""


@dataclass(frozen=True)
class Facts:
    """What has to be known of data and model before a configuration can be completed.

    Args:
        d: Number of model parameters.
        sizes: Number of records of each client.
        input_shape: Shape of one record.
        image: Whether a record is an image, (height, width) or (channels, height, width).
    """

    d: int
    sizes: tuple[int, ...]
    input_shape: tuple[int, ...]
    image: bool


@dataclass(frozen=True)
class Defaults:
    """One algorithm's answer to every setting that was not given."""

    lr: float = 0.05
    server_lr: float = 1.0
    momentum: float = 0.0
    batch: int = 32
    local_steps: int = 1
    projection: str = "identity"
    rule: str = "caf"
    rule_if_all_are_honest: str = "mean"
    clip: float = 1.0


DEFAULTS = {
    "fedavg": Defaults(local_steps=5, rule="mean"),
    "dshb": Defaults(lr=0.5, momentum=0.9, batch=50),
    "sieve": Defaults(
        lr=1.0, momentum=0.9, batch=50, projection=FITTED, rule_if_all_are_honest="caf"
    ),
    "scaffold": Defaults(local_steps=5),
    "byrd-saga": Defaults(),
    "peer-to-peer": Defaults(local_steps=5, rule="mean"),
}
"""Algorithm -> its defaults; an algorithm that is not listed has those of `Defaults`."""


def resolve(config: Config, facts: Facts) -> Config:
    """The complete configuration, checked against data and model.

    Args:
        config: What the user gave.
        facts: What data and model are like.

    Returns:
        A configuration in which every setting that the run reads has a value. ``privacy.epsilon``
        or ``privacy.noise_multiplier`` stays as given: the other one follows from the accountant.
        ``projection.k`` stays open where the projection sizes itself.

    Raises:
        ValueError: A value that data or model do not allow, with key, value and what is allowed.
    """
    default = DEFAULTS.get(config.algorithm.name, Defaults())
    honest = config.federation.byzantine == 0
    central = config.privacy is not None and config.privacy.trust == "central"
    algorithm = _filled(
        config.algorithm,
        lr=default.lr,
        server_lr=default.server_lr,
        momentum=default.momentum,
        batch=_batch(config, default, min(facts.sizes)),
        local_steps=default.local_steps,
    )
    if config.algorithm.name == "peer-to-peer":
        algorithm = _filled(algorithm, mixing=0.5, graph="ring")
    projection = _filled(
        config.projection,
        name=_fitted(config, facts) if default.projection == FITTED else default.projection,
    )
    assert projection.name is not None
    projection = _filled(projection, refresh=_own("projection", projection.name, "refresh", 0))
    if projection.name == "identity":
        projection = _filled(projection, k=facts.d)
    aggregation = _filled(
        config.aggregation,
        rule="mean" if central else default.rule_if_all_are_honest if honest else default.rule,
        pre=(),
        f=checks.assumed_f(config),
    )
    updates: dict[str, Any] = {
        "name": config.title,
        "federation": config.federation.model_copy(update={"clients": len(facts.sizes)}),
        "algorithm": algorithm,
        "projection": projection,
        "aggregation": _weighted(config, aggregation, len(facts.sizes)),
    }
    if config.privacy is not None:
        privacy = _filled(config.privacy, clip=default.clip)
        if privacy.trust == "distributed":
            privacy = _filled(privacy, colluders=config.federation.byzantine)
        updates["privacy"] = privacy
    complete = config.model_copy(update=updates)
    checks.combination(complete)
    checks.fits_model(complete, facts)
    return complete


def _batch(config: Config, default: Defaults, smallest: int) -> int:
    """The algorithm's batch; at record level a tenth of the smallest client's, at most 128.

    At equal epsilon a larger batch averages the noise over more records, until sampling no longer
    amplifies; beyond a tenth the gain is small and every round costs more.
    """
    if config.privacy is None or config.privacy.unit == "client":
        return min(default.batch, smallest)
    return max(1, min(smallest // 10, 128))


def _weighted(config: Config, aggregation: Aggregation, n: int) -> Aggregation:
    """Equal weights, but McMahan et al.'s n_k / n, which has no cap, where nothing hides a size."""
    own = config.algorithm.name == "fedavg" and aggregation.rule == "mean" and not aggregation.pre
    if aggregation.weights is None and own and config.privacy is None:
        return _filled(aggregation, weights="sizes", weight_cap=float(n))  # a share of n / n
    if aggregation.weights == "sizes":
        return _filled(aggregation, weight_cap=CAP)
    return _filled(aggregation, weights="equal")


def _filled(section: S, **defaults: Any) -> S:
    """The section with the defaults where it holds ``None``."""
    return section.model_copy(
        update={key: value for key, value in defaults.items() if getattr(section, key) is None}
    )


def _fitted(config: Config, facts: Facts) -> str:
    """Low frequencies for pixels that enter a linear layer, a learned basis for the rest."""
    pixels = facts.image and config.model.name in IMAGE_MODELS_WITH_LINEAR_INPUT
    return "dct" if pixels else "low-rank"


def _own(family: str, name: str, parameter: str, otherwise: Any) -> Any:
    """The default of a component's own parameter."""
    if name.startswith(CUSTOM):
        return otherwise
    known = inspect.signature(component(family, name).factory).parameters
    if parameter not in known or known[parameter].default is inspect.Parameter.empty:
        return otherwise
    return known[parameter].default
