"""The check of a whole data set: every byte of every file, and what only shows across cases."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from typing import Any

from segan_pl import __version__
from segan_pl.data.case import Case
from segan_pl.data.case_pool import cores, over_cases, shown
from segan_pl.data.check.case import check_case
from segan_pl.data.check.case_table import CaseRow
from segan_pl.data.check.summary import data_set_notes, duplicate_groups, summary
from segan_pl.data.cohort import Missing
from segan_pl.data.conventions import Convention, remedy
from segan_pl.data.label_names import LabelNames
from segan_pl.data.layouts import DataSet

# Of the JSON; a key that goes or changes its meaning makes another number.
FORMAT = 1


KILLED = "its process was killed, perhaps for memory; look at its files' sizes, or check it where there is more"
"""Of a case that took its process with it."""


@dataclass(frozen=True)
class CheckReport:
    """What the check found; the case table is `rows`.

    Attributes:
        rows: One a case, by name.
        convention: What the labels mean, or None where nothing says it.
        modalities: Those that a complete case has.
        missing: What was asked for cases that lack one.
        duplicates: Groups of names of cases that share an image's voxels.
        notes: Of the data set as a whole; those of a case are in its row.
        seconds: Wall time.
    """

    rows: tuple[CaseRow, ...]
    convention: Convention | None
    modalities: tuple[str, ...]
    missing: Missing
    duplicates: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    seconds: float

    @property
    def used(self) -> tuple[str, ...]:
        """Names of the cases with which nothing is wrong."""
        return tuple(row.name for row in self.rows if row.status == "used")

    @property
    def refused(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """(name, every reason) of the others, but for those left out on request."""
        return tuple((row.name, row.faults) for row in self.rows if row.faults)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Names of the cases left out on request."""
        return tuple(row.name for row in self.rows if row.status == "left out")

    def summary(self) -> str:
        """The line that ends every command that works through cases."""
        return f"{len(self.rows)} given, {len(self.used)} used, {len(self.refused)} refused"

    def as_dict(self, source: DataSet | None = None) -> dict[str, Any]:
        """Everything, ready for JSON; the same for the same files but for "seconds" (docs/check.md)."""
        return {
            "format": FORMAT,
            "data_set": {
                "root": None if source is None else str(source.root),
                "layout": None if source is None else source.layout,
                "native_labels": None if self.convention is None else self.convention.name,
                "modalities": list(self.modalities),
                "missing": self.missing,
            },
            "summary": summary(self.rows, self.convention),
            "duplicates": [list(group) for group in self.duplicates],
            "refused": [{"case": name, "faults": list(faults)} for name, faults in self.refused],
            "left_out": list(self.left_out),
            "notes": list(self.notes),
            "cases": [row.as_dict() for row in self.rows],
            "versions": {
                "segan_pl": __version__,
                "python": platform.python_version(),
                **{name: version(name) for name in ("numpy", "nibabel")},
            },
            "seconds": round(self.seconds, 3),
        }


def check_all(
    cases: Sequence[Case],
    convention: Convention | None,
    *,
    modalities: Sequence[str],
    missing: Missing = "refuse",
    workers: int | None = None,
    progress: bool = True,
    notes: Iterable[str] = (),
    names: LabelNames | None = None,
    settled: bool = False,
) -> CheckReport:
    """Read every file of every case; what is wrong with one is in its row and stops no other.

    Args:
        cases: As a layout found them.
        convention: What the masks' labels mean; with None every case with a mask is refused, naming what would fit.
        modalities: Those that a complete case has.
        missing: What becomes of a case that lacks one.
        workers: Processes; default all cores.
        progress: Whether to show how far it is, on stderr.
        notes: What is known of the data set already, to begin the report's notes.
        names: What the data set itself calls its labels, where it does; advice does not contradict it.
        settled: Whether the user stated the convention, and needs no advice on others that would fit too.
    """
    start = time.monotonic()
    work = partial(check_case, convention=convention, modalities=tuple(modalities), missing=missing)
    rows: list[CaseRow] = []
    with shown(len(cases), "checking", "checked", enabled=progress) as advance:
        for case, row in over_cases(work, cases, workers=workers or cores()):
            if row is None:
                files = {**case.images, **({"mask": case.mask} if case.mask else {})}
                row = CaseRow(
                    case.name,
                    case.patient,
                    case.grade,
                    case.institution,
                    files={part: str(path) for part, path in files.items()},
                    faults=(KILLED,),
                )
            rows.append(row)
            advance()
    rows.sort(key=lambda row: row.name)
    if convention is None:
        # Nothing says what the masks' labels mean, so every case with a mask is refused.
        found = sorted({label for row in rows for label in row.labels} - set(names.ignored if names else ()))
        fault = (
            f"nothing says what the masks' labels mean; together they hold {found}: "
            f"{remedy(found, names, 'state it with --data.native_labels', 'relabel the masks')}"
        )
        rows = [replace(row, faults=(*row.faults, fault)) if "mask" in row.files else row for row in rows]
    groups = duplicate_groups(rows)
    return CheckReport(
        rows=tuple(rows),
        convention=convention,
        modalities=tuple(modalities),
        missing=missing,
        duplicates=groups,
        notes=(*notes, *data_set_notes(rows, convention, groups, settled=settled)),
        seconds=time.monotonic() - start,
    )
