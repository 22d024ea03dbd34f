"""Validation over every subset of the modalities, against validations of cases whose modalities were zeroed by hand."""

from __future__ import annotations

import csv
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from segan_pl.batch import Batch
from segan_pl.data.module import MRIDataModule
from segan_pl.data.sample.patches import CaseDataset
from segan_pl.evaluation.tables import SubsetScore, dice_over_subsets, subsets_of
from segan_pl.training.callbacks.record import CaseScores
from segan_pl.training.system import AdversarialSegmentation
from segan_pl.training.whole_volumes import NonFiniteLossError
from tests.cohort import CROP, QUIET, build_system, build_trainer

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = QUIET

MakeData = Callable[..., MRIDataModule]
NAMES = ("t1", "t2", "flair")


def build(**settings: Any) -> AdversarialSegmentation:
    return build_system(modalities=NAMES, labels="regions", **settings)


def data_of(make_data: MakeData, **settings: Any) -> MRIDataModule:
    return make_data(modalities=list(NAMES), labels="regions", preparation=CROP, **settings)


def show_only(monkeypatch: pytest.MonkeyPatch, shown: tuple[str, ...]) -> None:
    """From now on whole cases come with zeros for the other modalities."""
    whole = CaseDataset.__getitem__
    present = torch.tensor([[name in shown for name in NAMES]])

    def part(self: CaseDataset, index: int) -> Batch:
        batch = whole(self, index)
        return batch._replace(
            image=batch.image * present[..., None, None, None], modality_mask=batch.modality_mask & present
        )

    monkeypatch.setattr(CaseDataset, "__getitem__", part)


@pytest.mark.parametrize("modality_mask", ["zeros", "channels"])
@pytest.mark.parametrize("score_on", ["volume", "crop"])
def test_each_subset_scores_as_cases_do_whose_other_modalities_are_zero(
    tmp_path: Path,
    make_data: MakeData,
    monkeypatch: pytest.MonkeyPatch,
    modality_mask: Any,
    score_on: Literal["volume", "crop"],
) -> None:
    settings: dict[str, Any] = {"modality_mask": modality_mask, "score_on": score_on, "crop": (4, 32, 32)}
    system, data = build(subsets="all", **settings), data_of(make_data)
    build_trainer(tmp_path).validate(system, data, verbose=False)
    shown = [subset for size in (1, 2, 3) for subset in combinations(NAMES, size)]
    assert [row.subset for row in system.subset_scores] == ["+".join(s) for s in shown for _ in range(2 * 3)]
    different = set()
    for subset in shown:
        rows = [row.score for row in system.subset_scores if row.subset == "+".join(subset)]
        assert {row.size for row in system.subset_scores if row.subset == "+".join(subset)} == {len(subset)}
        with monkeypatch.context() as patch:
            show_only(patch, subset)
            alone = build(**settings)
            build_trainer(tmp_path).validate(alone, data_of(make_data), verbose=False)
        assert rows == alone.case_scores
        assert not alone.subset_scores
        different.add(tuple(row.counts for row in rows))
    assert len(different) == len(shown)  # else equal scores would show nothing


def test_the_usual_scores_stay_and_the_mean_over_subsets_is_logged_only_when_asked(
    tmp_path: Path, make_data: MakeData
) -> None:
    logged = {}
    for subsets in ("given", "all"):
        system = build(subsets=subsets)
        trainer = build_trainer(tmp_path)
        trainer.validate(system, data_of(make_data), verbose=False)
        logged[subsets] = {name: float(value) for name, value in trainer.callback_metrics.items() if "/" in name}
        assert set(logged[subsets]) == set(system.metric_names())
    added = logged["all"].keys() - logged["given"].keys()
    assert added == {f"val/dice_{region}_subsets_mean" for region in ("wt", "tc", "et")}
    assert {name: logged["all"][name] for name in logged["given"]} == logged["given"]
    means = [
        torch.tensor([row.score.values["dice"] for row in system.subset_scores if row.subset == subset]).view(2, 3)
        for subset in dict.fromkeys(row.subset for row in system.subset_scores)
    ]
    assert logged["all"]["val/dice_wt_subsets_mean"] == pytest.approx(float(torch.stack(means)[..., 0].mean()))


def test_fit_writes_a_table_of_subsets_beside_each_validation(tmp_path: Path, make_data: MakeData) -> None:
    system = build(subsets="all", modality_mask="channels")
    build_trainer(tmp_path, CaseScores(tmp_path)).fit(system, data_of(make_data))
    with (tmp_path / "scores" / "val_epoch_0000_subsets.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (tmp_path / "scores" / "val_epoch_0000.csv").open(newline="") as file:
        usual = list(csv.DictReader(file))
    assert list(rows[0])[:4] == ["case", "subset", "modalities", "patient"]
    assert set(rows[0]) == {*usual[0], "subset", "modalities"}
    assert len(rows) == 7 * len(usual)
    whole = [{name: row[name] for name in usual[0]} for row in rows if row["subset"] == "t1+t2+flair"]
    assert sorted(whole, key=str) == sorted(usual, key=str)
    assert {row["modalities"] for row in rows if "+" not in row["subset"]} == {"1"}


def test_no_table_of_subsets_is_written_unasked(tmp_path: Path, make_data: MakeData) -> None:
    build_trainer(tmp_path, CaseScores(tmp_path, "a.csv")).validate(build(), data_of(make_data), verbose=False)
    assert sorted(path.name for path in (tmp_path / "scores").iterdir()) == ["a.csv", "metrics.json"]


def test_a_case_that_lacks_a_modality_is_scored_from_the_subsets_of_what_it_has(
    tmp_path: Path, make_data: MakeData, monkeypatch: pytest.MonkeyPatch
) -> None:
    show_only(monkeypatch, ("t1", "flair"))
    system = build(subsets="all")
    build_trainer(tmp_path).validate(system, data_of(make_data), verbose=False)
    assert list(dict.fromkeys(row.subset for row in system.subset_scores)) == ["t1", "flair", "t1+flair"]


def test_an_output_that_is_not_finite_for_a_subset_only_is_refused(
    tmp_path: Path, make_data: MakeData, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = build(subsets="all")
    predict_volume = AdversarialSegmentation.predict_volume

    def poisoned(self: Any, image: torch.Tensor, present: Any = None) -> torch.Tensor:
        return predict_volume(self, image, present) + (float("nan") if int(present.sum()) == 2 else 0)

    monkeypatch.setattr(AdversarialSegmentation, "predict_volume", poisoned)
    with pytest.raises(NonFiniteLossError, match="validation: the network's output is not finite"):
        build_trainer(tmp_path).validate(system, data_of(make_data), verbose=False)


# -- by hand -----------------------------------------------------------------------------------------------------------


def test_subsets_are_all_non_empty_ones_small_first() -> None:
    assert subsets_of([True, True, False, True]) == [(0,), (1,), (3,), (0, 1), (0, 3), (1, 3), (0, 1, 3)]
    assert len(subsets_of([True] * 4)) == 15
    assert subsets_of([False, True]) == [(1,)]


def test_every_subset_weighs_the_same_however_many_cases_have_it() -> None:
    from segan_pl.evaluation.policies import Counts
    from segan_pl.evaluation.tables import CaseScore

    def row(subset: str, dice: float) -> SubsetScore:
        return SubsetScore(subset, 1, CaseScore("a", "wt", Counts(0, 0, 0, 0), {"dice": dice}))

    rows = [row("t1", 0.0), row("t1", 1.0), row("t1", float("nan")), row("t2", 0.9)]
    assert dice_over_subsets(rows, ["wt"]) == {"dice_wt_subsets_mean": pytest.approx((0.5 + 0.9) / 2)}
