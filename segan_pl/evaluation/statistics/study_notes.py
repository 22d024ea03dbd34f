"""What a reader of a comparison must know: cases left out, failures, and what the scores' origin takes from them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from segan_pl.evaluation.statistics.seeds import Entry


class Note(NamedTuple):
    """What a reader must know, and the cases that it is about."""

    text: str
    cases: tuple[str, ...] = ()

    def shown(self, limit: int | None = None) -> str:
        """One line; of more than `limit` cases the first ones and how many more."""
        listed = ", ".join(self.cases[:limit])
        more = f" and {len(self.cases) - limit} more" if limit is not None and len(self.cases) > limit else ""
        return f"{self.text}: {listed}{more}" if self.cases else self.text


def with_status(entry: Entry, status: str, cases: Iterable[str], regions: Sequence[str]) -> list[str]:
    """The cases that have a status in a run of the entry."""
    wanted = set(cases)
    return sorted(
        {
            case
            for run in entry.runs
            for (region, case), row in run.rows.items()
            if case in wanted and region in regions and row.status.startswith(status)
        }
    )


def case_notes(
    entries: Sequence[Entry], used: Sequence[str], regions: Sequence[str], metrics: Sequence[str]
) -> list[Note]:
    """Cases that are left out, and those that count as failures, which a metric may have no value for."""
    notes, common = [], frozenset.intersection(*(entry.cases for entry in entries))
    for entry in entries:
        if surplus := sorted(entry.cases - common):
            notes.append(
                Note(f"{len(surplus)} cases of {entry.name} are not in every run and are left out", (*surplus,))
            )
        if refused := with_status(entry, "refused", entry.held, regions):
            notes.append(Note(f"{len(refused)} predictions of {entry.name} were refused and are left out", (*refused,)))
        if missing := with_status(entry, "missing", used, regions):
            text = f"{len(missing)} predictions of {entry.name} are missing and {_counted(entry, regions, metrics)}"
            notes.append(Note(text, (*missing,)))
    return notes


def _counted(entry: Entry, regions: Sequence[str], metrics: Sequence[str]) -> str:
    """What missing predictions are in each metric."""
    values: dict[str, list[float]] = {metric: [] for metric in metrics}
    for run in entry.runs:
        for (region, _), row in run.rows.items():
            if region in regions and row.status.startswith("missing"):
                for metric in metrics:
                    values[metric].append(row.values[metric])
    without = [metric for metric, found in values.items() if any(math.isnan(value) for value in found)]
    counting = [metric for metric in metrics if metric not in without]
    failure = "count with the failure value in its table"
    if not without:
        return failure
    told = f"have no value in {', '.join(without)}, so their pairs are left out there"
    return f"{failure} in {', '.join(counting)}, but {told}" if counting else told


def unknown_notes(
    used: Sequence[str], patients: Mapping[str, str], directions: Mapping[str, bool | None]
) -> list[Note]:
    """Cases whose patient no table says, and metrics of which nothing says whether more or less is better."""
    notes = []
    if unknown := tuple(case for case in used if case not in patients):
        text = f"no table says the patient of {len(unknown)} cases; each counts as a patient of its own"
        notes.append(Note(text, unknown if len(unknown) < len(used) else ()))
    text = "nothing says whether more or less is better: a win is a higher value, and a difference is no verdict"
    return notes + [Note(f"{metric}: {text}") for metric, higher in directions.items() if higher is None]


def origin_notes(
    entries: Sequence[Entry], used: Sequence[str], regions: Sequence[str], metrics: Sequence[str]
) -> list[Note]:
    """What the scores' origin takes away from them."""
    notes, runs = [], [run for entry in entries for run in entry.runs]
    if any(run.table.kind == "validation" for run in runs):
        notes.append(Note("validation scores chose their own checkpoints and flatter every run; prefer test cases"))
    notes += [Note(f"{e.name}: {seen} ({run.table.path})") for e in entries for run in e.runs if (seen := run.seen())]
    policies = {entry.name: sorted({str(run.policy) for run in entry.runs if run.policy}) for entry in entries}
    if len({policy for found in policies.values() for policy in found}) > 1:
        keys = {(region, case) for region in regions for case in used}
        empty = sum(any(run.rows[k].empty not in ("", "neither") for run in runs if k in run.rows) for k in keys)
        said = "; ".join(f"{name}: {', '.join(found) or 'unknown'}" for name, found in policies.items())
        notes.append(Note(f"policies for empty masks differ ({said}); {empty} cases and regions have an empty mask"))
    for metric in metrics:
        known = [definition for run in runs if (definition := run.known(metric).definition) is not None]
        unsaid = [str(run.table.path) for run in runs if run.known(metric).definition is None]
        if known and unsaid:
            notes.append(Note(f"{metric} is {known[0]!r} where it is said; nothing says which it is in", (*unsaid,)))
    if all(len(entry.runs) == 1 for entry in entries):
        notes.append(Note("one run each: what another seed would change is not in these numbers"))
    return notes
