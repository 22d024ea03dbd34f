"""Jobs whose tasks are not the ranks that are asked for: refused at once, before PyTorch is imported."""

from __future__ import annotations

import pytest

from tests.cluster.runs import Runs

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = pytest.mark.slurm


@pytest.mark.parametrize(
    ("before", "tasks", "devices", "says"),
    [
        ("srun ", 2, 1, "srun started 2 tasks, and --trainer.devices 1 asks for 1; give --trainer.devices 2, or srun "),
        ("", 2, 1, "this Slurm job has 2 tasks, and srun did not start them: this is one process, with "),
    ],
)
def test_a_mismatch_fails_the_job_at_once_with_what_would_be_right(
    runs: Runs, before: str, tasks: int, devices: int, says: str
) -> None:
    run = runs.new(f"mismatch {before}{tasks} {devices}", devices)
    run.before = before
    run.submit([], f"--ntasks-per-node={tasks}")
    assert run.slurm.wait(run.job, ["FAILED"])["ExitCode"] == "2:0"
    assert f"segan_pl: error: {says}" in run.said()
    assert not run.directory.exists()
