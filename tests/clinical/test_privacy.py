"""Messages name neither a file nor its folder, which may be called like the patient."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from segan_pl.clinical.back import bring_back
from segan_pl.clinical.brain_mask import given_brain
from segan_pl.clinical.patient import Pipeline
from segan_pl.clinical.search import find_series
from segan_pl.clinical.series import Series, read_series, without_paths
from segan_pl.clinical.space import Space
from segan_pl.clinical.work import LINK, Visit
from segan_pl.data.case import CaseError
from segan_pl.data.io import held_volume, write_volume
from tests.generators.dicom import write_series

pytest.importorskip("highdicom")
VOLUME = held_volume(np.arange(5 * 20 * 20, dtype=np.float32).reshape(5, 20, 20), np.diag([-1.0, -1.0, 4.0, 1.0]))


def only(root: Path) -> Series:
    (series,), _ = find_series(root)
    return series


def test_the_error_of_a_later_slice_names_no_file(tmp_path: Path) -> None:
    files = write_series(tmp_path / "Meier", VOLUME, "t2")
    series = only(tmp_path)
    files[3].unlink()
    with pytest.raises(CaseError, match="No such file") as refused:
        read_series(series)
    assert "Meier" not in str(refused.value)


def test_paths_folders_and_names_are_taken_out_of_a_text(tmp_path: Path) -> None:
    file = tmp_path / "Meier" / "Meier_t1.hdr"
    error = ValueError(f"{file}: {file.with_suffix('.img')} is cut off; Meier_t1.hdr in {file.parent}")
    assert without_paths(error, [file]) == "its file: its file.img is cut off; its file in its file"
    assert without_paths(ValueError("the header. is cut"), [Path("head.nii")]) == "the header. is cut"


def test_a_given_mask_that_cannot_be_read_is_not_named(tmp_path: Path) -> None:
    (tmp_path / "Meier.nii.gz").write_bytes(b"no image")
    with pytest.raises(CaseError, match=r"^the given brain mask: ") as refused:
        given_brain(tmp_path / "Meier.nii.gz", np.eye(4), Space((5, 20, 20), np.eye(4)))
    assert "Meier" not in str(refused.value)


def test_files_that_may_not_be_read_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_series(tmp_path / "Meier", VOLUME, "t2")
    dicom = importlib.import_module("segan_pl.clinical.dicom")
    looks_like = dicom.looks_like

    def locked(path: Path, suffixes: tuple[str, ...]) -> bool:
        if path == files[-1]:
            raise PermissionError(13, "Permission denied", str(path))
        return looks_like(path, suffixes)

    monkeypatch.setattr(dicom, "looks_like", locked)
    (series,), notes = find_series(tmp_path)
    assert series.slices == 4
    assert notes == ["1 files cannot be read and are left alone"]


@pytest.mark.parametrize("content", ["{", "[1, 2]", '"text"'])
def test_a_json_that_cannot_be_read_stops_nobody_and_is_noted(tmp_path: Path, content: str) -> None:
    write_volume(tmp_path / "Meier" / "t1.nii.gz", VOLUME.array, VOLUME.affine)
    (tmp_path / "Meier" / "t1.json").write_text(content)
    assert only(tmp_path).notes == ("the .json next to it cannot be read and is left alone",)


def test_a_series_whose_files_are_gone_names_none_on_the_way_back(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in" / "Meier", VOLUME, "t2")
    series = only(tmp_path / "in")
    pipeline = Pipeline(tmp_path / "out")
    place = Space(VOLUME.shape, VOLUME.affine).as_dict()
    record = {"space": place, "content": "a1", "modalities": {"t2": {"grid": place, "motion": np.eye(4).tolist()}}}
    write_record(pipeline.record_of("P001_v1"), record)
    write_masks(tmp_path / "masks")
    files[2].unlink()
    with pytest.raises(CaseError, match="no DICOM-SEG of series") as refused:
        bring_back(pipeline, Visit("P001_v1", "P001", {"t2": series}), tmp_path / "masks", identifying=False)
    assert "Meier" not in str(refused.value)


def write_record(file: Path, content: dict) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def write_masks(folder: Path) -> None:
    """A folder as predict writes it, with the mask of one case."""
    link = f"{LINK}a1"
    write_volume(folder / "P001_v1.nii.gz", np.ones(VOLUME.shape, np.uint8), VOLUME.affine, description=link)
    (folder / "predict.json").write_text(
        '{"checkpoints": [{"path": "x", "digest": "d1"}], "native_labels": "brats2017"}'
    )
