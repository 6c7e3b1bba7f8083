"""``fedsieve privacy table`` and ``published``."""

from __future__ import annotations

import json
from collections.abc import Callable

from fedsieve.privacy import published
from tests.cli.telling import Told


def test_table(privacy: Callable[..., Told]) -> None:
    grid = ("--epsilon", "1", "--epsilon", "8", "--sampling-rate", "1", "--steps", "100")
    told = privacy("table", *grid, "--relation", "add-remove", "--relation", "replace-one")
    assert told.code == 0
    lines = told.out.splitlines()
    assert [line.split()[0] for line in lines] == ["noise", "37.31", "74.62", "6.0029", "12.006",
                                                   "unit:"]  # fmt: skip
    assert "1e-05, replace-one, exact Gaussian" in lines[2]
    found = json.loads(privacy("table", *grid, "--json").out)
    assert [row["epsilon"] <= e for row, e in zip(found, (1, 8), strict=True)] == [True, True]
    assert {"unit", "relation", "delta", "sampling", "accountant"} <= set(found[0])


def test_published(privacy: Callable[..., Told]) -> None:
    told = privacy("published")
    text = " ".join(told.out.split())
    assert told.code == 0
    assert max(map(len, told.out.splitlines())) <= 80
    for row in published():
        assert row.gap in text
        assert f"epsilon = {row.theirs:.4g} by the {row.method}" in text
    assert text.count("printed not known to us first-hand") == 3
    found = json.loads(privacy("published", "--json").out)
    assert [entry["printed"] for entry in found] == [None, 1.34, 8.68, None, None]
    assert found[3]["ours"]["relation"] == "replace-one"
