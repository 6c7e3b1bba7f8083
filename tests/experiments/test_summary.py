"""The keys and values of summary.json."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

from fedsieve.experiments.summary import Summary

SUMMARY_KEYS = """
algorithm dataset model seed n_clients n_byzantine attack rule projection dimension
message_dimension rounds test_accuracy test_loss epsilon delta privacy_unit
neighbouring_relation accountant noise_multiplier noise_source
uplink_bits_per_client_round downlink_bits_per_client_round
seconds_total seconds_by_phase peak_memory_bytes
"""


def test_summary_has_exactly_the_public_keys(tmp_path: Path, invented: Callable[..., Path]) -> None:
    path = invented(tmp_path / "run", private=False)
    summary = json.loads((path / "summary.json").read_text())
    assert list(summary) == SUMMARY_KEYS.split()
    assert summary["epsilon"] is None
    assert summary["noise_source"] is None


def test_a_summary_is_valid_json_whatever_was_measured(a_summary: Callable[..., Summary]) -> None:
    diverged = a_summary(top=math.nan).as_dict()
    assert diverged["test_accuracy"] is None
    json.dumps(diverged, allow_nan=False)
