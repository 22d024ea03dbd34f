"""Runs of one rank that Slurm stops: each leaves what a resume needs, says so, and ends as one that nobody stopped."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.runs import Runs, require_equal

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = pytest.mark.slurm


def test_a_run_that_is_requeued_preempted_and_loses_its_node_ends_as_one_that_nobody_stopped(runs: Runs) -> None:
    run = runs.new("one rank")
    places = ("train 0 1", "train 0 3", "train 1 1")
    run.submit(places)
    run.until_held(places[0])
    run.tell()
    run.until_held(places[1])
    urgent = run.slurm.submit(run.folder, "true", "--partition=urgent", f"--ntasks={run.slurm.cpus}")
    run.slurm.wait(urgent, ["COMPLETED"])
    run.until_held(places[2])
    assert "stopped by SIGTERM" in run.said()
    run.slurm.fail_node(jobs=False)
    run.slurm.start_node()
    assert run.slurm.job(run.job)["JobState"] == "RUNNING"
    run.slurm.fail_node()
    run.slurm.start_node()
    run.finish()
    assert run.slurm.job(run.job)["Restarts"] == "3"
    require_equal(run, runs.whole(1))


@pytest.fixture
def small_disk(runs: Runs) -> Iterator[Path]:
    """A file system of 4 MB of its own."""
    folder = runs.folder / "small disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4M", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_job_without_srun_is_requeued_by_the_signal_to_its_script_and_fails_where_the_disk_is_full(
    runs: Runs, small_disk: Path
) -> None:
    run = runs.new("without srun")
    run.before, run.signal = "exec ", ("--signal=USR1", "--batch")
    run.directory = small_disk / "run"
    places = ("train 0 2", "train 1 1")
    run.submit(places)
    run.until_held(places[0])
    run.tell()
    run.until_held(places[1])
    assert run.said().count(f"segan_pl: job {run.job} is requeued") == 1
    assert "epoch 0 goes on after batch 3 of 4" in run.said()
    filler = small_disk / "filler"
    with filler.open("wb") as file:
        subprocess.run(["dd", "if=/dev/zero", "bs=4k"], stdout=file, stderr=subprocess.DEVNULL)
    run.tell()
    run.slurm.wait(run.job, ["FAILED"])
    assert "the disk is full, this checkpoint was not written" in run.said()
    assert f"--run.directory {run.directory} goes on from the checkpoint before" in run.said()
    assert run.said().count(f"segan_pl: job {run.job} is requeued") == 1
    filler.unlink()
    run.submit()
    run.finish()
    require_equal(run, runs.whole(1))
