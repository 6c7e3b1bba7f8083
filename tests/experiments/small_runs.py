"""A private or plain run of six clients that takes a moment."""

from __future__ import annotations

from typing import Any


def settings(**changes: Any) -> dict[str, Any]:
    return {
        "rounds": 6,
        "federation": {"clients": 6},
        "model": {"name": "softmax"},
        "algorithm": {"name": "dshb", "lr": 0.5, "momentum": 0.5, "batch": 10},
        "evaluation": {"every": 2},
        "checkpoint": {"every": 3},
        **changes,
    }


PRIVATE = {"noise_multiplier": 2.0, "noise_seed": 3}
