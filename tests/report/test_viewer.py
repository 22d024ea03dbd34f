"""Cases to look through: what the page's script is given, read back as a browser does."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segan_pl.__main__ import main
from segan_pl.data.io import read_volume, write_like
from segan_pl.data.layouts import find_cases
from segan_pl.report.run_files import read_files
from segan_pl.report.score_rows import mean_dice
from tests.generators.trees import write_cohort
from tests.report.run_folders import make_run
from tests.report.test_run_report import Page

SHAPE = (16, 32, 32)


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four cases, each predicted with one voxel more of a shift; the last one also with a false component."""
    folder = tmp_path_factory.mktemp("viewer")
    write_cohort(folder / "data", layout="brats2019", cases=4, shape=SHAPE)
    (folder / "predictions").mkdir()
    for number, case in enumerate(find_cases(folder / "data")):
        assert case.mask is not None
        shifted = np.roll(read_volume(case.mask).array, number, 1)
        if number == 3:
            shifted[0, :4, :4] = 2
        write_like(case.mask, shifted, folder / "predictions" / f"{case.name}.nii.gz")
    arguments = [f"--pred={folder / 'predictions'}", f"--root={folder / 'data'}", "--workers=1", "--lesions=met"]
    assert main(["evaluate", *arguments, f"--output={folder / 'evaluation'}"]) == 0
    return folder / "evaluation"


def page_of(runs: list[str], tmp_path: Path, *more: str) -> Page:
    assert main(["report", *runs, "--output", str(tmp_path / "page.html"), "--pictures=false", *more]) == 0
    return Page((tmp_path / "page.html").read_text(encoding="utf-8"))


def volumes(page: Page) -> list[dict]:
    return [json.loads(one["data-volume"] or "") for one in page.all("figure") if one.get("data-volume")]


def slices(uri: str, volume: dict) -> np.ndarray:
    """(D, H, W, 3) of a picture of slices."""
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB"))
    depth, height, width = volume["size"]
    tops = [(z // volume["columns"] * height, z % volume["columns"] * width) for z in range(depth)]
    return np.stack([sheet[top : top + height, left : left + width] for top, left in tops])


def test_the_worst_cases_come_first_and_as_many_as_asked_for(evaluation: Path, tmp_path: Path) -> None:
    shown = volumes(page := page_of([str(evaluation)], tmp_path, "--viewer=2"))
    means = mean_dice(read_files(str(evaluation)))
    assert [one["case"] for one in shown] == sorted(means, key=means.__getitem__)[:2]
    assert "2 of 4 cases can be looked through, the worst first" in page.text
    assert not volumes(page_of([str(evaluation)], tmp_path, "--viewer=0"))


def test_a_case_without_a_prediction_is_not_among_them(evaluation: Path, tmp_path: Path) -> None:
    root, some = evaluation.parent / "data", tmp_path / "predictions"
    some.mkdir()
    for file in sorted((evaluation.parent / "predictions").glob("*.nii.gz"))[:2]:
        (some / file.name).write_bytes(file.read_bytes())
    arguments = [f"--pred={some}", f"--root={root}", "--workers=1", f"--output={tmp_path / 'some'}"]
    assert main(["evaluate", *arguments, "--allow_missing"]) == 0
    page = page_of([str(tmp_path / "some")], tmp_path)
    assert len(volumes(page)) == 2
    assert "cannot be looked through" not in page.text


def test_masks_are_the_files_own_to_the_voxel(evaluation: Path, tmp_path: Path) -> None:
    (volume, *_) = volumes(page_of([str(evaluation)], tmp_path))
    masks = slices(volume["runs"][0]["masks"], volume)
    case = next(one for one in find_cases(evaluation.parent / "data") if one.name == volume["case"])
    assert case.mask is not None
    for colour, file in ((0, case.mask), (1, evaluation.parent / "predictions" / f"{case.name}.nii.gz")):
        array = read_volume(file).array
        for bit, labels in enumerate(((1, 2, 4), (1, 4), (4,))):  # wt, tc, et
            assert np.count_nonzero(masks[..., colour] >> bit & 1) == np.count_nonzero(np.isin(array, labels))
    assert list(volume["images"]) == ["flair", "t1", "t1ce", "t2"]
    assert slices(volume["images"]["t2"], volume).std() > 0
    assert volume["regions"][0] == "Whole tumour (WT)"


def test_rows_of_cases_and_lesions_open_the_case(evaluation: Path, tmp_path: Path) -> None:
    page = page_of([str(evaluation)], tmp_path)
    ids = {one["id"] for one in page.all("figure") if one.get("data-volume")}
    links = [one for one in page.all("a") if one.get("data-opens")]
    assert len(ids) == 4
    assert {one["data-opens"] for one in links} == ids
    assert all(one["href"] == f"#{one['data-opens']}" for one in links)  # without the script, to the still
    places = [one["data-at"] or "" for one in links if one.get("data-at")]
    assert places
    assert all(0 <= int(at) < side for place in places for at, side in zip(place.split(","), SHAPE, strict=True))


def test_without_a_script_a_slice_of_each_case_is_there_and_every_choice_has_words(
    evaluation: Path, tmp_path: Path
) -> None:
    page = page_of([str(evaluation)], tmp_path)
    (panel,) = [one for one in page.all("div") if one.get("class") == "panel"]
    assert "hidden" in panel  # until the script shows it
    stills = [one for one in page.all("img") if "slice" in (one["alt"] or "")]
    assert len(stills) == 4
    assert len(page.all("canvas")) == 3
    assert all(one["aria-label"] for one in page.all("canvas"))
    assert "right and wrong voxels" in page.text


def test_of_two_runs_a_cases_images_are_there_once(evaluation: Path, tmp_path: Path) -> None:
    (volume, *_) = volumes(page_of([f"a={evaluation}", f"b={evaluation}"], tmp_path))
    assert [run["name"] for run in volume["runs"]] == ["a", "b"]
    assert len(volume["images"]) == 4


def test_what_would_make_the_page_too_large_is_left_out_and_said(evaluation: Path, tmp_path: Path) -> None:
    page = page_of([str(evaluation)], tmp_path, "--viewer_mb=0.001")
    assert not volumes(page)
    assert "more than --viewer_mb 0.001 in all" in page.text


@pytest.mark.parametrize("wrong", ["--viewer=-1", "--viewer_mb=0", "--viewer=many"])
def test_a_number_that_is_none_is_refused(evaluation: Path, tmp_path: Path, wrong: str, capsys) -> None:
    assert main(["report", str(evaluation), "--output", str(tmp_path / "page.html"), wrong]) == 2
    assert wrong.partition("=")[0].strip("-") in capsys.readouterr().err


def test_a_run_without_masks_says_which_commands_give_them(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    page = page_of([str(run)], tmp_path)
    assert not volumes(page)
    assert f"segan_pl predict --ckpt_path {run}/checkpoints/epoch0001_dice0.5000.ckpt" in page.text
    assert f"--part val --output {run}/predictions; segan_pl evaluate --pred {run}/predictions" in page.text


def test_lesions_have_rows_and_a_recall_by_size(evaluation: Path, tmp_path: Path) -> None:
    page = page_of([str(evaluation)], tmp_path)
    assert "How many lesions of which size were found" in page.text
    assert "met: grown by 1 voxels, up to 2 mm³ left out" in page.text  # as it was evaluated
    assert " false " in page.text.split("Every lesion")[1]
    assert "Every lesion" not in page_of([str(evaluation)], tmp_path, "--lesions=false").text
