"""The figures of a finished run."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
from torch import Tensor

from fedsieve.experiments.build import Built
from fedsieve.experiments.metrics import PHASES
from fedsieve.experiments.words import CUSTOM
from fedsieve.poisoning import half_life

FURTHER = (
    "attack_success_rate", "backdoor_half_life", "trust", "holds_against", "root_records",
    "sampling",
)  # fmt: skip
"""Keys that only some runs have: those with a backdoor, those whose clients do not each noise for
themselves ("local"), those whose server holds records of its own, and those whose records are not
Poisson sampled."""


@dataclass(frozen=True)
class Summary:
    """The figures of a finished run, under the keys and in the order of summary.json.

    ``None`` stands where a figure does not apply. ``epsilon`` is the largest over the clients, for
    the named unit, neighbouring relation, ``delta`` and accountant, against those whom
    ``holds_against`` names. Bits are those of one client in one round, on average;
    ``peak_memory_bytes`` counts the process and its workers.
    """

    algorithm: str
    dataset: str
    model: str
    seed: int
    n_clients: int
    n_byzantine: int
    attack: str
    rule: str | None
    root_records: int | None
    projection: str
    dimension: int
    message_dimension: int
    rounds: int
    test_accuracy: float | None
    test_loss: float | None
    attack_success_rate: float | None
    backdoor_half_life: int | None
    epsilon: float | None
    delta: float | None
    privacy_unit: str | None
    neighbouring_relation: str | None
    accountant: str | None
    noise_multiplier: float | None
    noise_source: str | None
    trust: str | None
    holds_against: str | None
    uplink_bits_per_client_round: float
    downlink_bits_per_client_round: float
    seconds_total: float
    seconds_by_phase: dict[str, float]
    peak_memory_bytes: int | None
    sampling: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The summary as plain values; numbers that are not finite become ``None``.

        Every run has the same keys but those of `FURTHER`, which only stand where they say more.
        """
        plain = {key: _finite(value) for key, value in asdict(self).items()}
        local = plain["trust"] in (None, "local")
        silent = {key for key in FURTHER if plain[key] is None}
        silent |= {"trust", "holds_against"} if local else set()
        return {key: value for key, value in plain.items() if key not in silent}


def summarise(built: Built, metrics: pa.Table, seconds: float) -> Summary:
    """The figures of a run whose rounds are recorded in ``metrics``.

    Args:
        built: The run.
        metrics: One row a round.
        seconds: Wall-clock time of all rounds, evaluations and checkpoints.
    """
    config, job = built.config, built.job
    spent = None if job.ledger is None else job.ledger.guarantee()
    messages = max(1, sum(_column(metrics, "senders")))
    attack = config.attack.name if config.federation.byzantine else "none"
    rule = [*(config.aggregation.pre or ()), config.aggregation.rule or ""]
    return Summary(
        algorithm=config.algorithm.name,
        dataset=_plain(config.data.name),
        model=_plain(config.model.name),
        seed=config.seed,
        n_clients=config.federation.clients,
        n_byzantine=config.federation.byzantine,
        attack=_plain(attack),
        rule=" >> ".join(_plain(name) for name in rule),
        root_records=config.aggregation.root_records or None,
        projection=_plain(config.projection.name or ""),
        dimension=built.d,
        message_dimension=built.k,
        rounds=metrics.num_rows,
        test_accuracy=_last(metrics, "accuracy"),
        test_loss=_last(metrics, "loss"),
        attack_success_rate=_last(metrics, "attack_success_rate"),
        backdoor_half_life=_half_life(metrics, config.attack.stop),
        epsilon=None if spent is None else spent.epsilon,
        delta=None if spent is None else spent.delta,
        privacy_unit=None if spent is None else spent.unit,
        neighbouring_relation=None if spent is None else spent.relation,
        accountant=None if spent is None else spent.accountant,
        noise_multiplier=None if built.mechanism is None else built.mechanism.noise_multiplier,
        noise_source=None if spent is None else job.streams.noise_source,
        trust=None if spent is None else built.noise.trust,
        holds_against=None if spent is None else built.noise.against,
        uplink_bits_per_client_round=sum(_column(metrics, "bits_up")) / messages,
        downlink_bits_per_client_round=sum(_column(metrics, "bits_down")) / messages,
        seconds_total=seconds,
        seconds_by_phase={p: sum(_column(metrics, f"seconds_{p}")) for p in PHASES},
        peak_memory_bytes=peak_memory(job.workers),
        sampling=None if config.privacy is None else _by_epochs(config.privacy.sampling),
    )


def remarks(metrics: pa.Table, theta: Tensor) -> list[str]:
    """What the reader of a summary must know of how the rounds went; a sentence each.

    Args:
        metrics: One row a round.
        theta: Final parameters.
    """
    said = []
    skipped = sum(_column(metrics, "skipped"))
    if skipped:
        said.append(
            f"{skipped} of {metrics.num_rows} rounds left the model as it was: too few usable "
            "messages arrived, or a few of them held too much of the weight, for the rule to "
            "outvote federation.byzantine"
        )
    last = metrics.column("loss").to_pylist()[-1:]  # NaN stands there as None
    lost = any(loss is None or not math.isfinite(loss) for loss in last)
    if lost or not bool(theta.isfinite().all()):
        said.append("training diverged: loss or parameters are not finite; lower algorithm.lr")
    return said


def peak_memory(workers: int = 0) -> int | None:
    """Largest resident memory so far in bytes: this process plus, at most, its worker processes.

    Pages that are shared between them are counted more than once. ``None`` where the system does
    not tell (Windows).
    """
    try:
        import resource
    except ImportError:  # pragma: no cover - the module is missing on Windows only
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    worker = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss if workers else 0
    return unit * (own + workers * worker)


def _column(metrics: pa.Table, name: str) -> Sequence[float]:
    return [value for value in metrics.column(name).to_pylist() if value is not None]


def _last(metrics: pa.Table, name: str) -> float | None:
    values = _column(metrics, name)
    return values[-1] if values else None


def _half_life(metrics: pa.Table, stop: int | None) -> int | None:
    if stop is None:
        return None
    rounds, rates = (metrics.column(name).to_pylist() for name in ("round", "attack_success_rate"))
    seen = [(t, rate) for t, rate in zip(rounds, rates, strict=True) if rate is not None]
    return half_life([t for t, _ in seen], [rate for _, rate in seen], stop)


def _by_epochs(sampling: str) -> str | None:
    """The way of sampling where it is not the usual one."""
    return None if sampling == "poisson" else sampling


def _plain(name: str) -> str:
    return name.removeprefix(CUSTOM)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
