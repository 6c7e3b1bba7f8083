"""Importing little stays light: the command line must not wait for torch.

(Which room may import which is import-linter's contract in pyproject.toml.)
"""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "scipy", "matplotlib", "pyarrow", "dp_accounting")


@pytest.mark.parametrize(
    "module", ["fedsieve", "fedsieve.registry", "fedsieve.randomness", "fedsieve.cli"]
)
def test_a_light_module_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*sorted(set({HEAVY}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
