from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import yaml

from segan_pl.__main__ import main
from segan_pl.data.layouts import LAYOUTS
from segan_pl.experiments.shipped import find_config, made_for, shipped_folder
from tests.cohort import QUIET

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [*QUIET]

OF_RECIPE = "strong2d_small"
PRESETS = {"lgg_quick": "lgg", "brats_quick": "brats"}  # and the data file that each holds


def content(name: str) -> dict[str, Any]:
    settings = yaml.safe_load(find_config(name).read_text())
    assert isinstance(settings, dict)
    return settings


def test_every_preset_is_under_test() -> None:
    assert {path.stem for path in (shipped_folder("configs") / "presets").glob("*.yaml")} == set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_the_strong_recipe_with_its_data_file(name: str) -> None:
    preset, system, data = content(name), content(OF_RECIPE), content(PRESETS[name])["data"]
    assert preset["model"] == system["model"]
    own = {key: value for key, value in preset["data"].items() if key not in data}
    assert own.pop("sampling")["foreground"] == system["data"]["sampling"]["foreground"]
    assert {key: preset["data"][key] for key in data} == data
    labels = own.pop("labels", data.get("labels"))  # of lgg the data file says them
    assert labels == ("binary" if name == "lgg_quick" else system["data"]["labels"])
    rest = {key: value for key, value in system["data"].items() if key not in ("sampling", "labels")}
    assert own == rest


@pytest.mark.parametrize("name", PRESETS)
def test_a_presets_rate_falls_with_its_own_epochs_and_the_last_one_is_validated(name: str) -> None:
    preset = content(name)
    assert preset["model"]["schedule"]["init_args"]["total_iters"] is None  # as long as the run
    assert preset["trainer"]["max_epochs"] % preset["trainer"]["check_val_every_n_epoch"] == 0
    assert preset["run"]["monitor"] == "val/dice_mean"


def test_layouts_have_the_files_that_are_made_for_them() -> None:
    assert made_for("lgg") == ("lgg_quick", "lgg")
    assert made_for("brats2023") == made_for("brats2015") == ("brats_quick", "brats")
    assert made_for("ibsr18") == (None, "ibsr18")
    assert made_for("nnunet") == (None, None)
    assert {made_for(layout)[1] for layout in LAYOUTS} == {
        None,
        *(path.stem for path in (shipped_folder("configs") / "data").glob("*.yaml")),
    }


@pytest.mark.parametrize("critic", [False, True], ids=["alone", "with critic"])
def test_a_preset_alone_trains_with_and_without_critic(
    critic: bool, cohort: Path, prepared: Path, tmp_path: Path, isolated: None, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["fit", "-c", "brats_quick", *(["-c", "critic"] if critic else []), f"--root={cohort}"]
    small = ["--trainer.max_epochs=1", "--trainer.check_val_every_n_epoch=1", "--data.sampling.batches=1"]
    run = tmp_path / "run"
    here = [f"--data.cache_dir={prepared}", f"--run.directory={run}", "--trainer.accelerator=cpu"]
    assert main([*line, *small, *here, "--data.patch=[32,32]", "--data.prepare_workers=1"]) == 0
    assert "cost: 1 epoch of 1 batch; no early end (--run.patience 300)" in capsys.readouterr().out
    with (run / "metrics.csv").open(newline="") as file:
        columns = next(csv.reader(file))
    assert {"val/dice_wt", "val/dice_tc", "val/dice_et", "val/dice_mean"} <= set(columns)
    assert ("train/critic_gap" in columns) is critic


def test_of_a_layout_that_a_system_does_not_fit_the_shipped_file_is_said(
    tmp_path: Path, isolated: None, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        (tmp_path / "D" / name).mkdir(parents=True)
        for part in ("t1", "t1ce", "flair", "seg"):
            (tmp_path / "D" / name / f"{name}_{part}.nii").touch()
    (tmp_path / "D" / "cases.csv").write_text("case,patient,institution\na,a,X\nb,b,Y\n")
    line = ["fit", f"--root={tmp_path / 'D'}", f"--run.directory={tmp_path / 'run'}", "--trainer.accelerator=cpu"]
    hint = "this is layout lgg, of which -c lgg after the system says what it holds, or -c lgg_quick alone"
    assert main([*line, "-c", "strong2d_small"]) == 1
    assert hint in capsys.readouterr().err
    assert main([*line, "-c", "strong2d_small", "-c", "lgg"]) == 1  # whose files are empty
    assert hint not in capsys.readouterr().err
    assert main([*line, "-c", "strong2d_small", "-c", "ibsr18"]) == 1
    hint = "or, since -c ibsr18 is made for layout ibsr18, -c lgg_quick in its place"
    assert hint in capsys.readouterr().err
