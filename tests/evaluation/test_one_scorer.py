"""A case has one score in validation, in `test`, and in `evaluate` of what `predict` writes, however it is prepared."""

from __future__ import annotations

import csv
import math
import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segan_pl.__main__ import main
from segan_pl.data.case import CaseError
from segan_pl.data.module import MRIDataModule
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.evaluation.metrics.base import CountMetric
from segan_pl.evaluation.metrics.named import BUILT_IN
from segan_pl.evaluation.policies import POLICIES
from segan_pl.training.validation import VolumeScoring
from tests.cohort import CROP, QUIET, build_system, build_trainer

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [
    *QUIET,
    pytest.mark.usefixtures("isolated"),
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
]

MakeData = Callable[..., MRIDataModule]
COUNTED = [metric for metric in BUILT_IN.values() if isinstance(metric, CountMetric)]
RESAMPLED = Preparation(crop=(6, 30, 40), spacing_mm=(1.3, 1.4, 1.6))


def rows_of(table: Path) -> dict[tuple[str, str], dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as file:
        return {(row["case"], row["region"]): row for row in csv.DictReader(file)}


def assert_equal(found: Any, expected: Any) -> None:
    assert [(score.region, score.counts) for score in found] == [(score.region, score.counts) for score in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_equal(dict(one.values), dict(other.values))  # to the bit, NaN as NaN


@pytest.mark.parametrize("labels", ["regions", "labels", "whole_tumour"])
@pytest.mark.parametrize("preparation", [Preparation(crop=None), CROP, Preparation(crop="nonzero", orientation="RAS")])
@pytest.mark.parametrize("score_on", ["volume", "crop"])
def test_counting_on_the_prepared_volume_finds_what_the_masks_on_the_original_grid_do(
    make_data: MakeData, labels: str, preparation: Preparation, score_on: Any
) -> None:
    data = make_data(labels=labels, preparation=preparation)
    data.prepare_data()
    data.setup("validate")
    settings: dict[str, Any] = {"score_on": score_on, "crop": (4, 24, 24), "shown": 0, "previews": 0}
    scoring = VolumeScoring(data.scheme, POLICIES["brats2023"], metrics=COUNTED, tested=COUNTED, **settings)
    generator = torch.Generator().manual_seed(0)
    for row in data.rows("val"):
        target = scoring.scored_part(torch.from_numpy(data.scheme.encode(np.array(data.open(row).label))))
        logits = torch.randn(target.shape, generator=generator) + 4 * target - 2
        counted = scoring._count(row, target, logits, data, COUNTED)
        assert_equal(counted, scoring._look(row, target, logits, data, COUNTED))
        assert any(score.counts.tp for score in counted)


def test_the_cache_holds_the_reference_of_a_resampled_case_as_its_file_has_it(
    make_data: MakeData, cohort: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(cohort, tmp_path / "moved")
    data = make_data(preparation=RESAMPLED)
    data.root = root
    data.prepare_data()
    data.setup("validate")
    originals = {row: data.cases[row].mask for row in data.rows("val")}
    from segan_pl.data.io import read_volume

    expected = {row: np.array(read_volume(mask or "").array) for row, mask in originals.items()}
    shutil.rmtree(root)  # the sources may be gone once a case is prepared
    for row, mask in expected.items():
        np.testing.assert_array_equal(data.reference(row), mask)
        assert mask.any()


@pytest.mark.parametrize(
    ("preparation", "labels"),
    [
        (("--data.preparation.crop=[6,40,64]",), "regions"),
        (("--data.preparation.crop=[6,30,40]", "--data.preparation.spacing_mm=[1.3,1.4,1.6]"), "regions"),
        (("--data.preparation.crop=[6,30,40]", "--data.preparation.spacing_mm=[1.3,1.4,1.6]"), "labels"),
    ],
)
def test_validation_test_and_evaluation_find_the_same_scores(
    tmp_path: Path, cohort: Path, prepared: Path, preparation: tuple[str, ...], labels: str
) -> None:
    """HD95 by the same definition among them; `predict` has written the files that `evaluate` reads."""
    run = tmp_path / "run"
    line = [
        *("--config=segan_cat_small", f"--root={cohort}", f"--data.cache_dir={prepared}", *preparation),
        *(f"--data.labels={labels}", f"--run.directory={run}", "--data.patch=[32,32]", "--data.batch_size=12"),
        *("--data.val_fraction=0.25", "--data.stratify_by=[]", "--data.workers=0", "--data.prepare_workers=1"),
        *("--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.precision=32-true"),
        f"--run.monitor=val/dice_{'wt' if labels == 'regions' else 'mean'}",
        *("--trainer.enable_progress_bar=false", "--model.metrics=[hd95, surface_dice]", "--run.preview_every=0"),
    ]
    assert main(["fit", *line]) == 0
    checkpoint = run / "checkpoints" / "last.ckpt"
    assert main(["test", *line, f"--ckpt_path={checkpoint}"]) == 0
    folders = [f"--output={tmp_path / 'pred'}", "--part=val", "--precision=float32", "--device=cpu"]
    assert main(["predict", f"--ckpt_path={checkpoint}", f"--root={cohort}", *folders]) == 0
    evaluated = [f"--pred={tmp_path / 'pred'}", f"--root={cohort}", f"--data.labels={labels}", "--workers=1"]
    assert main(["evaluate", *evaluated, f"--output={tmp_path / 'out'}"]) == 0
    expected = rows_of(tmp_path / "out" / "metrics_per_case.csv")
    (tested,) = (run / "scores").glob("test_*.csv")
    assert rows_of(tested) == expected
    validated = rows_of(run / "scores" / "val_epoch_0000.csv")
    assert validated.keys() == expected.keys()
    for key, row in validated.items():
        assert set(row) < set(expected[key])
        assert {name: expected[key][name] for name in row} == row
    assert any(int(row["tp"]) and row["hd95_mm"] for row in expected.values())


OWN = """
import math

from segan_pl.evaluation.metrics import MaskPair, Metric


class VolumeRatio(Metric):
    name, unit, higher_is_better, bounds = "volume_ratio", "1", False, (0.0, math.inf)
    meaning = "prediction over reference"

    def compute(self, masks: MaskPair) -> float:
        return masks.prediction.sum() / masks.reference.sum()
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A metric in a file outside the package."""
    (tmp_path / "elsewhere_scores.py").write_text(textwrap.dedent(OWN), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("SEGAN_PL_ALLOW_IMPORTS", "elsewhere_scores")
    return "elsewhere_scores.VolumeRatio"


def test_a_metric_of_ones_own_is_logged_and_kept_with_what_it_is(tmp_path: Path, make_data: MakeData, own: str) -> None:
    from segan_pl.training.callbacks.record import CaseScores

    system, data = build_system(metrics=["iou", own]), make_data()
    trainer = build_trainer(tmp_path, CaseScores(tmp_path, "a.csv"))
    trainer.validate(system, data, verbose=False)
    assert [metric.name for metric in system.scoring.metrics] == ["dice", "iou", "volume_ratio"]
    assert "val/volume_ratio_wt" in system.metric_names()
    values = []
    for row in rows_of(tmp_path / "scores" / "a.csv").values():
        predicted, reference = int(row["tp"]) + int(row["fp"]), int(row["tp"]) + int(row["fn"])
        assert float(row["volume_ratio"]) == pytest.approx(predicted / reference, abs=1e-6)
        values.append(predicted / reference)
    assert trainer.callback_metrics["val/volume_ratio_wt"].item() == pytest.approx(math.fsum(values) / len(values))


def test_a_metric_of_ones_own_that_is_infinite_ends_validation_with_the_cases_name(
    tmp_path: Path, make_data: MakeData, own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, data = build_system(metrics=[own]), make_data()
    monkeypatch.setattr(type(system.scoring.metrics[-1]), "compute", lambda self, masks: math.inf)
    with pytest.raises(CaseError) as raised:
        build_trainer(tmp_path).validate(system, data, verbose=False)
    name, _, what = str(raised.value).partition(", ")
    assert name in [data.cases[row].name for row in data.rows("val")]
    assert what == "wt: the metric volume_ratio is inf; expected a finite number, or NaN for not available"


def test_a_metric_of_ones_own_reaches_evaluate_compare_and_report_without_an_edit(
    tmp_path: Path, cohort: Path, own: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """compare and report import nothing of it: the table and what lies beside it are enough."""
    from segan_pl.data.io import read_volume, write_volume
    from segan_pl.data.layouts import find_cases

    for name, shift in (("a", 1), ("b", 2)):
        for number, case in enumerate(find_cases(cohort)):
            mask = read_volume(case.mask or "")
            array = np.array(mask.array)
            array[:, :, : 20 + (3 * number + shift) % 8] = 0
            (tmp_path / name).mkdir(exist_ok=True)
            write_volume(tmp_path / name / f"{case.name}.nii.gz", array, mask.affine)
        folders = [f"--pred={tmp_path / name}", f"--root={cohort}", f"--output={tmp_path / f'out_{name}'}"]
        assert main(["evaluate", *folders, f"--metrics=[{own}]", "--regions=wt", "--workers=1"]) == 0
    monkeypatch.setenv("SEGAN_PL_ALLOW_IMPORTS", "")
    outputs = [str(tmp_path / "out_a"), str(tmp_path / "out_b")]
    capsys.readouterr()
    assert main(["compare", *outputs, "--metric=volume_ratio,reference_ml", f"--output={tmp_path / 'table'}"]) == 0
    shown = capsys.readouterr().out
    assert "reference_ml: nothing says whether more or less is better" in shown
    assert "volume_ratio: nothing says" not in shown
    with (tmp_path / "table" / "comparison.csv").open(newline="") as file:
        (ratio, _) = csv.DictReader(file)
    tables = [rows_of(Path(folder) / "metrics_per_case.csv") for folder in outputs]
    there = [key for key in tables[0] if all(table[key]["volume_ratio"] for table in tables)]
    gains = [float(tables[1][k]["volume_ratio"]) - float(tables[0][k]["volume_ratio"]) for k in there]
    assert ratio["metric"] == "volume_ratio"
    assert float(ratio["difference"]) == pytest.approx(np.mean(gains), abs=1e-5)
    assert (int(ratio["wins"]), int(ratio["losses"])) == (sum(g < 0 for g in gains), sum(g > 0 for g in gains))
    assert main(["report", *outputs, f"--output={tmp_path / 'page.html'}"]) == 0
    (line, _) = [text for text in (tmp_path / "page.md").read_text().splitlines() if "volume\\_ratio" in text]
    assert line.endswith("| 1 | lower |")
    assert "volume_ratio of every case by region (lower is better)" in (tmp_path / "page.html").read_text()
    assert (tmp_path / "figures" / "box_volume_ratio.svg").is_file()
