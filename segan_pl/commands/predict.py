"""`segan_pl predict`: a segmentation file for every case of a folder, from checkpoints alone."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from segan_pl.data.cohort import native_convention
from segan_pl.data.io import write_volume
from segan_pl.data.labels import label_scheme
from segan_pl.data.layouts import find_data_set
from segan_pl.data.progress import shown
from segan_pl.data.volume import Case, CaseError
from segan_pl.errors import UsageError
from segan_pl.evaluation.cases import write_table
from segan_pl.files import write_whole
from segan_pl.inference.choosing import read_companion
from segan_pl.inference.postprocessing import Step
from segan_pl.inference.predicting import Combine, Prediction, Predictor, Settings, output_name
from segan_pl.inference.trained import Precision, load_segmentor
from segan_pl.inference.volumes import Blend, Windows
from segan_pl.parsing import OneLineErrors


@dataclass(frozen=True)
class PredictOptions:
    """What to predict, with what, and where to.

    Attributes:
        ckpt_path: A checkpoint, or several that decide together.
        input: Folder of cases in any layout, or a CSV manifest; masks are not looked at.
        output: Folder for the segmentations.
        layout: How the input is laid out, or "auto".
        native_labels: What the written labels mean; "auto" takes the input data set's, else the checkpoint's.
        combine: Of several checkpoints, the "mean" of their probabilities, or a weighted majority "vote".
        weights: One a checkpoint; default equal.
        mirror: Axes mirrored at test time: 0 (z), 1 (y), 2 (x).
        overlap: Of a 3-D network's windows.
        blend: Weights inside a window.
        window_batch: Windows a forward pass.
        postprocess: Steps in order, e.g. [small_components:0.5, fill_holes]; [] for none. Default: those that
            `segan_pl postprocess` chose for the checkpoint, with a note; several checkpoints must agree on them.
        probabilities: Also write one <case>_<channel>.nii.gz of probabilities a channel (uint8, 255 is 1).
        missing: A case that lacks a modality: "refuse", or "zero".
        nonfinite: NaN and Inf voxels: "refuse", or "zero".
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
    overlap: float = 0.5
    blend: Blend = "gaussian"
    window_batch: int = 1
    postprocess: list[str] | None = None
    probabilities: bool = False
    missing: Literal["refuse", "zero"] = "refuse"
    nonfinite: Literal["refuse", "zero"] = "refuse"
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
            windows=Windows(self.overlap, self.blend, self.window_batch),
            steps=self._steps(),
            missing=self.missing,
            nonfinite=self.nonfinite,
        )

    def _steps(self) -> tuple[Step, ...]:
        """Those asked for, else those chosen for all checkpoints alike."""
        if self.postprocess is not None:
            return tuple(Step.parse(text) for text in self.postprocess)
        chosen = {read_companion(Path(path)) for path in self.ckpt_path}
        if len(chosen) > 1:
            raise UsageError("the checkpoints' chosen post-processing differs; say which: --postprocess STEP ... or []")
        steps = next(iter(chosen), None) or ()
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
    predictor, cases = _prepare(options)
    output = Path(options.output).expanduser()
    mine = cases[slice(*_part(options.part))]
    _require_same_settings(output, _identity(predictor, options), options.overwrite)
    files = {case.name: output / output_name(case) for case in mine}
    todo = [case for case in mine if options.overwrite or not files[case.name].exists()]
    rows = []
    with shown(len(todo), label="predicting", done="predicted") as advance:
        for row in _rows(predictor, todo, files, options.probabilities):
            rows.append(row)
            advance()
    first, _, parts = _part(options.part)
    suffix = "" if parts == 1 else f"_{first + 1}of{parts}"
    if rows:
        write_table(output / f"predictions{suffix}.csv", rows)
    return _report(
        rows, given=len(mine), skipped=len(mine) - len(todo), output=output, seconds=time.monotonic() - start
    )


def _prepare(options: PredictOptions) -> tuple[Predictor, tuple[Case, ...]]:
    """The segmentors and the cases; everything that was typed wrongly is refused here."""
    if not options.ckpt_path:
        raise UsageError("--ckpt_path: no checkpoint given")
    settings = options.settings()
    _part(options.part)
    segmentors = [
        load_segmentor(path, device=options.device, precision=options.precision) for path in options.ckpt_path
    ]
    source = find_data_set(options.input, options.layout)
    asked = native_convention(source, options.native_labels)
    scheme = segmentors[0].scheme
    if options.native_labels == "auto" and asked is not None and not _fits(scheme.target, asked, scheme.channels):
        print(f"note: labels are written as '{scheme.convention.name}': '{asked}' has other channels")
        asked = None
    return Predictor(segmentors, settings, convention=asked), source.cases


def _fits(target: str, convention: str, channels: tuple[str, ...]) -> bool:
    try:
        return label_scheme(target, convention).channels == channels
    except CaseError:
        return False


def _part(text: str) -> tuple[int, None, int]:
    """A slice's arguments: (1, None, 5) for "2/5"."""
    number, _, count = text.partition("/")
    if not (number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count)):
        raise UsageError(f"--part {text}: expected i/n with i from 1 to n, e.g. 2/5")
    return int(number) - 1, None, int(count)


def _identity(predictor: Predictor, options: PredictOptions) -> dict[str, Any]:
    """What makes two predictions of a case the same."""
    settings = asdict(predictor.settings)
    return {
        "checkpoints": [{"path": str(s.source), "digest": s.digest} for s in predictor.segmentors],
        "native_labels": predictor.scheme.convention.name,
        "labels": predictor.scheme.target,
        "precision": [str(s.precision) for s in predictor.segmentors],
        "settings": {**settings, "steps": [str(step) for step in predictor.settings.steps]},
        "probabilities": options.probabilities,
    }


def _require_same_settings(output: Path, identity: dict[str, Any], overwrite: bool) -> None:
    """Refuse to continue a folder that other checkpoints or settings began; else note what makes this one."""
    output.mkdir(parents=True, exist_ok=True)
    file = output / "predict.json"
    text = json.dumps(identity, indent=1)
    if file.exists() and not overwrite:
        before, now = json.loads(file.read_text(encoding="utf-8")), json.loads(text)
        for one in (*before["checkpoints"], *now["checkpoints"]):
            one.pop("path")  # a copy is the same checkpoint
        if differing := [key for key in now if before.get(key) != now[key]]:
            raise UsageError(
                f"{output}: holds predictions made with other {', '.join(differing)}; choose another --output or "
                f"--overwrite true"
            )
    write_whole(file, text)


def _rows(
    predictor: Predictor, cases: Sequence[Case], files: dict[str, Path], keep: bool
) -> Iterator[dict[str, str | float]]:
    """One row a case, in order: the next case is read, and the last one written, while the network works."""
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        ahead = [reader.submit(predictor.read, case) for case in cases[:1]]
        written: list[tuple[Case, float, Future[tuple[str, ...]]]] = []
        for number, case in enumerate(cases):
            start = time.monotonic()
            reading = ahead.pop(0)
            ahead += [reader.submit(predictor.read, following) for following in cases[number + 1 : number + 2]]
            try:
                prediction = predictor.segment(reading.result(), probability=keep)
            except (CaseError, OSError, MemoryError) as error:
                yield _row(case, None, 0.0, f"{error or 'not enough memory'}")
                continue
            written.append(
                (case, time.monotonic() - start, writer.submit(_write, predictor, prediction, case, files[case.name]))
            )
            while len(written) > 1 or (written and written[0][2].done()):
                yield _settled(*written.pop(0), files)
        yield from (_settled(*one, files) for one in written)


def _settled(
    case: Case, seconds: float, writing: Future[tuple[str, ...]], files: dict[str, Path]
) -> dict[str, str | float]:
    """The row of a case that was handed to the writer."""
    try:
        return _row(case, files[case.name], seconds, "", writing.result())
    except (CaseError, OSError) as error:
        return _row(case, None, seconds, str(error))


def _row(
    case: Case, file: Path | None, seconds: float, refusal: str, notes: Sequence[str] = ()
) -> dict[str, str | float]:
    return {
        "case": case.name,
        "patient": case.patient,
        "file": file.name if file else "",
        "seconds": round(seconds, 3),
        "refused": " ".join(refusal.split()),
        "notes": "; ".join(notes),
    }


def _write(predictor: Predictor, prediction: Prediction, case: Case, file: Path) -> tuple[str, ...]:
    """The segmentation last: where it is, its probabilities are too."""
    reference = next(iter(case.images.values()))
    if prediction.probability is not None:
        for channel, values in zip(prediction.channels, prediction.probability, strict=True):
            whole = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
            write_volume(file.with_name(f"{case.name}_{channel}.nii.gz"), whole, prediction.affine)
    predictor.save(prediction, file, like=reference)
    return prediction.notes


def _report(rows: Sequence[dict[str, str | float]], *, given: int, skipped: int, output: Path, seconds: float) -> int:
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
