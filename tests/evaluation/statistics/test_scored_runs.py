from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from segan_pl.data.case import Case, CaseError
from segan_pl.data.labels import label_scheme
from segan_pl.errors import UsageError
from segan_pl.evaluation.lesions import RULES
from segan_pl.evaluation.metrics.measured import HD95
from segan_pl.evaluation.metrics.named import evaluation_metrics
from segan_pl.evaluation.policies import POLICIES
from segan_pl.evaluation.scoring import score_case
from segan_pl.evaluation.statistics.run_tables import Table, find_table
from segan_pl.evaluation.statistics.scored_runs import ScoredRun, read_run
from segan_pl.evaluation.statistics.seeds import Entry
from segan_pl.evaluation.statistics.study import study
from segan_pl.evaluation.surface import Definition
from segan_pl.evaluation.tables import case_rows
from segan_pl.evaluation.tables import write_scores as write_table_of
from tests.evaluation.score_tables import dice_table, run_folder, write_scores


def checkpoints(run: Path, *names: str) -> None:
    (run / "checkpoints").mkdir(parents=True, exist_ok=True)
    for name in names:
        (run / "checkpoints" / name).touch()


def validations(run: Path, *epochs: int) -> None:
    for epoch in epochs:
        dice_table(run / "scores" / f"val_epoch_{epoch:04d}.csv", [epoch / 10])


def test_an_evaluation_is_taken_before_a_test_and_a_test_before_validations(tmp_path: Path) -> None:
    validations(tmp_path, 3)
    checkpoints(tmp_path, "epoch0003_dice0.3000.ckpt", "last.ckpt")
    assert find_table(tmp_path).kind == "validation"
    dice_table(tmp_path / "scores" / "test_last.csv", [0.5])
    assert find_table(tmp_path).kind == "test"
    dice_table(tmp_path / "metrics_per_case.csv", [0.5])
    assert find_table(tmp_path).path == tmp_path / "metrics_per_case.csv"


def test_of_validations_the_best_checkpoints_is_taken_by_its_number(tmp_path: Path) -> None:
    validations(tmp_path, 3, 7, 12)
    checkpoints(tmp_path, "epoch0003_dice0.9.ckpt", "epoch0007_dice0.9500-v1.ckpt", "epoch0012_dice0.1000.ckpt")
    table = find_table(tmp_path)
    assert (table.path.name, table.reason) == ("val_epoch_0007.csv", "validation, best checkpoint, epoch 7")


def test_of_several_tests_the_best_checkpoints_is_taken_else_none(tmp_path: Path) -> None:
    for name in ("test_last.csv", "test_epoch0007_dice0.9500.csv"):
        dice_table(tmp_path / "scores" / name, [0.5])
    with pytest.raises(UsageError, match=r"has 2 test tables .*give the file itself"):
        find_table(tmp_path)
    checkpoints(tmp_path, "epoch0007_dice0.9500.ckpt")
    assert find_table(tmp_path).path.name == "test_epoch0007_dice0.9500.csv"


def test_validations_without_a_checkpoint_are_refused(tmp_path: Path) -> None:
    validations(tmp_path, 3, 7)
    with pytest.raises(UsageError, match="has 2 validations and no checkpoint says which is best"):
        find_table(tmp_path)


def test_a_folder_of_runs_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    validations(tmp_path / "one", 3)
    validations(tmp_path / "two", 3)
    with pytest.raises(UsageError, match=r"no scores/\*\.csv; it holds 2 runs \(one, two\)"):
        find_table(tmp_path)


def test_a_run_that_is_not_there_is_refused_with_the_nearest(tmp_path: Path) -> None:
    run_folder(tmp_path / "segan_cat", [0.5])
    with pytest.raises(UsageError, match=r"no run .*segan_cta, did you mean .*segan_cat\?"):
        find_table(tmp_path / "segan_cta")


def test_rows_are_read_with_the_runs_patients_and_policy(tmp_path: Path) -> None:
    run = run_folder(tmp_path, [0.5, ""], config={"model": {"empty_policy": "nnunet"}})
    found = read_run(run)
    assert found.cases == ("case00", "case01")
    assert found.rows["wt", "case00"].values == {"dice": 0.5}
    assert math.isnan(found.rows["wt", "case01"].values["dice"])
    assert found.patients == {"case00": "p00", "case01": "p01"}
    assert found.policy == "nnunet"


def test_an_evaluations_table_says_patient_status_reference_and_policy(tmp_path: Path) -> None:
    row = {"case": "a", "patient": "p", "region": "WT", "status": "missing", "tp": 3, "fp": 1, "fn": 4, "tn": 9}
    write_scores(tmp_path / "metrics_per_case.csv", [{**row, "dice": "0", "hd95_mm": "n/a", "empty": "prediction"}])
    (tmp_path / "summary.json").write_text('{"policy": {"name": "brats2021"}}', encoding="utf-8")
    found = read_run(tmp_path)
    read = found.rows["wt", "a"]
    assert (read.status, read.reference, read.empty) == ("missing", 7, "prediction")
    assert read.values["dice"] == 0
    assert math.isnan(read.values["hd95_mm"])
    assert (found.patients, found.policy) == ({"a": "p"}, "brats2021")


def test_a_difference_of_volumes_is_compared_by_its_size(tmp_path: Path) -> None:
    path = write_scores(tmp_path / "a.csv", [{"case": "a", "region": "wt", "volume_difference_ml": "-2.5"}])
    read = read_run(path)
    assert read.rows["wt", "a"].values == {"volume_difference_ml": -2.5}  # as the table has it
    (compared,) = Entry("a", (read,)).scores("volume_difference_ml", "wt", ["a"], {})
    assert compared.value == 2.5


@pytest.mark.parametrize(
    ("metric", "higher"),
    [("dice", True), ("surface_dice", True), ("hd95_mm", False), ("volume_difference_ml", False), ("theirs", None)],
)
def test_the_better_side_of_a_metric(metric: str, higher: bool | None) -> None:
    assert ScoredRun(Table(Path("a.csv"), "file", ""), {}).known(metric).higher_is_better is higher


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "no row"),
        ("case,region,dice\n", "no row"),
        ("case,dice\na,0.5\n", "no column region"),
        ("case,age,region\na,5,wt\n", "no column of scores"),
        ("case,region,dice\na,wt,high\n", "line 2, dice: 'high'; expected a finite number"),
        ("case,region,dice\na,wt,inf\n", "line 2, dice: 'inf'; expected a finite number"),
        ("case,region,dice\na,wt,0.5\na,WT,0.6\n", "line 3: a, wt is there twice"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_with_its_fault(tmp_path: Path, text: str, error: str) -> None:
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    with pytest.raises(CaseError, match=error):
        read_run(tmp_path / "a.csv")


def test_columns_of_a_manifest_are_no_scores_whatever_their_names(tmp_path: Path) -> None:
    row = {"case": "a", "region": "wt", "slice_thickness_mm": "1x1x1", "extra_dice": "high", "dice": 0.5}
    assert read_run(write_scores(tmp_path / "a.csv", [row])).metrics == ("dice",)


def test_numbers_behind_the_region_are_scores_whatever_their_names(tmp_path: Path) -> None:
    """Before it stand facts of a case, such as its age; one unknown column holds a word."""
    row = {"case": "a", "age": 7, "region": "wt", "dice": 0.5, "theirs": 3, "remark": "x", "hd95_mm": "n/a"}
    found = read_run(write_scores(tmp_path / "a.csv", [row, {**row, "case": "b", "theirs": ""}]))
    assert found.metrics == ("dice", "theirs", "hd95_mm")
    assert (found.known("theirs").higher_is_better, found.known("theirs").better) == (None, "not stated")
    (tmp_path / "b").mkdir()
    said = '{"metrics": {"theirs": {"unit": "mm", "higher_is_better": false, "definition": "", "by_size": true}}}'
    (tmp_path / "b" / "summary.json").write_text(said, encoding="utf-8")
    known = read_run(write_scores(tmp_path / "b" / "metrics_per_case.csv", [row])).known("theirs")
    assert (known.unit, known.higher_is_better, known.better, known.definition) == ("mm", False, "smaller", None)


def test_what_a_metric_is_can_be_read_beside_an_evaluation(tmp_path: Path) -> None:
    metrics = evaluation_metrics(hd95="medpy", tolerance_mm=3, lesions=RULES["met"])
    row = {"case": "a", "region": "wt", **{metric.name: 0.5 for metric in metrics}}
    write_scores(tmp_path / "metrics_per_case.csv", [row])
    assert read_run(tmp_path).known("hd95_mm").definition is None
    said = {"metrics": {metric.name: metric.described() for metric in metrics}}
    (tmp_path / "summary.json").write_text(json.dumps(said, allow_nan=False), encoding="utf-8")
    found = read_run(tmp_path)
    assert found.metrics == tuple(metric.name for metric in metrics)
    definitions = {metric: found.known(metric).definition for metric in found.metrics}
    assert {name: said for name, said in definitions.items() if said} == {
        "hd95_mm": "medpy",
        "surface_dice": "tolerance 3 mm",
        **dict.fromkeys([n for n in found.metrics if "lesion" in n], "met (dilations 1, left_out_up_to_mm3 2)"),
    }
    for metric in metrics:
        known = found.known(metric.name)
        assert (known.unit, known.higher_is_better) == (metric.unit, metric.higher_is_better)


def test_a_summary_that_is_no_json_is_named(tmp_path: Path) -> None:
    dice_table(tmp_path / "metrics_per_case.csv", [0.5])
    (tmp_path / "summary.json").write_text("{", encoding="utf-8")
    with pytest.raises(CaseError, match=r"summary.json: not readable as JSON"):
        read_run(tmp_path)


def test_a_spreadsheets_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfcase,region,dice\r\na,wt,0.5\r\n")
    assert read_run(tmp_path / "a.csv").cases == ("a",)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\x1f\x8b\xff\x00")
    with pytest.raises(CaseError, match="cannot be read as a CSV file"):
        read_run(tmp_path / "a.csv")


def test_each_table_of_a_run_keeps_its_own_definition_of_a_metric(tmp_path: Path) -> None:
    """A test by another HD95 in a run's folder does not change what its validations are said to be."""
    scores, policy = tmp_path / "scores", POLICIES["segan_cat"]
    case, label = Case("a", "", {}), np.ones((2, 3, 4), np.uint8)
    scheme = label_scheme("whole_tumour", "binary")

    def write(name: str, definition: Definition) -> str | None:
        metrics = [HD95(definition)]
        rows = case_rows(case, score_case(label, label, (1, 1, 1), metrics, scheme=scheme), ("wt",))
        write_table_of(scores / name, rows, metrics, policy)
        return read_run(scores / name).known("hd95_mm").definition

    assert write("val_epoch_0000.csv", "medpy") == "medpy"
    assert write("test_last.csv", "monai") == "monai"
    validated, tested = (read_run(scores / name) for name in ("val_epoch_0000.csv", "test_last.csv"))
    assert validated.known("hd95_mm").definition == "medpy"
    with pytest.raises(CaseError, match=r"hd95_mm: definition 'medpy' in .* and 'monai' in "):
        study([Entry("a", (validated,)), Entry("b", (tested,))], metrics=["hd95_mm"])
    assert write("test_last.csv", "medpy") == "medpy"
    assert sorted(file.name for file in scores.glob("*.json")) == ["metrics.json"]
