"""Every case from its files to its segmentation in the folder, with one row a case."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from segan_pl.data.case import Case, CaseError
from segan_pl.data.case_pool import grouped
from segan_pl.data.io import write_volume
from segan_pl.evaluation.tables import write_table
from segan_pl.files import csv_records
from segan_pl.inference.input_case import EMPTY
from segan_pl.inference.output import OutputFolder, Target
from segan_pl.inference.prediction import Prediction
from segan_pl.inference.predictor import Predictor

Row = dict[str, str | float]
JOINT = " | "  # between two notes of a row, and in none
REFUSALS = (CaseError, OSError, MemoryError)


def predicted(predictor: Predictor, cases: Sequence[Case], folder: OutputFolder) -> Iterator[Row]:
    """One row a case, in order: the next case is read, and the last one written, while the network works.

    Raises:
        UsageError: Another job began the folder with other settings in the meantime.
    """
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        ahead = [reader.submit(predictor.read, case) for case in cases[:1]]
        written: list[tuple[Case, float, Future[tuple[str, ...]]]] = []
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
    known = {str(row["case"]): row for row in [*_read_rows(file), *rows]}
    columns = list(rows[0])
    write_table(file, [{name: known[case].get(name, "") for name in columns} for case in sorted(known)], columns)


def _read_rows(file: Path) -> list[Row]:
    try:
        with file.open(newline="", encoding="utf-8") as text:
            return [{**row} for row in csv_records(text) if row.get("case")]
    except FileNotFoundError:
        return []


def _settled(case: Case, seconds: float, writing: Future[tuple[str, ...]], targets: Mapping[str, Target]) -> Row:
    """The row of a case that was handed to the writer."""
    try:
        return row_of(case, targets[case.name].label, seconds, "", writing.result())
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


def _write(predictor: Predictor, prediction: Prediction, case: Case, target: Target) -> tuple[str, ...]:
    """The segmentation last: where it is, its probabilities are too."""
    if prediction.probability is not None:
        for file, values in zip(target.probabilities, prediction.probability, strict=True):
            whole = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
            write_volume(file, whole, prediction.affine)
    prediction.save(target.label, like=predictor.image_of(case))
    return prediction.notes


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
