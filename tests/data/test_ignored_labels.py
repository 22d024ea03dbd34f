"""A run on masks with voxels that are not judged: what validation counts is what `evaluate` counts."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from segan_pl.cli.commands.evaluate import main as evaluate
from segan_pl.data.case import Case
from segan_pl.data.io import read_volume, write_volume
from segan_pl.data.synthetic.healthy import make_healthy_cohort
from segan_pl.objectives.segan import SegAN
from segan_pl.training.system import AdversarialSegmentation
from tests.cohort import QUIET, build_data, build_system, build_trainer

pytestmark = QUIET
MODALITIES = ("t1", "t1_ir")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mrbrains")
    make_healthy_cohort(root, form="mrbrains13", subjects=4, shape=(8, 48, 48))
    return root


def trained(root: Path, work: Path) -> AdversarialSegmentation:
    data = build_data(root, work / "cache", modalities=MODALITIES, labels="labels", workers=0)
    data.prepare_data()
    data.setup("fit")
    system = build_system(SegAN(), modalities=MODALITIES, labels=data.scheme.name)
    build_trainer(work, epochs=2).fit(system, data)
    return system


def mask_of(case: Case) -> Path:
    assert case.mask is not None
    return case.mask


def test_validation_counts_what_evaluate_counts(root: Path, tmp_path: Path) -> None:
    system = trained(root, tmp_path).eval()
    data = system.trainer.datamodule  # type: ignore[attr-defined]
    (tmp_path / "pred").mkdir()
    rows = {case.name: row for row, case in enumerate(data.cases)}
    for batch in data.val_dataloader():
        case = data.cases[int(batch.case)]
        logits = system.predict_volume(batch.image[0].float(), batch.modality_mask[0]).detach()
        label = system.scheme.decode(torch.nn.functional.one_hot(logits.argmax(0), len(logits)).movedim(-1, 0).numpy())
        reference = read_volume(mask_of(case))
        native = data.geometry(rows[case.name]).restore(label)
        write_volume(tmp_path / "pred" / f"{case.name}.nii.gz", native, reference.affine)
    judged = ["--data.labels", "labels", "--workers", "1", "--output", str(tmp_path / "out")]
    evaluate(["evaluate", "--root", str(root), "--pred", str(tmp_path / "pred"), *judged])
    with (tmp_path / "out/metrics_per_case.csv").open() as file:
        found = {
            (row["case"], row["region"]): tuple(int(row[name]) for name in ("tp", "fp", "fn", "tn"))
            for row in csv.DictReader(file)
            if row["status"] == "scored"
        }
    assert torch.isfinite(torch.cat([value.flatten() for value in system.state_dict().values()])).all()
    expected = {(score.case, score.region): tuple(score.counts) for score in system.case_scores}
    assert found == expected
    assert len(expected) == 3 * len(data.split.val)
