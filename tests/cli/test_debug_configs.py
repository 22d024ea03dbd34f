"""What each file of configs/debug promises."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import pytest

from segan_pl.__main__ import main
from segan_pl.experiments.shipped import shipped_configs, shipped_folder
from tests.cohort import QUIET

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [
    *QUIET,
    pytest.mark.usefixtures("isolated"),
]

SMALL = ("--data.preparation.crop=null", "--data.patch=[32,32]", "--data.stratify_by=[]", "--data.prepare_workers=1")


@pytest.fixture
def arguments(cohort: Path, prepared: Path, tmp_path: Path) -> list[str]:
    """The generated cohort and the narrowest networks."""
    widths = [f"--model.networks.{network}.init_args.width=4" for network in ("segmentor", "critic")]
    places = [f"--root={cohort}", f"--data.cache_dir={prepared}", f"--run.directory={tmp_path / 'run'}"]
    return [*SMALL, *widths, *places, "--trainer.accelerator=cpu"]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_debug_file_has_a_promise_here() -> None:
    files = {path.stem for path in (shipped_folder("configs") / "debug").glob("*.yaml")}
    assert files == {"debug_fast", "debug_overfit", "debug_profile"}
    assert files <= set(shipped_configs())


def test_fast_is_one_batch_and_one_case_to_a_checkpoint_in_seconds(arguments: list[str], tmp_path: Path) -> None:
    start = time.perf_counter()
    assert main(["fit", "-c", "segan_cat", "-c", "debug_fast", *arguments, "--data.val_fraction=0.4"]) == 0
    assert time.perf_counter() - start < 60  # it takes 1 s on an idle machine
    run = tmp_path / "run"
    assert [row["batches_seen"] for row in rows(run / "metrics.csv")] == ["1"]
    assert len(rows(run / "scores" / "val_epoch_0000.csv")) == 1
    assert (run / "checkpoints" / "last.ckpt").is_file()


@pytest.mark.slow
def test_overfit_lowers_the_loss_of_a_few_slices(arguments: list[str], tmp_path: Path) -> None:
    assert main(["fit", "-c", "segan_cat", "-c", "debug_overfit", *arguments]) == 0
    epochs = rows(tmp_path / "run" / "metrics.csv")
    assert [row["batches_seen"] for row in epochs] == [str(2 * (number + 1)) for number in range(30)]
    dice = [float(row["train/segmentor_dice"]) for row in epochs]
    assert dice[0] > dice[10] > dice[20] > dice[29]
    assert dice[29] < dice[0] - 0.003  # at the paper's rate of 2e-5


def test_profile_leaves_its_table_in_the_runs_folder(
    arguments: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert main(["fit", "-c", "segan_cat", "-c", "debug_profile", *arguments, "--data.batch_size=4"]) == 0
    (table,) = (tmp_path / "run").glob("fit-profile*")
    assert "training_step" in table.read_text()
    assert f"profile: {table}" in caplog.text
