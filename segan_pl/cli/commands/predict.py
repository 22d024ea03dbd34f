"""`segan_pl predict`: a segmentation file for every case of a folder, from checkpoints alone."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from segan_pl.cli.commands.options import PlaceOptions, parse
from segan_pl.cli.parsing import OneLineErrors
from segan_pl.cli.predict_cases import Row, keep_rows, predicted, report
from segan_pl.data.case import CaseError
from segan_pl.data.case_pool import shown
from segan_pl.data.conventions import Stated, label_convention
from segan_pl.data.labels import label_meanings, meaning_line
from segan_pl.data.layouts import DataSet
from segan_pl.errors import UsageError
from segan_pl.files import require_writable
from segan_pl.inference.brain import PredictIn, clipped_note
from segan_pl.inference.inferer import Average, Blend
from segan_pl.inference.input_case import output_name, silent_notes
from segan_pl.inference.native_labels import convention_for
from segan_pl.inference.output import OutputFolder, targets
from segan_pl.inference.postprocessing import Step, chosen_steps
from segan_pl.inference.prediction import Combine, Settings
from segan_pl.inference.predictor import Predictor
from segan_pl.inference.split_part import Part, cases_of_part, parts_of, split_file
from segan_pl.inference.trained import Precision, load_segmentor

DESCRIPTION = "Segment every case of a data set on its own grid; masks are not looked at."
HINTS = {
    "data.missing": "--missing refuse or zero says what becomes of a case that lacks a modality",
    "data.native_labels": "masks are not looked at; --native_labels says what the written labels mean",
}
"""Options of fit that mean something else here."""


@dataclass(frozen=True)
class PredictOptions:
    """With what to predict, which cases, and where to.

    Attributes:
        ckpt_path: A checkpoint, or several that decide together.
        output: Folder for the segmentations.
        native_labels: What the written labels mean; "auto" takes the input data set's where it knows all that the
            checkpoint predicts, else the checkpoint's where no value means something else there.
        combine: Of several checkpoints, the "mean" of their probabilities, or a weighted majority "vote".
        weights: One for each checkpoint; default equal.
        mirror: Axes mirrored at test time: 0 (z), 1 (y), 2 (x).
        overlap: Of a 3-D network's windows; this and the next six default to those of the run's validation.
        step: Voxels from a window to the next along (D, H, W), instead of the overlap.
        whole: Instead of windows one forward pass of a volume, padded to a multiple of this.
        blend: Weights inside a window.
        average: What is averaged where windows overlap, "logits" or "probabilities".
        window_batch: Windows in a forward pass.
        skip_empty: Windows of background alone are not run, and are background.
        predict_in: "anywhere", or in the "brain" alone, where an image is not 0; default as in the run's validation.
        postprocess: Steps in order, e.g. [small_components:0.5, fill_holes]; [] for none. Default: those that
            `segan_pl postprocess` chose for the checkpoint, with a note; several checkpoints must agree on them.
        probabilities: Also write one <case>_<channel>.nii.gz of probabilities for each channel (uint8, 255 is 1).
        missing: A case that lacks a modality: "refuse", or "zero" for zeros in its place; "auto" is zero where every
            checkpoint was trained with modalities missing, else refuse. A case without any is always refused.
        nonfinite: NaN and Inf voxels: "refuse", or "zero"; default as the checkpoint was trained.
        part: Only the "train", "val", "test" or "unlabelled" cases of the split of the checkpoint's run.
        share: "i/n" predicts every n-th case from the i-th on (from 1), so that n jobs share a folder.
        overwrite: Replace segmentations that are there; without it they are kept and skipped.
        device: "auto", "cpu", "cuda", "cuda:1".
        precision: "auto" is the one of the run's validation.
    """

    ckpt_path: list[str]
    output: str
    native_labels: Stated = "auto"
    combine: Combine = "mean"
    weights: list[float] = field(default_factory=list)
    mirror: list[int] = field(default_factory=list)
    overlap: float | None = None
    step: list[int] | None = None
    whole: int | None = None
    blend: Blend | None = None
    average: Average | None = None
    window_batch: int | None = None
    skip_empty: bool | None = None
    predict_in: PredictIn | None = None
    postprocess: list[str] | None = None
    probabilities: bool = False
    missing: Literal["auto", "refuse", "zero"] = "auto"
    nonfinite: Literal["refuse", "zero"] | None = None
    part: Part | None = None
    share: str = "1/1"
    overwrite: bool = False
    device: str = "auto"
    precision: Precision = "auto"

    def settings(self) -> Settings:
        """How segmentors become one segmentation.

        Raises:
            UsageError: A step, an axis or a weight that does not exist.
        """
        return Settings(
            combine=self.combine,
            weights=tuple(self.weights),
            mirror=tuple(self.mirror),
            windows=self._windows(),
            steps=self._steps(),
            missing=self.missing,
            nonfinite=self.nonfinite,
            predict_in=self.predict_in,
        )

    def _windows(self) -> dict[str, Any]:
        """What is asked for instead of the validation's windows; of overlap, step and whole, one unsets the others."""
        ways = {"overlap": self.overlap, "step": self.step and tuple(self.step), "whole": self.whole}
        given = {name: value for name, value in ways.items() if value is not None}
        if len(given) > 1:
            raise UsageError(f"{' and '.join(f'--{name}' for name in given)} exclude each other; give one of them")
        unset = {name: None for name in ("step", "whole") if given and name not in given}
        asked = {"blend": self.blend, "average": self.average, "batch": self.window_batch}
        asked |= {"skip_empty": self.skip_empty}
        return {name: value for name, value in asked.items() if value is not None} | unset | given

    def _steps(self) -> tuple[Step, ...]:
        """Those asked for, else those chosen for all checkpoints alike."""
        if self.postprocess is not None:
            return tuple(Step.parse(text) for text in self.postprocess)
        steps = chosen_steps(self.ckpt_path)
        if steps:
            print(f"note: post-processing chosen on validation cases: {' '.join(map(str, steps))}")
        return steps


def main(arguments: list[str]) -> int:
    """Predict every case; 1 when one was refused."""
    data, settings = parse(_listed(arguments), DESCRIPTION, _add_arguments, PlaceOptions, hints=HINTS)
    return predict_all(PredictOptions(**{one.name: settings[one.name] for one in fields(PredictOptions)}), data)


def _add_arguments(parser: OneLineErrors) -> None:
    parser.add_class_arguments(PredictOptions)


def _listed(arguments: list[str]) -> list[str]:
    """`--ckpt_path A B` and `--ckpt_path A` as jsonargparse wants a list; several values follow one flag."""
    out: list[str] = []
    number = 0
    while number < len(arguments):
        flag = arguments[number]
        number += 1
        name, equals, value = flag.partition("=")
        if name not in ("--ckpt_path", "--postprocess", "--weights", "--mirror"):
            out.append(flag)
            continue
        if any(given.partition("=")[0] == name for given in out):
            raise UsageError(f"{name} is given twice; name all values after one, e.g. {name} A B")
        values = [value] if equals else []
        while number < len(arguments) and not arguments[number].startswith("-") and not equals:
            values.append(arguments[number])
            number += 1
        whole = len(values) == 1 and values[0].startswith("[")
        out.append(f"{name}={values[0] if whole else json.dumps([_number(v) for v in values])}")
    return out


def _number(text: str) -> float | int | str:
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return text


def predict_all(options: PredictOptions, data: PlaceOptions) -> int:
    """Carry out the command; the exit code."""
    start = time.monotonic()
    predictor, source = _prepare(options, data)
    folder = _folder(predictor, source, options)
    keeping = folder.begun() and not options.overwrite
    mine = source.cases[slice(*_share(options.share))]
    todo = [case for case in mine if not (keeping and folder.targets[case.name].label.exists())]
    first, _, parts = _share(options.share)
    suffix = "" if parts == 1 else f"_{first + 1}of{parts}"
    rows: list[Row] = []
    with shown(len(todo), label="predicting", done="predicted") as advance:
        for row in predicted(predictor, todo, folder):
            rows.append(row)
            if folder.ours():  # now and not at the end: a job may be killed
                keep_rows(folder.path / f"predictions{suffix}.csv", rows)
            advance()
    seconds = time.monotonic() - start
    print(f"labels in the files: {meaning_line(predictor.scheme)}")
    return report(rows, given=len(mine), skipped=len(mine) - len(todo), output=folder.path, seconds=seconds)


def _prepare(options: PredictOptions, data: PlaceOptions) -> tuple[Predictor, DataSet]:
    """The segmentors and the cases; everything that was typed wrongly is refused here."""
    if not options.ckpt_path:
        raise UsageError("--ckpt_path: no checkpoint given")
    settings = options.settings()
    _share(options.share)
    require_writable(Path(options.output).expanduser(), f"--output {options.output}")
    segmentors = [
        load_segmentor(path, device=options.device, precision=options.precision) for path in options.ckpt_path
    ]
    source = data.source()
    inside = [one for one in segmentors if (settings.predict_in or one.predict_in) == "brain"]
    clipped = dict.fromkeys(note for one in inside if (note := clipped_note(one.preparation.as_dict())))
    for note in [*source.notes, *silent_notes(segmentors), *clipped]:
        print(f"note: {note}")
    if options.part:
        checkpoints = [segmentor.source for segmentor in segmentors]
        cases = cases_of_part(checkpoints, options.part, source.cases)
        given = f"{len(cases)} of {len(source.cases)} cases"
        print(f"note: {given}, the {options.part} part of {split_file(checkpoints[0])}")
        source = replace(source, cases=cases)
    asked = source.native_labels if options.native_labels == "auto" else label_convention(options.native_labels).name
    if options.native_labels == "auto" and asked is not None:
        scheme = segmentors[0].scheme
        asked, theirs = convention_for(scheme, asked), asked
        if asked == scheme.convention.name != theirs:
            print(
                f"note: labels are written as '{asked}': '{theirs}' does not know all of {', '.join(scheme.channels)}"
            )
    return Predictor(segmentors, settings, convention=asked), source


def _folder(predictor: Predictor, source: DataSet, options: PredictOptions) -> OutputFolder:
    """Where everything goes, once no file would replace another one."""
    path = Path(options.output).expanduser()
    names = {case.name: output_name(case, predictor.modalities) for case in source.cases}
    channels = predictor.scheme.channels if options.probabilities else ()
    taken = [source.root] if source.root.is_file() else []
    planned = targets(source.cases, names, path, channels, taken)
    about = {
        "channels": list(predictor.scheme.channels),
        "label_meanings": {str(value): list(names) for value, names in label_meanings(predictor.scheme).items()},
        "parts": _parts([segmentor.source for segmentor in predictor.segmentors], list(names)),
        "cases": sorted(names) if options.part else None,
    }
    return OutputFolder(path, _identity(predictor, source, options), planned, options.overwrite, about)


def _parts(checkpoints: Sequence[Path], names: Sequence[str]) -> dict[str, list[str]] | None:
    """Which cases trained or chose the networks, for predict.json; a split that cannot be read stops no prediction."""
    try:
        return parts_of(checkpoints, names)
    except (CaseError, UsageError) as error:
        print(f"note: predict.json cannot say which cases trained the network: {error}")
        return None


def _share(text: str) -> tuple[int, None, int]:
    """A slice's arguments: (1, None, 5) for "2/5"."""
    number, _, count = text.partition("/")
    if not (number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count)):
        raise UsageError(f"--share {text}: expected i/n with i from 1 to n, e.g. 2/5")
    return int(number) - 1, None, int(count)


def _identity(predictor: Predictor, source: DataSet, options: PredictOptions) -> dict[str, Any]:
    """What makes two predictions of a case the same, and which cases were refused."""
    settings = {**asdict(predictor.settings), "missing": predictor.missing}
    return {
        "checkpoints": [{"path": str(s.source), "digest": s.digest} for s in predictor.segmentors],
        "root": str(source.root.resolve()),
        "native_labels": predictor.scheme.convention.name,
        "labels": predictor.scheme.target,
        "precision": [str(s.precision) for s in predictor.segmentors],
        "settings": {**settings, "steps": [str(step) for step in predictor.settings.steps]},
        "probabilities": options.probabilities,
    }
