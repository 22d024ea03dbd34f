"""One note for a case that is unlike the training cases; empty segmentations are counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from segan_pl.cli.predict_cases import report, row_of
from segan_pl.data.case import Case
from segan_pl.data.io import read_volume, write_volume
from segan_pl.data.layouts import find_cases
from segan_pl.data.prepare.case import prepare
from segan_pl.data.scan import scan_of, seen
from segan_pl.inference.input_case import EMPTY, silent_notes
from segan_pl.inference.predictor import Predictor
from segan_pl.inference.trained import TrainedSegmentor
from tests.inference.segmentors import segmentor

pytest_plugins = ["tests.cohort_fixtures"]


@pytest.fixture
def case(cohort: Path) -> Case:
    found = find_cases(cohort)[0]
    return replace(found, images={"flair": found.images["flair"]}, mask=None)


def trained_on(case: Case, digest: str = "one") -> TrainedSegmentor:
    """A segmentor that learnt from the case."""
    network = segmentor("flair", digest=digest)
    known = prepare(case, network.preparation)
    scan = scan_of(known.geometry, known.bounds, known.zeros, network.preparation.scaling)
    return replace(network, seen=seen([scan], ["flair"]))


def changed(case: Case, folder: Path) -> Case:
    """The case with slices five times as thick, a brighter scale, and noise around the head."""
    volume = read_volume(case.images["flair"])
    noise = np.random.default_rng(0).integers(1, 30, volume.shape)
    affine = volume.affine @ np.diag([1.0, 1.0, 5.0, 1.0])
    write_volume(folder / "flair.nii.gz", ((volume.array + noise) * 20.0).astype(np.float32), affine)
    return replace(case, images={"flair": folder / "flair.nii.gz"})


def unlike(notes: tuple[str, ...]) -> list[str]:
    return [note for note in notes if "unlike" in note]


def test_a_case_like_the_training_cases_gets_no_note(case: Case) -> None:
    assert unlike(Predictor([trained_on(case)])(case).notes) == []


def test_a_case_unlike_the_training_cases_gets_one_note_with_all_reasons(case: Case, tmp_path: Path) -> None:
    predictor = Predictor([trained_on(case), trained_on(case, "two")])
    (note,) = unlike(predictor(changed(case, tmp_path)).notes)
    assert note.startswith("unlike the training cases of one.ckpt: voxels of 1 x 1 x 5 mm (trained on 1 x 1 x 1 mm), ")
    assert ", not skull-stripped: 0% of its voxels are 0 (trained on " in note
    assert ", flair reaches " in note


def test_a_checkpoint_that_does_not_say_is_named_once(case: Case, tmp_path: Path) -> None:
    old = [segmentor("flair", digest="old"), segmentor("flair", digest="old"), trained_on(case)]
    assert silent_notes(old) == ["old.ckpt: written by an earlier version, which kept nothing to hold cases against"]
    assert silent_notes(old[2:]) == []
    assert unlike(Predictor(old[:1])(changed(case, tmp_path)).notes) == []


def test_an_empty_segmentation_is_noted_after_post_processing_too(case: Case) -> None:
    def nothing(image: Tensor) -> Tensor:
        return torch.full_like(image[:, :1], -5.0)

    assert Predictor([segmentor("flair", logits=nothing)])(case).notes[-1] == EMPTY
    assert EMPTY not in Predictor([segmentor("flair")])(case).notes


def test_predict_says_which_segmentations_are_empty_and_how_many(
    case: Case, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    cases = [replace(case, name=name) for name in ("a", "b", "c")]
    notes = [("a: zeros for t2; used flair", EMPTY), (), (EMPTY,)]
    rows = [row_of(one, tmp_path / "x.nii.gz", 1.0, "", said) for one, said in zip(cases, notes, strict=True)]
    assert report(rows, given=3, skipped=0, output=tmp_path, seconds=1.0) == 0
    printed = capsys.readouterr().out
    assert "note: a: zeros for t2; used flair\n" in printed
    assert "note: 2 cases: the segmentation is empty: a, c\n" in printed
    assert "2 of 3 segmentations are empty\n" in printed
