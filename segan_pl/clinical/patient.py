"""One visit of a patient and what is kept of it; what fails stops this patient alone."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from segan_pl.clinical.series import without_paths
from segan_pl.clinical.work import Settings, Visit, Work
from segan_pl.data.case import MODALITIES, CaseError
from segan_pl.errors import UsageError
from segan_pl.files import write_whole

# Of records; another number where what is computed, or what a record holds, changes.
FORMAT = 2


class Outcome(NamedTuple):
    """What became of a visit: modality to file, how long it took, and why it was refused (empty where it was not)."""

    files: dict[str, Path]
    seconds: float
    warnings: tuple[str, ...]
    refused: str
    kept: bool = False


class Pipeline(Settings):
    """Prepares visits, each of which may fail alone."""

    def prepare(self, visit: Visit) -> Outcome:
        """Align, resample, mask and write one visit, its record last; a refused one leaves its quality page alone.

        Raises:
            UsageError: A package is not installed.
        """
        start = time.monotonic()
        try:
            return self._prepared(visit, start)
        except UsageError:
            raise
        except Exception as error:  # whatever it is, the other patients go on
            return Outcome({}, time.monotonic() - start, (), _why(visit, error))

    def _prepared(self, visit: Visit, start: float) -> Outcome:
        record, identity = self.record_of(visit.case), self._identity(visit)
        if record.is_file():
            held = _read(record)
            if held.get("identity") == identity:
                return Outcome(
                    self.files_of(visit.case, held["modalities"]), 0.0, tuple(held["warnings"]), "", kept=True
                )
            if not self.overwrite:
                why = (
                    f"{visit.case}: was prepared from other series or settings, or by another version (or is another "
                    f"visit: give all visits in one --root, with the same --pseudonyms); --overwrite true, or another "
                    f"--output"
                )
                return Outcome({}, 0.0, (), why)
        self._clear(visit.case)
        work = Work(self, visit)
        refused = ""
        try:
            work.run()
        except UsageError:
            raise
        except Exception as error:
            refused = _why(visit, error)
        write_whole(self.output / "quality" / f"{visit.case}.html", work.page(refused))
        if refused:
            self._clear(visit.case)
            return Outcome({}, time.monotonic() - start, tuple(work.warnings), refused)
        write_whole(record, json.dumps({"format": FORMAT, "identity": identity, **work.record()}, indent=1))
        files = self.files_of(visit.case, work.images)
        return Outcome(files, time.monotonic() - start, tuple(work.warnings), "")

    def _clear(self, case: str) -> None:
        """Remove all that was made of a case, its masks too, which would be sent back as if they were the new one's."""
        segmentation = self.output / "segmentations" / f"{case}.nii.gz"
        made = self.files_of(case, MODALITIES).values()
        for file in (self.record_of(case), *made, self.brain_of(case), segmentation):
            file.unlink(missing_ok=True)
        if (native := self.output / "native" / case).is_dir():
            shutil.rmtree(native)

    def _identity(self, visit: Visit) -> str:
        """A digest of all that the result follows from, but for the packages' versions."""
        sizes = {
            name: [one.key, *(file.stat().st_size for file in one.files)] for name, one in sorted(visit.series.items())
        }
        extra = [path.stat().st_size for path in (visit.mask, self.atlas) if path]
        settings = [self.brain, self.masks_on, self.interpolation, sorted(self.fill.items()), str(self.atlas)]
        return hashlib.sha256(json.dumps([FORMAT, sizes, extra, settings]).encode()).hexdigest()


def _read(record: Path) -> Mapping[str, Any]:
    """A record, empty where a case's is none, which is then another one's."""
    try:
        held = json.loads(record.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return held if isinstance(held, dict) else {}


def _why(visit: Visit, error: Exception) -> str:
    """Why a visit is refused, in one line that names no file of its series."""
    files = [path for one in visit.series.values() for path in one.files] + [path for path in (visit.mask,) if path]
    said = without_paths(error, files)
    if isinstance(error, MemoryError):
        said = said or "not enough memory"
    elif not isinstance(error, (CaseError, OSError, RuntimeError)):
        said = f"{type(error).__name__}: {said}"
    return f"{visit.case}: {said}"
