"""Best, median and worst case of each region, drawn from the files that an evaluation was made of."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from matplotlib.image import imread
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from scipy import ndimage

from segan_pl.__main__ import main
from segan_pl.data.case import Case, CaseError
from segan_pl.data.check.case_table import CaseRow
from segan_pl.data.io import read_volume, write_like, write_volume
from segan_pl.data.labels import label_scheme
from segan_pl.data.layouts import find_cases
from segan_pl.report.case_pictures import Overlay, case_pictures, chosen, draw, find_sources
from segan_pl.report.cohort_page import look
from segan_pl.report.run_files import read_files
from tests.generators.trees import write_cohort

REGIONS = ("wt", "tc", "et")


def pictures_of(evaluation: Path) -> tuple[list[Overlay], list[str]]:
    run = read_files(str(evaluation))
    sources, notes = find_sources(run)
    assert sources is not None, notes
    return case_pictures(run, sources)


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    """Five cases predicted ever worse: masks shifted by 0, 1, 2, ... voxels."""
    write_cohort(tmp_path / "data", layout="brats2019", cases=5, shape=(16, 32, 32))
    (tmp_path / "predictions").mkdir()
    for number, case in enumerate(find_cases(tmp_path / "data")):
        assert case.mask is not None
        shifted = ndimage.shift(read_volume(case.mask).array, (0, number, 0), order=0)
        write_like(case.mask, shifted, tmp_path / "predictions" / f"{case.name}.nii.gz")
    arguments = [f"--pred={tmp_path / 'predictions'}", f"--root={tmp_path / 'data'}"]
    assert main(["evaluate", *arguments, f"--output={tmp_path / 'evaluation'}", "--workers=1"]) == 0
    return tmp_path / "evaluation"


def test_ranks_are_by_score_with_names_for_ties_and_without_what_is_not_available() -> None:
    scores = {"b": 0.5, "a": 0.5, "c": 0.9, "d": float("nan"), "e": 0.1}
    assert chosen(scores) == {"worst": "e", "median": "a", "best": "c"}
    assert list(chosen(scores)) == ["worst", "median", "best"]
    assert chosen({"a": 1.0}) == {"worst": "a"}
    assert chosen({"a": float("nan")}) == {}


def test_each_region_has_its_best_median_and_worst_case_with_words(evaluation: Path) -> None:
    drawn, notes = pictures_of(evaluation)
    assert not notes
    assert [(one.region, one.rank) for one in drawn] == [
        (region, rank) for region in REGIONS for rank in ("worst", "median", "best")
    ]
    best = drawn[2]
    assert best.score == 1
    assert best.caption.startswith(f"{best.case}, flair, slice ")
    pixels = imread(io.BytesIO(best.png))
    yellow = (pixels[..., 0] > 0.8) & (pixels[..., 1] > 0.6) & (pixels[..., 2] < 0.4)
    assert yellow.any()  # the reference's outline


def test_what_a_tolerance_of_origins_allowed_is_drawn_up_to_half_a_voxel(evaluation: Path) -> None:
    (case, *_) = find_cases(evaluation.parent / "data")
    assert case.mask is not None
    reference, schemes = read_volume(case.mask), (label_scheme("regions"),) * 2
    prediction = evaluation.parent / "predictions" / f"{case.name}.nii.gz"
    affine = reference.affine.copy()
    affine[0, 3] += 0.4 * min(reference.spacing_mm)
    write_volume(prediction, reference.array, affine)
    assert draw(case, prediction, schemes, "wt", rank="best", score=1.0).png
    affine[0, 3] += 0.2 * min(reference.spacing_mm)
    write_volume(prediction, reference.array, affine)
    with pytest.raises(CaseError, match="mask and image lie on different grids; they cannot be drawn over each other"):
        draw(case, prediction, schemes, "wt", rank="best", score=1.0)


def test_the_slice_is_where_the_reference_is_not_where_most_is_falsely_found(evaluation: Path) -> None:
    (case, *_) = find_cases(evaluation.parent / "data")
    assert case.mask is not None
    reference = read_volume(case.mask).array
    painted = reference.copy()
    painted[0] = 2  # all of the first slice, beyond any tumour
    prediction = evaluation.parent / "predictions" / f"{case.name}.nii.gz"
    write_like(case.mask, painted, prediction)
    schemes = (label_scheme("regions"),) * 2
    drawn = draw(case, prediction, schemes, "wt", rank="worst", score=0.1)
    assert f", slice {(reference > 0).sum((1, 2)).argmax()}:" in drawn.caption


def test_a_head_is_the_same_side_up_whatever_the_order_of_its_files_axes(tmp_path: Path) -> None:
    """And its pixels have their true shape: one brain of 1 x 1.5 x 2 mm, stored along all kinds of axes."""
    rng, pictures = np.random.default_rng(0), set()
    label = np.zeros((20, 24, 28), np.uint8)
    label[4:9, 6:20, 5:11] = 4
    image, affine = rng.integers(1, 99, label.shape).astype(np.int16), np.diag([-1.0, -1.5, 2.0, 1.0])
    scheme = label_scheme("whole_tumour")
    for axes in ("LPS", "RAS", "PIR", "SLA"):
        files = {}
        for name, array in (("flair", image), ("mask", label), ("found", np.roll(label, 2, 1))):
            turn = ornt_transform(io_orientation(affine), axcodes2ornt(axes))
            files[name] = tmp_path / f"{axes}_{name}.nii.gz"
            nib.save(nib.Nifti1Image(array, affine).as_reoriented(turn), files[name])
        case = Case("a", "a", {"flair": files["flair"]}, files["mask"])
        pictures.add(draw(case, files["found"], (scheme, scheme), "wt", rank="best", score=1.0).png)
        row = CaseRow("a", "a", files={"flair": str(files["flair"]), "mask": str(files["mask"])})
        pictures.add(look(row).png or b"")
    assert len(pictures) == 2
    for png in pictures:
        assert png


def test_they_are_on_the_page_with_alternative_texts(evaluation: Path, tmp_path: Path) -> None:
    arguments = ["report", str(evaluation), "--viewer=0", "--lesions=false", "--output"]
    assert main([*arguments, str(tmp_path / "page.html")]) == 0
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.count("data:image/png;base64") == 9
    assert text.count('<img alt="') == 9
    assert len(list((tmp_path / "figures").glob("*.png"))) == 9
    assert main([*arguments, str(tmp_path / "bare.html"), "--pictures=false"]) == 0
    assert "data:image/png" not in (tmp_path / "bare.html").read_text(encoding="utf-8")


def test_cases_whose_modalities_share_a_4d_file_are_drawn(tmp_path: Path) -> None:
    write_cohort(tmp_path / "data", layout="msd", cases=3, shape=(16, 32, 32))
    shutil.copytree(tmp_path / "data" / "labelsTr", tmp_path / "predictions")
    arguments = [f"--pred={tmp_path / 'predictions'}", f"--root={tmp_path / 'data'}"]
    assert main(["evaluate", *arguments, f"--output={tmp_path / 'evaluation'}", "--workers=1"]) == 0
    drawn, notes = pictures_of(tmp_path / "evaluation")
    assert not notes
    assert {one.region for one in drawn} == set(REGIONS)
    assert all(", flair, slice " in one.caption for one in drawn)


def test_what_has_moved_since_is_noted_and_the_page_is_made(evaluation: Path, tmp_path: Path, capsys) -> None:
    shutil.rmtree(tmp_path / "predictions")
    assert main(["report", str(evaluation)]) == 0
    assert "no picture" in capsys.readouterr().out


def test_cases_that_trained_the_network_are_told(evaluation: Path, tmp_path: Path) -> None:
    names = [case.name for case in find_cases(tmp_path / "data")]
    (evaluation / "split.json").write_text(json.dumps({"train": names[:3], "val": names[3:4]}))
    assert main(["report", str(evaluation)]) == 0
    text = (evaluation / "report" / "index.md").read_text(encoding="utf-8")
    assert "Of these 5 cases 3 trained the network and 1 chose its checkpoint: the scores flatter it." in text
