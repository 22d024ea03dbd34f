"""Every shipped stabiliser file over the system that it names, by the command line, and where it does not go."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from segan_pl.__main__ import main
from segan_pl.data.synthetic.cohort import make_cohort
from segan_pl.errors import UsageError
from segan_pl.experiments.config_layers import refuse_two_models, require_system_first
from segan_pl.experiments.shipped import find_config, shipped_folder
from tests.cohort import QUIET

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [*QUIET, pytest.mark.usefixtures("isolated")]

FILES = sorted(path.stem for path in (shipped_folder("configs") / "stabilisers").glob("*.yaml"))
OTHERS = ("spectral_norm", "two_time_scales")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four cases of which one is validated."""
    folder = tmp_path_factory.mktemp("stabilisers")
    make_cohort(folder / "cohort", cases=4, shape=(8, 32, 32), seed=48)
    return folder


def fit(root: Path, run: Path, *files: str) -> int:
    return main(
        [
            *("fit", *files, f"--root={root / 'cohort'}", f"--data.cache_dir={root / 'cache'}"),
            *("--data.val_fraction=0.25", "--data.stratify_by=[]", "--data.prepare_workers=1"),
            *("--data.patch=[32,32]", "--data.batch_size=8", "--run.preview_every=0", f"--run.directory={run}"),
            *(f"--model.networks.{name}.init_args.width=4" for name in ("segmentor", "critic")),
            *("--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.max_epochs=1"),
            *("--trainer.enable_progress_bar=false", "--trainer.num_sanity_val_steps=0"),
        ]
    )


@pytest.mark.parametrize("files", [*((name,) for name in OTHERS), tuple(name for name in FILES if name not in OTHERS)])
def test_they_train_over_a_system_in_bfloat16_and_those_of_the_objective_together(
    files: tuple[str, ...], root: Path, tmp_path: Path
) -> None:
    over = [part for name in files for part in ("-c", name)]
    assert fit(root, tmp_path / "run", "-c", "segan_cat_small", *over) == 0
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").read_text().splitlines()))
    losses = {key: float(value) for key, value in rows[-1].items() if key.startswith("train/") and value}
    assert np.isfinite(list(losses.values())).all()
    assert ("train/segmentor_r1" in losses) is ("r1" in files)


def test_they_go_after_a_system_and_an_objective_and_any_number_of_them(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    system, objective, *changes = (find_config(name) for name in ("unet3d", "cps", *FILES))
    refuse_two_models([system, objective, *changes])
    require_system_first([system, objective, *changes])
    for later in (system, objective):
        with pytest.raises(UsageError, match=f"--config r1 changes a model; give {later.stem} before it"):
            require_system_first([find_config("r1"), later])
    assert fit(root, tmp_path / "run", "-c", "segan_cat_small", "--model.spectral_norm=[critic]") == 2
    assert "SegAN clamps its weights" in capsys.readouterr().err
