"""Metrics as objects: what each declares, what is asked by name, and how ranks come together."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from segan_pl.data.case import CaseError
from segan_pl.data.labels import label_scheme
from segan_pl.errors import UsageError
from segan_pl.evaluation.metrics import Counted, CountMetric, MaskPair, Metric
from segan_pl.evaluation.metrics.measured import HD95
from segan_pl.evaluation.metrics.named import BUILT_IN, CHEAP, evaluation_metrics, with_named
from segan_pl.evaluation.policies import POLICIES, Counts
from segan_pl.evaluation.scoring import score_case, score_counts

QUIET = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")


def pair(seed: int = 0, share: float = 0.2) -> MaskPair:
    masks = np.random.default_rng(seed).random((2, 5, 6, 7)) < share
    return MaskPair(*masks, (1.0, 2.0, 1.5), voxels=1000)


def names(metrics: Sequence[Metric]) -> list[str]:
    return [metric.name for metric in metrics]


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_metric_keeps_to_what_it_declares(name: str) -> None:
    metric, low, high = BUILT_IN[name], *BUILT_IN[name].bounds
    for policy in POLICIES.values():
        for seed, share in ((0, 0.2), (1, 0.01), (2, 0.0)):
            value = metric.score(pair(seed, share), policy)
            assert math.isnan(value) or low <= value <= high
    assert json.loads(json.dumps(metric.described(), allow_nan=False))["unit"] == metric.unit
    assert (metric.unit != "") != name.startswith("lesions_")


def test_a_pair_of_masks_counts_its_voxels_on_the_whole_grid() -> None:
    masks = pair()
    p, r = masks.prediction, masks.reference
    expected = Counts(int((p & r).sum()), int((p & ~r).sum()), int((~p & r).sum()), 1000 - int((p | r).sum()))
    assert masks.counts == expected
    assert masks.voxel_ml == pytest.approx(0.003)


@QUIET
def test_overlaps_are_those_of_torchmetrics_segmentation() -> None:
    from torchmetrics.functional.segmentation import dice_score, mean_iou

    masks = pair()
    p, r = (torch.from_numpy(mask)[None, None].int() for mask in (masks.prediction, masks.reference))
    policy = POLICIES["segan_cat"]
    dice = dice_score(p, r, num_classes=1, input_format="one-hot")
    assert BUILT_IN["dice"].score(masks, policy) == pytest.approx(float(dice))
    iou = mean_iou(p, r, num_classes=1, input_format="one-hot")
    assert BUILT_IN["iou"].score(masks, policy) == pytest.approx(float(iou))


class Own(Metric):
    """Of the tests: named by its import path."""

    name = "own_share"
    unit = "1"
    higher_is_better = False
    bounds = (0.0, 3.0)

    def compute(self, masks: MaskPair) -> float:
        return float(masks.prediction.mean())


class Clash(Own):
    name = "dice"


class BadName(Own):
    name = "tp_rate"


class NeedsMore(Own):
    def __init__(self, factor: float) -> None:
        self.factor = factor


class NoFormula(Metric):
    name = "no_formula"


class NoFormulaOfCounts(CountMetric):
    name = "no_formula"


class Unready(Own):
    def __init__(self) -> None:
        raise ValueError("no atlas")


class Broken(Own):
    def compute(self, masks: MaskPair) -> float:
        return float([0.5][1])


class Listed(Own):
    def compute(self, masks: MaskPair) -> float:
        return [0.5]  # type: ignore[return-value]


class Endless(Own):
    def compute(self, masks: MaskPair) -> float:
        return math.inf


class EndlessCount(CountMetric):
    name = "own_share"

    def compute(self, counted: Counted) -> float:
        return -math.inf


def test_ones_own_metric_scores_n_a_where_a_mask_is_empty_and_its_worse_bound_where_nothing_was_handed_in() -> None:
    policy, empty = POLICIES["brats2023"], pair(share=0.0)
    assert math.isnan(Own().score(empty, policy))
    assert Own().missing(math.nan, policy) == 3.0
    assert Own().score(pair(), policy) == pytest.approx(pair().prediction.mean())


def test_metrics_are_added_by_name_and_import_path_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGAN_PL_ALLOW_IMPORTS", "tests")
    path = f"{__name__}.Own"
    found = with_named(CHEAP[:1], ["hd95", path, "dice"], "--model.metrics")
    assert names(found) == ["dice", "hd95_mm", "own_share"]
    assert names(with_named(evaluation_metrics(), [path], "--metrics"))[-1] == "own_share"
    (hd95,) = [m for m in with_named(evaluation_metrics(hd95="medpy"), ["hd95"], "--metrics") if isinstance(m, HD95)]
    assert hd95.definition == "medpy"  # as it was set up already
    (hd95,) = [m for m in with_named(evaluation_metrics(), ["hd95_deepmind"], "--metrics") if isinstance(m, HD95)]
    assert hd95.definition == "deepmind"


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        (["dise"], r"--metrics dise: no such metric; did you mean 'dice'\?"),
        (["hd95", "hd95_medpy"], "hd95_mm and hd95_medpy both fill the column hd95_mm; give one of them"),
        (["math.nothing"], "math.nothing is outside the packages that may be imported"),
        (["tests.evaluation.nowhere.Own"], "tests.evaluation.nowhere.Own: cannot be imported"),
        ([f"{__name__}.pair"], "pair: is no subclass of segan_pl.evaluation.metrics.Metric"),
        ([f"{__name__}.NeedsMore"], "NeedsMore: cannot be made without arguments"),
        ([f"{__name__}.Unready"], r"Unready: cannot be made without arguments \(ValueError: no atlas\)"),
        ([f"{__name__}.NoFormula"], "NoFormula: does not define compute"),
        ([f"{__name__}.NoFormulaOfCounts"], "NoFormulaOfCounts: does not define compute"),
        ([f"{__name__}.Clash"], "its name 'dice' is that of a metric of segan_pl"),
        ([f"{__name__}.BadName"], "its name is 'tp_rate'; expected lower-case letters, digits and '_'"),
    ],
)
def test_a_metric_that_cannot_be_used_is_refused_in_one_line(
    asked: list[str], error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGAN_PL_ALLOW_IMPORTS", "tests")
    with pytest.raises(UsageError, match=error):
        with_named(CHEAP, asked, "--metrics")


def test_a_module_that_fails_when_it_is_imported_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere_broken.py").write_text("raise RuntimeError('no licence')\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("SEGAN_PL_ALLOW_IMPORTS", "elsewhere_broken")
    with pytest.raises(UsageError, match=r"Own: cannot be imported \(RuntimeError: no licence\)"):
        with_named(CHEAP, ["elsewhere_broken.Own"], "--metrics")


@pytest.mark.parametrize(
    ("metric", "why"),
    [
        (Broken(), rf"failed with IndexError: .* \({re.escape(__file__)}, line \d+\); correct it, or leave it out"),
        (Listed(), "failed with TypeError"),
        (Endless(), "is inf; expected a finite number, or NaN for not available"),
        (EndlessCount(), "is -inf; expected a finite number"),
    ],
)
def test_a_metric_that_fails_or_is_infinite_is_an_error_that_names_it(metric: Metric, why: str) -> None:
    scheme, label = label_scheme("whole_tumour", "binary"), np.ones((2, 3, 4), np.uint8)
    with pytest.raises(CaseError, match=f"^wt: the metric own_share {why}"):
        score_case(label, label, (1, 1, 1), [metric], scheme=scheme)
    if isinstance(metric, CountMetric):
        with pytest.raises(CaseError, match=f"^wt: the metric own_share {why}"):
            score_counts({"wt": (1, 0, 0, 0)}, (1, 1, 1), [metric], policy=POLICIES["segan_cat"])


def test_a_state_keeps_values_by_case_to_the_bit() -> None:
    state = BUILT_IN["dice"].state(2)
    for key, values in ((7, [0.7, 0.2]), (3, [1 / 3, 2.0])):
        state.update((key,), torch.tensor(values, dtype=torch.float64))
    assert state.compute() == [((3,), [1 / 3, 2.0]), ((7,), [0.7, 0.2])]
    assert not state.state_dict()  # so no checkpoint holds it


def _rank(rank: int, folder: str, empty: bool) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    state = BUILT_IN["dice"].state(2)
    for row in ((0, 4, 2), ())[rank] if empty else ((0, 4), (2,))[rank]:  # ranks may score different numbers
        state.update((row,), torch.tensor([row / 7, 1 / 3], dtype=torch.float64))
    Path(folder, f"rank{rank}.json").write_text(json.dumps(state.compute()))
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
@pytest.mark.parametrize("empty", [False, True])
def test_ranks_with_different_numbers_of_cases_come_together_by_torchmetrics(tmp_path: Path, empty: bool) -> None:
    torch.multiprocessing.start_processes(_rank, (str(tmp_path), empty), nprocs=2, start_method="fork")
    expected = [[[row], [row / 7, 1 / 3]] for row in (0, 2, 4)]
    for rank in (0, 1):
        assert json.loads((tmp_path / f"rank{rank}.json").read_text()) == expected
