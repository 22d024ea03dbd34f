from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from segan_pl.data.case import CaseError
from segan_pl.data.labels import label_scheme
from segan_pl.data.module import MRIDataModule
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.data.sample.options import Augmentation, Sampling
from segan_pl.data.source import case_names
from segan_pl.data.synthetic.cohort import make_cohort
from segan_pl.errors import UsageError
from tests.cohort import CASES, CROP, build_data

pytest_plugins = ["tests.cohort_fixtures"]

MakeData = Callable[..., MRIDataModule]


@pytest.fixture
def copy(cohort: Path, tmp_path: Path) -> Path:
    """A cohort of one's own, to damage."""
    return Path(shutil.copytree(cohort, tmp_path / "copy"))


def one_file(root: Path, modality: str) -> Path:
    return next(iter(sorted(root.rglob(f"*_{modality}.nii.gz"))))


def test_every_case_is_in_one_part_and_its_row_leads_back_to_its_name(make_data: MakeData) -> None:
    data = make_data(test_fraction=0.25)
    data.find()
    parts = {part: data.rows(part) for part in ("train", "val", "test")}
    assert {part: len(rows) for part, rows in parts.items()} == {"train": 4, "val": 2, "test": 2}
    assert sorted(row for rows in parts.values() for row in rows) == list(range(CASES))
    assert data.split is not None
    assert tuple(case_names(data, parts["val"])) == data.split.val
    assert data.test_part == "test"


def test_names_are_said_once_each_in_order(make_data: MakeData) -> None:
    data = make_data()
    data.find()
    assert case_names(data, [3, 1, 3]) == [data.cases[3].name, data.cases[1].name]


def test_the_validation_cases_are_tested_where_there_is_no_test_part_and_this_is_said(
    make_data: MakeData, caplog: pytest.LogCaptureFixture
) -> None:
    data = make_data()
    data.prepare_data()
    data.setup("test")
    assert data.test_part == "val"
    with caplog.at_level("INFO"):
        assert [int(batch.case) for batch in data.test_dataloader()] == data.rows("val")
    assert "no test part; the 2 validation cases are scored, and these chose the checkpoint" in caplog.text


def test_a_split_file_is_followed_and_what_it_leaves_out_is_noted(make_data: MakeData, tmp_path: Path) -> None:
    drawn = make_data()
    drawn.find()
    names = [case.name for case in drawn.cases]
    file = tmp_path / "split.json"
    file.write_text(json.dumps({"train": names[:3], "val": names[3:5]}))
    with pytest.raises(CaseError, match=r"leaves out 3 of the data's 8 cases"):
        make_data(split_file=str(file)).find()
    data = make_data(split_file=str(file), split_leftovers="ignore")
    data.find()
    assert data.rows("train") == [0, 1, 2]
    assert data.rows("val") == [3, 4]
    assert any("3 cases are in no part of the split" in note for note in data.notes())


def test_a_continued_run_keeps_its_split_and_new_cases_are_noted(copy: Path, tmp_path: Path) -> None:
    first = build_data(copy, tmp_path / "cache")
    first.find()
    assert first.split is not None
    first.split.save(tmp_path / "split.json")
    make_cohort(copy, cases=CASES + 4, shape=(8, 48, 48))
    redrawn = build_data(copy, tmp_path / "cache")
    redrawn.find()
    assert redrawn.split is not None
    assert set(redrawn.split.val) - set(first.split.val)  # the leak that this prevents
    data = build_data(copy, tmp_path / "cache")
    data.saved_split = tmp_path / "split.json"
    data.find()
    assert data.split is not None
    assert (data.split.train, data.split.val, data.split.test) == (first.split.train, first.split.val, ())
    assert any("4 cases are in no part of the split and not used" in note for note in data.notes())
    assert data.notes()[-1] == f"the split is the run's own, {tmp_path / 'split.json'}"


def test_a_saved_split_that_is_not_there_yet_is_drawn(make_data: MakeData, tmp_path: Path) -> None:
    plain, data = make_data(), make_data()
    data.saved_split = tmp_path / "split.json"
    plain.find()
    data.find()
    assert data.split == plain.split


def test_only_the_cases_of_the_split_are_prepared(cohort: Path, tmp_path: Path, make_data: MakeData) -> None:
    whole = make_data()
    whole.find()
    names = [case.name for case in whole.cases]
    file = tmp_path / "split.json"
    file.write_text(json.dumps({"train": names[:1], "val": names[1:2]}))
    data = build_data(cohort, tmp_path / "cache", split_file=str(file), split_leftovers="ignore")
    data.prepare_data()
    assert [data.cache.holds(case) for case in data.cases] == [True, True, *[False] * (CASES - 2)]


def test_prepare_reports_given_used_and_refused(copy: Path, tmp_path: Path) -> None:
    one_file(copy, "t2").write_bytes(b"not a volume")
    report = build_data(copy, tmp_path / "cache").prepare()
    assert report.summary() == f"{CASES} given, {CASES - 1} used, 1 refused"


def test_what_the_preparation_noted_is_said_at_every_fit(
    copy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flair = one_file(copy, "flair")
    shutil.copy(flair, one_file(copy, "t2"))
    for _ in range(2):  # the second time nothing is built
        caplog.clear()
        with caplog.at_level("INFO"):
            build_data(copy, tmp_path / "cache").prepare_data()
        assert f"note: {flair.parent.name}: t2 and flair are the same file" in caplog.messages
        assert caplog.messages[-1] == f"{CASES} given, {CASES} used, 0 refused"


def test_a_case_that_cannot_be_read_stops_the_fit_with_its_name(copy: Path, tmp_path: Path) -> None:
    broken = one_file(copy, "t2")
    broken.write_bytes(b"not a volume")
    with pytest.raises(
        CaseError, match=rf"{CASES} given, {CASES - 1} used, 1 refused: {broken.parent.name}: "
    ) as error:
        build_data(copy, tmp_path / "cache").prepare_data()
    assert "\n" not in str(error.value)


def test_an_incomplete_case_is_refused_by_name(copy: Path, tmp_path: Path) -> None:
    lost = one_file(copy, "flair")
    lost.unlink()
    with pytest.raises(CaseError, match=rf"{lost.parent.name} \(no flair\).*--data.missing=drop") as error:
        build_data(copy, tmp_path / "cache").find()
    assert "\n" not in str(error.value)


def test_an_incomplete_case_is_dropped_on_request_and_noted(copy: Path, tmp_path: Path) -> None:
    lost = one_file(copy, "flair")
    lost.unlink()
    data = build_data(copy, tmp_path / "cache", missing="drop")
    data.find()
    assert [case.name for case in data.cohort.dropped] == [lost.parent.name]
    assert len(data.cases) == CASES - 1
    assert data.notes()[0] == f"1 cases are incomplete and left out: {lost.parent.name} (no flair)"
    complete = build_data(copy, tmp_path / "cache", modalities=["t1"])
    complete.find()
    assert len(complete.cases) == CASES


def test_an_unknown_label_scheme_is_refused_with_those_known(make_data: MakeData) -> None:
    with pytest.raises(UsageError, match=r"--data.labels tumor: no such label scheme; did you mean 'whole_tumour'\?"):
        make_data(labels="tumor")


def test_labels_that_the_scheme_does_not_know_are_refused_with_the_case(make_data: MakeData) -> None:
    data = make_data(labels="binary")
    data.prepare_data()
    with pytest.raises(CaseError, match=r"BraTS19_\w+: the mask holds label \[.*'binary' knows \[0, 1\]"):
        data.train_dataloader()


def test_each_case_is_opened_once_and_the_sources_may_go_after_setup(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = build_data(copy, tmp_path / "cache", sampling=Sampling(empty="balance"))
    data.prepare_data()
    opened: list[str] = []
    really = data.cache.open
    monkeypatch.setattr(data.cache, "open", lambda case, names, absent: opened.append(case.name) or really(case, names))  # type: ignore[func-returns-value]
    data.setup("fit")
    copy.rename(tmp_path / "unmounted")
    for _ in range(2):
        assert list(data.train_dataloader())
        assert [int(batch.case) for batch in data.val_dataloader()] == data.rows("val")
    for row in data.rows("val"):
        assert data.geometry(row).real_box == (slice(0, 8), slice(0, 48), slice(0, 48))
        assert data.outside(row).tolist() == [[0, 0]]
    assert sorted(opened) == sorted(case.name for case in data.cases)


def test_what_is_kept_of_a_case_is_small_and_holds_no_voxel(make_data: MakeData) -> None:
    data = make_data(labels="labels")
    data.prepare_data()
    data.setup("fit")
    assert len(pickle.dumps(data.index(0))) < 1000
    assert not any(isinstance(kept, np.memmap) for kept in data.index(0))


def test_a_split_without_training_cases_is_refused(make_data: MakeData) -> None:
    with pytest.raises(
        UsageError,
        match=r"--data\.val_fraction .* and --data.test_fraction .*: expected val >= 0, test >= 0 and a sum below 1",
    ):
        make_data(val_fraction=1.0).setup("fit")


def test_more_ranks_than_validation_cases_are_refused(make_data: MakeData, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_data()
    data.prepare_data()
    monkeypatch.setattr("segan_pl.data.module.ranks_of", lambda trainer: {"rank": 2, "world_size": 3})
    with pytest.raises(CaseError, match="2 val cases for 3 ranks"):
        data.val_dataloader()


def test_fewer_slices_than_ranks_are_refused(make_data: MakeData, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_data()
    data.prepare_data()
    monkeypatch.setattr("segan_pl.data.module.ranks_of", lambda trainer: {"rank": 0, "world_size": 100})
    with pytest.raises(CaseError, match="48 training slices make no batch for 100 ranks"):
        data.train_dataloader()


@pytest.mark.parametrize("labels", ["whole_tumour", "regions", "labels"])
def test_voxels_outside_the_crop_are_those_that_a_restored_crop_loses(make_data: MakeData, labels: str) -> None:
    data = make_data(preparation=Preparation(crop=(5, 20, 64)), labels=labels)
    data.prepare_data()
    lost = 0
    for row, case in enumerate(data.cases):
        native = label_scheme(labels).encode(np.asarray(nib.load(case.mask).dataobj, np.uint8).T)
        geometry = data.open(row).geometry
        inside = geometry.restore(geometry.crop(np.ones_like(native))) > 0
        expected = [[int((n & ~i).sum()), int((~n & ~i).sum())] for n, i in zip(native > 0, inside, strict=True)]
        assert data.outside(row).tolist() == expected
        lost += expected[0][0]
    assert lost > 0


def test_nothing_is_outside_where_nothing_was_cropped(make_data: MakeData) -> None:
    data = make_data()
    data.prepare_data()
    assert data.outside(0).tolist() == [[0, 0]]


def test_the_description_is_plain_and_tells_how_to_prepare_a_new_case(make_data: MakeData) -> None:
    described = make_data(preparation=CROP, modalities=["t2", "t1"], labels="regions").describe()
    assert json.loads(json.dumps(described)) == described
    assert described["modalities"] == ["t2", "t1"]
    assert described["labels"] == "regions"
    assert described["preparation"]["crop"] == [6, 40, 64]


def test_a_modality_set_to_zero_is_zeros_and_not_present_in_every_batch(copy: Path, tmp_path: Path) -> None:
    lost = one_file(copy, "t2")
    lost.unlink()
    whole = build_data(copy, tmp_path / "cache", modalities=["t1", "flair"])
    data = build_data(copy, tmp_path / "cache", missing="zero", modalities=["t1", "t2", "flair"])
    for module in (whole, data):
        module.prepare_data()
        module.setup("fit")
    row = next(row for row, case in enumerate(data.cases) if case.name == lost.parent.name)
    seen = 0
    for batch, other in zip(data.train_dataloader(), whole.train_dataloader(), strict=True):
        np.testing.assert_array_equal(batch.case, other.case)
        np.testing.assert_array_equal(batch.image[:, [0, 2]], other.image)
        expected = np.ones((len(batch.case), 3), bool)
        expected[batch.case == row, 1] = False
        np.testing.assert_array_equal(batch.modality_mask, expected)
        assert not batch.image[batch.case == row, 1].any()
        assert batch.image[batch.case != row, 1].any()
        seen += int((batch.case == row).sum())
    volumes = {int(batch.case): batch for batch in data.val_dataloader()}
    if row in volumes:
        assert not volumes[row].image[0, 1].any()
        seen += 1
    assert seen
    assert f"{lost.parent.name} (no t2)" in data.notes()[0]


def test_absent_modalities_stay_zero_under_augmentation(copy: Path, tmp_path: Path) -> None:
    lost = one_file(copy, "t1")
    lost.unlink()
    strong = Augmentation(mirror=(0, 0, 0.5), rotation=1, scaling=1, brightness=1, gamma=1, noise=1, blur=1)
    data = build_data(copy, tmp_path / "cache", missing="zero", val_fraction=0.1, augmentation=strong)
    data.prepare_data()
    data.setup("fit")
    batches = list(data.train_dataloader())
    present = np.concatenate([batch.modality_mask for batch in batches])
    images = np.concatenate([batch.image for batch in batches])
    assert (~present[:, 0]).any() or lost.parent.name in data.split.val  # type: ignore[union-attr]
    assert not images[~present].any()


def test_the_case_table_has_a_row_a_case_with_its_part_and_what_it_lacks(copy: Path, tmp_path: Path) -> None:
    zeroed, dropped = sorted(copy.rglob("*_flair.nii.gz"))[:2]
    zeroed.unlink()
    next(dropped.parent.glob("*_seg.nii.gz")).unlink()
    data = build_data(copy, tmp_path / "cache", missing="zero")
    data.find()
    rows = {row["case"]: row for row in data.case_table()}
    assert len(rows) == CASES
    assert rows[dropped.parent.name]["part"] == "dropped"
    assert rows[zeroed.parent.name]["absent"] == "flair"
    assert rows[zeroed.parent.name]["grade"] == zeroed.parent.parent.name
    parts = [row["part"] for row in rows.values()]
    assert {part: parts.count(part) for part in set(parts)} == {"train": 5, "val": 2, "dropped": 1}


@pytest.mark.parametrize("augmentation", [Augmentation(), Augmentation(rotation=1, rotation_deg=20)])
def test_a_patch_beyond_the_volume_holds_the_background_of_the_preparation(
    cohort: Path, tmp_path: Path, augmentation: Augmentation
) -> None:
    preparation = Preparation(crop=None, percentiles=(0, 100), statistics_mask="volume", interval=(-1, 1))
    data = build_data(cohort, tmp_path, preparation=preparation, patch=(64, 64), augmentation=augmentation)
    data.prepare_data()
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    corner = batch.image[..., :4, :4]  # a volume of 48 x 48 stands in the middle of the patch
    np.testing.assert_allclose(corner, -1, atol=1e-6)
    assert batch.image.max() > 0.2
