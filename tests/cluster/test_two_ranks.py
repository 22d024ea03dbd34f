"""Runs of two tasks by srun, alone and as an array: both train, stop together, and end as one that nobody stopped."""

from __future__ import annotations

import pytest

from segan_pl.experiments.cluster import Cluster
from segan_pl.experiments.runs import Run as StudyRun
from segan_pl.experiments.runs import run_state
from segan_pl.experiments.slurm import SlurmRunner
from tests.cluster.runs import PROGRAM, Runs, require_equal
from tests.cluster.slurm import wait_for

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = pytest.mark.slurm


def test_two_tasks_of_srun_are_two_ranks_of_one_run(runs: Runs) -> None:
    whole = runs.whole(2)
    assert "MEMBER: 2/2" in whole.said()
    assert [row["batches_seen"] for row in whole.scores()] == ["4", "8"]
    assert [row["val/cases_wt"] for row in whole.scores()] == ["2", "2"]
    assert whole.said().count("run directory: ") == 1


def test_two_ranks_that_are_requeued_in_mid_epoch_and_cancelled_in_validation_end_as_one_that_nobody_stopped(
    runs: Runs,
) -> None:
    run = runs.new("two ranks", ranks=2)
    places = ("train 0 2", "validation 1 0")
    run.submit(places)
    run.until_held(places[0])
    run.tell()
    run.until_held(places[1])
    assert f"segan_pl: job {run.job} is requeued" in run.said()
    assert "epoch 0 goes on after batch 3 of 4" in run.said()
    run.slurm.client("scancel", run.job)
    run.slurm.wait(run.job, ["CANCELLED"])
    wait_for(lambda: "stopped by SIGTERM in the validation of epoch 1, which will be repeated" in run.said(), run.words)
    run.submit()
    run.finish()
    require_equal(run, runs.whole(2))


def test_a_run_of_an_array_trains_on_all_tasks_is_requeued_and_what_needs_it_waits(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs.new("study", ranks=2)
    for name, value in {**runs.slurm.environment, "HOLDS": "train 0 2"}.items():
        monkeypatch.setenv(name, value)
    arguments = tuple(run.command()[len(PROGRAM) :])
    study = [StudyRun("train", arguments), StudyRun("look", ("--version",)), StudyRun("after", ("--help",), ("train",))]
    lines: list[str] = []
    SlurmRunner(Cluster(tasks_per_node=2), progress=lines.append).run_all(study, run.folder)
    jobs = [line.split()[1].rstrip(":") for line in lines]
    log = run.folder / "logs" / "train.log"
    run.log = log
    run.job = f"{jobs[0]}_0"
    run.until_held("train 0 2")
    run.tell()
    runs.slurm.wait(jobs[1], ["COMPLETED"])
    assert "MEMBER: 2/2" in run.said()
    assert f"segan_pl: job {run.job} is requeued" in run.said()
    assert [(run_state(run.folder, one.name) or {}).get("state") for one in study] == ["finished"] * 3
    require_equal(run, runs.whole(2))
