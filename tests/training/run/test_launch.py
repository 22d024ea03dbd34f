"""What was started against what was asked for: each launcher's variables, and one line for every mismatch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from segan_pl.cli.ranks import require_ranks_of_line
from segan_pl.errors import UsageError
from segan_pl.training.run.launch import Launch, in_step, launched, require_ranks, visible_gpus
from tests.cohort import SYSTEM

JOB = {"SLURM_JOB_ID": "77", "SLURM_JOB_NAME": "train", "SLURM_NNODES": "1", "SLURM_NTASKS": "1"}
"""What sbatch sets for its script."""


def step(per_node: str, tasks: int, nodes: int = 1, **more: str) -> dict[str, str]:
    """What srun sets for a task."""
    own = {"SLURM_STEP_ID": "0", "SLURM_STEP_TASKS_PER_NODE": per_node, "SLURM_STEP_NUM_NODES": str(nodes)}
    return {**JOB, "SLURM_NNODES": str(nodes), "SLURM_NTASKS": str(tasks), **own, **more}


def elastic(per_node: int, nodes: int = 1, world: int | None = None) -> dict[str, str]:
    """What torchrun sets."""
    found = {"LOCAL_WORLD_SIZE": per_node, "GROUP_WORLD_SIZE": nodes, "WORLD_SIZE": world or per_node * nodes}
    return {"TORCHELASTIC_RUN_ID": "none", "LOCAL_RANK": "0", **{name: str(n) for name, n in found.items()}}


def on_cpu(devices: object = "auto", num_nodes: object = 1) -> dict[str, object]:
    return {"devices": devices, "num_nodes": num_nodes, "accelerator": "cpu"}


def on_gpu(devices: object = "auto", num_nodes: object = 1) -> dict[str, object]:
    return {"devices": devices, "num_nodes": num_nodes, "accelerator": "gpu"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"RANK": "3", "WORLD_SIZE": "4"}, None),  # another program's
        (JOB, None),
        ({**JOB, "SLURM_STEP_ID": "4294967291"}, None),  # the batch script's own step
        ({**JOB, "SLURM_STEP_ID": "4294967290"}, None),  # the shell of salloc
        (step("1", 1, SLURM_PTY_PORT="40000"), None),  # srun --pty bash
        (step("2", 2, SLURM_PTY_PORT="40000"), Launch("srun", 2, 1)),  # an srun within that shell
        (step("2(x3)", 6, 3), Launch("srun", 2, 3)),
        ({**JOB, "SLURM_STEP_ID": "0", "SLURM_NTASKS": "4", "SLURM_NNODES": "2"}, Launch("srun", 2, 2)),
        (step("2", 2, SLURM_JOB_NAME="bash"), Launch("srun", 2, 1)),
        (elastic(4, 2), Launch("torchrun", 4, 2)),
        ({**step("1(x2)", 2, 2), **elastic(4, 2)}, Launch("torchrun", 4, 2)),  # srun of one torchrun on each node
    ],
)
def test_who_started_the_processes_is_read_from_the_environment(
    environment: dict[str, str], expected: Launch | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "isatty", lambda descriptor: False)
    assert launched(environment) == expected
    assert in_step(environment) == ("SLURM_STEP_ID" in environment and (expected is not None))


@pytest.mark.parametrize(
    ("environment", "asked", "command"),
    [
        ({}, on_cpu(), "fit"),
        ({}, on_cpu(2), "fit"),  # Lightning's launcher starts the other
        (JOB, on_cpu(2), "fit"),
        ({**JOB, "SLURM_NTASKS": "2"}, on_cpu(2), "fit"),
        ({**JOB, "SLURM_NTASKS": "2"}, on_cpu(1), "test"),  # after the training, in the same script
        (step("2", 2), on_cpu(2), "fit"),
        (step("2(x2)", 4, 2), on_cpu(2, 2), "fit"),
        (step("2", 2, CUDA_VISIBLE_DEVICES="0,1"), on_gpu(), "fit"),
        (step("1", 1, CUDA_VISIBLE_DEVICES="0,1"), on_gpu([1]), "fit"),  # a number that is meant
        (elastic(2, 2), on_cpu("2", "2"), "validate"),
        ({"LOCAL_RANK": "1", "SEGAN_PL_LAUNCHER": "1"}, on_cpu(2), "fit"),
        ({"MASTER_ADDR": "a", "MASTER_PORT": "1", "NODE_RANK": "1"}, on_cpu(1, 2), "fit"),
        (step("2", 2), on_cpu("many"), "fit"),  # which the parser refuses
        (step("2", 2), on_cpu(2, "two"), "fit"),
        (step("2", 2), on_cpu("inf"), "fit"),
        (step("1", 1), on_cpu(2), "fit"),  # the only task starts the other rank
        (step("1", 1, LOCAL_RANK="1"), on_cpu(2), "fit"),  # which is this one
        (step("1", 1, CUDA_VISIBLE_DEVICES="0,1"), on_gpu(), "fit"),
        ({"CUDA_VISIBLE_DEVICES": ""}, {}, "fit"),  # "auto" is the CPU here
        ({"RANK": "3", "WORLD_SIZE": "4", "MASTER_ADDR": "a"}, on_cpu(2), "fit"),  # another program's
    ],
)
def test_ranks_that_fit_pass(
    environment: dict[str, str], asked: dict[str, object], command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os.path, "exists", lambda path: True)  # a driver
    monkeypatch.setattr(os, "isatty", lambda descriptor: False)
    require_ranks(command, asked, environment=environment)


@pytest.mark.parametrize(
    ("environment", "asked", "said"),
    [
        (
            step("2", 2),
            on_cpu(),
            "srun started 2 tasks, and --trainer.devices 1 asks for 1; give --trainer.devices 2, or srun --nodes=1 "
            "--ntasks-per-node=1 segan_pl fit ... --trainer.devices 1",
        ),
        (
            step("2(x2)", 4, 2),
            on_cpu(4),
            "srun started 2 tasks on each of 2 nodes, and --trainer.devices 4 asks for 4; give --trainer.devices 2 "
            "--trainer.num_nodes 2, or srun --nodes=1 --ntasks-per-node=4 segan_pl fit ... --trainer.devices 4",
        ),
        (
            elastic(4, 2),
            on_gpu(4),
            "torchrun started 4 processes on each of 2 nodes, and --trainer.devices 4 asks for 4; give "
            "--trainer.devices 4 --trainer.num_nodes 2, or torchrun --nnodes=1 --nproc-per-node=4 -m segan_pl fit",
        ),
        (elastic(4, 2, 7), on_cpu(4, 2), "torchrun started 7 processes on 2 nodes, 4 of them on this one"),
        (step("3,2", 5, 2), on_cpu(2, 2), "srun started 5 tasks, 3, 2 on the nodes; expected equal numbers; give"),
        (
            {**JOB, "SLURM_NTASKS": "4"},
            on_cpu(1),
            "this Slurm job has 4 tasks, and srun did not start them: this is one process, with --trainer.devices 1; "
            "give srun --nodes=1 --ntasks-per-node=4 segan_pl fit ... --trainer.devices 4, or ask for one task",
        ),
        (
            {**JOB, "SLURM_NNODES": "2", "SLURM_NTASKS": "8"},
            on_cpu(4),
            "this Slurm job has 2 nodes, and without srun the run stays on one of them; give srun --nodes=2",
        ),
        (
            JOB,
            on_cpu(4, 2),
            "--trainer.num_nodes 2: this process was started alone, on one node, and would wait for the others; give "
            "srun --nodes=2 --ntasks-per-node=4 segan_pl fit ... --trainer.devices 4 --trainer.num_nodes 2",
        ),
        ({}, on_cpu(4, 2), "give torchrun --nnodes=2 --nproc-per-node=4 -m segan_pl fit"),
        (
            step("4", 4, CUDA_VISIBLE_DEVICES="0"),
            on_gpu(4),
            "--trainer.devices 4: each task sees 1 GPU visible here (CUDA_VISIBLE_DEVICES=0), and has to see those of "
            "all tasks of its node; give srun --gpus-per-node=4 --ntasks-per-node=4 without --gpus-per-task",
        ),
        (
            {"CUDA_VISIBLE_DEVICES": "0,1"},
            on_gpu(4),
            "--trainer.devices 4: 2 GPUs visible here (CUDA_VISIBLE_DEVICES=0,1); give --trainer.devices 2",
        ),
        ({"CUDA_VISIBLE_DEVICES": ""}, on_gpu(1), "no GPU is visible here"),
        (
            {**JOB, "CUDA_VISIBLE_DEVICES": "0,1,2,3"},
            on_gpu(1),
            "4 GPUs visible here (CUDA_VISIBLE_DEVICES=0,1,2,3), and the others of this Slurm job would be idle; give "
            "--trainer.devices 4",
        ),
        ({**JOB, "CUDA_VISIBLE_DEVICES": ""}, {}, "no GPU is visible here (CUDA_VISIBLE_DEVICES=); give --trainer"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, on_cpu(2), "mpirun started 2 processes, and runs are started by srun or"),
        ({"PMI_SIZE": "2"}, on_cpu(2), "mpirun started 2 processes, and runs are started by srun or"),
        (
            {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"},
            on_cpu(1, 2),
            "MASTER_ADDR and MASTER_PORT set, but not NODE_RANK, by which the nodes find one another (RANK and "
            "WORLD_SIZE are not read); give torchrun --nnodes=2",
        ),
        ({"MASTER_ADDR": "a", "NODE_RANK": "1"}, on_cpu(1, 2), "MASTER_ADDR and NODE_RANK set, but not MASTER_PORT"),
    ],
)
def test_a_mismatch_is_one_line_with_what_would_be_right(
    environment: dict[str, str], asked: dict[str, object], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os.path, "exists", lambda path: True)  # a driver
    monkeypatch.setattr(os, "isatty", lambda descriptor: False)
    with pytest.raises(UsageError) as refused:
        require_ranks("fit", asked, environment=environment)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("value", "count"),
    [(None, None), ("", 0), ("-1", 0), ("NoDevFiles", 0), ("0", 1), ("3,1", 2), ("0,-1,1", 1), ("GPU-a,MIG-b", 2)],
)
def test_visible_gpus_are_counted_as_cuda_counts_them(value: str | None, count: int | None) -> None:
    assert visible_gpus({} if value is None else {"CUDA_VISIBLE_DEVICES": value}) == count


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        (
            {},
            "would wait for the others; give --trainer.num_nodes 1 --trainer.devices 1 to score on one device, or tor",
        ),
        (
            step("1", 1),
            "srun started 1 task, and --trainer.devices 4 --trainer.num_nodes 2 asks for 8; give "
            "--trainer.num_nodes 1 --trainer.devices 1, or srun",
        ),
    ],
)
def test_ranks_that_a_checkpoint_asks_for_are_overridden_by_two_options(
    environment: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "isatty", lambda descriptor: False)
    with pytest.raises(UsageError) as refused:
        require_ranks("test", on_cpu(4, 2), environment=environment)
    assert said in str(refused.value)


def test_gpus_that_pytorch_has_counted_are_named_without_a_variable() -> None:
    with pytest.raises(UsageError, match=r"--trainer.devices 4: 2 GPUs visible here; give --trainer.devices 2, or"):
        require_ranks("fit", on_gpu(4), gpus=2, environment={})


@pytest.mark.parametrize(
    "line",
    [
        ["--trainer.num_nodes", "two"],
        ["--trainer", "{a: ["],
        ["--trainer", "7"],
        ["--trainer.devices=3", "--print_config"],
        ["--trainer.devices=3", "--print_config=skip_null"],
    ],
)
def test_what_the_parser_refuses_or_only_prints_is_left_to_it(line: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (step("2", 2) if "--print" in "".join(line) else {}).items():
        monkeypatch.setenv(name, value)
    require_ranks_of_line(["fit", *line])


LINE = """
import sys
from segan_pl.__main__ import main

code = main(sys.argv[1:])
print("torch" in sys.modules)
sys.exit(code)
"""


@pytest.mark.parametrize("where", ["line", "file"])
def test_the_command_refuses_before_pytorch_is_imported(tmp_path: Path, where: str) -> None:
    system = SYSTEM % (tmp_path / "cohort", tmp_path / "cache", tmp_path / "runs")
    (tmp_path / "tiny.yaml").write_text(f"{system}\ntrainer.devices: 3\n" if where == "file" else system)
    line = [] if where == "file" else ["--trainer.devices=3"]
    done = subprocess.run(
        [sys.executable, "-c", LINE, "fit", "-c", "tiny.yaml", *line],
        env={**os.environ, **step("2", 2)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stdout == "False\n"
    assert done.stderr.startswith("segan_pl: error: srun started 2 tasks, and --trainer.devices 3 asks for 3; give ")
    assert not (tmp_path / "runs").exists()
