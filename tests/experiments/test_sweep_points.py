"""A sweep's memory: folders whose sweep.json was written before it kept the names of trials."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from segan_pl.data.volume import CaseError
from segan_pl.experiments import processes
from segan_pl.experiments.execution import ExecutionOptions
from segan_pl.experiments.search import grid
from segan_pl.experiments.sweep_file import SweepFile, read_sweep
from segan_pl.experiments.sweep_points import load_points, save_points
from segan_pl.experiments.sweep_table import table
from segan_pl.experiments.sweeping import chosen_trials, plan, run_sweep
from segan_pl.experiments.trials import Trial, run_folder, write_state

SEEDS = {"data.seed": {"values": [0, 1]}}
CLIP = {"loss.clip": {"values": ["all"]}}
PLAYER = """
import sys
from pathlib import Path
folder = Path(sys.argv[sys.argv.index("--run.directory") + 1])
folder.mkdir(parents=True, exist_ok=True)
with (folder / "starts").open("a") as file:
    file.write("x")
(folder / "metrics.csv").write_text("epoch,val/dice_wt\\n0,0.5\\n")
sys.exit("data.seed=1" in " ".join(sys.argv) and not (folder.parent.parent / "mended").exists())
"""


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study's folder; the stand-in for `segan_pl` fails with seed 1 until the file `mended` is in it."""
    monkeypatch.setattr(processes, "COMMAND", (sys.executable, "-c", PLAYER))
    return tmp_path / "study"


def sweep_of(place: Path, parameters: dict[str, Any]) -> SweepFile:
    path = place / "some.yaml"
    metric = {"name": "val/dice_wt", "goal": "maximize"}
    content = {"method": "grid", "metric": metric, "command": ["segan_pl", "fit", "${args}"], "parameters": parameters}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return read_sweep(str(path))


def forget_names(study: Path) -> None:
    """Make sweep.json what it was before names were kept."""
    file = study / "sweep.json"
    saved = json.loads(file.read_text())
    for point in saved["points"]:
        del point["name"]
    file.write_text(json.dumps(saved))


def starts(study: Path) -> dict[str, int]:
    return {run.name: len((run / "starts").read_text()) for run in sorted((study / "runs").iterdir())}


def test_a_report_of_a_grid_that_grew_by_a_parameter_shows_the_older_trials(study: Path, tmp_path: Path) -> None:
    run_sweep(plan(sweep_of(tmp_path, SEEDS)), ExecutionOptions(study))
    forget_names(study)
    grown = sweep_of(tmp_path, {**SEEDS, "model.accumulate": {"values": [1, 2]}})
    trials = chosen_trials(grown, study)
    assert [trial.name for trial in trials] == ["001_seed=0", "002_seed=1"]
    assert [row.state for row in table(grown, trials, study)] == ["finished", "failed"]


def test_a_point_that_never_ran_is_named_by_what_it_has(study: Path, tmp_path: Path) -> None:
    old = sweep_of(tmp_path, SEEDS)
    save_points(old, study, grid(old.parameters), 0)
    forget_names(study)
    grown = sweep_of(tmp_path, {**SEEDS, "model.accumulate": {"values": [1, 2]}})
    assert [trial.name for trial in chosen_trials(grown, study)] == ["001_seed=0", "002_seed=1"]


def test_an_older_sweep_that_grows_runs_nothing_again_that_has_finished(study: Path, tmp_path: Path) -> None:
    run_sweep(plan(sweep_of(tmp_path, {**SEEDS, **CLIP})), ExecutionOptions(study))
    assert starts(study) == {"001_seed=0": 1, "002_seed=1": 1}
    forget_names(study)
    (study / "mended").touch()
    grown = plan(sweep_of(tmp_path, {**SEEDS, "loss.clip": {"values": ["all", "none"]}}))
    outcome, _ = run_sweep(grown, ExecutionOptions(study))
    assert outcome is not None
    assert outcome.kept == ("001_seed=0",)
    new = {"003_seed=0,clip=none": 1, "004_seed=1,clip=none": 1}
    assert starts(study) == {"001_seed=0": 1, "002_seed=1": 2, **new}  # what failed ran again, under its name
    names = [point["name"] for point in json.loads((study / "sweep.json").read_text())["points"]]
    assert names == sorted(starts(study))  # kept from now on


def test_a_trial_that_was_stopped_keeps_the_name_of_its_run(study: Path, tmp_path: Path) -> None:
    old = sweep_of(tmp_path, {"a.rate": {"values": [0.5]}, "b.rate": {"values": [0.25]}})
    save_points(old, study, grid(old.parameters), 0)
    forget_names(study)
    (study / "trials").mkdir()
    for suffix in ("log", "lock"):
        (study / "trials" / f"001_half=0.5.{suffix}").touch()
    assert [point.name for point in load_points(old, study)] == ["001_half=0.5"]


def test_a_name_without_words_is_found_and_another_number_that_begins_the_same_is_not(
    study: Path, tmp_path: Path
) -> None:
    old = sweep_of(tmp_path, CLIP)
    save_points(old, study, grid(old.parameters, first=100), 0)
    forget_names(study)
    write_state(study, Trial("1000_seed=0", ("fit",)), "finished")
    write_state(study, Trial("100", ("fit",)), "finished")
    assert [point.name for point in load_points(old, study)] == ["100"]


@pytest.mark.parametrize("finished", ["001_clip=all,seed=0", "001_seed=0"])
def test_of_two_names_that_an_older_version_gave_one_trial_the_finished_one_counts(
    finished: str, study: Path, tmp_path: Path
) -> None:
    old = sweep_of(tmp_path, SEEDS)
    save_points(old, study, grid(old.parameters)[:1], 0)
    forget_names(study)
    for name in ("001_clip=all,seed=0", "001_seed=0"):
        write_state(study, Trial(name, ("fit",)), "finished" if name == finished else "failed")
        run_folder(study, name).mkdir(parents=True)
    assert [point.name for point in load_points(old, study)] == [finished]


def test_a_damaged_record_is_named_itself_and_not_sweep_json(study: Path, tmp_path: Path) -> None:
    old = sweep_of(tmp_path, SEEDS)
    save_points(old, study, grid(old.parameters), 0)
    forget_names(study)
    (study / "trials").mkdir()
    (study / "trials" / "001_seed=0.json").write_text("{")
    with pytest.raises(CaseError, match=r"001_seed=0\.json: not readable as a trial's end"):
        load_points(old, study)
