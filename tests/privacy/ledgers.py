"""Ledgers that several test files share."""

import json

from fedsieve.privacy import Ledger, Limits, Terms, epsilon

DELTA = 1e-5
COHORT = {0: (0.01, 1.0, 1), 1: (0.02, 1.0, 1), "hospital": (0.02, 1.0, 1)}
TERMS = Terms(noise_multiplier=10.0, sampling_rate=1.0, clip=1.0)


def new_ledger(**options):
    """A simulation's ledger of records that repeats a round's noise."""
    return Ledger(**({"delta": DELTA, "relation": "add-remove", "repeatable": True} | options))


def through_json(state):
    """What a checkpoint gives back."""
    return json.loads(json.dumps(state))


def limits(worth=3, **changed):
    """A budget for so many rounds on `TERMS`."""
    budget = epsilon(10.0, 1.0, worth, DELTA).epsilon
    return Limits(
        **({"epsilon": budget, "delta": DELTA, "noise_multiplier": 5.0, "sampling_rate": 1.0}
           | {"clip": 2.0} | changed)
    )  # fmt: skip
