from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segan_pl.data.case import CaseError
from segan_pl.data.labels import LabelScheme, label_scheme
from segan_pl.inference.chosen_steps import companion, read_companion, write_companion
from segan_pl.inference.postprocessing import (
    Pair,
    Score,
    Step,
    choose,
    dices_of,
    mean_dice,
)

WT, REGIONS = label_scheme("whole_tumour"), label_scheme("regions")


def block() -> np.ndarray:
    label = np.zeros((6, 12, 12), np.uint8)
    label[1:4, 2:7, 2:7] = 2
    return label


def with_speck(label: np.ndarray) -> np.ndarray:
    label = label.copy()
    label[5, 11, 10:12] = 2  # 2 voxels apart from the rest
    return label


def scored(pairs: list[Pair], scheme: LabelScheme) -> Score:
    return lambda lists: mean_dice(dices_of(pair, lists, scheme) for pair in pairs)


def steps(*texts: str) -> list[Step]:
    return [Step.parse(text) for text in texts]


def test_a_step_that_mends_what_is_wrong_is_chosen_and_one_that_harms_is_not() -> None:
    pairs = [Pair(with_speck(block()), block(), 0.001), Pair(block(), block(), 0.001)]
    choice = choose(scored(pairs, WT), steps("small_components:1", "small_components:0.01", "fill_holes"))
    assert choice.steps == (Step("small_components", 0.01),)  # 1 ml would remove the block too
    assert choice.before == pytest.approx((2 * 75 / 152 + 1) / 2)
    assert choice.after == 1
    assert choice.tried[0] == ((), choice.before)
    assert len(choice.tried) == 1 + 3 + 1  # nothing; three; holes on top


def test_nothing_is_chosen_where_nothing_helps() -> None:
    choice = choose(scored([Pair(block(), block(), 0.001)], WT), steps("small_components:0.01", "fill_holes"))
    assert choice.steps == ()
    assert (choice.before, choice.after) == (1, 1)


def test_two_steps_are_added_one_after_the_other() -> None:
    holed = with_speck(block())
    holed[2, 3:6, 3:6] = 0
    choice = choose(scored([Pair(holed, block(), 0.001)], WT), steps("small_components:0.01", "fill_holes"))
    assert {step.name for step in choice.steps} == {"small_components", "fill_holes"}
    assert choice.steps[0].name == "fill_holes"  # it brings more
    assert choice.after == 1


def test_enhancing_tumour_that_is_none_scores_1_once_it_is_relabelled() -> None:
    reference, prediction = block(), block()
    reference[2, 3, 3], prediction[2, 3, 3] = 1, 4
    pairs = [Pair(prediction, reference, 0.001)]
    assert scored(pairs, REGIONS)([()])[0] == pytest.approx(2 / 3)
    choice = choose(scored(pairs, REGIONS), steps("small_enhancing:0.05"))
    assert choice.after == 1


def test_without_a_case_there_is_nothing_to_choose_on() -> None:
    with pytest.raises(CaseError, match="no validation case"):
        choose(scored([], WT), steps("fill_holes"))


def test_the_companion_is_read_as_it_was_written_and_only_for_its_checkpoint(tmp_path: Path) -> None:
    checkpoint = tmp_path / "a.ckpt"
    checkpoint.write_bytes(b"weights")
    assert read_companion(checkpoint) is None
    choice = choose(scored([Pair(with_speck(block()), block(), 0.001)], WT), steps("small_components:0.01"))
    assert write_companion(checkpoint, choice, ["a"]) == companion(checkpoint)
    assert read_companion(checkpoint) == choice.steps
    checkpoint.write_bytes(b"other weights")
    with pytest.raises(CaseError, match="was made for another checkpoint"):
        read_companion(checkpoint)
    companion(checkpoint).write_text("{")
    with pytest.raises(CaseError, match="not readable"):
        read_companion(checkpoint)


@pytest.mark.parametrize("scheme", [WT, REGIONS, label_scheme("labels")])
def test_dice_of_each_region_is_that_of_its_masks(scheme: LabelScheme) -> None:
    random = np.random.default_rng(0)
    prediction, reference = (random.choice([0, 1, 2, 4], (6, 7, 8)).astype(np.uint8) for _ in "ab")
    expected = []
    for region in scheme.foreground:
        members = scheme.members[scheme.channels.index(region)]
        p, r = np.isin(prediction, members), np.isin(reference, members)
        expected.append(2 * (p & r).sum() / (p.sum() + r.sum()))
    assert dices_of(Pair(prediction, reference, 0.001), [()], scheme)[0] == pytest.approx(expected)


def test_what_lists_of_steps_begin_with_is_done_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from segan_pl.inference import postprocessing

    done: list[str] = []
    work = postprocessing.postprocess

    def counted(label: np.ndarray, given: tuple[Step, ...], **more: Any) -> np.ndarray:
        done.append(" ".join(map(str, given)))
        return work(label, given, **more)

    monkeypatch.setattr(postprocessing, "postprocess", counted)
    first, second, third = steps("fill_holes", "small_components:0.01", "small_components:1")
    dices_of(Pair(with_speck(block()), block(), 0.001), [(first,), (first, second), (first, third)], WT)
    assert done == ["fill_holes", "small_components:0.01", "small_components:1"]
