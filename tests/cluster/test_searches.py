"""Searches that jobs of a real Slurm share."""

from __future__ import annotations

import csv
import re
from typing import Any

import pytest
import yaml

from segan_pl.__main__ import main
from tests.cluster.runs import PROGRAM, Run, Runs, require_equal
from tests.cluster.slurm import wait_for

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = pytest.mark.slurm


def test_of_two_workers_one_is_killed_and_one_is_requeued_and_the_trials_end_as_if_nobody_had_stopped_them(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = "train 1 1"
    for name, value in {**runs.slurm.environment, "HOLDS": place}.items():
        monkeypatch.setenv(name, value)
    file, study = runs.folder / "searched.yaml", runs.folder / "search"
    # of no consequence for what is trained
    varied = {"trainer.log_every_n_steps": {"min": 1, "max": 50}}
    content: dict[str, Any] = {"program": "segan_pl", "method": "bayes", "parameters": varied, "run_cap": 2}
    content["metric"] = {"name": "val/dice_wt", "goal": "maximize"}
    content["command"] = [*PROGRAM[2:], "fit", "--config", str(runs.config), "${args}"]
    file.write_text(yaml.safe_dump(content))
    call = ["sweep", str(file), "--output", str(study), "--slurm", "--parallel", "2"]
    assert main([*call, "--", "--run.preview_every=0"]) == 0
    (array,) = re.findall(r"job (\d+): 2 workers for 2 trials", capsys.readouterr().out)

    def said(number: int) -> str:
        return "".join(log.read_text() for log in study.glob(f"logs/00{number}*.log"))

    wait_for(lambda: all(f"held at {place}" in said(number) for number in (1, 2)), runs.slurm.words)
    outputs = [study / "slurm" / f"{array}_{number}.out" for number in (0, 1)]
    killed = next(number for number, output in enumerate(outputs) if "001_" in output.read_text())
    runs.slurm.client("scancel", "--signal=KILL", "--full", f"{array}_{killed}")
    runs.slurm.wait(f"{array}_{killed}", ["FAILED", "CANCELLED"])
    runs.slurm.client("scancel", "--signal=USR1", f"{array}_{1 - killed}")
    runs.slurm.wait(f"{array}_{1 - killed}", ["COMPLETED"])
    assert main([*call, "--report"]) == 0
    with (study / "results.csv").open(newline="") as table:
        assert [row["state"] for row in csv.DictReader(table)] == ["finished"] * 2
    assert [said(number).count("held at") for number in (1, 2)] == [1, 1]
    for folder in (study / "runs").iterdir():
        trial = Run(runs, folder, 1)
        trial.directory = folder
        require_equal(trial, runs.whole(1))
