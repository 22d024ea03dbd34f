"""`segan_pl predict`: a segmentation file for every case of a folder, from checkpoints alone."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from segan_pl.commands.predict_cases import Row, keep_rows, predicted
from segan_pl.data.cohort import native_convention
from segan_pl.data.layouts import DataSet, find_data_set
from segan_pl.data.progress import shown
from segan_pl.errors import UsageError
from segan_pl.files import require_writable
from segan_pl.inference.choosing import chosen_steps
from segan_pl.inference.input_case import output_name
from segan_pl.inference.native_labels import convention_for
from segan_pl.inference.output_folder import OutputFolder, targets
from segan_pl.inference.postprocessing import Step
from segan_pl.inference.predicting import Combine, Predictor, Settings
from segan_pl.inference.trained import Precision, load_segmentor
from segan_pl.inference.windows import Average, Blend
from segan_pl.parsing import OneLineErrors


@dataclass(frozen=True)
class PredictOptions:
    """What to predict, with what, and where to.

    Attributes:
        ckpt_path: A checkpoint, or several that decide together.
        input: Folder of cases in any layout, or a CSV manifest; masks are not looked at.
        output: Folder for the segmentations.
        layout: How the input is laid out, or "auto".
        native_labels: What the written labels mean; "auto" takes the input data set's where it knows all that the
            checkpoint predicts, else the checkpoint's where no value means something else there.
        combine: Of several checkpoints, the "mean" of their probabilities, or a weighted majority "vote".
        weights: One a checkpoint; default equal.
        mirror: Axes mirrored at test time: 0 (z), 1 (y), 2 (x).
        overlap: Of a 3-D network's windows; this and the next five default to those of the run's validation.
        step: Voxels from a window to the next along (D, H, W), instead of the overlap.
        whole: Instead of windows one forward pass of a volume, padded to a multiple of this.
        blend: Weights inside a window.
        average: What is averaged where windows overlap, "logits" or "probabilities".
        window_batch: Windows a forward pass.
        postprocess: Steps in order, e.g. [small_components:0.5, fill_holes]; [] for none. Default: those that
            `segan_pl postprocess` chose for the checkpoint, with a note; several checkpoints must agree on them.
        probabilities: Also write one <case>_<channel>.nii.gz of probabilities a channel (uint8, 255 is 1).
        missing: A case that lacks a modality: "refuse", or "zero" for zeros in its place; "auto" is zero where every
            checkpoint was trained with modalities missing, else refuse. A case without any is always refused.
        nonfinite: NaN and Inf voxels: "refuse", or "zero"; default as the checkpoint was trained.
        part: "i/n" predicts every n-th case from the i-th on (from 1), so that n jobs share a folder.
        overwrite: Replace segmentations that are there; without it they are kept and skipped.
        device: "auto", "cpu", "cuda", "cuda:1".
        precision: "auto" is the one of the run's validation.
    """

    ckpt_path: list[str]
    input: str
    output: str
    layout: str = "auto"
    native_labels: str = "auto"
    combine: Combine = "mean"
    weights: list[float] = field(default_factory=list)
    mirror: list[int] = field(default_factory=list)
    overlap: float | None = None
    step: list[int] | None = None
    whole: int | None = None
    blend: Blend | None = None
    average: Average | None = None
    window_batch: int | None = None
    postprocess: list[str] | None = None
    probabilities: bool = False
    missing: Literal["auto", "refuse", "zero"] = "auto"
    nonfinite: Literal["refuse", "zero"] | None = None
    part: str = "1/1"
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
        )

    def _windows(self) -> dict[str, Any]:
        """What is asked for instead of the validation's windows; of overlap, step and whole, one unsets the others."""
        ways = {"overlap": self.overlap, "step": self.step and tuple(self.step), "whole": self.whole}
        given = {name: value for name, value in ways.items() if value is not None}
        if len(given) > 1:
            raise UsageError(f"{' and '.join(f'--{name}' for name in given)} exclude each other; give one of them")
        unset = {name: None for name in ("step", "whole") if given and name not in given}
        asked = {"blend": self.blend, "average": self.average, "batch": self.window_batch}
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
    parser = OneLineErrors(prog="segan_pl predict", description="Segment every case of a folder on its own grid.")
    parser.add_class_arguments(PredictOptions)
    options = PredictOptions(**vars(parser.parse_args(_listed(arguments[1:]))))
    return predict_all(options)


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
            raise UsageError(f"{name} stands there twice; name all values after one, e.g. {name} A B")
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


def predict_all(options: PredictOptions) -> int:
    """Carry out the command; the exit code."""
    start = time.monotonic()
    predictor, source = _prepare(options)
    folder = _folder(predictor, source, options)
    keeping = folder.begun() and not options.overwrite
    mine = source.cases[slice(*_part(options.part))]
    todo = [case for case in mine if not (keeping and folder.targets[case.name].label.exists())]
    first, _, parts = _part(options.part)
    suffix = "" if parts == 1 else f"_{first + 1}of{parts}"
    rows: list[Row] = []
    with shown(len(todo), label="predicting", done="predicted") as advance:
        for row in predicted(predictor, todo, folder):
            rows.append(row)
            if folder.ours():  # now and not at the end: a job may be killed
                keep_rows(folder.path / f"predictions{suffix}.csv", rows)
            advance()
    seconds = time.monotonic() - start
    return _report(rows, given=len(mine), skipped=len(mine) - len(todo), output=folder.path, seconds=seconds)


def _prepare(options: PredictOptions) -> tuple[Predictor, DataSet]:
    """The segmentors and the cases; everything that was typed wrongly is refused here."""
    if not options.ckpt_path:
        raise UsageError("--ckpt_path: no checkpoint given")
    settings = options.settings()
    _part(options.part)
    require_writable(Path(options.output).expanduser(), f"--output {options.output}")
    segmentors = [
        load_segmentor(path, device=options.device, precision=options.precision) for path in options.ckpt_path
    ]
    source = find_data_set(options.input, options.layout)
    for note in source.notes:
        print(f"note: {note}")
    asked = native_convention(source, options.native_labels)
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
    return OutputFolder(path, _identity(predictor, source, options), planned, options.overwrite)


def _part(text: str) -> tuple[int, None, int]:
    """A slice's arguments: (1, None, 5) for "2/5"."""
    number, _, count = text.partition("/")
    if not (number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count)):
        raise UsageError(f"--part {text}: expected i/n with i from 1 to n, e.g. 2/5")
    return int(number) - 1, None, int(count)


def _identity(predictor: Predictor, source: DataSet, options: PredictOptions) -> dict[str, Any]:
    """What makes two predictions of a case the same, and which cases were refused."""
    settings = {**asdict(predictor.settings), "missing": predictor.missing}
    return {
        "checkpoints": [{"path": str(s.source), "digest": s.digest} for s in predictor.segmentors],
        "input": str(source.root.resolve()),
        "native_labels": predictor.scheme.convention.name,
        "labels": predictor.scheme.target,
        "precision": [str(s.precision) for s in predictor.segmentors],
        "settings": {**settings, "steps": [str(step) for step in predictor.settings.steps]},
        "probabilities": options.probabilities,
    }


def _report(rows: Sequence[Row], *, given: int, skipped: int, output: Path, seconds: float) -> int:
    refused = [row for row in rows if row["refused"]]
    for row in rows:
        if row["notes"]:
            print(f"note: {row['notes']}")
    for row in refused:
        print(f"refused: {row['refused']}")
    if skipped:
        print(f"{skipped} were there already and are kept (--overwrite true replaces them)")
    print(f"segmentations: {output} ({seconds:.1f} s)")
    print(f"{given} given, {given - len(refused)} used, {len(refused)} refused")
    return 1 if refused else 0
