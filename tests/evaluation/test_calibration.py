"""Calibration against scikit-learn's numbers, and by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from segan_pl.__main__ import main
from segan_pl.data.io import write_volume
from segan_pl.data.labels import label_scheme
from segan_pl.evaluation.calibration import BINS, calibration, region_channels


def test_both_numbers_are_scikit_learns() -> None:
    generator = np.random.default_rng(0)
    p = generator.beta(0.6, 0.9, size=(6, 20, 20)).astype(np.float32)
    y = generator.random(p.shape) < p**1.7
    found = calibration(p, y)
    assert found["brier"] == pytest.approx(brier_score_loss(y.ravel(), p.ravel()), abs=1e-7)
    frequency, mean = calibration_curve(y.ravel(), p.ravel(), n_bins=BINS)
    voxels = np.histogram(p, np.linspace(0, 1, BINS + 1))[0]
    assert found["ece"] == pytest.approx((voxels * np.abs(frequency - mean)).sum() / p.size, abs=1e-6)


def test_air_does_not_count_and_nothing_at_all_is_not_available() -> None:
    p, y = np.zeros((2, 4, 4), np.float32), np.zeros((2, 4, 4), bool)
    assert all(map(np.isnan, calibration(p, y).values()))
    p[0, 0, :2], y[0, 0, 1:3] = 0.8, True  # right to 0.2, wrong by 0.8, missed
    found = calibration(p, y)
    assert found["brier"] == pytest.approx((0.8**2 + 0.2**2 + 1) / 3)
    assert found["ece"] == pytest.approx((abs(2 * 0.8 - 1) + 1) / 3)
    judged = np.ones(p.shape, bool)
    judged[0, 0, 2] = False
    assert calibration(p, y, judged)["brier"] == pytest.approx((0.8**2 + 0.2**2) / 2)


def test_exclusive_labels_add_up_to_regions_and_overlapping_regions_do_not() -> None:
    regions, labels = label_scheme("regions"), label_scheme("labels")
    found = region_channels(("wt", "tc", "et"), regions, labels)
    assert {region: set(channels) for region, channels in found.items()} == {
        "wt": {"necrosis", "oedema", "enhancing"},
        "tc": {"necrosis", "enhancing"},
        "et": {"enhancing"},
    }
    assert region_channels(("wt", "tc"), regions, regions) == {"wt": ("wt",), "tc": ("tc",)}
    assert region_channels(("oedema",), labels, regions) == {}


def folder(tmp_path: Path) -> tuple[Path, Path, np.ndarray, np.ndarray]:
    """A reference, and a prediction with its probability, as `segan_pl predict` leaves them."""
    masks, predictions = tmp_path / "masks", tmp_path / "predictions"
    y = np.zeros((4, 6, 6), np.uint8)
    y[1:3, 2:5, 2:5] = 1
    p = np.zeros(y.shape, np.uint8)
    p[1:3, 1:5, 2:4] = 204
    for place in (masks, predictions):
        place.mkdir()
    write_volume(masks / "a.nii.gz", y, np.eye(4))
    write_volume(predictions / "a.nii.gz", (p > 127).astype(np.uint8), np.eye(4))
    write_volume(predictions / "a_wt.nii.gz", p, np.eye(4))
    record = {"checkpoints": [], "labels": "whole_tumour", "native_labels": "binary", "probabilities": True}
    record["predicted"] = {"channels": ["wt"], "parts": None, "cases": None}
    (predictions / "predict.json").write_text(json.dumps(record))
    return masks, predictions, y, p


def evaluated(masks: Path, predictions: Path) -> tuple[int, dict[str, str], dict]:
    line = ["evaluate", f"--pred={predictions}", f"--root={masks}", "--data.native_labels=binary", "--workers=1"]
    code = main(line)
    with (predictions / "metrics_per_case.csv").open() as file:
        return code, next(csv.DictReader(file)), json.loads((predictions / "summary.json").read_text())


def test_evaluate_reports_calibration_where_probabilities_were_written(tmp_path: Path) -> None:
    masks, predictions, y, p = folder(tmp_path)
    code, row, summary = evaluated(masks, predictions)
    wanted = calibration(p.astype(np.float32) / 255, y > 0)
    assert code == 0
    assert float(row["ece"]) == pytest.approx(wanted["ece"], abs=1e-6)
    assert float(row["brier"]) == pytest.approx(wanted["brier"], abs=1e-6)
    assert summary["metrics"]["ece"]["higher_is_better"] is False
    assert summary["extra_predictions"] == []


def test_a_missing_file_of_probabilities_refuses_its_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks, predictions, *_ = folder(tmp_path)
    (predictions / "a_wt.nii.gz").unlink()
    code, row, _ = evaluated(masks, predictions)
    assert code == 1
    assert "a_wt.nii.gz" in row["status"]
    assert "refused: a: " in capsys.readouterr().out


def test_without_such_files_the_table_has_no_such_columns(tmp_path: Path) -> None:
    masks, predictions, *_ = folder(tmp_path)
    (predictions / "predict.json").unlink()
    _, row, summary = evaluated(masks, predictions)
    assert "ece" not in row
    assert summary["extra_predictions"] == ["a_wt.nii.gz"]
