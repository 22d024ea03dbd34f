"""The plan of few labels from end to end on a generated cohort: what it trains, tells and opens, and when."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import pytest

from segan_pl.__main__ import main
from segan_pl.data.split.record import Split
from segan_pl.data.synthetic.healthy import make_healthy_cohort
from tests.cohort import QUIET

pytestmark = [*QUIET, pytest.mark.slow]
POOL, OTHERS, TESTED = ["IBSR_01", "IBSR_02"], ["IBSR_05"], ["IBSR_03", "IBSR_04"]


def listed(names: list[str]) -> str:
    return f"[{','.join(names)}]"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Five subjects in IBSR18's form, the last without a mask."""
    make_healthy_cohort(tmp_path / "data", form="ibsr18", subjects=4, unlabelled=1, shape=(32, 48, 48))
    return tmp_path / "data"


def test_masks_of_the_test_subjects_are_opened_by_the_evaluation_alone(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith(("WANDB_", "SEGAN_PL_RUN", "PL_"))]:
        monkeypatch.delenv(name)
    masks = [root / name / f"{name}_seg.nii.gz" for name in TESTED]
    for mask in masks:
        shutil.move(mask, tmp_path / mask.name)
        mask.write_bytes(b"nobody reads this")
    network = "{class_path: segan_pl.nets.few_shot.Segmentor, init_args: {width: 2}}"
    line = [
        *("experiment", "few_shot", "--root", str(root), "--output", str(tmp_path / "study"), "--seeds", "3"),
        *("--set", f"pool={listed(POOL)}", "--set", f"others={listed(OTHERS)}", "--set", f"tested={listed(TESTED)}"),
        *(
            "--set",
            "labelled=[1]",
            "--set",
            "objectives=[cps]",
            "--set",
            "teachers=[mean_teacher]",
            "--set",
            "gans=[gt_gan]",
        ),
        *("--set", "atlases=[vote]", "--set", f"segmentor={network}", "--set", "epochs=1"),
        *("--", "--data.sampling.batches", "1", "--data.cache_dir", str(tmp_path / "cache"), "--data.workers", "0"),
        *("--trainer.accelerator", "cpu", "--data.prepare_workers", "1"),
    ]
    assert main(line) == 1
    said = capfd.readouterr().out
    # the trainings, the predictions and the registration have finished, and each evaluation has failed
    failed = [one for one in said.splitlines() if one.startswith("failed: ")]
    assert [one.split()[1].rstrip(":") for one in failed] == [
        f"{name}_n1_scores_seed3"
        for name in ("supervised", "supervised_ce", "gt_gan", "mean_teacher", "cps", "atlas_vote")
    ]
    log = (tmp_path / "study" / "logs" / "supervised_n1_scores_seed3.log").read_text()
    assert "IBSR_03_seg.nii.gz" in log
    assert "17 runs, 11 finished, 6 failed, 0 skipped" in said
    # nor is a training told of them
    whole, told = (Split.load(tmp_path / "study" / name, val="free") for name in ("split.json", "training.json"))
    assert (sorted(whole.test), told.test) == (TESTED, ())
    assert not told.named & set(TESTED)
    for mask in masks:
        shutil.copy(tmp_path / mask.name, mask)
    assert main(line) == 0
    said = capfd.readouterr().out
    assert "17 runs, 17 finished (11 of them earlier), 0 failed" in said
    with (tmp_path / "study" / "tables.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["table"] == "scores" and row["metric"] == "dice"]
    assert {(row["state"], row["cases"]) for row in rows} == {("finished", "2")}
    assert {row["region"] for row in rows} == {"csf", "gm", "wm"}
    atlas = {row["region"]: float(row["mean"]) for row in rows if row["row"] == "atlas, vote, n = 1"}
    # brains of different people, hardly registered at this size, but no network of one step comes near
    assert atlas["wm"] > 0.3
    report = (tmp_path / "study" / "report.md").read_text()
    assert "seconds for each volume" in report
    assert (tmp_path / "study" / "labels.svg").is_file()
    assert (tmp_path / "study" / "gains.csv").read_text().startswith("row,reference,region,metric,difference")
