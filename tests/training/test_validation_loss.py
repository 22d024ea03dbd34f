"""val/loss: the objective's segmentation loss on whole validation cases, which can choose a checkpoint."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segan_pl.__main__ import main
from segan_pl.data.module import MRIDataModule
from segan_pl.evaluation.kept import best_kept
from segan_pl.objectives.base import LossTerms, Objective
from segan_pl.objectives.reciprocal import Reciprocal
from segan_pl.objectives.segan import SegAN
from segan_pl.objectives.supervised import Supervised
from tests.cohort import CROP, QUIET, build_system, build_trainer

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [
    *QUIET,
    pytest.mark.usefixtures("isolated"),
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
]

MakeData = Callable[..., MRIDataModule]


def expected(system: Any, data: MRIDataModule, row: int, weights: dict[str, float]) -> list[float]:
    """Total, Dice and cross-entropy of one case's slices, in NumPy and double precision."""
    prepared = data.open(row)
    target = data.scheme.encode(np.array(prepared.label)).astype(np.float64)
    image = torch.from_numpy(prepared.pixels().astype(np.float32))
    with torch.no_grad():
        probability = system.eval().predict_volume(image).double().sigmoid().numpy()
    overlap, total = (probability * target).sum((2, 3)), (probability**2 + target**2).sum((2, 3))
    dice = 1 - np.mean((2 * overlap + 1e-6) / (total + 1e-6))
    entropy = -np.mean(target * np.log(probability) + (1 - target) * np.log(1 - probability))
    found = {"dice": dice, "cross_entropy": entropy}
    return [sum(weight * found[name] for name, weight in weights.items()), *(found[name] for name in weights)]


@pytest.mark.parametrize(
    ("objective", "weights"),
    [
        (SegAN(dice_weight=0.5), {"dice": 0.5}),
        (Supervised(dice_weight=2.0, cross_entropy_weight=0.25), {"dice": 2.0, "cross_entropy": 0.25}),
    ],
)
def test_it_is_the_mean_over_cases_of_the_training_loss_without_its_adversarial_term(
    tmp_path: Path, make_data: MakeData, objective: Objective, weights: dict[str, float]
) -> None:
    data, system = make_data(labels="regions", preparation=CROP), build_system(objective, labels="regions")
    trainer = build_trainer(tmp_path)
    trainer.validate(system, data, verbose=False)
    wanted = np.mean([expected(system, data, row, weights) for row in data.rows("val")], 0)
    names = ["val/loss", *(f"val/loss_{part}" for part in weights)]
    assert [trainer.callback_metrics[name].item() for name in names] == pytest.approx(wanted, rel=1e-4)
    assert set(names) <= set(system.metric_names())


@pytest.mark.parametrize(
    ("objective", "parts"),
    [
        (SegAN(dice_weight=0), ()),
        (SegAN(), ("dice",)),
        (Supervised(), ("dice",)),
        (Supervised(dice_weight=0, cross_entropy_weight=1), ("cross_entropy",)),
        (Reciprocal(), ("dice",)),
        (Objective(), ()),
    ],
)
def test_an_objective_says_beforehand_what_it_is_made_of(objective: Objective, parts: tuple[str, ...]) -> None:
    assert objective.validation_parts() == parts


@pytest.mark.parametrize("given", [{}, {"dice": 0.5, "boundary": 1.0}])
def test_parts_that_were_not_announced_are_refused_and_the_order_does_not_matter(
    tmp_path: Path, make_data: MakeData, given: dict[str, float]
) -> None:
    class Own(Supervised):
        def validation_parts(self) -> tuple[str, ...]:
            return ("dice", "edge") if given else ("edge", "dice")

        def validation_loss(self, context: Any) -> LossTerms:
            parts = given or {"dice": 0.25, "edge": 2.0}
            return LossTerms(torch.tensor(1.0), {name: torch.tensor(value) for name, value in parts.items()})

    trainer, system = build_trainer(tmp_path), build_system(Own())
    if given:
        with pytest.raises(
            ValueError, match=r"says 'loss_dice, loss_edge', validation_loss\(\) gives 'loss_dice, loss"
        ):
            trainer.validate(system, make_data(), verbose=False)
    else:
        trainer.validate(system, make_data(), verbose=False)
        found = {name: value.item() for name, value in trainer.callback_metrics.items() if "loss" in name}
        assert found == {"val/loss": 1.0, "val/loss_dice": 0.25, "val/loss_edge": 2.0}


def test_an_objective_without_one_logs_none_and_it_cannot_choose(tmp_path: Path, make_data: MakeData) -> None:
    system = build_system(SegAN(dice_weight=0))
    trainer = build_trainer(tmp_path)
    trainer.validate(system, make_data(), verbose=False)
    assert not [name for name in (*trainer.callback_metrics, *system.metric_names()) if "loss" in name]


def test_the_lowest_validation_loss_chooses_the_checkpoint(tmp_path: Path, cohort: Path, prepared: Path) -> None:
    run = tmp_path / "run"
    line = [
        *(
            "--config=segan_cat_small",
            f"--root={cohort}",
            f"--data.cache_dir={prepared}",
            f"--run.directory={run}",
        ),
        *("--data.preparation.crop=null", "--data.patch=[32,32]", "--data.batch_size=12", "--data.val_fraction=0.25"),
        *("--data.stratify_by=[]", "--data.workers=0", "--data.prepare_workers=1", "--run.preview_every=0"),
        *("--trainer.max_epochs=3", "--trainer.accelerator=cpu", "--trainer.devices=1"),
        *("--trainer.enable_progress_bar=false", "--run.monitor=val/loss", "--run.keep_best=1"),
    ]
    assert main(["fit", *line]) == 0
    with (run / "metrics.csv").open(newline="") as file:
        losses = {int(row["epoch"]): float(row["val/loss"]) for row in csv.DictReader(file)}
    best = best_kept(run / "checkpoints")
    assert best is not None
    assert len(losses) == 3
    assert (best.score, best.epoch) == ("loss", min(losses, key=lambda epoch: losses[epoch]))
    assert best.value == pytest.approx(min(losses.values()), abs=1e-4)
