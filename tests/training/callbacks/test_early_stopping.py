from __future__ import annotations

import math
from pathlib import Path

import pytest
from lightning.pytorch.callbacks import ModelCheckpoint

from segan_pl.errors import UsageError
from segan_pl.training.callbacks.early_stopping import VolumeDiceStopping
from tests.training.callbacks.toy import QUIET, Toy, loader, trainer

pytestmark = QUIET


def test_it_stops_after_patience_validations_and_says_each_time_how_long_it_waited(tmp_path: Path) -> None:
    stop, toy = VolumeDiceStopping(patience=2), Toy([0.1, 0.5, 0.4, 0.5, 0.9])
    run = trainer(tmp_path, stop, epochs=5)
    run.fit(toy, loader(), loader(1))
    assert run.current_epoch == 4  # epochs 0 to 3 ran
    assert toy.said == [
        "val/dice_wt 0.1000 at epoch 0: the best so far",
        "val/dice_wt 0.5000 at epoch 1: the best so far",
        "val/dice_wt 0.4000 at epoch 2: no improvement, best 0.5000 at epoch 1, waited 1 of 2 validations",
        "val/dice_wt 0.5000 at epoch 3: no improvement, best 0.5000 at epoch 1, waited 2 of 2 validations",
    ]
    assert stop.summary == "best val/dice_wt 0.5000 at epoch 1, stopped after 2 validations without a better one"


def test_the_sanity_check_is_no_validation(tmp_path: Path) -> None:
    stop = VolumeDiceStopping(patience=2)
    trainer(tmp_path, stop, epochs=1, num_sanity_val_steps=1).fit(Toy([0.1]), loader(), loader(1))
    assert (stop.best_epoch, stop.waited) == (0, 0)


def test_patience_counts_validations_and_not_epochs(tmp_path: Path) -> None:
    stop = VolumeDiceStopping(patience=2)
    run = trainer(tmp_path, stop, epochs=8, check_val_every_n_epoch=2)
    run.fit(Toy([0.5] * 8), loader(), loader(1))
    assert run.current_epoch == 6  # validated after epochs 1, 3 and 5


def test_nan_is_no_improvement_and_is_said() -> None:
    stop = VolumeDiceStopping()
    assert "is not a number (nan) at epoch 0: no improvement, best none yet, waited 1 of 300" in stop.judge(math.nan, 0)
    assert stop.summary == "val/dice_wt was never available, so no epoch is the best"
    stop.judge(0.2, 1)
    assert "is not a number (nan) at epoch 2: no improvement, best 0.2000 at epoch 1, waited 1" in stop.judge(
        math.nan, 2
    )


def test_a_gain_of_min_delta_or_less_is_no_improvement() -> None:
    stop = VolumeDiceStopping(min_delta=0.25)
    for epoch, score in enumerate((0.25, 0.5, 0.625)):
        stop.judge(score, epoch)
    assert (stop.best_score, stop.best_epoch, stop.waited) == (0.625, 2, 0)


def test_with_mode_min_smaller_is_better() -> None:
    stop = VolumeDiceStopping("val/hd95_wt", mode="min")
    for epoch, score in enumerate((9.0, 4.0, 6.0)):
        stop.judge(score, epoch)
    assert (stop.best_score, stop.best_epoch, stop.waited) == (4.0, 1, 1)


def test_a_resumed_run_goes_on_waiting(tmp_path: Path) -> None:
    last = ModelCheckpoint(tmp_path, save_last=True, save_on_train_epoch_end=True)
    scores = [0.5, 0.4, 0.3, 0.2, 0.1, 0.0]
    trainer(tmp_path, VolumeDiceStopping(patience=3), last, epochs=3, enable_checkpointing=True).fit(
        Toy(scores), loader(), loader(1)
    )
    stop = VolumeDiceStopping(patience=3)
    again = trainer(tmp_path, stop, ModelCheckpoint(tmp_path), epochs=6, enable_checkpointing=True)
    again.fit(Toy(scores), loader(), loader(1), ckpt_path=tmp_path / "last.ckpt")
    assert again.current_epoch == 4
    assert (stop.best_score, stop.best_epoch, stop.waited, stop.stopped) == (0.5, 0, 3, True)


def test_every_rank_follows_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = VolumeDiceStopping(patience=100)
    run = trainer(tmp_path, stop, epochs=3)
    monkeypatch.setattr(run.strategy, "broadcast", lambda mine, src=0: True)  # what rank 0 decided
    run.fit(Toy([0.1, 0.2, 0.3]), loader(), loader(1))
    assert run.current_epoch == 1


def test_a_score_that_is_never_logged_is_refused_before_the_first_batch(tmp_path: Path) -> None:
    toy = Toy()
    with pytest.raises(
        UsageError, match=r"'val/dice_tw', is never logged; did you mean 'val/dice_wt'\? known: val/dice_m"
    ):
        trainer(tmp_path, VolumeDiceStopping("val/dice_tw")).fit(toy, loader(), loader(1))
    assert toy.weight.item() == 0.0


def test_a_score_that_was_announced_but_not_logged_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="validation did not log 'val/dice_mean'; did you mean 'val/dice_wt'"):
        trainer(tmp_path, VolumeDiceStopping("val/dice_mean")).fit(Toy(), loader(), loader(1))


@pytest.mark.parametrize("wrong", [{"patience": 0}, {"mode": "largest"}])
def test_wrong_arguments_are_refused(wrong: dict) -> None:  # type: ignore[type-arg]
    with pytest.raises(UsageError, match="expected"):
        VolumeDiceStopping(**wrong)
