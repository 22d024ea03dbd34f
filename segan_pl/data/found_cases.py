"""The cases of a folder: found, parted, prepared into a cache, and opened by their row."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.case import MODALITIES, Case, Geometry, PreparedCase
from segan_pl.data.case_pool import cores
from segan_pl.data.cohort import Cohort, Missing, find_cohort
from segan_pl.data.conventions import Stated, label_convention
from segan_pl.data.labels import LabelScheme, require_target
from segan_pl.data.layouts import find_data_set
from segan_pl.data.prepare.cache import Cache, default_directory, usual_directory
from segan_pl.data.prepare.cache_entry import native_labels
from segan_pl.data.prepare.cases import PrepareReport, prepare_all
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.data.sample.case_index import CaseIndex, index_case
from segan_pl.data.scan import Scan, seen
from segan_pl.data.source import Part
from segan_pl.data.split.choice import SplitChoice, UnlabelledCases, part_table
from segan_pl.data.split.record import Split


class FoundCases:
    """What `MRIDataModule` knows of its cases; the arguments are its options."""

    def __init__(
        self,
        root: str,
        *,
        layout: str,
        modalities: Sequence[str] | None,
        labels: str,
        native_labels: Stated,
        preparation: Preparation | None,
        cache_dir: str | None,
        missing: Missing,
        origin_tolerance_mm: float,
        split_choice: SplitChoice,
        unlabelled: UnlabelledCases,
        prepare_workers: int | None,
    ) -> None:
        self.root = Path(root).expanduser()
        self.layout = layout
        self.modalities = tuple(modalities or MODALITIES)
        convention = None if native_labels == "auto" else label_convention(native_labels).name
        require_target(labels, convention)
        self.labels = labels
        self.native_labels = native_labels
        self.preparation = preparation or Preparation()
        self.cache_dir = cache_dir
        self.cache = Cache(cache_dir or default_directory(), self.preparation)
        self.missing: Missing = missing
        self.origin_tolerance_mm = origin_tolerance_mm
        self.split_choice = split_choice
        self.unlabelled = unlabelled
        self.prepare_workers = cores() if prepare_workers is None else prepare_workers
        self.saved_split: Path | None = None
        self.split_owner = "the run's own"
        self.split: Split | None = None
        self._cohort: Cohort | None = None
        self._indices: dict[int, CaseIndex] = {}
        self._scans: dict[int, Scan | None] = {}
        self._natives: dict[int, tuple[Geometry, Path | None]] = {}

    @property
    def cohort(self) -> Cohort:
        """The cases of the folder, found on first use; reads no voxel.

        Raises:
            CaseError: As `find_cohort`.
        """
        if self._cohort is None:
            self._cohort = find_cohort(
                self.root,
                self.layout,
                modalities=self.modalities,
                labels=self.labels,
                native_labels=self.native_labels,
                missing=self.missing,
                unlabelled=self.unlabelled.unlabelled == "use",
                origin_tolerance_mm=self.origin_tolerance_mm,
            )
        return self._cohort

    @property
    def cases(self) -> tuple[Case, ...]:
        """The cases that are used, by name; `Batch.case` is a row of it."""
        return self.cohort.cases

    @property
    def background(self) -> float:
        """The prepared value of padding."""
        return self.preparation.background

    @property
    def scheme(self) -> LabelScheme:
        """Native labels to channels."""
        scheme = self.cohort.scheme
        assert scheme is not None  # every case has a mask
        return scheme

    def find(self) -> None:
        """Find the cases and split them.

        Raises:
            CaseError: No cases, an incomplete case with `missing="refuse"`, or a split made for other data.
        """
        if self.split is None:
            self.split = self.split_choice.choose(self.cohort, self.unlabelled, self.saved_split, self.split_owner)
            self._rows = {case.name: row for row, case in enumerate(self.cases)}

    def case_table(self) -> list[dict[str, str]]:
        """One row for each case found, as `part_table`."""
        assert self.split is not None
        return part_table(self.cohort, self.split, self.modalities)

    def rows(self, part: Part) -> list[int]:
        """Rows of the case table that belong to a part of the split."""
        assert self.split is not None
        return [self._rows[name] for name in getattr(self.split, part)]

    @property
    def test_part(self) -> Part:
        """What `test` scores: the test cases, or the validation cases where there are none (as the paper did)."""
        assert self.split is not None
        return "test" if self.split.test else "val"

    def notes(self) -> list[str]:
        """What a user must know of the data: cases left out, columns missing, strata too small."""
        assert self.split is not None
        notes = [*self.cohort.notes(), *self.split.notes]
        if not (self.cache_dir or os.environ.get("SEGAN_PL_CACHE") or self.cache.directory == usual_directory()):
            notes.append(
                f"{usual_directory()} cannot be written; prepared cases go to {self.cache.directory}; "
                f"--data.cache_dir or SEGAN_PL_CACHE names another folder"
            )
        return notes

    def prepare(self, cases: Sequence[Case] | None = None) -> PrepareReport:
        """Prepare cases into the cache; all that the layout finds, complete or not, unless some are named."""
        if cases is None:
            cases = find_data_set(self.root, self.layout).tolerating(self.origin_tolerance_mm).cases
        return prepare_all(cases, self.cache, workers=self.prepare_workers)

    def look(self, rows: Sequence[int]) -> None:
        """Look once at each of some prepared cases; from here on the sources may be gone."""
        # In threads; a damaged one is rebuilt when it is opened.
        self.cache.verify([self.cases[row] for row in rows])
        for row in rows:
            self.index(row)

    def open(self, row: int) -> PreparedCase:
        """The prepared case of a row, memory-mapped; its labels are checked against the scheme."""
        opened = self._opened(row)
        self.scheme.require_known(opened.labels, opened.name)
        return opened

    def index(self, row: int) -> CaseIndex:
        """What is kept of a prepared case without its voxels."""
        if row not in self._indices:
            opened = self._opened(row)
            self._indices[row], self._scans[row] = index_case(opened, self.scheme), opened.scan
            self._natives[row] = opened.geometry, opened.native
        return self._indices[row]

    def indices(self, rows: Sequence[int]) -> list[CaseIndex]:
        """Those of some cases, their labels checked: here, so that a checkpoint made for others is refused before."""
        for row in rows:
            self.scheme.require_known(self.index(row).labels, self.cases[row].name)
        return [self.index(row) for row in rows]

    def outside(self, row: int) -> NDArray[np.int64]:
        """(C, 2): voxels of the native grid that the crop left out, in and not in each channel's reference."""
        return self.index(row).outside

    def geometry(self, row: int) -> Geometry:
        """The way from a prepared volume back to the grid of the case's files."""
        self.index(row)
        return self._natives[row][0]

    def reference(self, row: int) -> NDArray[np.uint8]:
        """(D, H, W) native labels on the grid of the case's files, out of the cache."""
        self.index(row)
        geometry, file = self._natives[row]
        assert file is not None  # a case without a mask is in no part that is scored
        return native_labels(file, geometry)

    def describe(self) -> dict[str, Any]:
        """What a checkpoint must remember to prepare a new case alike, and to tell one that is unlike its own."""
        found = [self._scans.get(row) for row in self.rows("train")] if self.split else []
        scans = [scan for scan in found if scan is not None]
        # What training cases were like is said of all of them or not at all.
        known = scans and len(scans) == len(found)
        return {
            "modalities": list(self.modalities),
            "labels": self.scheme.target,
            "native_labels": self.scheme.convention.name,
            "preparation": self.preparation.as_dict(),
            **({"seen": seen(scans, self.modalities)} if known else {}),
        }

    def _opened(self, row: int) -> PreparedCase:
        case = self.cases[row]
        return self.cache.open(case, self.modalities, absent=self.cohort.absent.get(case.name, ()))
