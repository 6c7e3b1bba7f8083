"""What a run gave away, to whom, and what it cost; made from its directory alone.

Three kinds of quantities are told apart: what was *paid for* (noisy messages, and what follows from
them), what is *public by agreement* (it costs nothing because the statement is made given it), and
what was *not paid for*: figures of private records without noise. In a simulation the last kind
stays with the simulator; it becomes a release when somebody publishes the run directory.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from fedsieve.experiments.run_directory import JOURNAL, RunDirectory
from fedsieve.experiments.toml import ConfigError

Kind = Literal["paid for", "free", "public", "simulator only", "unprotected"]
"""Noised and charged; computed from what was; agreed to be public; a figure of private records that
no protocol sends but that lies in the run directory; sent without noise."""

FLAGGED: tuple[Kind, ...] = ("simulator only", "unprotected")
"""Kinds that no epsilon covers."""

_RAW = {
    "clipped_fraction": "share of private gradients above the clip, of the whole cohort",
    "unusable": "share of private gradients (at client level of updates) that were not finite",
    "signal_norm": "norm of the clipped sums before the noise",
    "noise_norm": "norm of the very noise that was drawn: beside a message it tells what it hides",
    "seconds_client": "how long private batches took, which tells how large they were",
    "seconds_sample": "how long private batches took to draw, which tells how large they were",
    "aggregation_error": "distance of the aggregate from the honest messages' mean",
}
"""Columns of metrics.parquet that are computed from private records, or from who is honest."""

_TABLE = "metrics.parquet, report.html"
_FILES = dict.fromkeys(("seconds_client", "seconds_sample"), f"{_TABLE}, summary.json")
"""Where a column can be read; the times stand in the summary, too, added up."""


@dataclass(frozen=True)
class Released:
    """One quantity, who sees it, and what it cost.

    Args:
        what: The quantity.
        sees: Who gets to know it.
        kind: How it is covered.
        cost: In words; an epsilon with all that belongs to it.
    """

    what: str
    sees: str
    kind: Kind
    cost: str

    @property
    def flagged(self) -> bool:
        """Whether no epsilon covers it."""
        return self.kind in FLAGGED


def released(run: RunDirectory) -> list[Released]:
    """Every quantity that a run released, or that lies in its directory.

    Args:
        run: A run that has begun; a finished one tells its epsilon.

    Raises:
        ConfigError: A file of the directory cannot be read.
    """
    try:
        config = tomllib.loads((run.path / "config.toml").read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ConfigError(f"{run.path / 'config.toml'} cannot be read: {error}") from error
    private = config.get("privacy") is not None
    return [*_sent(run, config), *_agreed(config, private), *_left_behind(run, config)]


def _sent(run: RunDirectory, config: dict[str, Any]) -> Iterator[Released]:
    everybody = "server, and whoever reads the wire"
    messages = "messages of the clients, one per round"
    what = "aggregates, global models, weights of the rule, projections learned from them"
    private, trust = config.get("privacy") is not None, _trust(config)
    if trust == "central":
        trusted = "no noise: the server is trusted with them, and the wire has to be encrypted"
        yield Released(messages, everybody, "unprotected", trusted)
        paid = "the run's epsilon: " + _price(run)
        yield Released(what, "server and clients", "paid for", paid)
    elif private:
        paid = "the run's epsilon: " + _price(run)
        yield Released(messages, everybody, "paid for", paid)
        if config["privacy"].get("clip_quantile") is not None:
            counts = "noisy counts of gradients within the clip, one per client and round"
            both = "part of the run's epsilon: they and the messages share the noise multiplier"
            yield Released(counts, everybody, "paid for", both)
            yield Released("the clip of each round", "everybody", "free", "made from those counts")
        how = "computed from the messages alone: what was paid for them covers it"
        yield Released(what, "server and clients", "free", how)
    else:
        bare = "no noise: no epsilon holds, and single records may be reconstructed"
        yield Released(messages, everybody, "unprotected", bare)
        yield Released(
            what, "server and clients", "unprotected", "computed from unprotected messages"
        )
    federation = config.get("federation", {})
    if (weighed := _weighed(config)) and private:
        yield Released(SIZES.format(weighed), "server", "unprotected", _size_is_told(config))
    elif weighed:
        yield Released(
            SIZES.format(weighed),
            "server",
            "unprotected",
            "no epsilon covers them; with aggregation.weights='equal' no size is told",
        )
    fail = federation.get("dropout") or federation.get("stragglers")
    if trust == "distributed" and fail:
        yield Released(
            "noise shared with clients that dropped out",
            "server",
            "public",
            "nothing more: who drops out is counted among the colluders of its round",
        )
    test = "computed from the released models on the test set, which has to be public"
    kind: Kind = "free" if private else "unprotected"
    yield Released("test quality and loss", "readers of the report", kind, test)


SIZES = "the numbers of records n_i of the clients, as their weights in the rule{}"


def _weighed(config: dict[str, Any]) -> str | None:
    """How clients weigh by their sizes; ``None`` where they do not."""
    aggregation = config.get("aggregation", {})
    if aggregation.get("weights") != "sizes":
        return None
    cap, n = aggregation["weight_cap"], config["federation"]["clients"]
    return ", none above the public cap of " + f"{cap:g} / n" if cap < n else ", without a cap"


def _size_is_told(config: dict[str, Any]) -> str:
    """What the statement does not say of the clients' sizes."""
    privacy = config["privacy"]
    if privacy.get("unit", "record") == "client":
        why = "a client's size is part of what it holds, and is sent as it is"
    elif privacy["relation"] == "add-remove":
        why = "one record more or less changes a size, and the statement is made at fixed sizes"
    else:
        why = f"neighbours ({privacy['relation']}) share the sizes, so nothing hides one"
    return (
        f"no epsilon covers them: {why}. They cost nothing where the sizes are public anyway; "
        "where a size is secret, it is released for nothing"
    )


def _trust(config: dict[str, Any]) -> str:
    return str((config.get("privacy") or {}).get("trust", "local"))


def _price(run: RunDirectory) -> str:
    if not run.finished:
        return f"not known before the run is finished; {JOURNAL} holds what was spent so far"
    from fedsieve.experiments.statement import privacy_line

    return privacy_line(run.summary())


def _agreed(config: dict[str, Any], private: bool) -> Iterator[Released]:
    federation = config.get("federation", {})
    drawn = federation.get("participation", 1.0) != 1.0
    yield Released(
        "who takes part in which round" + (" (drawn by the server)" if drawn else ""),
        "server",
        "public",
        "nothing; for that reason it does not amplify privacy either",
    )
    if root := config.get("aggregation", {}).get("root_records"):
        yield Released(
            f"{root} root records of the server (aggregation.root_records)",
            "server",
            "public",
            "nothing of a client's: no client holds them. No epsilon covers them, and the "
            "aggregates tell of them",
        )
    if private and config["privacy"].get("unit", "record") == "record":
        through = "q = batch / N"
        if config["privacy"].get("sampling", "poisson") != "poisson":
            through = "the N // batch steps of an epoch"
        yield Released(
            f"nominal sizes N of the clients (n_i), through {through}",
            "server",
            "unprotected",
            _size_is_told(config),
        )
    if private:
        yield Released(
            "clip, noise multiplier, expected batch, settings of the run",
            "everybody",
            "public",
            "nothing if they were not tuned on the private data; tuning on them is a release of "
            "its own, which no ledger here has counted",
        )


def _left_behind(run: RunDirectory, config: dict[str, Any]) -> Iterator[Released]:
    private = config.get("privacy") is not None
    readers = "whoever gets the run directory; no protocol message carries it"
    if run.partition():
        yield Released(
            "records by client and class (partition.json)",
            readers,
            "simulator only",
            "exact counts n_i without noise: do not publish them for private data",
        )
    table = run.metrics()
    for column, what in _RAW.items():
        if column in table.column_names and table.column(column).null_count < table.num_rows:
            yield Released(
                f"{column}: {what} ({_FILES.get(column, _TABLE)})",
                readers,
                "simulator only",
                "a figure of private records without noise: do not publish it for private data",
            )
    if private and run.resumable:
        yield Released(
            "client states (checkpoints/)",
            readers,
            "free",
            "made from noisy messages; the draws of a seeded run are another matter, see the seed",
        )
    elif run.resumable:
        yield Released(
            "client states (checkpoints/)", readers, "unprotected", "raw gradients and momenta"
        )
    seed = run.manifest().get("seeds", {}).get("noise_seed")
    if private and seed is not None:
        yield Released(
            f"noise seed {seed} (config.toml, manifest.json)",
            readers,
            "unprotected",
            "who knows it subtracts the noise: the epsilon above holds only against those who do "
            "not",
        )


NEVER_SENT = (
    "Not released by the protocol: realised batch sizes, training loss or accuracy of a client, "
    "gradient norms."
)
"""What leaks in other systems and is not sent here."""
