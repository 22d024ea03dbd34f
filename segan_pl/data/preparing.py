"""Many cases into the cache at once: processes, a progress bar, and a report in which no case is lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from segan_pl.data.cache import Cache, Entry, default_threads
from segan_pl.data.cache_building import remove_leftovers
from segan_pl.data.cache_size import need
from segan_pl.data.case_pool import over_cases
from segan_pl.data.progress import shown
from segan_pl.data.volume import Case, CaseError
from segan_pl.errors import UsageError

EXAMPLES = 3  # cases named in a note that holds for more


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
    need(missing, cache).require_room()
    with shown(len(missing), enabled=progress) as advance:
        for name, outcome in _outcomes(missing, cache, workers):
            outcomes[name] = outcome
            advance()
    return _report([(case.name, outcomes[case.name]) for case in cases])


def _report(ordered: Sequence[tuple[str, _Outcome]]) -> PrepareReport:
    return PrepareReport(
        given=len(ordered),
        used=tuple(name for name, outcome in ordered if outcome.refusal is None),
        refused=tuple((name, outcome.refusal) for name, outcome in ordered if outcome.refusal is not None),
        built=sum(outcome.built for _, outcome in ordered),
        notes=grouped((name, note) for name, outcome in ordered for note in outcome.notes),
    )


def grouped(notes: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """One line a note: "<case>: <note>", or "<n> cases: <note>: a, b, c and others" where more than three share it."""
    cases: dict[str, list[str]] = {}
    for name, note in notes:
        cases.setdefault(note.removeprefix(f"{name}: "), []).append(name)
    lines: list[str] = []
    for note, names in cases.items():
        if len(names) <= EXAMPLES:
            lines += [f"{name}: {note}" for name in names]
        else:
            rest = len(names) - EXAMPLES
            lines.append(f"{len(names)} cases: {note}: {', '.join(names[:EXAMPLES])} and {rest} more")
    return tuple(lines)


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
