"""`segan_pl postprocess`: choose post-processing on a run's validation cases, for `predict` to use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path

import numpy as np
from jsonargparse.typing import PositiveInt
from numpy.typing import NDArray

from segan_pl.cli.commands.options import PlaceOptions, parse
from segan_pl.data.case import Case, CaseError
from segan_pl.data.case_files import labels_of
from segan_pl.data.case_pool import cores, over_cases, shown
from segan_pl.data.cohort import native_convention
from segan_pl.data.conventions import Stated
from segan_pl.data.io import Volume, read_volume
from segan_pl.data.labels import LabelScheme, label_scheme
from segan_pl.data.split.record import Split
from segan_pl.errors import UsageError
from segan_pl.evaluation.pairs import PREDICTION, require_same_grid, with_predictions
from segan_pl.inference.checkpoint_file import KEY, read_checkpoint
from segan_pl.inference.chosen_steps import companion_output, digest, write_companion
from segan_pl.inference.native_labels import in_convention
from segan_pl.inference.output import IDENTITY, read_identity
from segan_pl.inference.postprocessing import (
    Pair,
    Step,
    Steps,
    choose,
    dices_of,
    mean_dice,
)
from segan_pl.inference.split_part import split_file

CANDIDATES = ("small_components:0.1", "small_components:0.5", "small_components:1", "fill_holes")
ENHANCING = ("small_enhancing:0.05", "small_enhancing:0.2", "small_enhancing:0.5")


DESCRIPTION = "Choose post-processing on a run's validation cases only."


@dataclass(frozen=True)
class LabelledOptions(PlaceOptions):
    """Where the data set with the masks is.

    Attributes:
        native_labels: What its labels mean, or "auto".
    """

    native_labels: Stated = "auto"


@dataclass(frozen=True)
class PostprocessOptions:
    """For which checkpoint, and on which predictions.

    Attributes:
        ckpt_path: Of a run; its split.json says which cases are validation cases.
        pred: What `segan_pl predict --postprocess []` made of them with this checkpoint.
        candidates: Steps to try; default components below 0.1, 0.5 and 1 ml, holes, and with regions enhancing tumour
            below 0.05, 0.2 and 0.5 ml.
        workers: Processes; default all cores.
    """

    ckpt_path: str
    pred: str
    candidates: list[str] = field(default_factory=list)
    workers: PositiveInt | None = None


def main(arguments: list[str]) -> int:
    """Choose, say what it brings, and write the checkpoint's companion."""
    data, settings = parse(
        arguments, DESCRIPTION, lambda parser: parser.add_class_arguments(PostprocessOptions), LabelledOptions
    )
    options = PostprocessOptions(**{one.name: settings[one.name] for one in fields(PostprocessOptions)})
    checkpoint = Path(options.ckpt_path).expanduser()
    ours = read_checkpoint(checkpoint).get(KEY)
    if ours is None:
        raise UsageError(f"--ckpt_path {checkpoint}: no checkpoint of segan_pl; give one of a run's checkpoints/")
    companion_output(checkpoint).require_free()
    source = data.source()
    convention = native_convention(source, data.native_labels) or ours["data"].get("native_labels")
    scheme = label_scheme(ours["data"]["labels"], ours["data"].get("native_labels"))
    scheme = in_convention(scheme, convention) if convention else scheme
    folder = Path(options.pred).expanduser()
    _require_raw(folder, checkpoint, scheme.convention.name)
    wanted = options.candidates or [*CANDIDATES, *(ENHANCING if scheme.target != "whole_tumour" else ())]
    candidates = [Step.parse(text) for text in wanted]
    for step in candidates:
        step.require_tissues(scheme.convention)
    cases = _validation(checkpoint, source.cases)
    pairs = with_predictions(cases, folder, source.root)[0]
    if lacking := [case.name for case in pairs if PREDICTION not in case.images]:
        raise CaseError(f"{lacking[0]}: no prediction in {folder}; predict all validation cases first")
    choice = choose(partial(_score, pairs, scheme, options.workers or cores()), candidates)
    for steps, dice in choice.tried:
        print(f"{dice:.4f}  {' '.join(steps) or 'nothing'}")
    print(
        f"chosen: {' '.join(map(str, choice.steps)) or 'nothing'}; mean Dice {choice.before:.4f} to {choice.after:.4f}"
    )
    print("these cases chose the steps, so the gain flatters them")
    print(f"written: {write_companion(checkpoint, choice, [case.name for case in pairs])}")
    print(f"{len(cases)} given, {len(pairs)} used, 0 refused")
    return 0


def _validation(checkpoint: Path, cases: tuple[Case, ...]) -> list[Case]:
    """The run's validation cases, all of them."""
    file = split_file(checkpoint)
    if file is None:
        raise UsageError(
            f"--ckpt_path {checkpoint}: no split.json and config.yaml above its folder checkpoints; give a run's own"
        )
    names = set(Split.load(file, val="free").val)
    if not names:
        raise UsageError(
            f"--ckpt_path {checkpoint}: its run was trained without validation, so no case can choose steps; name them "
            f"for predict: --postprocess [small_components:0.5], for example"
        )
    found = [case for case in cases if case.name in names and case.mask is not None]
    if missing := sorted(names - {case.name for case in found}):
        raise CaseError(
            f"{len(missing)} of {len(names)} validation cases of {file} are not in the data with a mask: "
            f"{', '.join(missing[:6])}; give the data that the run was trained on"
        )
    return found


def _require_raw(folder: Path, checkpoint: Path, convention: str) -> None:
    """Refuse predictions that this checkpoint alone did not make, or that were post-processed already."""
    made = read_identity(folder)
    if made is None:
        raise UsageError(f"--pred {folder}: no {IDENTITY} in it; give a folder that `segan_pl predict` wrote")
    remedy = f"predict again: segan_pl predict --ckpt_path {checkpoint} --postprocess [] ..."
    if [one.get("digest") for one in made["checkpoints"]] != [digest(checkpoint)]:
        paths = ", ".join(str(one.get("path")) for one in made["checkpoints"])
        raise UsageError(f"--pred {folder}: was made by {paths}, not by {checkpoint} alone; {remedy}")
    if steps := made["settings"].get("steps"):
        raise UsageError(f"--pred {folder}: is post-processed already ({' '.join(steps)}); {remedy}")
    if made["native_labels"] != convention:
        raise UsageError(
            f"--pred {folder}: its labels are '{made['native_labels']}', those of --root '{convention}'; say what both "
            f"are: --data.native_labels here, --native_labels for predict"
        )


def _score(pairs: Sequence[Case], scheme: LabelScheme, workers: int, lists: Sequence[Steps]) -> list[float]:
    """Mean Dice of each list of steps; cases are read again each time, so that memory is for one a process."""
    found = []
    with shown(len(pairs), label="scoring", done="scored") as advance:
        for case, dices in over_cases(partial(_dices, scheme, tuple(lists)), pairs, workers=workers):
            if dices is None:
                raise CaseError(f"{case.name}: the process that scored it was killed, perhaps for memory; --workers 1")
            found.append(dices)
            advance()
    return mean_dice(found)


def _dices(scheme: LabelScheme, lists: Sequence[Steps], case: Case) -> list[list[float]]:
    assert case.mask is not None  # validation cases are those with a mask
    prediction, reference = read_volume(case.images[PREDICTION]), read_volume(case.mask)
    require_same_grid(prediction, reference, case)
    voxel_ml = abs(float(np.linalg.det(reference.affine[:3, :3]))) / 1000
    labels = (_labels(prediction, f"{case.name}, {PREDICTION}", scheme), _labels(reference, case.name, scheme))
    return dices_of(Pair(*labels, voxel_ml), lists, scheme)


def _labels(volume: Volume, case: str, scheme: LabelScheme) -> NDArray[np.uint8]:
    label = labels_of(volume, case)
    scheme.require_known(np.flatnonzero(np.bincount(label.ravel())).tolist(), case)
    return label
