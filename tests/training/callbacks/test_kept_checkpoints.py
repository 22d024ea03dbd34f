"""Which checkpoints stay: every validation can be the best, with the weights that it scored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from segan_pl.cli.main import where_the_best_is
from segan_pl.evaluation.kept import Monitor
from segan_pl.evaluation.saved_files import metrics_rows
from segan_pl.training.callbacks.checkpoint import BestCheckpoint, checkpoints
from segan_pl.training.callbacks.early_stopping import VolumeDiceStopping
from segan_pl.training.callbacks.record import RunRecord
from tests.training.callbacks.toy import QUIET, Toy, loader, trainer

pytestmark = [*QUIET, pytest.mark.filterwarnings("ignore:.*your dataloader is not resumable.*")]

DICE = Monitor("val/dice_wt", "max")


class Scored(Toy):
    """Logs the next of the given scores at each validation, and remembers the weight that was scored."""

    def __init__(self, scores: Sequence[float]) -> None:
        super().__init__(scores)
        self.weights: list[float] = []

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        self.log("val/dice_wt", self.scores[len(self.weights)], batch_size=1)
        self.weights.append(float(self.weight.detach().mean()))


def fit(folder: Path, toy: Toy, monitor: Monitor | None = DICE, *, epochs: int = 2, **settings: Any) -> list[str]:
    stop = VolumeDiceStopping(monitor.name, mode=monitor.mode) if monitor else VolumeDiceStopping()
    run = trainer(
        folder,
        stop,
        RunRecord(folder),
        *checkpoints(folder / "checkpoints", monitor),
        epochs=epochs,
        enable_checkpointing=True,
        num_sanity_val_steps=0,
        **{name: value for name, value in settings.items() if name != "ckpt_path"},
    )
    run.fit(toy, loader(), loader(1), ckpt_path=settings.get("ckpt_path"))
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def weight(file: Path) -> float:
    return float(torch.load(file, weights_only=True)["state_dict"]["weight"])


@pytest.mark.parametrize("interval", [0.5, 2])
def test_the_best_validation_within_an_epoch_is_kept_with_its_own_weights(tmp_path: Path, interval: float) -> None:
    toy = Scored([0.1, 0.2, 0.9, 0.3])
    assert fit(tmp_path, toy, val_check_interval=interval) == ["epoch0001_batch0002_dice_wt0.9000.ckpt", "last.ckpt"]
    assert weight(tmp_path / "checkpoints" / "epoch0001_batch0002_dice_wt0.9000.ckpt") == toy.weights[2]
    assert toy.said[2] == "val/dice_wt 0.9000 at epoch 1, batch 2: the best so far"
    assert "best 0.9000 at epoch 1, batch 2, waited 1" in toy.said[3]


def test_a_score_belongs_to_no_checkpoint_of_later_weights(tmp_path: Path) -> None:
    toy = Scored([0.1, 0.2])
    fit(tmp_path, toy, val_check_interval=3)  # of four batches; the epoch ends with other weights
    (best,) = (tmp_path / "checkpoints").glob("epoch*")
    assert best.name == "epoch0001_batch0003_dice_wt0.2000.ckpt"
    assert weight(best) == toy.weights[1] != weight(tmp_path / "checkpoints" / "last.ckpt")


def test_where_smaller_is_better_the_smallest_is_kept_and_the_name_says_of_what(tmp_path: Path) -> None:
    toy = Scored([0.5, 0.3, 0.4])
    assert fit(tmp_path, toy, Monitor("val/dice_wt", "min"), epochs=3) == [
        "epoch0001_dice_wt0.3000.ckpt",
        "last.ckpt",
    ]


def test_without_a_score_to_choose_by_the_last_checkpoint_stays(tmp_path: Path) -> None:
    assert fit(tmp_path, Scored([0.5, 0.3]), None) == ["last.ckpt"]
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 1


def test_a_run_goes_on_within_an_epoch_and_validates_no_batch_twice(tmp_path: Path) -> None:
    whole, first, second = Scored([0.1, 0.2, 0.9, 0.3]), Scored([0.1, 0.2, 0.9]), Scored([0.3])
    fit(tmp_path / "whole", whole, val_check_interval=0.5)
    with pytest.raises(IndexError):  # at the fourth validation
        fit(tmp_path / "parts", first, val_check_interval=0.5)
    last = tmp_path / "parts" / "checkpoints" / "last.ckpt"
    assert weight(last) == whole.weights[2]
    assert fit(tmp_path / "parts", second, val_check_interval=0.5, ckpt_path=last) == [
        "epoch0001_batch0002_dice_wt0.9000.ckpt",
        "last.ckpt",
    ]
    assert [*first.weights[:3], *second.weights] == whole.weights
    assert weight(last) == weight(tmp_path / "whole" / "checkpoints" / "last.ckpt")
    rows = [metrics_rows(tmp_path / name / "metrics.csv") for name in ("whole", "parts")]
    columns = ("epoch", "batch", "batches_seen", "val/dice_wt")
    assert [[row[name] for name in columns] for row in rows[0]] == [[row[name] for name in columns] for row in rows[1]]


def test_a_checkpoint_that_a_kill_left_is_written_again_and_not_beside_itself(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / "epoch0001_dice_wt0.2000.ckpt").write_bytes(b"left by a kill before last.ckpt was written")
    assert fit(tmp_path, Scored([0.1, 0.2])) == ["epoch0001_dice_wt0.2000.ckpt", "last.ckpt"]
    assert torch.load(folder / "epoch0001_dice_wt0.2000.ckpt", weights_only=True)["epoch"] == 1


@pytest.mark.parametrize(("later", "better"), [(0.3, False), (0.95, True)])
def test_a_new_folder_calls_no_worse_checkpoint_the_best(
    tmp_path: Path, later: float, better: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    fit(tmp_path / "first", Scored([0.1, 0.9]))
    source = tmp_path / "first" / "checkpoints"
    assert "the run that this one continues" not in caplog.text
    stop = VolumeDiceStopping()
    best, last = checkpoints(tmp_path / "second" / "checkpoints", DICE)
    run = trainer(tmp_path, stop, best, last, epochs=3, enable_checkpointing=True, num_sanity_val_steps=0)
    run.fit(Scored([later]), loader(), loader(1), ckpt_path=source / "last.ckpt")
    assert isinstance(best, BestCheckpoint)
    assert Path(best.best_model_path).name == f"epoch0002_dice_wt{later:.4f}.ckpt"
    theirs = source / "epoch0001_dice_wt0.9000.ckpt"
    assert f"has its best checkpoint at {theirs}; this folder keeps the best of its own validations" in caplog.text
    said = where_the_best_is(best, stop.best_score)
    assert said == ("" if better else f" (0.3000, of this folder; the best is of the run that it continues: {theirs})")
    theirs.unlink()
    assert where_the_best_is(best, stop.best_score).endswith("" if better else ", which is no longer there)")


def test_a_run_whose_folder_was_moved_knows_its_best_checkpoints(tmp_path: Path) -> None:
    fit(tmp_path / "before", Scored([0.9, 0.1]))
    (tmp_path / "before").rename(tmp_path / "after")
    last = tmp_path / "after" / "checkpoints" / "last.ckpt"
    left = fit(tmp_path / "after", Scored([0.95]), epochs=3, ckpt_path=last)
    assert left == ["epoch0002_dice_wt0.9500.ckpt", "last.ckpt"]  # the better one took the place of the first
