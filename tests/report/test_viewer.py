"""Cases to look through: what the page's script is given, read back as a browser does."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from segan_pl.__main__ import main
from segan_pl.data.io import read_volume, write_like
from segan_pl.data.layouts import find_cases
from segan_pl.report.run_files import read_files
from segan_pl.report.score_rows import mean_dice
from segan_pl.report.viewer import _grey
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


def test_a_row_opens_its_own_runs_mask_and_no_other_patients_images(evaluation: Path, tmp_path: Path) -> None:
    write_cohort(tmp_path / "data", layout="brats2019", cases=4, shape=SHAPE, seed=1)  # the same names
    arguments = [f"--pred={evaluation.parent / 'predictions'}", f"--root={tmp_path / 'data'}", "--workers=1"]
    assert main(["evaluate", *arguments, f"--output={tmp_path / 'b'}"]) == 0
    page = page_of([f"A={evaluation}", f"B={tmp_path / 'b'}"], tmp_path)
    assert [[run["name"] for run in one["runs"]] for one in volumes(page)] == [["A"]] * 4
    assert {one["data-run"] for one in page.all("a") if one.get("data-opens")} == {"A"}
    (note,) = re.findall(r"B is not shown in 4 of these cases .*?`(.*?)`", page.text)
    assert note == f"segan_pl report B={tmp_path / 'b'}"
    assert "it was scored against another reference file" in page.text


def test_the_same_reference_by_another_way_is_the_same_patient(evaluation: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(evaluation.parent / "data")
    arguments = [f"--pred={evaluation.parent / 'predictions'}", f"--root={tmp_path / 'link'}", "--workers=1"]
    assert main(["evaluate", *arguments, f"--output={tmp_path / 'b'}"]) == 0
    page = page_of([f"A={evaluation}", f"B={tmp_path / 'b'}"], tmp_path)
    assert [[run["name"] for run in one["runs"]] for one in volumes(page)] == [["A", "B"]] * 4
    assert "is not shown in" not in page.text


def test_thick_slices_are_all_there_and_no_lesion_vanishes_between_shown_voxels(
    evaluation: Path, tmp_path: Path, monkeypatch
) -> None:
    whole = {one["case"]: one for one in volumes(page_of([str(evaluation)], tmp_path))}
    monkeypatch.setattr("segan_pl.report.case_volumes.LARGEST", SHAPE[0])
    page = page_of([str(evaluation)], tmp_path)
    for one in volumes(page):
        full = whole[one["case"]]
        assert one["step"] == [1, *(-(-side // SHAPE[0]) for side in full["size"][1:])] == [1, 2, 2]
        assert one["size"] == [full["size"][0], *(-(-side // 2) for side in full["size"][1:])]
        assert one["spacing"] == [1.0, 2.0, 2.0]
        assert one["start"] == [full["start"][0], full["start"][1] // 2, full["start"][2] // 2]
        few, all_ = (slices(some["runs"][0]["masks"], some) for some in (one, full))
        for z, y, x in np.argwhere(all_[..., :2].any(-1)):
            assert (few[z, y // 2, x // 2, :2] & all_[z, y, x, :2] == all_[z, y, x, :2]).all()
    assert "step" in whole[one["case"]]
    sizes = {
        still["id"]: json.loads(still["data-volume"] or "")["size"] for still in page.all("figure") if "id" in still
    }
    for link in (link for link in page.all("a") if link.get("data-at")):
        places = map(int, (link["data-at"] or "").split(","))
        assert all(0 <= at < side for at, side in zip(places, sizes[link["data-opens"]], strict=True))


def test_what_was_not_scored_is_shaded_and_no_error(evaluation: Path, tmp_path: Path) -> None:
    arguments = [f"--pred={evaluation.parent / 'predictions'}", f"--root={evaluation.parent / 'data'}", "--workers=1"]
    crop = ["--score_on=crop", "--crop=[8,16,16]"]
    assert main(["evaluate", *arguments, *crop, f"--output={tmp_path / 'crop'}"]) == 0
    page = page_of([str(tmp_path / "crop")], tmp_path)
    for one in volumes(page):
        masks = slices(one["runs"][0]["masks"], one)
        corner = one["corner"]
        inside = np.zeros(SHAPE, bool)
        inside[4:12, 8:24, 8:24] = True
        box = tuple(slice(low, low + side) for low, side in zip(corner, one["size"], strict=True))
        assert ((masks[..., 2] == 0) == inside[box]).all()
        assert not masks[~inside[box]][:, :2].any()
        said = "; the Dice is of the central 8 x 16 x 16 voxels alone; what is shaded is not judged"
        assert one["runs"][0]["judged"] == said
    assert page.text.count(said) >= 4


def test_a_case_that_cannot_be_read_takes_no_other_ones_place(evaluation: Path, tmp_path: Path) -> None:
    for part in ("data", "predictions"):
        shutil.copytree(evaluation.parent / part, tmp_path / part)
    arguments = [f"--pred={tmp_path / 'predictions'}", f"--root={tmp_path / 'data'}", "--workers=1"]
    assert main(["evaluate", *arguments, f"--output={tmp_path / 'e'}"]) == 0
    means = mean_dice(read_files(str(tmp_path / "e")))
    worst, *others = sorted(means, key=means.__getitem__)
    next((tmp_path / "data").rglob(f"{worst}_flair.nii.gz")).write_bytes(b"no image")
    page = page_of([str(tmp_path / "e")], tmp_path, "--viewer=2")
    assert [one["case"] for one in volumes(page)] == others[:2]
    assert f"{worst} cannot be looked through" in page.text
    assert "`--viewer 4` takes all that --viewer_mb 20 has room for" in page.text


def test_intensities_far_from_zero_keep_their_contrast() -> None:
    image = np.random.default_rng(0).normal(1100, 30, (8, 8, 8)).astype(np.float32)
    image[0] = 0
    grey = _grey(image)[..., 0]
    assert not grey[0].any()
    assert 90 < np.median(grey[1:]) < 160
    assert grey[1:].std() > 30
    assert (_grey(np.full((2, 2, 2), 5.0)) == 255).all()


def test_what_would_make_the_page_too_large_is_left_out_and_said(evaluation: Path, tmp_path: Path) -> None:
    page = page_of([str(evaluation)], tmp_path, "--viewer_mb=0.001")
    assert not volumes(page)
    assert "more than --viewer_mb 0.001 in all" in page.text
    assert "--viewer 4" not in page.text  # more cases would not help


@pytest.mark.parametrize("wrong", ["--viewer=-1", "--viewer_mb=0", "--viewer=many"])
def test_a_number_that_is_none_is_refused(evaluation: Path, tmp_path: Path, wrong: str, capsys) -> None:
    assert main(["report", str(evaluation), "--output", str(tmp_path / "page.html"), wrong]) == 2
    assert wrong.partition("=")[0].strip("-") in capsys.readouterr().err


def test_a_run_without_masks_says_which_commands_give_them(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    page = page_of([str(run)], tmp_path)
    assert not volumes(page)
    assert f"segan_pl predict --ckpt_path {run}/checkpoints/epoch0001_dice0.5000.ckpt" in page.text
    assert f"--part val --output {run}/predictions segan_pl evaluate --pred {run}/predictions" in page.text
    assert ("p", {"class": "quiet lines"}) in page.elements  # a command on each line
    assert any(f"{run}/predictions\nsegan_pl evaluate" in words for words in page.words)


def test_those_commands_can_be_typed_whatever_the_folders_are_called(tmp_path: Path) -> None:
    page = page_of([str(make_run(tmp_path / "my run"))], tmp_path)
    assert "--root '/data/a & b' --part val" in page.text
    assert f"--output '{tmp_path / 'my run' / 'predictions'}' segan_pl evaluate" in page.text


def test_labels_that_were_stated_are_in_the_command_that_scores(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    config = run / "config.yaml"
    settings = yaml.safe_load(config.read_text())
    settings["data"]["native_labels"] = {"csf": 10, "gm": [20, 30]}
    config.write_text(yaml.safe_dump(settings))
    page = page_of([str(run)], tmp_path)
    assert f'--output {run}/evaluation --data.native_labels \'{{"csf": 10, "gm": [20, 30]}}\'' in page.text


def test_it_is_said_whose_images_lie_in_the_page(evaluation: Path, tmp_path: Path, capsys) -> None:
    page_of([str(evaluation)], tmp_path, "--viewer=2")
    said = "holds the images of 2 cases: --viewer 0 --pictures false before you share it"
    assert said in capsys.readouterr().out
    page_of([str(evaluation)], tmp_path, "--viewer=0")
    assert "holds the images" not in capsys.readouterr().out


def test_lesions_have_rows_and_a_recall_by_size(evaluation: Path, tmp_path: Path) -> None:
    page = page_of([str(evaluation)], tmp_path)
    assert "How many lesions of which size were found" in page.text
    assert "met: grown by 1 voxels, up to 2 mm³ left out" in page.text  # as it was evaluated
    assert " false " in page.text.split("Every lesion")[1]
    assert "Every lesion" not in page_of([str(evaluation)], tmp_path, "--lesions=false").text
