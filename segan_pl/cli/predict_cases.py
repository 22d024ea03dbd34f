"""The work of `segan_pl predict`: every case from its files to its segmentation in the folder, with one row a case."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from segan_pl.cli.commands.options import PlaceOptions
from segan_pl.cli.predict_options import PredictOptions
from segan_pl.data.case import Case, CaseError
from segan_pl.data.case_pool import grouped, shown
from segan_pl.data.conventions import label_convention
from segan_pl.data.io import write_volume
from segan_pl.data.labels import label_meanings, meaning_line
from segan_pl.data.layouts import DataSet
from segan_pl.errors import UsageError
from segan_pl.evaluation.tables import write_table
from segan_pl.files import csv_records, require_writable
from segan_pl.inference.brain import clipped_note
from segan_pl.inference.chosen_steps import chosen_steps
from segan_pl.inference.exported import ONNX, load_model
from segan_pl.inference.input_case import EMPTY, output_name, silent_notes
from segan_pl.inference.native_labels import convention_for
from segan_pl.inference.output import OutputFolder, Target, targets
from segan_pl.inference.postprocessing import Step
from segan_pl.inference.prediction import Prediction, Settings
from segan_pl.inference.predictor import Predictor
from segan_pl.inference.split_part import cases_of_part, parts_of, split_file

Row = dict[str, str | float]
Written = tuple[tuple[str, ...], float | None]
"""Of a case that was written, its notes, and its uncertainty where that was asked for."""
JOINT = " | "  # between two notes of a row, and in none
REFUSALS = (CaseError, OSError, MemoryError)


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
    settings = _settings(options)
    _share(options.share)
    require_writable(Path(options.output).expanduser(), f"--output {options.output}")
    segmentors = [load_model(path, device=options.device, precision=options.precision) for path in options.ckpt_path]
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


def _settings(options: PredictOptions) -> Settings:
    """How segmentors become one segmentation.

    Raises:
        UsageError: A step, an axis or a weight that does not exist.
    """
    if options.postprocess is not None:
        steps = tuple(Step.parse(text) for text in options.postprocess)
    elif steps := chosen_steps(options.ckpt_path):  # for all checkpoints alike
        why = "that the export names" if options.ckpt_path[0].lower().endswith(ONNX) else "chosen on validation cases"
        print(f"note: post-processing {why}: {' '.join(map(str, steps))}")
    # what is asked for instead of the validation's windows; of overlap, step and whole, one unsets the others
    ways = {"overlap": options.overlap, "step": options.step and tuple(options.step), "whole": options.whole}
    given = {name: value for name, value in ways.items() if value is not None}
    if len(given) > 1:
        raise UsageError(f"{' and '.join(f'--{name}' for name in given)} exclude each other; give one of them")
    unset = {name: None for name in ("step", "whole") if given and name not in given}
    asked = {"blend": options.blend, "average": options.average, "batch": options.window_batch}
    asked |= {"skip_empty": options.skip_empty}
    return Settings(
        combine=options.combine,
        weights=tuple(options.weights),
        mirror=tuple(options.mirror),
        windows={name: value for name, value in asked.items() if value is not None} | unset | given,
        steps=steps,
        missing=options.missing,
        nonfinite=options.nonfinite,
        predict_in=options.predict_in,
        uncertainty=options.uncertainty,
    )


def _folder(predictor: Predictor, source: DataSet, options: PredictOptions) -> OutputFolder:
    """Where everything goes, once no file would replace another one."""
    path = Path(options.output).expanduser()
    names = {case.name: output_name(case, predictor.modalities) for case in source.cases}
    channels = predictor.scheme.channels if options.probabilities else ()
    taken = [source.root] if source.root.is_file() else []
    planned = targets(source.cases, names, path, channels, taken, variance=options.uncertainty)
    parts = None
    try:
        parts = parts_of([segmentor.source for segmentor in predictor.segmentors], list(names))
    except (CaseError, UsageError) as error:  # a split that cannot be read stops no prediction
        print(f"note: predict.json cannot say which cases trained the network: {error}")
    about = {
        "channels": list(predictor.scheme.channels),
        "label_meanings": {str(value): list(names) for value, names in label_meanings(predictor.scheme).items()},
        "parts": parts,
        "cases": sorted(names) if options.part else None,
    }
    settings = {**asdict(predictor.settings), "missing": predictor.missing}
    if not options.uncertainty:
        del settings["uncertainty"]  # as it was before there was such a setting
    identity = {  # what makes two predictions of a case the same, and which cases were refused
        "checkpoints": [{"path": str(s.source), "digest": s.digest} for s in predictor.segmentors],
        "root": str(source.root.resolve()),
        "native_labels": predictor.scheme.convention.name,
        "labels": predictor.scheme.target,
        "precision": [str(s.precision) for s in predictor.segmentors],
        "settings": {**settings, "steps": [str(step) for step in predictor.settings.steps]},
        "probabilities": options.probabilities,
    }
    return OutputFolder(path, identity, planned, options.overwrite, about)


def _share(text: str) -> tuple[int, None, int]:
    """A slice's arguments: (1, None, 5) for "2/5"."""
    number, _, count = text.partition("/")
    if not (number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count)):
        raise UsageError(f"--share {text}: expected i/n with i from 1 to n, e.g. 2/5")
    return int(number) - 1, None, int(count)


def predicted(predictor: Predictor, cases: Sequence[Case], folder: OutputFolder) -> Iterator[Row]:
    """One row a case, in order: the next case is read, and the last one written, while the network works.

    Raises:
        UsageError: Another job began the folder with other settings in the meantime.
    """
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        ahead = [reader.submit(predictor.read, case) for case in cases[:1]]
        written: list[tuple[Case, float, Future[Written]]] = []
        claimed = False
        for number, case in enumerate(cases):
            start = time.monotonic()
            reading = ahead.pop(0)
            ahead += [reader.submit(predictor.read, following) for following in cases[number + 1 : number + 2]]
            target = folder.targets[case.name]
            try:
                prediction = predictor.segment(reading.result(), probability=bool(target.probabilities))
            except REFUSALS as error:
                yield row_of(case, None, 0.0, f"{error or 'not enough memory'}")
                continue
            if not claimed:
                folder.claim()
                claimed = True
            writing = writer.submit(_write, predictor, prediction, case, target)
            written.append((case, time.monotonic() - start, writing))
            while len(written) > 1 or (written and written[0][2].done()):
                yield _settled(*written.pop(0), folder.targets)
        yield from (_settled(*one, folder.targets) for one in written)


def keep_rows(file: Path, rows: Sequence[Row]) -> None:
    """Add rows to a table's; the later row of a case replaces its former one."""
    former: list[Row] = []
    if file.exists():
        with file.open(newline="", encoding="utf-8") as text:
            former = [{**row} for row in csv_records(text) if row.get("case")]
    known = {str(row["case"]): row for row in [*former, *rows]}
    # a refused case has no uncertainty, and a former call may have had it
    columns = list(dict.fromkeys(name for row in [*former, *rows] for name in row))
    write_table(file, [{name: known[case].get(name, "") for name in columns} for case in sorted(known)], columns)


def _settled(case: Case, seconds: float, writing: Future[Written], targets: Mapping[str, Target]) -> Row:
    """The row of a case that was handed to the writer."""
    try:
        notes, uncertainty = writing.result()
        row = row_of(case, targets[case.name].label, seconds, "", notes)
        return row if uncertainty is None else {**row, "uncertainty": f"{uncertainty:.6g}"}
    except REFUSALS as error:
        return row_of(case, None, seconds, f"{error or 'not enough memory'}")


def row_of(case: Case, file: Path | None, seconds: float, refusal: str, notes: Sequence[str] = ()) -> Row:
    """The row of one case, a refused one's reason in one line that begins with its name."""
    line = " ".join(refusal.split())
    return {
        "case": case.name,
        "patient": case.patient,
        "file": file.name if file else "",
        "seconds": round(seconds, 3),
        "refused": line if not line or line.startswith(case.name) else f"{case.name}: {line}",
        "notes": JOINT.join(note.replace(JOINT, "; ") for note in notes),
    }


def _write(predictor: Predictor, prediction: Prediction, case: Case, target: Target) -> Written:
    """The segmentation last: where it is, its probabilities are too."""
    if prediction.probability is not None:
        for file, values in zip(target.probabilities, prediction.probability, strict=True):
            whole = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
            write_volume(file, whole, prediction.affine)
    if target.variance is not None and prediction.variance is not None:
        write_volume(target.variance, prediction.variance, prediction.affine)
    prediction.save(target.label, like=predictor.image_of(case))
    return prediction.notes, prediction.uncertainty


def report(rows: Sequence[Row], *, given: int, skipped: int, output: Path, seconds: float) -> int:
    """Say what became of the cases; the exit code."""
    refused = [row for row in rows if row["refused"]]
    notes = [(str(row["case"]), note) for row in rows for note in str(row["notes"]).split(JOINT) if note]
    for line in grouped(notes):
        print(f"note: {line}")
    if empty := [case for case, note in notes if note == EMPTY]:
        print(f"{len(empty)} of {len(rows) - len(refused)} segmentations are empty")
    for row in refused:
        print(f"refused: {row['refused']}")
    if skipped:
        print(f"{skipped} were there already and are kept (--overwrite true replaces them)")
    print(f"segmentations: {output} ({seconds:.1f} s)")
    print(f"{given} given, {given - len(refused)} used, {len(refused)} refused")
    return 1 if refused else 0
