"""Ranks that something else has started: torchrun, on one node and on two, and srun, of a job with any name."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cohort import SYSTEM

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = pytest.mark.slow

PROJECT = Path(__file__).resolve().parents[3]
NODES = {"torchrun": 1, "torchrun on two nodes": 2, "srun": 1, "srun in a job called bash": 1, "srun of one task": 1}


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def commands(launcher: str, line: list[str]) -> list[tuple[list[str], dict[str, str]]]:
    """The processes that a person or srun starts, and what is in their environment."""
    port = free_port()
    if launcher.startswith("torchrun"):
        nodes = NODES[launcher]
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--master-addr=127.0.0.1", f"--master-port={port}"]
        given = [f"--nnodes={nodes}", f"--nproc-per-node={2 // nodes}", "-m", "segan_pl", *line]
        return [([*torchrun, f"--node-rank={node}", *given], {}) for node in range(nodes)]
    job = {"SLURM_JOB_ID": "77", "SLURM_JOB_NAME": "bash" if "bash" in launcher else "train", "SLURM_NNODES": "1"}
    step = {"SLURM_STEP_ID": "0", "SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_STEP_NUM_NODES": "1", "SLURM_NTASKS": "2"}
    if launcher == "srun of one task":
        step |= {"SLURM_STEP_TASKS_PER_NODE": "1", "SLURM_NTASKS": "1"}
    own = [
        {"SLURM_PROCID": str(task), "SLURM_LOCALID": str(task), "SLURM_NODEID": "0"}
        for task in range(int(step["SLURM_NTASKS"]))
    ]
    there = {**job, **step, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [([sys.executable, "-m", "segan_pl", *line], {**there, **task}) for task in own]


@pytest.mark.parametrize("launcher", NODES)
def test_two_ranks_train_one_run_whoever_started_them(
    tmp_path: Path, cohort: Path, prepared: Path, launcher: str
) -> None:
    (tmp_path / "tiny.yaml").write_text(SYSTEM % (cohort, prepared, tmp_path / "runs"))
    asked = [f"--trainer.devices={2 // NODES[launcher]}", f"--trainer.num_nodes={NODES[launcher]}"]
    line = ["fit", "-c", "tiny.yaml", "--data.batch_size=2", "--trainer.max_epochs=1", "--run.directory=run", *asked]
    processes = [
        subprocess.Popen(
            command,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT), **variables},
        )
        for command, variables in commands(launcher, line)
    ]
    try:
        said = "\n".join([process.communicate(timeout=900)[0] for process in processes])
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * len(processes), said
    assert said.count("2 ranks x --data.batch_size 2 = 4 patches in a joined batch") == 1
    assert "GLOBAL_RANK: 1, MEMBER: 2/2" in said
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()
