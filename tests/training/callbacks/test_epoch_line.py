from __future__ import annotations

import pytest

from segan_pl.training.callbacks.epoch_line import COLUMNS, epoch_line

LOGGED = {
    "train/segmentor_loss": 0.61234,
    "train/segmentor_dice": 0.3,
    "train/critic_loss": -0.03125,
    "val/dice_wt": 0.54,
    "val/dice_tc": 0.41,
    "val/dice_et": 0.35,
    "val/dice_mean": 0.4333,
    "val/precision_wt": 0.7,
    "val/loss": 0.9,
    "val/empty_both": 0.0,
    "val/empty_prediction": 0.0,
}


def line(logged: dict[str, float], *networks: str, epoch: str = "3 of 0-27", left: str = "9 min 20 s left") -> str:
    best = "best 0.4333 at 3"
    return epoch_line(epoch, logged, networks=networks, monitor="val/dice_mean", best=best, left=left)


def test_one_network_and_one_region_have_four_digits() -> None:
    logged = {"train/segmentor_loss": 0.61234, "val/dice_wt": 0.54, "val/dice_mean": 0.54, "val/empty_both": 0.0}
    assert line(logged, "segmentor") == (
        "epoch 3 of 0-27: loss segmentor 0.6123; dice wt 0.5400; best 0.4333 at 3; 9 min 20 s left"
    )


def test_regions_and_two_losses_take_fewer_digits() -> None:
    assert line(LOGGED, "segmentor", left="8 s left") == (
        "epoch 3 of 0-27: loss segmentor 0.612; dice wt 0.540 tc 0.410 et 0.350; best 0.4333 at 3; 8 s left"
    )
    short = line(LOGGED, "segmentor", "critic", epoch="3", left="8 s left")
    assert (
        short == "epoch 3: loss segmentor 0.61 critic -0.03; dice wt 0.54 tc 0.41 et 0.35; best 0.4333 at 3; 8 s left"
    )


@pytest.mark.parametrize("epoch", ["3 of 0-27", "199 of 0-199", "99999 of 0-99999"])
@pytest.mark.parametrize("left", ["8 s left", "9 min 20 s left", "at least 12 h 40 min left"])
@pytest.mark.parametrize("networks", [("segmentor",), ("segmentor", "critic"), ("segmentor", "generator", "encoder")])
def test_a_line_is_never_longer_than_100_columns(epoch: str, left: str, networks: tuple[str, ...]) -> None:
    logged = {**LOGGED, "train/generator_loss": 1.5, "train/encoder_loss": 22.25}
    found = line(logged, *networks, epoch=epoch, left=left)
    assert len(found) <= COLUMNS == 100
    assert "dice" in found
    assert "precision" not in found
    assert "empty" not in found


def test_an_epoch_without_validation_has_no_dice_and_empty_predictions_are_said() -> None:
    assert line({"train/segmentor_loss": 0.5}, "segmentor").startswith("epoch 3 of 0-27: loss segmentor 0.5000; best")
    one = {"train/segmentor_loss": 0.5, "val/dice_wt": 0.1, "val/empty_prediction": 1.0}
    assert "dice wt 0.1000; 1 empty; best" in line(one, "segmentor")


def test_another_monitored_score_is_shown_beside_the_dice() -> None:
    logged = {"train/segmentor_loss": 0.5, "val/dice_wt": 0.1, "val/hd95_mm_wt": 12.5}
    found = epoch_line("0", logged, networks=["segmentor"], monitor="val/hd95_mm_wt", best="", left="? left")
    assert found == "epoch 0: loss segmentor 0.5000; dice wt 0.1000; hd95_mm_wt 12.5000; ? left"
