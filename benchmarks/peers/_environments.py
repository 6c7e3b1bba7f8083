"""The peers' environments: what each holds, made once under benchmarks/.envs and reused."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / ".envs"
TORCH = "torch==2.13.0"
INSTALL_LIMIT = 1200.0  # seconds for one step


class PeerError(Exception):
    """A peer cannot be installed or did not finish; the message is one line."""


@dataclass(frozen=True)
class Environment:
    """What a peer's environment holds.

    Args:
        needs: Installed together, so that no dependency can replace the pinned torch.
        bare: Installed afterwards, without dependencies.
        any_python: Whether the declared ``Requires-Python`` of ``bare`` is passed over.
        variables: Set for the peer's process.
    """

    needs: tuple[str, ...]
    bare: tuple[str, ...] = ()
    any_python: bool = False
    variables: dict[str, str] = field(default_factory=dict)


PEERS = {
    "flower": Environment(
        needs=(TORCH, "flwr[simulation]==1.41.0", "ray==2.55.1"),
        variables={
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        },
    ),
    "pfl": Environment(
        needs=(
            TORCH,
            "dp-accounting==0.5.1",
            "multiprocess==0.70.19",
            "packaging==25.0",
            "prv-accountant==0.2.0",
            "numpy==2.4.6",
            "scipy==1.17.1",
        ),
        bare=("pfl==0.6.0",),
    ),
    # byzfl asks for torchvision (data sets) and seaborn (figures); the job needs neither.
    "byzfl": Environment(needs=(TORCH, "numpy==2.4.6", "scipy==1.17.1"), bare=("byzfl==0.0.11",)),
    # byzpy asks for torch < 2.6, torchvision and matplotlib; its aggregators run on what is here.
    "byzpy": Environment(
        needs=(TORCH, "numpy==2.4.6", "cloudpickle==3.1.2"), bare=("byzpy==0.1.4",)
    ),
    # blazefl 2.0.3 declares Python >= 3.12; the modules that the job uses are valid 3.11, too.
    "blazefl": Environment(
        needs=(TORCH, "numpy==2.4.6", "tqdm==4.67.1"),
        bare=("blazefl==2.0.3",),
        any_python=True,
        variables={"TQDM_DISABLE": "1"},
    ),
    "jax": Environment(needs=("jax==0.10.2", "jaxlib==0.10.2", "numpy==2.4.6")),
}


def install(wanted: set[str | None]) -> dict[str | None, str]:
    """Make the environments that are missing or out of date; the errors of those that cannot be."""
    broken: dict[str | None, str] = {}
    for name in sorted(name for name in wanted if name):
        try:
            make(name)
        except PeerError as error:
            broken[name] = f"not installed: {error}"
    return broken


def make(name: str) -> None:
    """Make one environment, or do nothing if it is there."""
    environment, folder = PEERS[name], FOLDER / name
    recipe = json.dumps([platform.python_version(), environment.needs, environment.bare])
    stamp = folder / "recipe.json"
    if stamp.exists() and stamp.read_text() == recipe:
        return
    print(f"  installing {name} into {folder} ...", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    command([sys.executable, "-m", "venv", str(folder)])
    pip = [str(python(name)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command([*pip, *environment.needs])
    if environment.bare:
        passed_over = ["--ignore-requires-python"] if environment.any_python else []
        command([*pip, "--no-deps", *passed_over, *environment.bare])
    stamp.write_text(recipe)


def command(arguments: list[str]) -> None:
    """Run an installation step.

    Raises:
        PeerError: It failed, or took too long.
    """
    try:
        done = subprocess.run(
            arguments, capture_output=True, text=True, check=False, timeout=INSTALL_LIMIT
        )
    except subprocess.TimeoutExpired as error:
        raise PeerError(f"no result within {INSTALL_LIMIT:.0f} s") from error
    if done.returncode:
        raise PeerError(last_line(done.stderr or done.stdout))


def python(environment: str | None) -> Path:
    """The interpreter of an environment."""
    return FOLDER / environment / "bin" / "python" if environment else Path(sys.executable)


def last_line(text: str) -> str:
    """The line that says what went wrong, as far as one line can."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:160] if lines else "it ended without a word"
