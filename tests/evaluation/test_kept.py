"""Names of kept checkpoints, written and read by one module."""

from __future__ import annotations

from pathlib import Path

import pytest

from segan_pl.errors import UsageError
from segan_pl.evaluation.kept import best_kept, direction, file_pattern, kept, require_chooser


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("epoch0003_dice0.9.ckpt", (3, None, "dice", 0.9)),  # as earlier versions called them
        ("epoch0007_dice0.9500-v1.ckpt", (7, None, "dice", 0.95)),
        ("epoch0012_dice_wt0.1000.ckpt", (12, None, "dice_wt", 0.1)),
        ("epoch0012_batch0040_sensitivity_et1.0000.ckpt", (12, 40, "sensitivity_et", 1.0)),
        ("epoch0001_hd95_wt12.5000.ckpt", (1, None, "hd95_wt", 12.5)),
        ("epoch0001_dice_l1_0.5000.ckpt", (1, None, "dice_l1", 0.5)),
    ],
)
def test_a_name_says_when_and_what(name: str, read: tuple[int, int | None, str, float]) -> None:
    found = kept(Path(name))
    assert found is not None
    assert (found.epoch, found.batch, found.score, found.value) == read


@pytest.mark.parametrize("batch", [None, 40])
@pytest.mark.parametrize("monitor", ["val/dice_wt", "val/dice_l1", "val/dice_wt_subsets_mean"])
def test_what_is_written_is_read(monitor: str, batch: int | None) -> None:
    name = file_pattern(monitor, batch).replace("{" + monitor + ":", "{score:").format(epoch=3, score=0.25)
    found = kept(Path(f"{name}.ckpt"))
    assert found is not None
    assert found[1:] == (3, batch, monitor.removeprefix("val/"), 0.25)


@pytest.mark.parametrize("name", ["last.ckpt", "epoch0003.ckpt", "epoch0003_dice.ckpt", "mine_dice0.5.ckpt"])
def test_other_names_say_nothing(name: str) -> None:
    assert kept(Path(name)) is None


@pytest.mark.parametrize(
    ("names", "best"),
    [
        (("epoch0001_dice_wt0.5000", "epoch0002_dice_wt0.6000"), 1),
        (("epoch0001_dice_wt0.5000", "epoch0002_dice_wt0.5000"), 0),
        (("epoch0001_hd95_mm_wt9.5000", "epoch0002_hd95_mm_wt12.0000"), 0),
        (("epoch0002_batch0010_dice_wt0.6000", "epoch0002_dice_wt0.5000"), 0),
        (("epoch0001_dice_wt0.9000", "epoch0002_dice_mean0.6000"), 1),  # of the score that is monitored now
    ],
)
def test_the_best_is_by_the_scores_own_direction_and_the_earliest_of_equals(
    tmp_path: Path, names: tuple[str, str], best: int
) -> None:
    for name in names:
        (tmp_path / f"{name}.ckpt").touch()
    found = best_kept(tmp_path)
    assert found is not None
    assert found.path.stem == names[best]


def test_every_score_that_has_a_direction_chooses_also_one_of_anybodys_own() -> None:
    names = ("dice_wt", "hd95_mm_et", "surface_dice_wt", "surface_dice_area_wt", "mean_surface_distance_mm_wt", "loss")
    assert [direction(f"val/{name}") for name in names] == ["max", "min", "max", "max", "min", "min"]
    own = {"volume_ratio": {"higher_is_better": False}, "dice_like": {"higher_is_better": None}}
    assert [direction(f"val/{name}", own) for name in ("volume_ratio_wt", "dice_like_wt")] == ["min", None]
    assert [direction(name) for name in ("volume_difference_ml_wt", "reference_ml_wt", "volume_ratio_wt")] == [None] * 3


def test_the_best_checkpoint_by_a_metric_of_ones_own_is_found_by_what_lies_beside_its_scores(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores" / "metrics.json").write_text('{"volume_ratio": {"higher_is_better": false}}')
    for name in ("epoch0001_volume_ratio_wt0.5000", "epoch0002_volume_ratio_wt0.9000"):
        (tmp_path / "checkpoints" / f"{name}.ckpt").touch()
    found = best_kept(tmp_path / "checkpoints")
    assert found is not None
    assert found.epoch == 1


@pytest.mark.parametrize(
    ("monitor", "remedy"),
    [
        ("val/hd95_wt", r"give val/hd95_mm_wt with --model.metrics \[hd95\]"),
        ("val/hd95_mm_wt", r"give val/hd95_mm_wt with --model.metrics \[hd95_mm\]"),
        ("val/hd95_mm_xy", "known: val/dice_wt"),
    ],
)
def test_a_metric_that_validation_does_not_compute_is_told_with_the_option_for_it(monitor: str, remedy: str) -> None:
    with pytest.raises(UsageError, match=remedy):
        require_chooser(monitor, ["val/dice_wt"])
    with pytest.raises(UsageError, match=r"never logged; give val/hd95_mm_wt$"):
        require_chooser("val/hd95_wt", ["val/dice_wt", "val/hd95_mm_wt"])


def test_counts_choose_nothing() -> None:
    assert [direction(f"val/{name}") for name in ("dice_mean", "empty_prediction", "cases_wt")] == ["max", None, None]
