"""A line of the journal that is whole but no record counts as a torn one does."""

import pytest

from fedsieve.privacy import Ledger
from tests.privacy.ledgers import COHORT, new_ledger


@pytest.mark.parametrize("line", ['{"round": 1}', '{"rounf": 1, "charges": []}', "{}"])
def test_a_line_without_charges_counts_as_spent(tmp_path, line):
    path = tmp_path / "ledger.jsonl"
    ledger = new_ledger(journal=path, repeatable=False)
    for t in range(3):
        ledger.charge(t, COHORT)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], line + "\n", lines[2]]))
    found = Ledger.restore(new_ledger(repeatable=False).state(), path)
    assert found.spent() == ledger.spent()
