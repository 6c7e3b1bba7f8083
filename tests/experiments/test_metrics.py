"""The rows of metrics.parquet as they come."""

from __future__ import annotations

import numpy as np
import pytest

from fedsieve.experiments.metrics import Metrics


def test_metrics_can_forget_what_a_crash_left_over() -> None:
    metrics = Metrics()
    for t in range(5):
        metrics.append({"round": t, "loss": np.float32(t), "bits_up": np.int64(8)})
    again = Metrics(metrics.table())
    again.truncate(3)
    assert again.table().column("round").to_pylist() == [0, 1, 2]
    again.append({"round": 3})
    assert len(again) == 4


def test_metrics_refuse_unknown_columns_and_repeated_rounds() -> None:
    metrics = Metrics()
    metrics.append({"round": 1})
    with pytest.raises(ValueError, match="no column"):
        metrics.append({"round": 2, "acuracy": 1.0})
    with pytest.raises(ValueError, match="round=1 does not follow 1"):
        metrics.append({"round": 1})
