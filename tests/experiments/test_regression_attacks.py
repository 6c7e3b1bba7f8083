"""Attacks that are about classes, on data that have none: refused before anything runs."""

import pytest

from fedsieve.experiments import checks
from fedsieve.experiments.toml import parse
from fedsieve.poisoning import Backdoor, DataAttack
from fedsieve.registry import components

ABOUT_CLASSES = {
    part.name: "flip" if issubclass(part.factory, DataAttack) else "aim at"
    for part in components("attack")
    if part.name != "none" and issubclass(part.factory, DataAttack | Backdoor)
}


def test_they_are_nine():
    assert len(ABOUT_CLASSES) == 9
    assert sorted(ABOUT_CLASSES.values()) == ["aim at"] * 6 + ["flip"] * 3


@pytest.mark.parametrize("name", [*ABOUT_CLASSES, "alie", "none"])
def test_a_regression_is_refused_from_its_task_alone(name):
    config = parse(
        {
            "data": {"name": "diabetes"},
            "federation": {"clients": 5, "byzantine": int(name != "none")},
            "attack": {"name": name},
        }
    )
    checks.fits_data(config, task="classification", owners=False)
    if name not in ABOUT_CLASSES:
        checks.fits_data(config, task="regression", owners=False)
        return
    message = f"attack.name='{name}': .* a regression and has no classes to {ABOUT_CLASSES[name]};"
    with pytest.raises(ValueError, match=message):
        checks.fits_data(config, task="regression", owners=False)
