"""Many runs compared with each other or with one of them: every comparison, corrected for their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from segan_pl.data.case import CaseError
from segan_pl.errors import UsageError, nearest
from segan_pl.evaluation.metrics.named import ALIASES
from segan_pl.evaluation.statistics.comparison import Comparison, compare
from segan_pl.evaluation.statistics.paired import LEVEL, holm, least_p
from segan_pl.evaluation.statistics.seeds import Entry, Spread, grouping_notes, known_patients
from segan_pl.evaluation.statistics.study_notes import (
    Note,
    case_notes,
    origin_notes,
    unknown_notes,
    with_status,
)

Verdict = Literal["better", "worse", "differs", "not shown", "not tested", "not decided"]


@dataclass(frozen=True)
class Line:
    """One comparison of a study: a run against another, in one metric and region.

    Attributes:
        metric: Column of the score table.
        region: In lower case.
        run: Name of run a of `found`.
        against: Name of run b.
        found: The comparison; its difference is run - against.
        permutation_holm: Holm's adjusted p over the study; None where it was not computed.
        wilcoxon_holm: The same of the other test.
        spread_run: Of the run's seeds; None unless there are several.
        spread_against: The same of the other.
        undecided: Cases that one of the two runs handed nothing in for, and that left because the metric has no value
            for that: a run could win by them.
        higher_is_better: Of the metric; None where nobody says it.
    """

    metric: str
    region: str
    run: str
    against: str
    found: Comparison
    permutation_holm: float | None
    wilcoxon_holm: float | None
    spread_run: Spread | None = None
    spread_against: Spread | None = None
    undecided: tuple[str, ...] = ()
    higher_is_better: bool | None = True

    @property
    def verdict(self) -> Verdict:
        """By the permutation test after Holm; "not shown" does not mean equal."""
        if self.permutation_holm is None:
            return "not tested"
        if self.undecided:
            return "not decided"
        if self.permutation_holm > LEVEL:
            return "not shown"
        if self.higher_is_better is None:
            return "differs"
        return "better" if (self.found.difference > 0) == self.higher_is_better else "worse"


@dataclass(frozen=True)
class Study:
    """All comparisons made at once.

    Attributes:
        entries: The runs, in the order given.
        lines: By metric, region and pair.
        notes: What was left out, and what the numbers do not say.
        given: Distinct cases of all runs.
        used: Those that every run has scored.
        refused: Those whose prediction `evaluate` refused in a run.
        seed: Of the resampling.
        resamples: Of the bootstrap and the sampled permutation test.
    """

    entries: tuple[Entry, ...]
    lines: tuple[Line, ...]
    notes: tuple[Note, ...]
    given: int
    used: int
    refused: int
    seed: int
    resamples: int

    @property
    def tested(self) -> int:
        """Comparisons that Holm's correction is over."""
        return sum(line.found.permutation_p is not None for line in self.lines)


def study(
    entries: Sequence[Entry],
    *,
    metrics: Sequence[str] = ("dice",),
    regions: Sequence[str] = ("all",),
    reference: str | None = None,
    seed: int = 0,
    resamples: int = 10_000,
) -> Study:
    """Compare every pair of runs, or every run with a reference, over the cases that all runs have.

    Args:
        entries: At least two.
        metrics: Columns of the score tables.
        regions: Names, or "all" of those that every run has.
        reference: Name of the run that the others are compared with; None compares all pairs, later with earlier.
        seed: Of every resampling.
        resamples: Of the bootstrap and the sampled permutation test.

    Raises:
        UsageError: One run only, or an unknown metric, region or reference.
        CaseError: No common case, or runs scored against different references.
    """
    pairs = _pairs(entries, reference)
    metrics, regions = _known_metrics(entries, metrics), _known_regions(entries, regions)
    refused = {case for entry in entries for case in with_status(entry, "refused", entry.held, regions)}
    common = sorted(frozenset.intersection(*(entry.cases for entry in entries)))
    if not common:
        held = "; ".join(f"{e.name}: {len(e.cases)}, e.g. {min(e.cases)}, from {e.runs[0].table.path}" for e in entries)
        raise CaseError(f"no case is in every run ({held}); compare runs that were scored on the same cases")
    used = [case for case in common if case not in refused]
    _require_same_references(entries, common)
    _require_same_definitions(entries, metrics)
    directions = {metric: _direction(entries, metric) for metric in metrics}
    patients = known_patients(entries)
    made = []
    for metric, region in ((metric, region) for metric in metrics for region in regions):
        better = directions[metric]
        for run, against in pairs:
            a, b = (entry.scores(metric, region, used, patients) for entry in (run, against))
            found = compare(a, b, higher_is_better=better, seed=seed, resamples=resamples)
            left_out = {*found.unavailable, *found.unpaired}
            counted = [score.case for score in a if score.case not in left_out]
            spreads = [entry.spread(metric, region, counted, patients) for entry in (run, against)]
            # pairs that left because one of the two, and not the other, lacks the prediction
            failed = [set(with_status(entry, "missing", found.unavailable, [region])) for entry in (run, against)]
            undecided = tuple(sorted(failed[0] ^ failed[1]))
            made.append((metric, region, run.name, against.name, found, spreads, undecided, better))
    permutation, wilcoxon = holm([one[4].permutation_p for one in made]), holm([one[4].wilcoxon_p for one in made])
    lines = tuple(
        Line(*one[:5], p, w, one[5][0], one[5][1], *one[6:])
        for one, p, w in zip(made, permutation, wilcoxon, strict=True)
    )
    notes = [
        *case_notes(entries, used, regions, metrics),
        *unknown_notes(used, patients, directions),
        *_line_notes(lines, resamples),
    ]
    notes += [Note(text) for text in grouping_notes(entries)] + origin_notes(entries, used, regions, metrics)
    given = len(frozenset[str]().union(*(entry.held for entry in entries)))
    return Study(tuple(entries), lines, tuple(notes), given, len(used), len(refused), seed, resamples)


def _pairs(entries: Sequence[Entry], reference: str | None) -> list[tuple[Entry, Entry]]:
    """Run and what it is compared with."""
    if len(entries) < 2:
        raise UsageError("one run alone cannot be compared; give two or more (a group name=RUN,RUN counts as one)")
    if reference is None:
        return [(later, earlier) for earlier, later in combinations(entries, 2)]
    names = [entry.name for entry in entries]
    if reference not in names:
        raise UsageError(f"--reference {reference} is none of the runs; {nearest(reference, names)}")
    base = entries[names.index(reference)]
    return [(entry, base) for entry in entries if entry is not base]


def _known_metrics(entries: Sequence[Entry], asked: Sequence[str]) -> list[str]:
    runs = [run for entry in entries for run in entry.runs]
    asked = [ALIASES.get(metric, metric) for metric in asked]
    for metric in asked:
        for run in runs:
            if metric not in run.metrics:
                raise UsageError(f"{run.table.path} has no metric {metric!r}; {nearest(metric, run.metrics)}")
    return list(dict.fromkeys(asked))


def _known_regions(entries: Sequence[Entry], asked: Sequence[str]) -> list[str]:
    runs = [run for entry in entries for run in entry.runs]
    common = [region for region in runs[0].regions if all(region in run.regions for run in runs)]
    if not common:
        listed = "; ".join(f"{run.table.path}: {', '.join(run.regions)}" for run in runs)
        raise CaseError(f"the runs have no region in common ({listed}); compare runs of one label scheme")
    if list(asked) == ["all"]:
        return common
    for region in asked:
        if region.lower() not in common:
            raise UsageError(f"--region {region} is not in every run; {nearest(region.lower(), common)}")
    return list(dict.fromkeys(region.lower() for region in asked))


def _require_same_references(entries: Sequence[Entry], cases: Sequence[str]) -> None:
    """Refuse scores against different masks: a crop and whole volumes, other labels, other files."""
    # where a tumour lies in the crop, its voxels are as many, and only false ones outside are not counted
    known = [run for entry in entries for run in entry.runs if run.config or run.table.kind == "evaluation"]
    crops = {run.crop: str(run.table.path) for run in known}
    if len(crops) > 1:
        parts = [(f"the central {' x '.join(map(str, crop))}" if crop else "whole volumes") for crop in crops]
        paths = list(crops.values())
        raise CaseError(
            f"{paths[0]} has scores of {parts[0]}, {paths[1]} of {parts[1]}; expected one; score both alike "
            f"(evaluate --score_on, --crop; fit --model.score_on, --model.crop)"
        )
    wanted, first = set(cases), dict[tuple[str, str], tuple[int, str]]()
    for run in (run for entry in entries for run in entry.runs):
        for key, row in run.rows.items():
            if key[1] not in wanted or row.reference is None or row.status.startswith(("missing", "refused")):
                continue
            voxels, path = first.setdefault(key, (row.reference, str(run.table.path)))
            if voxels != row.reference:
                raise CaseError(
                    f"{key[1]}, {key[0]}: the reference has {voxels} voxels (tp + fn) in {path} and {row.reference} in "
                    f"{run.table.path}; expected one reference; score both runs against the same masks"
                )


def _require_same_definitions(entries: Sequence[Entry], metrics: Sequence[str]) -> None:
    """Refuse numbers of one name that mean different things."""
    for metric in metrics:
        found: dict[str, str] = {}
        for run in (run for entry in entries for run in entry.runs):
            if (definition := run.known(metric).definition) is not None:
                found.setdefault(definition, str(run.table.path))
        if len(found) > 1:
            (one, first), (other, second) = list(found.items())[:2]
            raise CaseError(
                f"{metric}: definition {one!r} in {first} and {other!r} in {second}; expected one; evaluate both alike "
                f"(--hd95, --tolerance_mm, --lesions)"
            )


def _direction(entries: Sequence[Entry], metric: str) -> bool | None:
    """Whether more of a metric is better, as the runs' tables say; None where none does."""
    known: dict[bool, str] = {}
    for run in (run for entry in entries for run in entry.runs):
        if (higher := run.known(metric).higher_is_better) is not None:
            known.setdefault(higher, str(run.table.path))
    if len(known) > 1:
        raise CaseError(f"{metric}: more is better in {known[True]} and less in {known[False]}; expected one direction")
    return next(iter(known), None)


def _line_notes(lines: Sequence[Line], resamples: int) -> list[Note]:
    """Pairs without a value, comparisons that were not made, and those that could not have been shown."""
    notes, tested = [], sum(line.found.permutation_p is not None for line in lines)
    for line in lines:
        name = f"{line.metric} {line.region}, {line.run} against {line.against}"
        if gone := line.found.unavailable:
            notes.append(Note(f"{name}: {len(gone)} pairs have no value in a run and are left out", gone))
        if gone := line.undecided:
            text = f"not decided: {len(gone)} missing cases have no value, and handing in nothing must not win"
            notes.append(Note(f"{name}: {text}; evaluate with --policy brats2021 or brats2023", gone))
        if gone := line.found.unpaired:
            notes.append(Note(f"{name}: {len(gone)} cases have the region in one run only and are left out", gone))
        notes += [Note(f"{name}: {text}") for text in line.found.notes]
        used = line.found.wins + line.found.losses
        if line.found.permutation_p is not None and least_p(used) * tested > LEVEL:
            text = f"{used} patients that differ can reach p = {least_p(used):.2g}, Holm over {tested} may ask for"
            notes.append(Note(f"{name}: {text} {LEVEL / tested:.2g}"))
    sampled = any(line.found.permutation_p is not None and not line.found.exact for line in lines)
    if sampled and tested / (resamples + 1) > LEVEL:
        wanted = 10 * round(tested / LEVEL)
        notes.append(Note(f"{tested} tests of {resamples} resamples cannot pass Holm; give --resamples {wanted}"))
    return notes
