"""`segan_pl postprocess`: choose post-processing on a run's validation cases, for `predict` to use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from segan_pl.checkpoint_file import read_checkpoint
from segan_pl.checkpoint_format import KEY
from segan_pl.data.checks import labels_of
from segan_pl.data.cohort import native_convention
from segan_pl.data.io import read_volume, same_grid
from segan_pl.data.labels import label_scheme
from segan_pl.data.layouts import find_data_set
from segan_pl.data.splits import Split
from segan_pl.data.volume import Case, CaseError
from segan_pl.errors import UsageError
from segan_pl.evaluation.evaluating_files import PREDICTION, with_predictions
from segan_pl.inference.choosing import Pair, choose, write_companion
from segan_pl.inference.postprocessing import Step
from segan_pl.parsing import OneLineErrors

CANDIDATES = ("small_components:0.1", "small_components:0.5", "small_components:1", "fill_holes")
ENHANCING = ("small_enhancing:0.05", "small_enhancing:0.2", "small_enhancing:0.5")


@dataclass(frozen=True)
class PostprocessOptions:
    """For which checkpoint, and on which predictions.

    Attributes:
        ckpt_path: Of a run; its split.json says which cases are validation cases.
        pred: What `segan_pl predict --postprocess []` made of them with this checkpoint.
        ref: The data set, with masks.
        candidates: Steps to try; default components below 0.1, 0.5 and 1 ml, holes, and with regions enhancing tumour
            below 0.05, 0.2 and 0.5 ml.
        layout: How the data set is laid out, or "auto".
        native_labels: What its labels mean, or "auto".
    """

    ckpt_path: str
    pred: str
    ref: str
    candidates: list[str] = field(default_factory=list)
    layout: str = "auto"
    native_labels: str = "auto"


def main(arguments: list[str]) -> int:
    """Choose, say what it brings, and write the checkpoint's companion."""
    parser = OneLineErrors(
        prog="segan_pl postprocess", description="Choose post-processing on a run's validation cases only."
    )
    parser.add_class_arguments(PostprocessOptions)
    options = PostprocessOptions(**vars(parser.parse_args(arguments[1:])))
    checkpoint = Path(options.ckpt_path).expanduser()
    ours = read_checkpoint(checkpoint).get(KEY)
    if ours is None:
        raise UsageError(f"--ckpt_path {checkpoint}: no checkpoint of segan_pl; give one of a run's checkpoints/")
    source = find_data_set(options.ref, options.layout)
    convention = native_convention(source, options.native_labels) or ours["data"].get("native_labels")
    scheme = label_scheme(ours["data"]["labels"], convention)
    wanted = options.candidates or [*CANDIDATES, *(ENHANCING if scheme.target != "whole_tumour" else ())]
    candidates = [Step.parse(text) for text in wanted]
    cases = _validation(checkpoint, source.cases)
    pairs = list(_pairs(cases, Path(options.pred), source.root))
    choice = choose(pairs, candidates, scheme)
    for steps, dice in choice.tried:
        print(f"{dice:.4f}  {' '.join(steps) or 'nothing'}")
    print(
        f"chosen: {' '.join(map(str, choice.steps)) or 'nothing'}; mean Dice {choice.before:.4f} to {choice.after:.4f}"
    )
    print("these cases chose the steps, so the gain flatters them")
    print(f"written: {write_companion(checkpoint, choice, [pair.name for pair in pairs])}")
    print(f"{len(cases)} given, {len(pairs)} used, 0 refused")
    return 0


def _validation(checkpoint: Path, cases: tuple[Case, ...]) -> list[Case]:
    """The run's validation cases, all of them."""
    file = checkpoint.resolve().parent.parent / "split.json"
    if not file.is_file():
        raise UsageError(f"--ckpt_path {checkpoint}: no split.json in the run's folder {file.parent}; give a run's own")
    names = set(Split.load(file).val)
    found = [case for case in cases if case.name in names and case.mask is not None]
    if missing := sorted(names - {case.name for case in found}):
        raise CaseError(
            f"{len(missing)} of {len(names)} validation cases of {file} are not in the data with a mask: "
            f"{', '.join(missing[:6])}; give the data that the run was trained on"
        )
    return found


def _pairs(cases: list[Case], folder: Path, root: Path) -> Iterator[Pair]:
    """Each validation case's prediction and reference."""
    for case in with_predictions(cases, folder, root)[0]:
        if PREDICTION not in case.images or case.mask is None:
            raise CaseError(f"{case.name}: no prediction in {folder}; predict all validation cases first")
        prediction, reference = read_volume(case.images[PREDICTION]), read_volume(case.mask)
        if not same_grid(prediction, reference):
            raise CaseError(f"{case.name}: prediction and reference lie on different grids; predict it anew")
        voxel_ml = abs(float(np.linalg.det(reference.affine[:3, :3]))) / 1000
        yield Pair(case.name, labels_of(prediction, case.name), labels_of(reference, case.name), voxel_ml)
