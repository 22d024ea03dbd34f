"""What a machine's installation and environment may change of a run: Slurm's client and jobs, with and without srun."""

from __future__ import annotations

import os
import shutil
import subprocess

from lightning.fabric.plugins.environments import ClusterEnvironment, LightningEnvironment
from lightning.pytorch.utilities.rank_zero import rank_zero_only

SRUN_WARNING = "The `srun` command is available on your system but is not used"
"""Lightning's words, which `srun_note` replaces."""


def in_job_without_srun() -> bool:
    """Whether this process belongs to a Slurm job but was not started by srun: it is no task of a step."""
    return "SLURM_JOB_ID" in os.environ and "SLURM_STEP_ID" not in os.environ


def environments(given: bool) -> list[ClusterEnvironment]:
    """Who starts the ranks, where Lightning's own guess is wrong; none where its guess is right.

    In a Slurm job it takes SLURM_NTASKS for processes that srun has started. Without srun there is one, which starts
    the others of this machine itself.

    Args:
        given: Whether the configuration names an environment.
    """
    return [LightningEnvironment()] if in_job_without_srun() and not given else []


def is_first_rank(nodes: int) -> bool:
    """Whether this process is the first of all ranks, also before a trainer has counted them.

    Lightning numbers the processes of one node at first. Where it starts those of several nodes itself, one command for
    each node, only the environment tells these commands apart.

    Args:
        nodes: `--trainer.num_nodes`; of one node, the number is left over from something else.
    """
    # Lightning's order
    node = os.environ.get("NODE_RANK", os.environ.get("GROUP_RANK", "0")) if nodes > 1 else "0"
    return (getattr(rank_zero_only, "rank", None) or 0) == 0 and node == "0"


def srun_note() -> str | None:
    """One line on a machine with Slurm's client where a run was not started by it; else None."""
    if (
        "SLURM_STEP_ID" in os.environ
        or "LOCAL_RANK" in os.environ
        or not (in_job_without_srun() or shutil.which("srun"))
    ):
        return None
    where = "this Slurm job did not start the run by srun" if in_job_without_srun() else "srun is here and not used"
    return f"note: {where}; the run stays on this machine, with as many processes as --trainer.devices says"


def requeue_job() -> str:
    """Have Slurm queue this process's job again, as it was submitted; returns what came of it, in words.

    The run's folder is found again by the job's number, which a requeued job keeps (`folder.run_directory`).
    """
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, timeout=60, check=False)
        failed = "" if done.returncode == 0 else done.stderr.strip() or f"exit code {done.returncode}"
    except (OSError, subprocess.TimeoutExpired) as error:
        failed = str(error)
    return f"job {job} was not requeued, submit it again: {failed}" if failed else f"job {job} is requeued"
