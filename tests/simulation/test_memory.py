"""The memory of a job: its records once, and its matrices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="memory is read from Linux' /proc"
)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], int]:
    """The environment of a driver whose records lie in files, and 1.5 times their memory + x."""
    folder = tmp_path_factory.mktemp("records")
    script = (
        "import sys, common_job as job, numpy as np\n"
        "for name, array in job.made()._asdict().items():\n"
        "    np.save(f'{sys.argv[1]}/{name}.npy', array)\n"
        "print(int(1.5 * job.data_bytes()) + job.matrix_bytes('mlp', 2))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(BENCHMARKS), *sys.path))}
    allowed = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return environment | {"COMMON_JOB_DATA": str(folder)}, int(allowed.stdout)


def resident(environment: dict[str, str], processes: int, *further: str) -> int:
    command = [sys.executable, "-m", "peers.fedsieve", "--rounds", "2"]
    command += ["--processes", str(processes), *further]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    assert np.isfinite(result["accuracy"])
    size: int = result["resident"]
    return size


@pytest.mark.parametrize("processes", [1, 2])
def test_a_job_takes_its_records_once_and_its_matrices(
    job: tuple[dict[str, str], int], processes: int
) -> None:
    environment, allowed = job
    taken = resident(environment, processes) - resident(environment, processes, "--idle")
    assert taken <= allowed
