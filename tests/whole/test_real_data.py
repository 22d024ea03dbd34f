"""Every main path on real MRI, small: fit, continue, test, prepare. The files lie where SEGAN_PL_TEST_DATA says."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from segan_pl.__main__ import main
from tests.cohort import QUIET

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [
    pytest.mark.real_data,
    pytest.mark.usefixtures("isolated"),
    *QUIET,
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
]
SMALL = (
    "--model.networks.segmentor.init_args.width=8",
    "--trainer.limit_train_batches=4",
    "--data.batch_size=8",
    "--trainer.accelerator=cpu",
)


@pytest.fixture
def fit(tmp_path: Path) -> Callable[..., int]:
    """`segan_pl fit` with a cache and a run directory of the test's own."""

    def run(*arguments: str) -> int:
        places = (f"--data.cache_dir={tmp_path / 'cache'}", f"--run.directory={tmp_path / 'run'}")
        return main(["fit", *arguments, *SMALL, *places])

    return run


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_brats_2021_trains_continues_and_is_tested_on_its_original_grid(
    fit: Callable[..., int], real_data_root: Path, tmp_path: Path
) -> None:
    line = (
        "--config",
        "segan_cat",
        f"--root={real_data_root / 'brats2021'}",
        "--model.networks.critic.init_args.width=8",
    )
    assert fit(*line, "--trainer.max_epochs=1") == 0
    assert fit(*line, "--trainer.max_epochs=2") == 0
    run = tmp_path / "run"
    assert [row["epoch"] for row in rows(run / "metrics.csv")] == ["0", "1"]
    assert main(["test", f"--ckpt_path={run / 'checkpoints' / 'last.ckpt'}"]) == 0
    (score,) = rows(run / "scores" / "test_last.csv")
    assert sum(int(score[name]) for name in ("tp", "fp", "fn", "tn")) == 240 * 240 * 155


@pytest.mark.parametrize(
    ("system", "critic"),
    [
        ("segan_cat_small", True),
        ("segan_dice_small", True),
        ("segan_small", True),
        ("segmentor_small", False),
        ("segmentor_small_adamw", False),
    ],
)
def test_lgg_trains_with_every_small_system_on_the_given_split(
    fit: Callable[..., int], real_data_root: Path, tmp_path: Path, system: str, critic: bool
) -> None:
    root = real_data_root / "lgg"
    width = ["--model.networks.critic.init_args.width=8"] if critic else []
    split = f"--data.split_file={root / 'splits' / 'lgg_40_10_0.json'}"
    assert fit("--config", system, "--config", "lgg", f"--root={root}", split, *width, "--trainer.max_epochs=1") == 0
    scores = rows(tmp_path / "run" / "scores" / "val_epoch_0000.csv")
    assert len(scores) == 10
    assert {row["institution"] for row in scores} <= {"CS", "DU", "FG", "HT"}


def test_the_four_incomplete_patients_of_lgg_are_refused_by_name_unless_they_are_dropped(
    fit: Callable[..., int], real_data_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ("--config", "segmentor_small", "--config", "lgg", f"--root={real_data_root / 'lgg'}")
    assert fit(*line, "--data.missing=refuse", "--trainer.max_epochs=1") == 1
    assert "4 of 54 cases are incomplete" in capsys.readouterr().err
