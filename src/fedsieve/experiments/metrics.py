"""What is recorded of every round: the columns of metrics.parquet, and the rows as they come."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

PHASES = ("sample", "client", "attack", "codec", "aggregate", "server", "evaluate")
"""What a round spends its time on; ``seconds_PHASE`` in the metrics."""

SCHEMA = pa.schema(
    [
        ("round", pa.int64()),
        ("accuracy", pa.float64()),
        ("loss", pa.float64()),
        ("attack_success_rate", pa.float64()),
        ("epsilon", pa.float64()),
        ("clipped_fraction", pa.float64()),
        ("clip", pa.float64()),
        ("unusable", pa.float64()),
        ("noise_norm", pa.float64()),
        ("signal_norm", pa.float64()),
        ("aggregation_error", pa.float64()),
        ("bits_up", pa.int64()),
        ("bits_down", pa.int64()),
        ("senders", pa.int64()),
        ("rejected", pa.int64()),
        ("skipped", pa.bool_()),
        ("weights", pa.list_(pa.float64())),
        *((f"seconds_{phase}", pa.float64()) for phase in PHASES),
    ]
)
"""Columns of metrics.parquet. Bits are sums over the cohort; a number that a round does not have
(no evaluation, no privacy) is null."""


class Metrics:
    """Records one row per round.

    Args:
        table: Rows of the part of the run that is already done.

    Example:
        >>> metrics = Metrics()
        >>> metrics.append({"round": 0, "accuracy": 0.5})
        >>> metrics.table().num_rows
        1
    """

    def __init__(self, table: pa.Table | None = None) -> None:
        self._rows: list[dict[str, Any]] = [] if table is None else table.to_pylist()

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a round's figures; columns that are left out, and NaN outside ``weights``, are null.

        Raises:
            ValueError: A column that `SCHEMA` does not have, or a round that does not follow.
        """
        unknown = set(row) - set(SCHEMA.names)
        if unknown:
            raise ValueError(f"metrics have no column {sorted(unknown)}; see SCHEMA")
        if self._rows and row["round"] <= self._rows[-1]["round"]:
            raise ValueError(f"round={row['round']} does not follow {self._rows[-1]['round']}")
        self._rows.append({name: _cell(row.get(name)) for name in SCHEMA.names})

    def amend(self, figures: Mapping[str, Any]) -> None:
        """Fill in figures of the last round, if there is one."""
        if self._rows:
            self._rows[-1] |= {name: _cell(value) for name, value in figures.items()}

    def truncate(self, rounds: int) -> None:
        """Forget every round from number ``rounds`` on: what a crash left behind a checkpoint."""
        self._rows = [row for row in self._rows if row["round"] < rounds]

    def table(self) -> pa.Table:
        """All rows, with the columns of `SCHEMA`."""
        return pa.Table.from_pylist(self._rows, schema=SCHEMA)

    def __len__(self) -> int:
        return len(self._rows)


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, int | np.integer):
        return value
    if isinstance(value, float | np.floating):
        return None if math.isnan(value) else float(value)
    return [float(weight) for weight in value]
