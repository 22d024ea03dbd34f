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
from segan_pl.data.case_pool import cores, over_cases
from segan_pl.data.case_table import CaseRow
from segan_pl.data.checking_case import check_case
from segan_pl.data.checking_summary import data_set_notes, duplicate_groups, summary
from segan_pl.data.cohort import Missing
from segan_pl.data.labels import Convention, fitting_conventions
from segan_pl.data.layouts import DataSet
from segan_pl.data.progress import shown
from segan_pl.data.volume import Case

FORMAT = 1  # of the JSON; a key that goes or changes its meaning makes another number


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
            "versions": versions(),
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
    """
    start = time.monotonic()
    work = partial(check_case, convention=convention, modalities=tuple(modalities), missing=missing)
    rows: list[CaseRow] = []
    with shown(len(cases), "checking", "checked", enabled=progress) as advance:
        for case, row in over_cases(work, cases, workers=workers or cores()):
            rows.append(row or _killed(case))
            advance()
    rows.sort(key=lambda row: row.name)
    rows = rows if convention else _without_convention(rows)
    groups = duplicate_groups(rows)
    return CheckReport(
        rows=tuple(rows),
        convention=convention,
        modalities=tuple(modalities),
        missing=missing,
        duplicates=groups,
        notes=(*notes, *data_set_notes(rows, convention, groups)),
        seconds=time.monotonic() - start,
    )


def versions() -> dict[str, str]:
    """What read the files."""
    return {
        "segan_pl": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in ("numpy", "nibabel")},
    }


def _killed(case: Case) -> CaseRow:
    """A case that took its process with it."""
    fault = "its process was killed, perhaps for memory; look at its files' sizes, or check it where there is more"
    files = {part: str(path) for part, path in {**case.images, **({"mask": case.mask} if case.mask else {})}.items()}
    return CaseRow(case.name, case.patient, case.grade, case.institution, files=files, faults=(fault,))


def _without_convention(rows: Sequence[CaseRow]) -> list[CaseRow]:
    """Refuse every case with a mask, because nothing says what its labels mean."""
    found = sorted({label for row in rows for label in row.labels})
    fault = (
        f"nothing says what the masks' labels mean; together they hold {found}: state it with --data.native_labels "
        f"({', '.join(fitting_conventions(found)) or 'none'} would fit)"
    )
    return [replace(row, faults=(*row.faults, fault)) if "mask" in row.files else row for row in rows]
