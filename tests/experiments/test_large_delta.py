"""A delta that would allow to publish somebody's record is told of before the first round."""

from __future__ import annotations

import pytest

import fedsieve

RUN = {
    "rounds": 1,
    "data": {"name": "digits"},
    "model": {"name": "softmax"},
    "federation": {"clients": 6, "byzantine": 0},
}


@pytest.mark.parametrize(
    ("unit", "delta", "units"),
    [("record", 1e-2, 239), ("record", 1e-3, None), ("client", 0.2, 6), ("client", 1e-2, None)],
)
def test_a_large_delta_is_told_of(
    unit: str, delta: float, units: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    privacy = {"noise_multiplier": 2.0, "delta": delta, "unit": unit}
    fedsieve.run(RUN | {"privacy": privacy}, progress="plain")
    told = " ".join("".join(capsys.readouterr()).split())
    assert ("would keep to it" in told) is (units is not None)
    if units:
        assert f"no less than 1/{units}" in told
