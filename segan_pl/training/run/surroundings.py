"""What a machine's installation and environment may change of a run: Slurm's client and jobs, with and without srun."""

from __future__ import annotations

import os
import re
import shutil

from lightning.fabric.plugins.environments import ClusterEnvironment, LightningEnvironment, SLURMEnvironment
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from segan_pl.training.run.launch import in_step, starts_own_ranks
from segan_pl.training.run.requeue import in_job_without_srun

SRUN_WARNING = "The `srun` command is available on your system but is not used"
"""Lightning's words, which `srun_note` replaces."""


class StepEnvironment(SLURMEnvironment):
    """Lightning's of a Slurm step, whatever the job is called and however its tasks were asked for.

    Lightning takes the tasks of a job named "bash" or "interactive" for a person's shell, each of which starts all
    ranks, and refuses `srun -n 2`. `launch.require_ranks` has compared the tasks with the settings before.
    """

    @property
    def main_address(self) -> str:
        """Rank 0's node: the first of the step; Lightning's is the job's, and takes r[1-2]n[3-4] for r1."""
        nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_NODELIST", "127.0.0.1")
        first = re.sub(r"\[(\w+)[^\]]*\]", r"\1", nodes).partition(",")[0]
        os.environ.setdefault("MASTER_ADDR", first)
        return super().main_address

    @property
    def main_port(self) -> int:
        """Where ranks meet: by the job's number, as Lightning has it, and by the step's: two may run side by side."""
        job, step = (int(os.environ[f"SLURM_{name}"]) for name in ("JOB_ID", "STEP_ID"))
        os.environ.setdefault("MASTER_PORT", str(15000 + (job + 1009 * step) % 10000))
        return super().main_port

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """Done before."""

    @staticmethod
    def _validate_srun_used() -> None:
        """Lightning's warning is not meant for a step."""

    @staticmethod
    def _validate_srun_variables() -> None:
        """The tasks of each node are known by the step's own variable."""


def environments(given: bool) -> list[ClusterEnvironment]:
    """Who starts the ranks, where Lightning's own guess may be wrong; none where its guess is right.

    In a Slurm job it takes SLURM_NTASKS for processes that srun has started. Without srun there is one, which starts
    the others of this machine itself; so does a step's only task, as of `srun segan_pl fit` in a job of one task.

    Args:
        given: Whether the configuration names an environment.
    """
    if given or "TORCHELASTIC_RUN_ID" in os.environ or "SLURM_JOB_ID" not in os.environ:
        return []
    return [StepEnvironment() if in_step() and not starts_own_ranks() else LightningEnvironment()]


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
    if in_step() or "LOCAL_RANK" in os.environ or not (in_job_without_srun() or shutil.which("srun")):
        return None
    where = "this Slurm job did not start the run by srun" if in_job_without_srun() else "srun is here and not used"
    return f"note: {where}; the run stays on this machine, with as many processes as --trainer.devices says"
