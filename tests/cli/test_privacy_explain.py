"""``fedsieve privacy explain``: what a run released."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.cli.telling import Told, bad_input


def test_explain_tells_what_was_paid_for_and_flags_what_was_not(
    privacy: Callable[..., Told], invented: Callable[..., Path], tmp_path: Path
) -> None:
    run = invented(tmp_path / "private", rounds=3)
    told = privacy("explain", str(run))
    text = " ".join(told.out.split()).replace("- ", "-")  # words that were broken
    assert told.code == 0
    for words in ("epsilon 3.999 at delta 1e-05, per record (add-remove), Poisson sampling, PLD",
                  "! records by client and class", "! noise_norm", "! signal_norm",
                  "! clipped_fraction",
                  "test set", "nominal sizes N"):  # fmt: skip
        assert words in text
    assert max(map(len, told.out.splitlines())) <= 80
    found = json.loads(privacy("explain", str(run), "--json").out)
    kinds = {entry["what"].split()[0]: entry["kind"] for entry in found["released"]}
    assert kinds["messages"] == "paid for"
    assert kinds["test"] == "free"
    assert kinds["records"] == "simulator only"
    assert all(e["flagged"] == (e["kind"] in ("simulator only", "unprotected"))
               for e in found["released"])  # fmt: skip


def test_explain_without_privacy_or_with_a_seed_or_unfinished(
    privacy: Callable[..., Told], invented: Callable[..., Path], tmp_path: Path
) -> None:
    open_ = json.loads(
        privacy("explain", str(invented(tmp_path / "o", private=False)), "--json").out
    )
    assert open_["released"][0]["kind"] == "unprotected"
    assert "no epsilon holds" in open_["released"][0]["cost"]
    half = invented(tmp_path / "h", rounds=2, finished=False)
    assert "ledger.jsonl holds what was spent" in " ".join(
        privacy("explain", str(half)).out.split()
    )
    manifest = json.loads((half / "manifest.json").read_text())
    manifest["seeds"]["noise_seed"] = 7
    (half / "manifest.json").write_text(json.dumps(manifest))
    assert "! noise seed 7" in privacy("explain", str(half)).out
    (half / "config.toml").write_text("= 3")
    assert "config.toml cannot be read" in bad_input(privacy("explain", str(half)))
