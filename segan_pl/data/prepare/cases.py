"""Many cases into the cache: what that takes on the disk, and how each of them ended."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from segan_pl.data.case import Case, CaseError
from segan_pl.data.case_pool import grouped, over_cases, shown
from segan_pl.data.io import read_grid
from segan_pl.data.prepare.cache import Cache, Entry, default_threads
from segan_pl.data.prepare.cache_building import SLACK_BYTES, existing, remove_leftovers
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.errors import UsageError


@dataclass(frozen=True)
class PrepareReport:
    """What became of the cases.

    Attributes:
        given: Number of cases asked for.
        used: Names of those that the cache now holds, in the order given.
        refused: (name, one line that says why), in the order given.
        built: How many of `used` this call built; other processes may have built further ones.
        notes: What the preparation of the used cases noted; one line for all cases that share a note.
    """

    given: int
    used: tuple[str, ...]
    refused: tuple[tuple[str, str], ...]
    built: int
    notes: tuple[str, ...]

    def summary(self) -> str:
        """The line that ends every command that works through cases."""
        return f"{self.given} given, {len(self.used)} used, {len(self.refused)} refused"

    def lines(self) -> list[str]:
        """Notes, refusals, and the summary last."""
        return [
            *(f"note: {note}" for note in self.notes),
            *(f"refused: {why}" for _, why in self.refused),
            self.summary(),
        ]

    def require_all(self) -> None:
        """Raise CaseError, with the reasons, where a case cannot be used."""
        if self.refused:
            raise CaseError(f"{self.summary()}: {'; '.join(why for _, why in self.refused)}")


@dataclass(frozen=True)
class _Outcome:
    """One case's end; crosses process borders."""

    built: bool = False
    notes: tuple[str, ...] = ()
    refusal: str | None = None


def prepare_all(cases: Sequence[Case], cache: Cache, workers: int = 1, progress: bool = True) -> PrepareReport:
    """Build the entries that are missing or damaged; a case that cannot be used is reported, the others are finished.

    Args:
        cases: Names are unique.
        cache: Where to.
        workers: Processes; 1 works in this one. They are spawned, so a script needs its `__main__` guard.
        progress: Show a bar on a terminal, and a line every so often elsewhere (both on stderr).

    Raises:
        CaseError: The disk has no room for all of them; nothing is begun.
        UsageError: `workers` is below 1.
    """
    if workers < 1:
        raise UsageError(f"--data.prepare_workers {workers}: expected at least 1")
    outcomes = _held(cases, cache)
    missing = [case for case in cases if case.name not in outcomes]
    needed = need(missing, cache)
    # An upper bound refuses nothing: each entry is weighed as it comes.
    if not needed.fits and not needed.bounded:
        raise CaseError(
            f"the disk of the cache {needed.directory} is too full: {size(needed.total)} needed for "
            f"{len(needed.missing)} cases, {size(needed.free)} free; make room, or set SEGAN_PL_CACHE or "
            f"--data.cache_dir to another folder"
        )
    with shown(len(missing), enabled=progress) as advance:
        for name, outcome in _outcomes(missing, cache, workers):
            outcomes[name] = outcome
            advance()
    ordered = [(case.name, outcomes[case.name]) for case in cases]
    return PrepareReport(
        given=len(ordered),
        used=tuple(name for name, outcome in ordered if outcome.refusal is None),
        refused=tuple((name, outcome.refusal) for name, outcome in ordered if outcome.refusal is not None),
        built=sum(outcome.built for _, outcome in ordered),
        notes=grouped((name, note) for name, outcome in ordered for note in outcome.notes),
    )


def _held(cases: Sequence[Case], cache: Cache) -> dict[str, _Outcome]:
    """Outcomes of the cases whose entries are there already, read in threads; no process is started for those."""

    def look(case: Case) -> _Outcome | None:
        try:
            entry = cache.find(case)
        except CaseError as error:
            return _Outcome(refusal=str(error))
        return _outcome(entry) if entry else None

    with ThreadPoolExecutor(default_threads()) as pool:
        found = zip(cases, pool.map(look, cases), strict=True)
        return {case.name: outcome for case, outcome in found if outcome is not None}


def _outcomes(cases: Sequence[Case], cache: Cache, workers: int) -> Iterator[tuple[str, _Outcome]]:
    """Each case's outcome as it comes; an interruption ends all processes at once, finished entries stay."""
    try:
        for case, outcome in over_cases(partial(_build, cache), cases, workers=workers):
            why = f"{case.name}: the process that prepared it was killed, perhaps for memory; free some and start again"
            yield case.name, outcome or _Outcome(refusal=why)
    except BaseException:
        remove_leftovers(cache.building)
        raise


def _build(cache: Cache, case: Case) -> _Outcome:
    """One case, with its refusal as a value, so that it neither stops the others nor needs to be pickled."""
    try:
        return _outcome(cache.entry(case))
    except CaseError as error:
        return _Outcome(refusal=str(error))
    except MemoryError:
        return _Outcome(refusal=f"{case.name}: not enough memory; use fewer workers")


def _outcome(entry: Entry) -> _Outcome:
    repaired = (f"its cache entry was damaged ({entry.repaired}) and is rebuilt",) if entry.repaired else ()
    case = entry.record["case"]
    return _Outcome(entry.built, (*(f"{case}: {note}" for note in repaired), *entry.record["notes"]))


# Of the two arrays, and a sidecar of the usual size.
HEADERS_BYTES = 2 * 128 + 4096
# A voxel: float16, uint8.
IMAGE_BYTES, LABEL_BYTES = 2, 1


@dataclass(frozen=True)
class Need:
    """What the cache lacks.

    Attributes:
        directory: Of the cache.
        held: Names of the cases that are there.
        missing: Name of a case that is not to the bytes that its entry will take.
        refused: (name, one line that says why) of cases whose headers cannot be read.
        bounded: Whether `missing` is only an upper bound, since the crop depends on the voxels.
        free: Bytes on the cache's disk.
    """

    directory: Path
    held: tuple[str, ...]
    missing: Mapping[str, int]
    refused: tuple[tuple[str, str], ...]
    bounded: bool
    free: int

    @property
    def total(self) -> int:
        """Bytes of all missing entries."""
        return sum(self.missing.values())

    @property
    def fits(self) -> bool:
        """Whether the disk has room for them."""
        return not self.missing or self.total + SLACK_BYTES <= self.free

    def lines(self) -> list[str]:
        """What is there, what would come, whether it fits; "N given, M used, K refused" last."""
        used, sizes, verdict = len(self.held) + len(self.missing), "", ""
        if self.missing:
            least, most = min(self.missing.values()), max(self.missing.values())
            each = size(most) if size(least) == size(most) else f"{size(least)} to {size(most)}"
            sizes = f", {'at most ' if self.bounded else ''}{each} each, {size(self.total)} in all"
            verdict = "; it fits" if self.fits else f"; it {'may' if self.bounded else 'does'} not fit"
        return [
            f"there already: {len(self.held)} cases",
            f"to build: {len(self.missing)} cases{sizes}",
            f"free: {size(self.free)} on the disk of {existing(self.directory)}{verdict}",
            *(f"refused: {why}" for _, why in self.refused),
            f"{used + len(self.refused)} given, {used} used, {len(self.refused)} refused",
        ]


def need(cases: Sequence[Case], cache: Cache) -> Need:
    """What the cache lacks of the cases; reads their headers and the sidecars that are there, writes nothing."""
    held: list[str] = []
    missing: dict[str, int] = {}
    refused: list[tuple[str, str]] = []
    for case in cases:
        try:
            if cache.lists(case):
                held.append(case.name)
            else:
                missing[case.name] = entry_bytes(case, cache.preparation)
        except CaseError as error:
            refused.append((case.name, str(error)))
    return Need(
        directory=cache.directory,
        held=tuple(held),
        missing=missing,
        refused=tuple(refused),
        bounded=isinstance(cache.preparation.crop, str),
        free=shutil.disk_usage(existing(cache.directory)).free,
    )


def entry_bytes(case: Case, preparation: Preparation) -> int:
    """Bytes of a case's entry, at most where the crop depends on the voxels.

    Raises:
        CaseError: There is no image, or the header of the first one cannot be read.
    """
    if not case.images:
        raise CaseError(f"{case.name}: no image found, expected at least one modality; complete the case or drop it")
    shape: Sequence[int]
    if preparation.crop is None or isinstance(preparation.crop, str):
        try:
            grid = read_grid(next(iter(case.images.values())))
        except CaseError as error:
            raise CaseError(f"{case.name}: {error}") from error
        shape = preparation.target_grid(case.name, grid.shape, grid.affine).target_shape
    else:
        shape = preparation.crop
    masks = case.mask is not None
    return math.prod(shape) * (IMAGE_BYTES * len(case.images) + LABEL_BYTES * masks) + HEADERS_BYTES


def size(count: float) -> str:
    """Bytes for people: "33.2 MB", "11.2 GB"."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
