"""Who started the processes of a run, and whether they are as many as `--trainer.*` asks for.

Only the environment is looked at, so that a mismatch is refused before PyTorch is imported: ranks that wait for one
another without end, or train each by itself in one folder, would otherwise cost GPU time and say nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from segan_pl.errors import UsageError

FIRST_RESERVED_STEP = 0xFFFFFFF0
"""From here on Slurm numbers its own steps: the batch script, the shell of salloc; none is a user's srun."""


class Launch(NamedTuple):
    """Processes that a launcher started for one run.

    Attributes:
        by: "srun" or "torchrun".
        per_node: On each node.
        nodes: How many.
    """

    by: str
    per_node: int
    nodes: int

    def line(self, command: str) -> str:
        """The command line that starts as many."""
        start = {
            "srun": f"srun --nodes={self.nodes} --ntasks-per-node={self.per_node} segan_pl",
            "torchrun": f"torchrun --nnodes={self.nodes} --nproc-per-node={self.per_node} -m segan_pl",
        }
        return f"{start[self.by]} {command} ... {self.options}"

    @property
    def options(self) -> str:
        """What `fit` is told of them."""
        return f"--trainer.devices {self.per_node}" + (f" --trainer.num_nodes {self.nodes}" if self.nodes > 1 else "")


def in_step(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether srun started this process as a task; not the shell of `srun --pty`, whose user types the commands."""
    step = environment.get("SLURM_STEP_ID", "")
    if not step.isdigit() or int(step) >= FIRST_RESERVED_STEP:
        return False
    # An srun within that shell hands the variable on, but a terminal only with --pty.
    shell = "SLURM_PTY_PORT" in environment and (_tasks(environment) == [1] or os.isatty(0))
    return not shell


def started_rank() -> int:
    """This process's number among all ranks where srun or torchrun started it; else 0."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return int(os.environ.get("RANK", "0"))
    return int(os.environ.get("SLURM_PROCID", "0")) if in_step() else 0


def launched(environment: Mapping[str, str] = os.environ) -> Launch | None:
    """What started this process together with others; None where it was started alone.

    Raises:
        UsageError: The nodes have different numbers of processes, or mpirun started them, whose variables are not read.
    """
    if "TORCHELASTIC_RUN_ID" in environment:
        per_node, world = int(environment["LOCAL_WORLD_SIZE"]), int(environment["WORLD_SIZE"])
        nodes = int(environment.get("GROUP_WORLD_SIZE", "1"))
        if per_node * nodes != world:
            raise UsageError(
                f"torchrun started {world} processes on {nodes} nodes, {per_node} of them on this one; give every node "
                f"the same --nproc-per-node"
            )
        return Launch("torchrun", per_node, nodes)
    # srun sets PMI_SIZE too; the other is Open MPI's alone
    mpi = environment.get("OMPI_COMM_WORLD_SIZE", "1" if in_step(environment) else environment.get("PMI_SIZE", "1"))
    if mpi not in ("", "1") and "LOCAL_RANK" not in environment:
        raise UsageError(
            f"mpirun started {mpi} processes, and runs are started by srun or torchrun only: each of these would train "
            f"by itself; give srun, or torchrun --nproc-per-node=N -m segan_pl on each node"
        )
    if in_step(environment):
        tasks = _tasks(environment)
        if len(set(tasks)) > 1:
            raise UsageError(
                f"srun started {sum(tasks)} tasks, {', '.join(map(str, tasks))} on the nodes; expected equal numbers; "
                f"give srun --nodes={len(tasks)} --ntasks-per-node={max(tasks)} --trainer.devices {max(tasks)} "
                f"--trainer.num_nodes {len(tasks)}"
            )
        return Launch("srun", tasks[0], len(tasks))
    return None


def starts_own_ranks(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is a step's only task, which itself starts as many ranks as it is asked for."""
    return in_step(environment) and _tasks(environment) == [1]


def _tasks(environment: Mapping[str, str]) -> list[int]:
    """The tasks of each node of a step, from e.g. "2(x3),1"."""
    text = environment.get("SLURM_STEP_TASKS_PER_NODE", "")
    parts = [re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part) for part in text.split(",")]
    if text and all(parts):
        return [int(part[1]) for part in parts if part for _ in range(int(part[2] or 1))]
    nodes = int(environment.get("SLURM_STEP_NUM_NODES", environment.get("SLURM_NNODES", "1")))
    share, more = divmod(int(environment.get("SLURM_NTASKS", "1")), nodes)
    return [share + (node < more) for node in range(nodes)]


def visible_gpus(environment: Mapping[str, str] = os.environ) -> int | None:
    """How many GPUs CUDA_VISIBLE_DEVICES shows; None where it says nothing."""
    text = environment.get("CUDA_VISIBLE_DEVICES")
    if text is None:
        return None
    # As CUDA reads it: what follows a wrong name is not seen, and -1 or NoDevFiles, which Slurm sets, are such.
    names = [name.strip() for name in text.split(",")]
    good = [name.isdigit() or name.startswith(("GPU-", "MIG-")) for name in names]
    return (*good, False).index(False)


def require_ranks(
    command: str, trainer: Mapping[str, Any], *, gpus: int | None = None, environment: Mapping[str, str] = os.environ
) -> None:
    """Refuse a run whose processes are not those that its settings ask for.

    Args:
        command: "fit", "validate" or "test". Idle GPUs, tasks and nodes are refused of a `fit` only.
        trainer: The settings `devices`, `num_nodes` and `accelerator`, parsed or as they were typed.
        gpus: That PyTorch has counted; default those that the environment shows.
        environment: Of this process.

    Raises:
        UsageError: In one line, with a command that would be right.
    """
    launch = launched(environment)
    if "LOCAL_RANK" in environment and (launch is None or starts_own_ranks(environment)):
        return  # somebody numbered the processes: `fit`, of the ranks that it starts, which has asked this
    accelerator = trainer.get("accelerator")
    on_gpu = _on_gpu(accelerator)
    gpus = visible_gpus(environment) if gpus is None else gpus
    if gpus == 0 and accelerator in (None, "auto") and "SLURM_JOB_ID" not in environment:
        on_gpu = False  # as Lightning chooses; in a job it is more likely that GPUs were forgotten
    devices, counted = _devices(trainer.get("devices"), gpus if on_gpu else 1)
    nodes = _devices(trainer.get("num_nodes") or 1, None)[0]
    if devices is None or nodes is None:
        return  # not known yet, or what the parser refuses
    if launch is not None and nodes == 1 and starts_own_ranks(environment):
        launch = None
    elif launch is None:
        _require_alone(command, devices, nodes, environment)
    elif (devices, nodes) != (launch.per_node, launch.nodes):
        asked = Launch(launch.by, devices, nodes)
        one = f"--trainer.num_nodes {launch.nodes} " if nodes > launch.nodes == 1 else ""
        raise UsageError(
            f"{launch.by} started {_on_nodes(launch)}, and {asked.options} asks for {devices * nodes}; give "
            f"{one}{launch.options}, or {asked.line(command)}"
        )
    if on_gpu and gpus is not None and counted:
        _require_gpus(command, devices, gpus, launch, environment)


def _on_nodes(launch: Launch) -> str:
    one = "task" if launch.by == "srun" else "process"
    many = {"task": "tasks", "process": "processes"}[one]
    count = f"{launch.per_node} {one if launch.per_node == 1 else many}"
    return count if launch.nodes == 1 else f"{count} on each of {launch.nodes} nodes"


def _on_gpu(accelerator: Any) -> bool:
    """Whether a run is to use GPUs; "auto" takes them where a driver is: NVIDIA's, that of WSL, AMD's."""
    if accelerator in (None, "auto"):
        return any(map(os.path.exists, ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")))
    return accelerator in ("gpu", "cuda")


def _devices(asked: Any, automatic: int | None) -> tuple[int | None, bool]:
    """How many devices of a node a value means, and whether it counts them; None where that is not known."""
    text = str("auto" if asked is None else asked).strip()
    if text in ("auto", "-1"):
        return automatic, True
    if "," in text or text.startswith("["):
        return len(re.findall(r"\d+", text)), False
    try:
        return int(float(text)), True
    except (ValueError, OverflowError):
        return None, False  # which the parser refuses


def _require_alone(command: str, devices: int, nodes: int, environment: Mapping[str, str]) -> None:
    """What one process can carry out, which starts the other ranks of its machine itself."""
    in_job = "SLURM_JOB_ID" in environment
    by = "srun" if in_job else "torchrun"
    by_hand = [("MASTER_ADDR",), ("MASTER_PORT",), ("NODE_RANK", "GROUP_RANK")]
    missing = [names[0] for names in by_hand if not any(environment.get(name) for name in names)]
    if nodes > 1 and missing:
        given = [names[0] for names in by_hand if names[0] not in missing]
        found = "this process was started alone, on one node, and would wait for the others"
        if given:
            ours = " (RANK and WORLD_SIZE are not read)" if "RANK" in environment else ""
            found = (
                f"{' and '.join(given)} set, but not {' and '.join(missing)}, by which the nodes find one another{ours}"
            )
        one = "" if command == "fit" else "--trainer.num_nodes 1 --trainer.devices 1 to score on one device, or "
        also = "" if in_job else " on each node, with its --node-rank and --master-addr"
        raise UsageError(
            f"--trainer.num_nodes {nodes}: {found}; give {one}{Launch(by, devices, nodes).line(command)}{also}"
        )
    if not in_job or command != "fit" or nodes > 1:
        return
    there = int(environment.get("SLURM_JOB_NUM_NODES", environment.get("SLURM_NNODES", "1")))
    if there > 1:
        raise UsageError(
            f"this Slurm job has {there} nodes, and without srun the run stays on one of them; give "
            f"{Launch(by, devices, there).line(command)}, or ask for one node (#SBATCH --nodes=1)"
        )
    tasks = int(environment.get("SLURM_NTASKS", "1"))
    if tasks not in (1, devices):
        raise UsageError(
            f"this Slurm job has {tasks} tasks, and srun did not start them: this is one process, with "
            f"--trainer.devices {devices}; give {Launch(by, tasks, 1).line(command)}, or ask for one task "
            f"(#SBATCH --ntasks=1)"
        )


def _require_gpus(command: str, devices: int, gpus: int, launch: Launch | None, environment: Mapping[str, str]) -> None:
    """As many GPUs as ranks on this node: every rank sees all of them, and takes the one of its number."""
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    shown = "" if visible is None else f" (CUDA_VISIBLE_DEVICES={visible})"
    seen = f"{gpus} GPU{'' if gpus == 1 else 's'} visible here{shown}"
    if gpus == 0:
        raise UsageError(
            f"--trainer.accelerator: no GPU is visible here{shown}; give --trainer.accelerator cpu, or ask for GPUs"
        )
    if devices > gpus and launch is not None and launch.by == "srun":
        # one GPU for each task
        raise UsageError(
            f"--trainer.devices {devices}: each task sees {seen}, and has to see those of all tasks of its node; give "
            f"srun --gpus-per-node={devices} --ntasks-per-node={devices} without --gpus-per-task and --gpu-bind"
        )
    if devices > gpus:
        raise UsageError(f"--trainer.devices {devices}: {seen}; give --trainer.devices {gpus}, or ask for more GPUs")
    if devices < gpus and command == "fit" and "SLURM_JOB_ID" in environment:
        more = f"srun --ntasks-per-node={gpus} and " if launch is not None else ""
        raise UsageError(
            f"--trainer.devices {devices}: {seen}, and the others of this Slurm job would be idle; give "
            f"{more}--trainer.devices {gpus}, ask for fewer (--gpus-per-node={devices}), or, where other runs use "
            f"them, the numbers of those that are meant (--trainer.devices [0])"
        )
