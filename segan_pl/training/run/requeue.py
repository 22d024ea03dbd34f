"""Whether this process is a job of Slurm's that can be queued again, and how; without PyTorch and Lightning."""

from __future__ import annotations

import os
import subprocess

from segan_pl.training.run.launch import in_step

AGENT_TOLD = "SEGAN_PL_AGENT_TOLD"
"""Variable with the file that `segan_pl sweep agent` makes when the agent itself is told to stop."""


def in_job_without_srun() -> bool:
    """Whether this process belongs to a Slurm job but was not started by srun: it is no task of a step."""
    return "SLURM_JOB_ID" in os.environ and not in_step()


def in_batch_job_without_srun() -> bool:
    """Whether it is a job of sbatch's, which can be queued again; one of salloc cannot."""
    return in_job_without_srun() and os.environ.get("ENVIRONMENT") == "BATCH"


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
