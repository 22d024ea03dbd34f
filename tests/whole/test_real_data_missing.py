"""The four LGG patients without all sequences: trained on, validated and predicted, once a run is told to."""

from __future__ import annotations

import csv
from itertools import combinations
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
LACKING = {
    "TCGA_DU_7013_19860523": "zeros for t1, t1ce; used flair",
    "TCGA_DU_8165_19970205": "zeros for t1ce; used t1, flair",
    "TCGA_FG_7634_20000128": "zeros for t1ce; used t1, flair",
    "TCGA_FG_A60K_20040224": "zeros for t1, t1ce; used flair",
}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


ABSENT = {"zeros for t1, t1ce; used flair": "t1 t1ce", "zeros for t1ce; used t1, flair": "t1ce"}
COMPLETE = "TCGA_CS_4941_19960909"


def small(lgg: Path, folder: Path) -> Path:
    """A data set of the four and one complete patient."""
    folder.mkdir()
    head, *lines = (lgg / "cases.csv").read_text().splitlines()
    kept = [line for line in lines if line.split(",")[0] in (*LACKING, COMPLETE)]
    (folder / "cases.csv").write_text("\n".join([head, *kept]) + "\n")
    for name in (*LACKING, COMPLETE):
        (folder / name).symlink_to((lgg / name).resolve())
    return folder


def possible(case: str) -> set[str]:
    """The subsets of what a patient has."""
    used = LACKING.get(case, "used t1, t1ce, flair").partition("used ")[2].split(", ")
    return {"+".join(subset) for size in (1, 2, 3) for subset in combinations(used, size)}


def test_incomplete_patients_are_trained_on_scored_by_subset_and_predicted_without_options(
    real_data_root: Path, tmp_path: Path
) -> None:
    lgg, run = real_data_root / "lgg", tmp_path / "run"
    data = small(lgg, tmp_path / "data")
    line = [
        *("fit", "--config", "segan_cat_small", "--config", "lgg", f"--root={data}", "--data.missing=zero"),
        *("--data.augmentation.modality_dropout=0.25", "--model.modality_mask=channels", "--model.subsets=all"),
        *("--data.val_fraction=0.5", "--data.stratify_by=[]", "--data.batch_size=8", "--trainer.max_epochs=1"),
        *(
            "--model.networks.segmentor.init_args.width=8",
            "--model.networks.critic.init_args.width=8",
            "--trainer.accelerator=cpu",
        ),
        *("--trainer.limit_train_batches=2", f"--data.cache_dir={tmp_path / 'cache'}", f"--run.directory={run}"),
    ]
    assert main(line) == 0
    absent = {row["case"]: row["absent"] for row in rows(run / "cases.csv")}
    assert absent == {COMPLETE: "", **{name: ABSENT[note] for name, note in LACKING.items()}}
    scored = rows(run / "scores" / "val_epoch_0000_subsets.csv")
    cases = {row["case"] for row in scored}
    found = {name: {row["subset"] for row in scored if row["case"] == name} for name in cases}
    assert cases & LACKING.keys()
    assert found == {name: possible(name) for name in cases}
    last = run / "checkpoints" / "last.ckpt"
    assert main(["predict", "--ckpt_path", str(last), f"--root={data}", f"--output={tmp_path / 'out'}"]) == 0
    notes = {row["case"]: row["notes"] for row in rows(tmp_path / "out" / "predictions.csv")}
    assert notes == {COMPLETE: "", **{name: f"{name}: {note}" for name, note in LACKING.items()}}
