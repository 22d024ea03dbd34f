"""Labelled and unlabelled pools: who is in which, and what a batch holds of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segan_pl.__main__ import main
from segan_pl.batch import Batch
from segan_pl.data.case import CaseError
from segan_pl.data.module import MRIDataModule
from segan_pl.data.sample.case_index import opened
from segan_pl.data.sample.options import Augmentation, Sampling
from segan_pl.data.sample.samplers import ANYWHERE, Plan, PlanSampler, Pool
from segan_pl.data.source import case_names
from segan_pl.data.split.choice import UnlabelledCases
from segan_pl.data.split.record import Split
from segan_pl.errors import UsageError
from segan_pl.nets.albunet import AlbuNet
from segan_pl.nets.segan import Segmentor
from segan_pl.objectives.base import Objective
from segan_pl.objectives.reciprocal import Reciprocal
from segan_pl.objectives.segan import SegAN
from segan_pl.objectives.supervised import Supervised
from segan_pl.training.system import AdversarialSegmentation
from tests.cohort import CASES, QUIET, build_data, build_system, build_trainer
from tests.training.test_within_epoch import fit, weights, within

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [*QUIET, pytest.mark.filterwarnings("ignore:.*your dataloader is not resumable.*")]

MakeData = Callable[..., MRIDataModule]


def loaded(data: MRIDataModule) -> list[Batch]:
    data.prepare_data()
    data.setup("fit")
    return list(data.train_dataloader())


@pytest.fixture
def without(cohort: Path, tmp_path: Path) -> tuple[Path, list[str]]:
    """A copy of the cohort in which three cases have no mask, and their names."""
    root = Path(shutil.copytree(cohort, tmp_path / "copy"))
    masks = sorted(root.rglob("*_seg.nii.gz"))[:3]
    for mask in masks:
        mask.unlink()
    return root, sorted(mask.parent.name for mask in masks)


# -- who is in which ---------------------------------------------------------------------------------------------------


def test_so_many_training_cases_count_as_labelled_and_fewer_are_among_more(make_data: MakeData) -> None:
    found = {}
    for number in (1, 2, 4, 6):
        data = make_data(n_labelled=number)
        data.find()
        assert data.split is not None
        found[number] = data.split
        assert len(data.split.train) == number
        assert {*data.split.train, *data.split.unlabelled} == data.split.named - {*data.split.val}
    assert {*found[1].train} < {*found[2].train} < {*found[4].train} < {*found[6].train}
    assert len({split.val for split in found.values()}) == 1
    assert found[6].unlabelled == ()
    assert not any("count as labelled" in note for note in found[6].notes)
    (note,) = (note for note in found[2].notes if "count as labelled" in note)
    assert note.startswith("2 of 6 training cases count as labelled (--data.n_labelled 2, --data.split_seed 0): ")
    other = make_data(n_labelled=2, split_seed=5)
    other.find()
    assert other.split is not None
    assert other.split.train != found[2].train


def test_cases_without_a_mask_are_refused_unless_they_are_to_be_used(
    without: tuple[Path, list[str]], tmp_path: Path
) -> None:
    root, names = without
    with pytest.raises(CaseError, match=r"3 of 8 cases are incomplete.*may train as unlabelled: --data.unlabelled use"):
        build_data(root, tmp_path / "cache").find()
    data = build_data(root, tmp_path / "cache", unlabelled="use")
    data.find()
    assert data.split is not None
    assert list(data.split.unlabelled) == names
    assert len(data.split.train) + len(data.split.val) == CASES - 3
    assert f"3 cases have no mask and train as unlabelled: {', '.join(names)}" in data.notes()
    parts = {row["case"]: row["part"] for row in data.case_table()}
    assert {name for name, part in parts.items() if part == "unlabelled"} == set(names)
    batches = loaded(data)
    seen = {name for batch in batches for name in case_names(data, batch.case[~batch.labelled])}
    assert seen == set(names)
    assert sorted(int(batch.case) for batch in data.val_dataloader()) == data.rows("val")


def test_a_case_without_a_mask_is_not_used_where_its_patient_validates(
    without: tuple[Path, list[str]], tmp_path: Path
) -> None:
    root, names = without
    data = build_data(root, tmp_path / "cache", unlabelled="use")
    data.find()
    assert data.split is not None
    held_out = next(case.patient for case in data.cases if case.name == data.split.val[0])
    cases = [case if case.name != names[0] else replace(case, patient=held_out) for case in data.cohort.cases]
    drawn = Split(data.split.train, data.split.val)
    found = data.unlabelled.part(drawn, cases)
    assert list(found.unlabelled) == names[1:]
    assert f"1 cases without a mask are of patients who validate or test, and not used: {names[0]}" in found.notes


def test_a_split_file_names_unlabelled_cases_and_a_run_keeps_them(
    make_data: MakeData, without: tuple[Path, list[str]], tmp_path: Path
) -> None:
    plain = make_data()
    plain.find()
    assert plain.split is not None
    train, val = plain.split.train, plain.split.val
    file = tmp_path / "split.json"
    file.write_text(json.dumps({"train": train[:2], "val": val, "unlabeled": train[2:]}))
    data = make_data(split_file=str(file))
    batches = loaded(data)
    assert data.split is not None
    assert data.split.unlabelled == train[2:]
    assert {*case_names(data, torch.cat([batch.case[batch.labelled] for batch in batches]))} == {*train[:2]}
    data.split.save(tmp_path / "kept.json")
    again = make_data(n_labelled=1)
    again.saved_split = tmp_path / "kept.json"
    again.find()
    assert again.split is not None
    assert (again.split.train, again.split.unlabelled) == (data.split.train, data.split.unlabelled)
    root, names = without
    labelled = [name for name in (*train, *val) if name not in names]
    file.write_text(json.dumps({"train": labelled[:2], "val": [*labelled[2:], names[0]]}))
    wrong = build_data(root, tmp_path / "cache", unlabelled="use", split_file=str(file))
    with pytest.raises(CaseError, match=f'cases without a mask under "val": {names[0]}; put them under "unlabelled"'):
        wrong.find()
    file.write_text(json.dumps({"train": labelled[:2], "val": labelled[2:]}))
    joined = build_data(root, tmp_path / "cache", unlabelled="use", split_file=str(file))
    joined.find()
    assert joined.split is not None
    assert list(joined.split.unlabelled) == names


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"n_labelled": 0}, "--data.n_labelled 0: expected at least 1"),
        ({"n_labelled": 7}, "--data.n_labelled 7: the split has 6 labelled training cases; give at most that"),
        ({"labelled_per_batch": 4}, "--data.labelled_per_batch 4: every training case is labelled; give --data.n_lab"),
        (
            {"n_labelled": 2, "labelled_per_batch": 13},
            "--data.labelled_per_batch 13 of --data.batch_size 12: expected at least one labelled and one unlabelled "
            "patch in a batch; 4 training cases are unlabelled",
        ),
        ({"n_labelled": 2, "labelled_per_batch": 0}, "--data.labelled_per_batch 0 of --data.batch_size 12: expected"),
        ({"n_labelled": 2, "batch_size": 1}, "--data.batch_size 1: expected at least one labelled and one unlabelled"),
    ],
)
def test_shares_that_cannot_be_are_refused_before_anything_is_prepared(
    make_data: MakeData, tmp_path: Path, settings: dict[str, Any], error: str
) -> None:
    with pytest.raises(UsageError, match=error):
        make_data(cache_dir=str(tmp_path / "cache"), **settings).prepare_data()
    assert not (tmp_path / "cache").exists()


# -- what a batch holds ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"patch": (32, 32), "batch_size": 5, "labelled_per_batch": 2},
        {"patch": (4, 16, 16), "batch_size": 3, "sampling": Sampling(per_case=4, foreground=0.5)},
        {"patch": (1, 16, 16), "batch_size": 4, "sampling": Sampling(batches=3), "labelled_per_batch": 3},
    ],
)
def test_labelled_patches_come_first_and_the_others_have_no_label(
    make_data: MakeData, settings: dict[str, Any]
) -> None:
    data = make_data(n_labelled=2, labels="labels", augmentation=Augmentation(rotation=0.5, noise=0.5), **settings)
    batches = loaded(data)
    labelled = settings.get("labelled_per_batch", 2)
    unlabelled = settings["batch_size"] - labelled
    for batch in batches[:-1]:
        assert batch.labelled.tolist() == [True] * labelled + [False] * unlabelled
    assert (~batches[-1].labelled).sum() == unlabelled
    for batch in batches:
        assert not batch.target[~batch.labelled].any()
        assert torch.equal(batch.target[batch.labelled].sum(1).unique(), torch.tensor([1]))  # exclusive labels
        assert bool(batch.image.flatten(1).any(1).all())
        assert {*batch.case[batch.labelled].tolist()} <= {*data.rows("train")}
        assert {*batch.case[~batch.labelled].tolist()} <= {*data.rows("unlabelled")}


def test_the_labelled_patches_are_those_of_a_run_without_unlabelled_ones(make_data: MakeData) -> None:
    varied = Augmentation(mirror=(0, 0.5, 0.5), gamma=1, noise=1)
    both = make_data(n_labelled=2, batch_size=6, labelled_per_batch=4, augmentation=varied)
    joined = loaded(both)
    assert both.split is not None
    alone = make_data(batch_size=4, augmentation=varied)
    alone.split, alone._rows = Split(both.split.train, both.split.val), both._rows
    for one, other in zip(joined, loaded(alone), strict=True):
        for field, same in zip(one, other, strict=True):
            assert torch.equal(field[one.labelled], same)


def test_batches_of_labelled_patches_alone_are_those_of_a_run_on_these_cases_alone(make_data: MakeData) -> None:
    few = make_data(n_labelled=2, batch_size=4, labelled_per_batch=4)
    alone = make_data(batch_size=4, labelled_per_batch=4)
    joined = loaded(few)
    assert few.split is not None
    alone.split, alone._rows = Split(few.split.train, few.split.val), few._rows
    for one, other in zip(joined, loaded(alone), strict=True):
        assert bool(one.labelled.all())
        for field, same in zip(one, other, strict=True):
            assert torch.equal(field, same)
    with pytest.raises(UsageError, match="expected at least one labelled and one unlabelled patch in a batch; 4 train"):
        few.require_batch(1, 1)  # as of an objective that reads the others


def test_batches_of_labelled_patches_alone_leave_the_others_unprepared(make_data: MakeData, tmp_path: Path) -> None:
    data = make_data(n_labelled=2, batch_size=4, labelled_per_batch=4, cache_dir=str(tmp_path / "cache"))
    loaded(data)
    assert data.split is not None
    prepared = {path.name for path in (tmp_path / "cache").rglob("*") if path.is_dir()}
    assert not [name for name in data.split.unlabelled if any(name in one for one in prepared)]
    assert all(any(name in one for one in prepared) for name in data.split.train)


def test_masks_of_cases_that_count_as_unlabelled_are_never_read(make_data: MakeData, tmp_path: Path) -> None:
    data = make_data(n_labelled=2, cache_dir=str(tmp_path / "cache"))
    before = loaded(data)
    for row in data.rows("unlabelled"):
        label = data.index(row).label
        assert label is not None
        label.unlink()
    opened.cache_clear()
    for one, other in zip(before, list(data.train_dataloader()), strict=True):
        assert torch.equal(one.image, other.image)


# -- the sampler -------------------------------------------------------------------------------------------------------


def pool(first: int, cases: int) -> Pool:
    rows = np.arange(first, first + cases, dtype=np.int32)
    return Pool(rows, np.full(cases, ANYWHERE, np.int32), np.zeros(cases, bool))


def sampler(labelled: int = 2, unlabelled: int = 3, **more: Any) -> PlanSampler:
    return PlanSampler(
        pool(0, 9), labelled, sampling=Sampling(), seed=4, unlabelled=pool(9, 5), unlabelled_size=unlabelled, **more
    )


def plans(made: PlanSampler, epoch: int = 0) -> list[Plan]:
    made.set_epoch(epoch)
    return list(made)


def test_the_pools_have_streams_of_their_own_and_each_unlabelled_case_comes_before_any_comes_again() -> None:
    found = plans(sampler())
    assert [plan.labelled.sum() for plan in found] == [2, 2, 2, 2, 1]
    unlabelled = np.concatenate([plan.case[~plan.labelled] for plan in found])
    assert [sorted(unlabelled[n : n + 5].tolist()) for n in (0, 5, 10)] == [list(range(9, 14))] * 3
    assert sorted(np.concatenate([plan.case[plan.labelled] for plan in found]).tolist()) == list(range(9))
    numbers = np.concatenate([plan.corner.ravel() for plan in found])
    assert len(np.unique(numbers)) == len(numbers)
    other = [plan.case[plan.labelled].tolist() for plan in plans(sampler(unlabelled=1))]
    assert other == [plan.case[plan.labelled].tolist() for plan in found]


def test_two_ranks_share_both_pools_equally() -> None:
    alone = plans(sampler(labelled=4, unlabelled=6))
    ranks = [plans(sampler(rank=rank, world_size=2)) for rank in (0, 1)]
    for whole, first, second in zip(alone, *ranks, strict=False):
        assert first.labelled.tolist() == second.labelled.tolist()
        for part in (True, False):
            both = [
                np.concatenate([mine[first.labelled == part], other[second.labelled == part]])
                for mine, other in zip(first, second, strict=True)
            ]
            for field, expected in zip(both, whole, strict=True):
                np.testing.assert_array_equal(field, expected[whole.labelled == part][: len(field)])


def test_an_epoch_that_was_broken_off_goes_on_with_the_same_patches_of_both_pools() -> None:
    whole, made = plans(sampler(), 3), sampler()
    made.resume(3, 2)
    for one, other in zip(whole[2:], plans(made, 3), strict=True):
        for field, same in zip(one, other, strict=True):
            np.testing.assert_array_equal(field, same)


def test_a_run_with_both_pools_that_goes_on_within_an_epoch_ends_as_one_that_never_stopped(
    make_data: MakeData, tmp_path: Path
) -> None:
    settings = {"n_labelled": 3, "augmentation": Augmentation(rotation=0.5, noise=0.5)}
    whole = weights(fit(tmp_path / "whole", make_data(**settings)))
    stopped = within(tmp_path / "whole", 0)
    again = weights(fit(tmp_path / "again", make_data(**settings), checkpoint=stopped))
    for name, value in whole.items():
        assert torch.equal(value, again[name]), name


@pytest.mark.parametrize("settings", [{"patch": (16, 16)}, {"patch": (1, 32, 32), "sampling": Sampling(per_case=8)}])
def test_batch_norm_has_enough_labelled_patches_alone(
    make_data: MakeData, tmp_path: Path, settings: dict[str, Any]
) -> None:
    """A supervised loss shows the network nothing else; one of these patches is a single value a channel at the end."""
    network = partial(Segmentor, width=2) if len(settings["patch"]) == 2 else partial(AlbuNet, width=8, filters=2)

    def fit(labelled: int) -> Any:
        model = AdversarialSegmentation(
            {"segmentor": network}, Supervised(), modalities=["t1", "t1ce", "t2", "flair"], labels="whole_tumour"
        )
        trainer = build_trainer(tmp_path)
        trainer.fit(model, datamodule=make_data(n_labelled=2, labelled_per_batch=labelled, **settings))
        return trainer

    with pytest.raises(
        UsageError,
        match=r"--data.labelled_per_batch 1 of --data.batch_size 12: .* expected at least 2 labelled and 1 unl",
    ):
        fit(1)
    assert fit(5).num_training_batches == 3  # of 16 labelled patches, the last of which would be alone


def test_unlabelled_cases_can_be_predicted_and_an_empty_part_is_refused(
    without: tuple[Path, list[str]], tmp_path: Path
) -> None:
    root, names = without
    data = build_data(root, tmp_path / "cache", unlabelled="use", labels="labels")
    data.predict_part = "unlabelled"
    found = build_trainer(tmp_path).predict(build_system(labels="labels"), datamodule=data)
    assert found is not None
    assert sorted(one.case for one in found) == names
    for batch in data.predict_dataloader():
        assert not batch.labelled.any()
        assert not batch.target.any()
    empty = build_data(root, tmp_path / "cache", missing="drop")
    empty.predict_part = "unlabelled"
    with pytest.raises(CaseError, match="the split has no case in its part 'unlabelled'; choose another"):
        build_trainer(tmp_path).predict(build_system(), datamodule=empty)


def test_a_runs_own_split_is_refused_where_a_mask_has_gone_since(
    without: tuple[Path, list[str]], tmp_path: Path
) -> None:
    root, _ = without
    data = build_data(root, tmp_path / "cache", unlabelled="use")
    data.find()
    assert data.split is not None
    data.split.save(tmp_path / "split.json")
    next(root.rglob(f"{data.split.val[0]}_seg.nii.gz")).unlink()
    again = build_data(root, tmp_path / "cache", unlabelled="use")
    again.saved_split = tmp_path / "split.json"
    with pytest.raises(CaseError, match=f'cases without a mask under "val": {data.split.val[0]};'):
        again.find()


def test_where_no_case_has_a_mask_none_is_advised_to_train_as_unlabelled(
    without: tuple[Path, list[str]], tmp_path: Path
) -> None:
    root, _ = without
    for mask in root.rglob("*_seg.nii.gz"):
        mask.unlink()
    with pytest.raises(CaseError, match=r"all lack a mask; expected .* and a mask; complete them$"):
        build_data(root, tmp_path / "cache").find()


def test_what_reads_no_unlabelled_sample_says_how_to_leave_the_cases_out() -> None:
    split = Split(("a", "b"), ("c",), unlabelled=("d", "e"))
    said = UnlabelledCases("use").idle_note(split, "Supervised")
    assert said == (
        "note: Supervised reads labelled samples alone, so those of 2 unlabelled cases only take time; fewer of them "
        "by a larger --data.labelled_per_batch "
        "or --data.missing drop in place of --data.unlabelled use (docs/splits.md)"
    )
    assert "--data.unlabelled use" not in UnlabelledCases(n_labelled=2).idle_note(split, "Supervised")
    assert UnlabelledCases("use").idle_note(replace(split, unlabelled=()), "Supervised") == ""


@pytest.mark.parametrize("objective", [SegAN(), Supervised(), Reciprocal()])
def test_no_shipped_objective_reads_unlabelled_samples(objective: Objective) -> None:
    assert not objective.reads_unlabelled()


# -- segan_pl split ----------------------------------------------------------------------------------------------------


def test_split_writes_the_part_and_checks_it(
    without: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, names = without
    file = tmp_path / "split.json"
    given = ["split", "--root", str(root), "--by", "--data.unlabelled", "use"]
    assert main([*given, "--data.n_labelled", "2", "-o", str(file)]) == 0
    out = capsys.readouterr().out
    split = Split.load(file)
    assert len(split.train) == 2
    assert {*names} <= {*split.unlabelled}
    assert "unlabelled" in out.splitlines()[[line.startswith("stratum") for line in out.splitlines()].index(True)]
    assert f"{CASES} given, {CASES} used, 0 refused" in out
    assert main([*given, "--check", str(file)]) == 0
    assert f"{file} fits the data" in capsys.readouterr().out
    assert main([*given, "--format", "nnunet", "-o", str(tmp_path / "splits_final.json")]) == 0
    assert "nnU-Net's file has no unlabelled part: 3 unlabelled cases are not in it as such" in capsys.readouterr().out
