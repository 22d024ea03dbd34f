from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from segan_pl.__main__ import main as segan_pl
from segan_pl.cli.commands.evaluate import main
from segan_pl.data.case import CaseError
from segan_pl.data.io import read_volume, write_volume
from segan_pl.data.layouts import find_data_set
from segan_pl.errors import UsageError
from segan_pl.evaluation.metrics import MaskPair, Metric
from segan_pl.evaluation.statistics.scored_runs import read_run
from tests.generators.trees import write_cohort

CASES = 4
Rows = list[dict[str, str]]


def evaluate(pred: Path, ref: Path, output: Path, *options: str) -> int:
    return main(["evaluate", f"--pred={pred}", f"--root={ref}", f"--output={output}", "--workers=1", *options])


def rows_of(output: Path) -> Rows:
    with (output / "metrics_per_case.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def summary_of(output: Path) -> dict:
    found: dict = json.loads((output / "summary.json").read_text())
    return found


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.splitlines()[-1]


def predict(ref: Path, pred: Path, change: Callable[[np.ndarray], np.ndarray] = lambda mask: mask) -> Path:
    """Copies of a data set's masks, changed, as <case>.nii.gz."""
    for case in find_data_set(ref).cases:
        mask = read_volume(case.mask)
        write_volume(pred / f"{case.name}.nii.gz", np.ascontiguousarray(change(mask.array)), mask.affine)
    return pred


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("references") / "brats2019"
    write_cohort(root, layout="brats2019", cases=CASES)
    return root


@pytest.fixture
def pred(references: Path, tmp_path: Path) -> Path:
    (tmp_path / "pred").mkdir()
    return predict(references, tmp_path / "pred", lambda mask: np.roll(mask, 1, 2))


def first(pred: Path) -> Path:
    return sorted(pred.glob("*.nii.gz"))[0]


def test_perfect_predictions_score_1_and_exit_code_0(references, tmp_path, capsys) -> None:
    pred = tmp_path / "pred"
    pred.mkdir()
    assert evaluate(predict(references, pred), references, tmp_path / "out") == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == f"{CASES} given, {CASES} used, 0 refused"
    assert "segan_cat: both empty: dice n/a" in out
    rows = rows_of(tmp_path / "out")
    assert len(rows) == 3 * CASES
    assert {row["region"] for row in rows} == {"wt", "tc", "et"}
    assert {row["dice"] for row in rows if row["empty"] == "neither"} == {"1.000000"}
    assert {row["grade"] for row in rows} == {"HGG", "LGG"}


def test_the_table_has_the_stated_columns(references, pred, tmp_path) -> None:
    evaluate(pred, references, tmp_path, "--lesions")
    (header,) = [(tmp_path / "metrics_per_case.csv").read_text().splitlines()[0].split(",")]
    assert header == [
        *("case", "patient", "grade", "institution", "region", "status", "tp", "fp", "fn", "tn"),
        *("dice", "iou", "precision", "sensitivity", "specificity"),
        *("reference_ml", "prediction_ml", "volume_difference_ml"),
        *("hd95_mm", "mean_surface_distance_mm", "surface_dice"),
        *("lesion_dice", "lesion_hd95_mm", "lesions_found", "lesions_missed", "lesions_false", "empty", "policy"),
    ]


def test_every_output_states_the_policy(references, pred, tmp_path, capsys) -> None:
    first(pred).unlink()
    evaluate(pred, references, tmp_path, "--policy=brats2021")
    assert {row["policy"] for row in rows_of(tmp_path)} == {"brats2021"}
    assert summary_of(tmp_path)["policy"]["name"] == "brats2021"
    assert "empty masks, policy brats2021" in capsys.readouterr().out


def test_a_mask_is_not_scored_against_itself_by_whatever_way_it_is_found(references, tmp_path) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    rows = ["case,flair,mask"]
    for case in find_data_set(references).cases:
        shutil.copy(case.mask, masks / f"{case.name}.nii.gz")
        rows.append(f"{case.name},{case.images['flair']},masks/{case.name}.nii.gz")
    (tmp_path / "m.csv").write_text("\n".join(rows) + "\n")
    option = "--data.native_labels=brats2017"
    with pytest.raises(CaseError, match=r"the prediction in --pred is .*masks/.*, the reference itself"):
        evaluate(masks, tmp_path / "m.csv", tmp_path / "out", option)
    (tmp_path / "links").mkdir()
    for mask in masks.iterdir():
        (tmp_path / "links" / mask.name).symlink_to(mask)
    with pytest.raises(CaseError, match="the reference itself"):
        evaluate(tmp_path / "links", tmp_path / "m.csv", tmp_path / "out", option)
    shutil.copytree(masks, tmp_path / "copies")
    assert evaluate(tmp_path / "copies", tmp_path / "m.csv", tmp_path / "out", option) == 0


def test_the_masks_folder_of_an_msd_data_set_is_no_prediction(tmp_path) -> None:
    write_cohort(tmp_path / "data", layout="msd", cases=2, shape=(16, 32, 32))
    with pytest.raises(CaseError, match="the reference itself"):
        evaluate(tmp_path / "data" / "labelsTr", tmp_path / "data", tmp_path / "out")


def test_a_flat_folder_does_not_say_who_the_patients_are(references, pred, tmp_path, capsys) -> None:
    (tmp_path / "flat").mkdir()
    for case in find_data_set(references).cases:
        shutil.copy(case.mask, tmp_path / "flat" / f"{case.name}.nii.gz")
    assert evaluate(pred, tmp_path / "flat", tmp_path / "out", "--data.native_labels=brats2017") == 0
    assert {row["patient"] for row in rows_of(tmp_path / "out")} == {""}
    assert f"no table says the patient of {CASES} cases" in capsys.readouterr().out
    assert summary_of(tmp_path / "out")["overall"]["regions"]["wt"]["dice"]["patients"] == CASES
    evaluate(pred, references, tmp_path / "known")
    assert segan_pl(["compare", str(tmp_path / "out"), str(tmp_path / "known")]) == 0


def test_a_missing_prediction_is_a_failure_that_counts(references, pred, tmp_path, capsys) -> None:
    gone = first(pred).name.removesuffix(".nii.gz")
    first(pred).unlink()
    assert evaluate(pred, references, tmp_path, "--policy=brats2021") == 1
    out = capsys.readouterr().out
    assert f"1 predictions are missing and count as failures: {gone}" in out
    assert out.splitlines()[-1] == f"{CASES} given, {CASES - 1} used, 1 refused"
    rows = [row for row in rows_of(tmp_path) if row["case"] == gone]
    assert [(row["status"], row["dice"], row["hd95_mm"]) for row in rows] == [("missing", "0.000000", "373.130000")] * 3
    summary = summary_of(tmp_path)
    assert summary["missing"] == [gone]
    assert summary["overall"]["regions"]["wt"]["dice"]["n"] == CASES
    assert summary["overall"]["regions"]["wt"]["dice"]["minimum"] == 0
    assert evaluate(pred, references, tmp_path, "--allow_missing") == 0
    assert summary_of(tmp_path)["overall"]["regions"]["wt"]["dice"]["minimum"] == 0


def shifted_affine(path: Path) -> None:
    mask = read_volume(path)
    affine = mask.affine.copy()
    affine[0, 3] += 1
    write_volume(path, mask.array, affine)


def cropped(path: Path) -> None:
    mask = read_volume(path)
    write_volume(path, np.ascontiguousarray(mask.array[1:]), mask.affine)


def strange_label(path: Path) -> None:
    mask = read_volume(path)
    array = mask.array.copy()
    array[0, 0, 0] = 3
    write_volume(path, array, mask.affine)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (shifted_affine, "nothing is resampled here"),
        (cropped, r"the prediction has shape \(32, 32, 15\), the reference has shape \(32, 32, 16\)"),
        (strange_label, r"the mask holds label \[3\], 'brats2017' knows \[0, 1, 2, 4\]"),
        (lambda path: path.write_bytes(b""), "empty file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "the gzip stream"),
    ],
)
def test_what_cannot_be_scored_is_a_refused_row_and_the_others_are_finished(
    references, pred, tmp_path, capsys, damage, why
) -> None:
    name = first(pred).name.removesuffix(".nii.gz")
    damage(first(pred))
    assert evaluate(pred, references, tmp_path, "--allow_missing") == 1
    assert last_line(capsys) == f"{CASES} given, {CASES - 1} used, 1 refused"
    rows = rows_of(tmp_path)
    assert len(rows) == 3 * CASES
    refused = [row for row in rows if row["case"] == name]
    for row in refused:
        assert re.search(f"^refused: {name}.*({why})", row["status"])
        assert row["dice"] == row["tp"] == row["empty"] == ""
    summary = summary_of(tmp_path)
    assert list(summary["refusals"]) == [name]
    assert summary["overall"]["regions"]["wt"]["dice"]["n"] == CASES - 1


class FullAlone(Metric):
    """Of the tests: fails on every case but those whose whole tumour is the whole grid."""

    name = "full_alone"

    def compute(self, masks: MaskPair) -> float:
        if masks.counts.tn:
            raise RuntimeError("no formula")
        return 1.0


def test_a_metric_of_ones_own_that_fails_refuses_the_case_and_the_others_are_finished(
    references, pred, tmp_path, capsys, monkeypatch
) -> None:
    monkeypatch.setenv("SEGAN_PL_ALLOW_IMPORTS", "tests")
    masks = shutil.copytree(references, tmp_path / "references")
    case = find_data_set(masks).cases[0]
    affine = read_volume(case.mask).affine
    for file in (case.mask, pred / f"{case.name}.nii.gz"):
        write_volume(file, np.ones((16, 32, 32), np.uint8), affine)
    options = ("--regions=wt", f"--metrics=[{__name__}.FullAlone]")
    assert evaluate(pred, masks, tmp_path / "out", *options) == 1
    assert last_line(capsys) == f"{CASES} given, 1 used, {CASES - 1} refused"
    for row in rows_of(tmp_path / "out"):
        if row["case"] == case.name:
            assert (row["status"], row["full_alone"]) == ("scored", "1.000000")
        else:
            assert row["status"].startswith(f"refused: {row['case']}: wt: the metric full_alone failed with Runtime")


def test_predictions_without_a_reference_are_named(references, pred, tmp_path, capsys) -> None:
    shutil.copy(first(pred), pred / "stranger.nii.gz")
    assert evaluate(pred, references, tmp_path) == 0
    assert "1 files next to the predictions belong to no reference: stranger.nii.gz" in capsys.readouterr().out
    assert summary_of(tmp_path)["extra_predictions"] == ["stranger.nii.gz"]


def test_a_case_with_two_predictions_is_refused_before_any_work(references, pred, tmp_path) -> None:
    shutil.copy(first(pred), first(pred).with_suffix("").with_suffix(".mha"))
    with pytest.raises(CaseError, match=r"2 predictions in .*\.nii\.gz, .*\.mha\); expected one"):
        evaluate(pred, references, tmp_path / "out")


def test_numbers_are_those_of_numpy_on_the_files(references, pred, tmp_path) -> None:
    evaluate(pred, references, tmp_path)
    cases = {case.name: case for case in find_data_set(references).cases}
    for row in rows_of(tmp_path):
        members = {"wt": (1, 2, 4), "tc": (1, 4), "et": (4,)}[row["region"]]
        true = np.isin(np.asarray(nib.load(cases[row["case"]].mask).dataobj), members)
        predicted = np.isin(np.asarray(nib.load(pred / f"{row['case']}.nii.gz").dataobj), members)
        assert int(row["tp"]) == (true & predicted).sum()
        assert int(row["tn"]) == (~true & ~predicted).sum()
        if true.any():
            assert float(row["dice"]) == pytest.approx(
                2 * (true & predicted).sum() / (true.sum() + predicted.sum()), abs=1e-6
            )


def test_equal_inputs_give_equal_bytes_whatever_the_number_of_processes(references, pred, tmp_path) -> None:
    for name, workers in (("a", 1), ("b", 2)):
        arguments = ["evaluate", f"--pred={pred}", f"--root={references}", f"--output={tmp_path / name}"]
        assert main([*arguments, f"--workers={workers}", "--lesions=met"]) == 0
    for file in ("metrics_per_case.csv", "summary.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_the_summary_is_valid_json_with_strata_definitions_and_policy(references, pred, tmp_path) -> None:
    evaluate(pred, references, tmp_path, "--policy=brats2023", "--hd95=medpy", "--tolerance_mm=2")
    text = (tmp_path / "summary.json").read_text()
    summary = json.loads(text, parse_constant=pytest.fail)
    assert summary["policy"]["name"] == "brats2023"
    assert summary["metrics"]["hd95_mm"]["definition"] == "medpy"
    assert summary["metrics"]["lesion_dice"]["definition"] == "gli (dilations 3, left_out_up_to_mm3 50)"
    assert summary["metrics"]["surface_dice"]["definition"] == "tolerance 2 mm"
    assert summary["metrics"]["dice"] == {
        **{"unit": "1", "higher_is_better": True, "by_size": False, "bounds": [0, 1], "definition": "", "meaning": ""}
    }
    assert set(summary["strata"]) == {"grade", "institution"}
    grades = summary["strata"]["grade"]
    assert sum(grade["cases"] for grade in grades.values()) == CASES
    assert sum(summary["empty_masks"]["et"].values()) == CASES
    assert summary["bootstrap"]["resamples"] == 10_000


def test_compare_reads_the_table(references, pred, tmp_path) -> None:
    evaluate(pred, references, tmp_path, "--policy=brats2018")
    run = read_run(tmp_path)
    assert (run.table.kind, run.policy, run.regions) == ("evaluation", "brats2018", ("wt", "tc", "et"))
    assert len(run.cases) == CASES
    assert {"dice", "hd95_mm", "surface_dice", "volume_difference_ml"} <= set(run.metrics)


def test_a_flat_folder_of_masks_is_a_reference_once_its_labels_are_stated(references, pred, tmp_path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for case in find_data_set(references).cases:
        shutil.copy(case.mask, flat / f"{case.name}_seg.nii.gz")
    with pytest.raises(
        CaseError,
        match=r"does not say what .* labels mean; state it with --data.native_labels, .* or a mapping of your own",
    ):
        evaluate(pred, flat, tmp_path / "out")
    assert evaluate(pred, flat, tmp_path / "out", "--data.native_labels=brats2017") == 0
    assert {row["case"] for row in rows_of(tmp_path / "out")} == {case.name for case in find_data_set(references).cases}


def test_scans_of_a_patient_are_told_by_brats2023s_names(tmp_path) -> None:
    names = ["BraTS-GLI-00001-000", "BraTS-GLI-00001-001"]
    for folder, ending in (("ref", "-seg"), ("pred", "")):
        (tmp_path / folder).mkdir()
        for name in names:
            write_volume(tmp_path / folder / f"{name}{ending}.nii.gz", np.eye(9, dtype=np.uint8)[None], np.eye(4))
    assert evaluate(tmp_path / "pred", tmp_path / "ref", tmp_path, "--data.native_labels=brats2023") == 0
    assert {row["patient"] for row in rows_of(tmp_path)} == {"BraTS-GLI-00001"}
    assert summary_of(tmp_path)["overall"]["regions"]["wt"]["dice"]["patients"] == 1


def test_a_tree_that_mirrors_the_data_set_is_found(references, tmp_path) -> None:
    mirror = tmp_path / "mirror"
    shutil.copytree(references, mirror)
    assert evaluate(mirror, references, tmp_path / "out") == 0


def test_upload_names_of_2015_are_found(tmp_path) -> None:
    write_cohort(tmp_path / "ref", layout="brats2015", cases=2)
    (tmp_path / "pred").mkdir()
    cases = find_data_set(tmp_path / "ref").cases
    for case in cases:
        shutil.copy(case.mask, tmp_path / "pred" / case.output)
    assert evaluate(tmp_path / "pred", tmp_path / "ref", tmp_path / "out") == 0
    assert summary_of(tmp_path / "out")["overall"]["regions"]["wt"]["dice"]["mean"] == 1


def test_predictions_in_another_convention_are_read_by_it(references, tmp_path) -> None:
    pred = tmp_path / "pred"
    pred.mkdir()
    predict(references, pred, lambda mask: np.where(mask == 4, 3, mask))
    assert evaluate(pred, references, tmp_path / "out", "--pred_labels=brats2023") == 0
    assert summary_of(tmp_path / "out")["overall"]["regions"]["et"]["dice"]["mean"] == 1
    assert evaluate(pred, references, tmp_path / "out") == 1


def test_regions_can_be_chosen(references, pred, tmp_path) -> None:
    evaluate(pred, references, tmp_path, "--regions=et,wt")
    assert [row["region"] for row in rows_of(tmp_path)][:2] == ["et", "wt"]
    evaluate(pred, references, tmp_path, "--data.labels=labels")
    assert [row["region"] for row in rows_of(tmp_path)][:3] == ["necrosis", "oedema", "enhancing"]
    evaluate(pred, references, tmp_path, "--data.labels=whole_tumour")
    assert {row["region"] for row in rows_of(tmp_path)} == {"wt"}


def test_cavities_are_a_region_where_both_conventions_have_them(tmp_path) -> None:
    for folder in ("ref", "pred"):
        (tmp_path / folder).mkdir()
        mask = np.arange(5, dtype=np.uint8).repeat(25).reshape(5, 5, 5)
        write_volume(tmp_path / folder / "a.nii.gz", mask, np.eye(4))
    folders = (tmp_path / "pred", tmp_path / "ref", tmp_path)
    assert evaluate(*folders, "--data.native_labels=brats2024") == 0
    assert [(row["region"], row["tp"]) for row in rows_of(tmp_path)] == [
        *(("wt", "75"), ("tc", "50"), ("et", "25"), ("rc", "25"))
    ]
    with pytest.raises(UsageError, match=r"region rc of 'regions/brats2024' is not in .* give --regions wt,tc,et"):
        evaluate(*folders, "--data.native_labels=brats2024", "--pred_labels=brats2023")


def test_the_surface_dice_by_area_has_a_column_of_its_own_where_it_is_asked_for(references, pred, tmp_path, capsys):
    names = [case.name for case in find_data_set(references).cases]
    (pred / f"{names[0]}.nii.gz").unlink()
    assert evaluate(pred, references, tmp_path / "out", "--surface_dice_area", "--tolerance_mm=0.5") == 1
    rows = rows_of(tmp_path / "out")
    assert {row["surface_dice_area"] for row in rows if row["status"] == "missing"} == {"0.000000"}
    scored = [row for row in rows if row["status"] == "scored"]
    assert all(0 < float(row["surface_dice_area"]) < 1 for row in scored)
    assert any(row["surface_dice_area"] != row["surface_dice"] for row in scored)
    assert "surface_dice_area (tolerance 0.5 mm): share of the area in mm2" in notes_of(capsys)
    said = summary_of(tmp_path / "out")["metrics"]["surface_dice_area"]
    assert said["definition"] == "tolerance 0.5 mm"
    assert "surface_dice_area" in read_run(tmp_path / "out").metrics
    assert evaluate(pred, references, tmp_path / "out") == 1
    assert "surface_dice_area" not in rows_of(tmp_path / "out")[0]


# -- what predict.json says --------------------------------------------------------------------------------------------


def says(pred: Path, labels: str, native: str = "brats2017", **predicted: object) -> None:
    """What predict leaves beside its files."""
    record = {"checkpoints": [], "labels": labels, "native_labels": native, "predicted": predicted}
    (pred / "predict.json").write_text(json.dumps(record))


def notes_of(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_a_whole_tumour_is_scored_as_that_alone(references, tmp_path, capsys) -> None:
    (tmp_path / "pred").mkdir()
    pred = predict(references, tmp_path / "pred", lambda mask: (mask > 0).astype(np.uint8))
    says(pred, "whole_tumour", channels=["wt"], parts={"train": [], "val": []})
    assert evaluate(pred, references, tmp_path / "out") == 0
    assert {row["region"] for row in rows_of(tmp_path / "out")} == {"wt"}
    assert all(float(row["dice"]) == 1 for row in rows_of(tmp_path / "out"))
    why = (
        "note: the predictions hold wt alone, tc, et cannot be scored: in their files 1 is necrosis, oedema or "
        "enhancing, which are not told apart (predict.json)"
    )
    assert why in notes_of(capsys)
    assert why.removeprefix("note: ") in summary_of(tmp_path / "out")["notes"]
    with pytest.raises(UsageError, match=r"--regions et: the predictions do not hold it.*known: wt"):
        evaluate(pred, references, tmp_path / "out", "--regions=wt,et")
    assert evaluate(pred, references, tmp_path / "out", "--regions=wt") == 0
    assert "cannot be scored" not in notes_of(capsys)


def test_predictions_of_binary_masks_are_scored_as_the_whole_tumour(references, tmp_path, capsys) -> None:
    (tmp_path / "pred").mkdir()
    pred = predict(references, tmp_path / "pred", lambda mask: (mask > 0).astype(np.uint8))
    says(pred, "whole_tumour", "binary", parts=None)
    assert evaluate(pred, references, tmp_path / "out") == 0
    assert [(row["region"], float(row["dice"])) for row in rows_of(tmp_path / "out")] == [("wt", 1)] * CASES
    said = notes_of(capsys)
    assert "hold wt alone, tc, et cannot be scored: in their files 1 is tumour" in said
    assert "nothing says which cases trained the network: predict.json names none, since its run kept no split" in said


def test_labels_are_read_as_predict_wrote_them(references, tmp_path, capsys) -> None:
    (tmp_path / "pred").mkdir()
    pred = predict(references, tmp_path / "pred", lambda mask: np.where(mask == 4, 3, mask).astype(np.uint8))
    says(pred, "regions", "brats2023", channels=["wt", "tc", "et"], parts={"train": [], "val": []})
    assert evaluate(pred, references, tmp_path / "out") == 0
    assert all(float(row["dice"]) == 1 for row in rows_of(tmp_path / "out"))
    assert "note: " not in notes_of(capsys)
    assert evaluate(pred, references, tmp_path / "out", "--pred_labels=brats2024") == 0
    note = "predict.json says that the labels are 'brats2023'; they are read as --pred_labels brats2024"
    assert note in notes_of(capsys)


def test_without_predict_json_it_is_noted_that_nobody_knows_what_was_predicted(references, pred, tmp_path, capsys):
    assert evaluate(pred, references, tmp_path / "out") == 0
    why = f"no predict.json in {pred} says which regions were predicted; wt, tc, et are scored as if all of them were"
    assert why in notes_of(capsys)
    assert evaluate(pred, references, tmp_path / "out", "--regions=wt,tc,et") == 0
    assert "predict.json" not in notes_of(capsys)


def test_another_programs_predict_json_is_named(references, pred, tmp_path) -> None:
    (pred / "predict.json").write_text('{"threads": 4}')
    with pytest.raises(UsageError, match=r"predict.json: not what `segan_pl predict` writes .*; rename or remove it"):
        evaluate(pred, references, tmp_path / "out")


def test_cases_that_trained_or_chose_the_network_are_counted_here_and_by_compare(
    references, pred, tmp_path, capsys
) -> None:
    names = [case.name for case in find_data_set(references).cases]
    says(pred, "regions", channels=["wt", "tc", "et"], parts={"train": names[:2], "val": names[2:3]})
    assert evaluate(pred, references, tmp_path / "out") == 0
    seen = "of these 4 cases 2 trained the network and 1 chose its checkpoint: the scores flatter it"
    assert f"note: {seen}" in notes_of(capsys)
    assert read_run(tmp_path / "out").seen() == seen


def test_in_a_runs_folder_the_runs_split_says_who_has_seen_the_cases(references, pred, tmp_path, capsys) -> None:
    names = [case.name for case in find_data_set(references).cases]
    (tmp_path / "config.yaml").write_text("model: {}")
    (tmp_path / "split.json").write_text(json.dumps({"train": names[:1], "val": ["x"]}))
    assert evaluate(pred, references, tmp_path / "out") == 0
    seen = "of these 4 cases 1 trained the network: the scores flatter it"
    assert f"note: {seen}" in notes_of(capsys)
    assert read_run(tmp_path / "out").seen() == seen


def test_of_a_predicted_part_of_a_split_the_others_are_no_failures(references, pred, tmp_path, capsys) -> None:
    names = [case.name for case in find_data_set(references).cases]
    first(pred).unlink()
    says(pred, "regions", channels=["wt", "tc", "et"], parts={"train": [], "val": names[:2]}, cases=names[:2])
    assert evaluate(pred, references, tmp_path / "out") == 1
    out = notes_of(capsys)
    assert "note: 2 of 4 references are not in the part of the split that was predicted (predict.json)" in out
    assert out.endswith("2 given, 1 used, 1 refused")  # one of the part is missing, and that counts


def test_a_predicted_part_of_which_every_reference_is_there_is_no_note(references, pred, tmp_path, capsys) -> None:
    names = [case.name for case in find_data_set(references).cases]
    says(pred, "regions", channels=["wt", "tc", "et"], parts={"train": [], "val": names}, cases=names)
    assert evaluate(pred, references, tmp_path / "out") == 0
    assert "are not in the part" not in notes_of(capsys)


def test_references_of_which_none_was_predicted_are_refused(references, pred, tmp_path) -> None:
    name = find_data_set(references).cases[0].name
    says(pred, "regions", channels=["wt", "tc", "et"], parts={"train": [], "val": ["a"]}, cases=["a", "b"])
    why = rf"none of the 4 references of .* \(e\.g\. {name}\) is among the 2 that --pred .* \(e\.g\. a; predict"
    with pytest.raises(UsageError, match=why):
        evaluate(pred, references, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_predict_json_of_an_earlier_version_is_said_to_be_one(references, pred, tmp_path, capsys) -> None:
    record = {"checkpoints": [], "labels": "regions", "native_labels": "brats2017"}
    (pred / "predict.json").write_text(json.dumps(record))
    assert evaluate(pred, references, tmp_path / "out") == 0
    assert "predict.json names none, since an earlier version wrote it" in notes_of(capsys)


def test_predict_json_tells_who_has_seen_the_cases_even_in_a_runs_folder(references, pred, tmp_path, capsys) -> None:
    names = [case.name for case in find_data_set(references).cases]
    (tmp_path / "config.yaml").write_text("model: {}")
    (tmp_path / "split.json").write_text(json.dumps({"train": names[:1], "val": ["x"]}))
    says(pred, "regions", channels=["wt", "tc", "et"], parts={"train": names[:3], "val": []})
    assert evaluate(pred, references, tmp_path / "out") == 0
    seen = "of these 4 cases 3 trained the network: the scores flatter it"
    assert f"note: {seen}" in notes_of(capsys)
    assert read_run(tmp_path / "out").seen() == seen


def test_an_unwritable_place_is_named_by_the_option_that_was_typed(references, pred, monkeypatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # the tests run as root, who may write everywhere
    with pytest.raises(UsageError, match=r"^--pred .* \(where outputs go without --output\): may not be written to"):
        main(["evaluate", f"--pred={pred}", f"--root={references}", "--workers=1"])


def test_a_manifests_columns_are_kept_and_summarised_by(references, pred, tmp_path) -> None:
    lines = ["case,patient,mask,flair,scanner,dice,native_labels"]
    for number, case in enumerate(find_data_set(references).cases):
        lines.append(f"{case.name},p{number // 2},{case.mask},{case.images['flair']},S{number % 2},x,brats2017")
    manifest = tmp_path / "cases.csv"
    manifest.write_text("\n".join(lines) + "\n")
    assert evaluate(pred, manifest, tmp_path / "out", "--strata=scanner") == 0
    assert {row["scanner"] for row in rows_of(tmp_path / "out")} == {"S0", "S1"}
    assert {row["extra_dice"] for row in rows_of(tmp_path / "out")} == {"x"}
    strata = summary_of(tmp_path / "out")["strata"]
    assert {value: held["cases"] for value, held in strata["scanner"].items()} == {"S0": 2, "S1": 2}
    with pytest.raises(UsageError, match="--strata scaner: no case states it; did you mean 'scanner'"):
        evaluate(pred, manifest, tmp_path / "out", "--strata=scaner")


def test_cases_without_a_mask_are_no_references_and_named(tmp_path, capsys) -> None:
    write_cohort(tmp_path / "ref", layout="brats2021", cases=3, lacking={1: ["mask"]})
    (tmp_path / "pred").mkdir()
    source = find_data_set(tmp_path / "ref")
    for case in source.cases:
        if case.mask:
            shutil.copy(case.mask, tmp_path / "pred" / f"{case.name}.nii.gz")
    assert evaluate(tmp_path / "pred", tmp_path / "ref", tmp_path / "out") == 0
    out = capsys.readouterr().out
    assert f"1 cases have no mask and are not scored: {next(c.name for c in source.cases if not c.mask)}" in out
    assert out.splitlines()[-1] == "2 given, 2 used, 0 refused"


@pytest.mark.parametrize("skewed", [False, True])
def test_distances_on_an_oblique_anisotropic_grid_are_in_mm(tmp_path, capsys, skewed) -> None:
    """Two voxels, 3 apart along x of 0.7 mm and 2 along z of 4 mm, on a grid that is turned by 30 degrees."""
    angle = np.radians(30)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0.2 * skewed], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([0.7, 1.1, 4.0 / (1.0 if not skewed else np.sqrt(1.04))])
    for folder, place in (("pred", (5, 3, 6)), ("ref", (3, 3, 3))):
        (tmp_path / folder).mkdir()
        mask = np.zeros((8, 7, 9), np.uint8)
        mask[place] = 1
        write_volume(tmp_path / folder / "a.nii", mask, affine)
    assert evaluate(tmp_path / "pred", tmp_path / "ref", tmp_path, "--data.native_labels=binary") == 0
    (row,) = rows_of(tmp_path)
    assert float(row["hd95_mm"]) == pytest.approx(np.hypot(3 * 0.7, 2 * 4), abs=1e-4)
    assert float(row["reference_ml"]) == pytest.approx(0.7 * 1.1 * 4 / 1000, abs=1e-6)
    assert ("sheared: two axes are" in capsys.readouterr().out) == skewed


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--regions=wd"], "--regions wd: not in 'regions/brats2017'; did you mean 'wt'"),
        (["--tolerance_mm=-1"], "--tolerance_mm -1.0; expected 0 or more"),
        (["--tolerance_mm=.inf"], "--tolerance_mm inf; expected 0 or more"),
        (["--regions=,"], "--regions is empty; known: wt, tc, et"),
    ],
)
def test_what_is_typed_wrongly_is_refused(references, pred, tmp_path, options, why) -> None:
    with pytest.raises(UsageError, match=why):
        evaluate(pred, references, tmp_path, *options)


def test_wrong_folders_are_refused_at_once(references, tmp_path) -> None:
    with pytest.raises(UsageError, match="no such folder; give the folder that holds the predictions"):
        evaluate(tmp_path / "gone", references, tmp_path)
    with pytest.raises(UsageError, match="a mask would be scored against itself"):
        evaluate(references, references, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be made"):
        evaluate(tmp_path, references, tmp_path / "file" / "out")


def test_the_command_line_knows_evaluate_and_says_in_one_line_what_is_wrong(references, pred, tmp_path, capsys) -> None:
    arguments = ["evaluate", f"--pred={pred}", f"--root={references}", f"--output={tmp_path}", "--workers=1"]
    assert segan_pl(arguments) == 0
    capsys.readouterr()
    assert segan_pl([*arguments, "--regions=core"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_wrong_policy_is_refused_by_name(references, pred, tmp_path) -> None:
    with pytest.raises(UsageError, match=r"--policy brats2019: expected segan_cat, .* or reciprocal"):
        evaluate(pred, references, tmp_path, "--policy=brats2019")


def test_nothing_of_evaluate_needs_pytorch() -> None:
    modules = "segan_pl.cli.commands.evaluate, segan_pl.evaluation.pairs, segan_pl.evaluation.results"
    source = f"import sys, {modules}\nassert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", source], check=False).returncode == 0


@pytest.mark.real_data
def test_real_masks_shifted_by_a_voxel_keep_their_distance(real_data_root, tmp_path) -> None:
    pred = tmp_path / "pred"
    pred.mkdir()
    predict(real_data_root / "brats2021", pred, lambda mask: np.roll(mask, 1, 2))
    assert evaluate(pred, real_data_root / "brats2021", tmp_path / "out", "--lesions") == 0
    for row in rows_of(tmp_path / "out"):
        assert float(row["hd95_mm"]) == 1
        assert float(row["surface_dice"]) == 1
        assert float(row["volume_difference_ml"]) == 0


# -- a crop ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turned", [False, True])
def test_a_crop_is_scored_where_a_volume_turned_to_lps_is_cropped(turned: bool, tmp_path: Path) -> None:
    """2 x 4 x 4 of 5 x 6 x 7 voxels: one voxel more lies on one side, whichever way the axes of the file run."""
    rng = np.random.default_rng(0)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0])
    masks = {name: rng.integers(0, 2, (5, 6, 7)).astype(np.uint8) for name in ("ref", "pred")}
    for name, mask in masks.items():
        affine, array = lps, mask
        if turned:  # x from right to left is x from left to right, and z lies first
            array = np.ascontiguousarray(mask[:, :, ::-1].transpose(2, 1, 0))
            affine = np.array([[0.0, 0, 1, -6], [0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
        write_volume(tmp_path / name / "a.nii.gz", array, affine)
    box = (slice(1, 3), slice(1, 5), slice(1, 5))
    options = ("--score_on=crop", "--crop=[2,4,4]", "--data.native_labels=binary", "--data.labels=binary")
    assert evaluate(tmp_path / "pred", tmp_path / "ref", tmp_path / "out", *options) == 0
    (row,) = rows_of(tmp_path / "out")
    pred, ref = masks["pred"][box] > 0, masks["ref"][box] > 0
    counts = (pred & ref).sum(), (pred & ~ref).sum(), (~pred & ref).sum(), (~pred & ~ref).sum()
    assert tuple(int(row[name]) for name in ("tp", "fp", "fn", "tn")) == counts
    assert summary_of(tmp_path / "out")["crop"] == [2, 4, 4]
    assert any("only the central 2 x 4 x 4 voxels" in note for note in summary_of(tmp_path / "out")["notes"])
