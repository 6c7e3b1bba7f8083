"""No recorded table shows an epsilon without all that it depends on."""

from pathlib import Path

import pytest

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
TABLES = [p for p in sorted(RESULTS.glob("*.md")) if "epsilon" in p.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_unit_relation_delta_sampling_and_accountant_stand_beside_it(path: Path) -> None:
    told = path.read_text(encoding="utf-8").casefold()
    assert "record" in told or "client" in told
    assert "add-remove" in told or "one record added or removed" in told
    assert "delta" in told
    assert "sampling" in told
    assert "pld" in told
