"""Searches that jobs of a real Slurm share."""

from __future__ import annotations

import csv
import fcntl
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from segan_pl.__main__ import main
from tests.cluster.runs import PROGRAM, Run, Runs, require_equal
from tests.cluster.slurm import wait_for

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = pytest.mark.slurm


@pytest.fixture
def submit(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[str, list[str]]]:
    """Submits a search of as many trials as workers, whose parameter is of no consequence for what is trained."""

    def submit(study: Path, workers: int, place: str, *more: str) -> tuple[str, list[str]]:
        for name, value in {**runs.slurm.environment, "HOLDS": place}.items():
            monkeypatch.setenv(name, value)
        file = runs.folder / f"{study.name}.yaml"
        varied = {"trainer.log_every_n_steps": {"min": 1, "max": 50}}
        content: dict[str, Any] = {"program": "segan_pl", "method": "bayes", "parameters": varied, "run_cap": workers}
        content["metric"] = {"name": "val/dice_wt", "goal": "maximize"}
        content["command"] = [*PROGRAM[2:], "fit", "--config", str(runs.config), "${args}"]
        file.write_text(yaml.safe_dump(content))
        call = ["sweep", str(file), "--output", str(study), "--slurm", "--parallel", str(workers)]
        assert main([*call, *more, "--", "--run.preview_every=0"]) == 0
        (array,) = re.findall(rf"job (\d+): {workers} workers for {workers} trials", capsys.readouterr().out)
        return array, call

    return submit


def states(study: Path) -> list[str]:
    with (study / "results.csv").open(newline="") as table:
        return [row["state"] for row in csv.DictReader(table)]


def require_whole(runs: Runs, study: Path) -> None:
    """Every trial has trained what a run that nobody stopped has."""
    for folder in (study / "runs").iterdir():
        trial = Run(runs, folder, 1)
        trial.directory = folder
        require_equal(trial, runs.whole(1))


def test_of_two_workers_one_is_killed_and_one_is_requeued_and_the_trials_end_as_if_nobody_had_stopped_them(
    runs: Runs, submit: Callable[..., tuple[str, list[str]]]
) -> None:
    place, study = "train 1 1", runs.folder / "search"
    array, call = submit(study, 2, place)

    def said(number: int) -> str:
        return "".join(log.read_text() for log in study.glob(f"logs/00{number}*.log"))

    wait_for(lambda: all(f"held at {place}" in said(number) for number in (1, 2)), runs.slurm.words)
    outputs = [study / "slurm" / f"{array}_{number}.out" for number in (0, 1)]
    killed = next(number for number, output in enumerate(outputs) if "001_" in output.read_text())
    runs.slurm.client("scancel", "--signal=KILL", "--full", f"{array}_{killed}")
    runs.slurm.wait(f"{array}_{killed}", ["FAILED", "CANCELLED"])
    runs.slurm.client("scancel", "--signal=USR1", "--batch", f"{array}_{1 - killed}")
    runs.slurm.wait(f"{array}_{1 - killed}", ["COMPLETED"])
    assert main([*call, "--report"]) == 0
    assert states(study) == ["finished"] * 2
    assert [said(number).count("held at") for number in (1, 2)] == [1, 1]
    require_whole(runs, study)


def test_a_worker_that_is_told_between_two_trials_is_requeued_and_takes_one_then(
    runs: Runs, submit: Callable[..., tuple[str, list[str]]]
) -> None:
    study = runs.folder / "between"
    job, call = submit(study, 1, "", "--slurm_options=[--hold]")
    file = study / ".search.lock"
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        runs.slurm.client("scontrol", "release", job)
        waits = re.compile(rf"-> FLOCK .*:{file.stat().st_ino} ")  # proc(5): a process that a lock keeps waiting
        wait_for(lambda: waits.search(Path("/proc/locks").read_text()), runs.slurm.words)
        runs.slurm.client("scancel", "--signal=USR1", "--batch", job)
        time.sleep(1)
    wait_for(lambda: runs.slurm.job(job)["Restarts"] == "1", runs.slurm.words)
    runs.slurm.wait(job, ["COMPLETED"])
    output = (study / "slurm" / f"{job}.out").read_text()
    assert output.count(f"job {job} is requeued") == 1
    assert main([*call, "--report"]) == 0
    assert states(study) == ["finished"]
    require_whole(runs, study)
