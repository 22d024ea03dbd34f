"""What a job asks Slurm for, by files and options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from segan_pl.cli.parsing import OneLineErrors
from segan_pl.errors import UsageError
from segan_pl.experiments.cluster import Cluster, read_cluster
from segan_pl.experiments.runner import DryRunner, add_runner_options, runner_of
from segan_pl.experiments.shipped import shipped_folder

ALWAYS = {"signal": "SIGUSR1@120", "requeue": True, "open-mode": "append"}


@pytest.mark.parametrize(
    ("name", "nodes", "gpus", "tasks"), [("one_gpu", 1, 1, 1), ("four_gpus", 1, 4, 4), ("two_nodes", 2, 4, 4)]
)
def test_each_shipped_file_asks_for_a_task_for_each_gpu(name: str, nodes: int, gpus: int, tasks: int) -> None:
    found = read_cluster(name)
    assert (found.nodes, found.gpus, found.tasks) == (nodes, gpus, tasks)
    assert found.time == "24:00:00"


def test_the_shipped_files_are_those_that_are_tested() -> None:
    files = (shipped_folder("configs") / "cluster").glob("*.yaml")
    assert {path.stem for path in files} == {"one_gpu", "four_gpus", "two_nodes"}


def test_what_is_asked_for_is_sbatchs_options_and_nothing_else_is() -> None:
    assert Cluster().sbatch == ALWAYS
    found = Cluster(2, "a100:4", None, 8, "64G", "2-12", "gpu", "mine", "high", "a100|h100", options=("--exclusive",))
    assert found.sbatch == {
        **{"nodes": "2", "ntasks-per-node": "4", "gpus-per-node": "a100:4", "cpus-per-task": "8", "mem": "64G"},
        **{"time": "2-12", "partition": "gpu", "account": "mine", "qos": "high", "constraint": "a100|h100"},
        **{"exclusive": True, **ALWAYS},
    }


def test_options_beat_the_fields_and_a_signal_or_requeueing_can_be_left_out() -> None:
    assert Cluster(time="1", options=("--time=2",)).sbatch == {"time": "2", **ALWAYS}
    assert Cluster(signal_seconds=0, options=("--no-requeue",)).sbatch == {"no-requeue": True, "open-mode": "append"}
    twice = Cluster(signal_seconds=0, options=("--no-requeue", "--no-requeue"))
    assert twice.sbatch == {"no-requeue": True, "open-mode": "append"}


def test_what_is_given_beats_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text('nodes: 2\ntime: "1:00:00"\n')
    assert read_cluster(str(file), {"time": "5"}) == Cluster(nodes=2, time="5")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("time: 24:00:00", "--config .*mine.yaml: time 86400: expected a time as Slurm has it, .* in quotes"),
        ("gpu_per_node: 1", "gpu_per_node: no such field of a job; did you mean 'gpus_per_node'"),
        ("setup: module load cuda", "setup module load cuda: expected a list of texts"),
        ("partition: 5", "partition 5: expected a name, as text"),
        ("setup:", "--config .*mine.yaml: setup None: expected a list of texts"),
        ("options:", "--config .*mine.yaml: options None: expected a list of texts"),
        ("options: {exclude: node7}", "options .*: expected a list of texts"),
        ("nodes:", "nodes None: expected a whole number of at least 1"),
        ("nodes: two", "nodes two: expected a whole number of at least 1"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=says):
        read_cluster(str(file))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"nodes": 0}, "^--nodes 0: expected a whole number of at least 1$"),
        ({"gpus_per_node": "-1"}, "^--gpus_per_node -1: expected a number, or a type and a number"),
        ({"mem": "64 GB"}, "^--mem 64 GB: expected e.g. 64G$"),
        ({"options": ["-p gpu"]}, "^--options -p gpu: expected long ones of sbatch"),
        ({"options": ["--array=0-3"]}, "^--options --array=0-3: expected .* none of array"),
    ],
)
def test_a_wrong_option_is_one_line(given: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        read_cluster(None, given)


def test_an_unknown_file_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"--config four_gpu: no such file, and none of configs/cluster; .*four_gpus"):
        read_cluster("four_gpu")


@pytest.mark.parametrize("dry", [(), ("--dry_run",)])
@pytest.mark.parametrize(
    ("line", "says"),
    [
        (("--cluster", "four_gpu"), "^--cluster four_gpu: no such file, and none of configs/cluster; .*four_gpus"),
        (("--cluster", "FILE"), "^--cluster .*mine.yaml: time 86400: expected a time as Slurm has it"),
        (("--slurm_options", "[--array=0-3]"), "^--slurm_options --array=0-3: expected .* none of array"),
    ],
)
def test_a_study_refuses_what_its_jobs_ask_for_by_the_option_that_was_typed_in_a_dry_run_too(
    tmp_path: Path, line: tuple[str, str], says: str, dry: tuple[str, ...]
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("time: 24:00:00")
    parser = OneLineErrors()
    add_runner_options(parser)
    given = [str(file) if word == "FILE" else word for word in line]
    with pytest.raises(UsageError, match=says):
        runner_of(parser.parse_args(["--output", "o", "--slurm", *given, *dry]))
    right = parser.parse_args(["--output", "o", "--slurm", "--cluster", "four_gpus", "--dry_run"])
    assert isinstance(runner_of(right), DryRunner)
