"""A plan on a data set: what is asked for, one split for all runs, and a manifest of the cases that are scored."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from segan_pl.data.case import ordered
from segan_pl.data.cohort import Cohort
from segan_pl.data.split.choice import SplitChoice, UnlabelledCases
from segan_pl.data.split.drawing import stratified_folds
from segan_pl.data.split.files import ALL_PARTS
from segan_pl.data.split.record import Split, Val, case_digest, load_folds, some
from segan_pl.errors import UsageError, nearest
from segan_pl.experiments.plan.placeholders import VARIABLE, Names, text, without
from segan_pl.experiments.plan.plan import Plan, TablePlan
from segan_pl.experiments.runs import Run
from segan_pl.experiments.study_files import study_output
from segan_pl.files import csv_text


@dataclass(frozen=True)
class Study:
    """What is asked for.

    Attributes:
        plan: Its values are those of the command line.
        directory: The study's folder, absolute.
        root: Of the data, absolute.
        modalities: Of the data.
        data: Arguments of `fit` that say which data set, e.g. ("--data.root", "/data").
        labels: What the cases are scored by, e.g. "whole_tumour".
        configs: Names or paths of further configuration files of every fit.
        extra: Arguments of every fit, last.
        seeds: Everything is run once for each.
        tables: Names of those that are asked for; None for all that the data allow.
        has_test: Whether the split has a test part, which is then what is scored.
    """

    plan: Plan
    directory: Path
    root: str
    modalities: tuple[str, ...]
    data: tuple[str, ...]
    labels: str = "whole_tumour"
    configs: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    tables: tuple[str, ...] | None = None
    has_test: bool = False

    @property
    def lacking(self) -> tuple[str, ...]:
        """The plan's modalities that the data do not have."""
        return tuple(one for one in self.plan.modalities if one not in self.modalities)

    @property
    def names(self) -> Names:
        """What placeholders mean; a modality that the data lack is in no list."""
        known = {name: without(value, self.lacking) for name, value in self.plan.values.items()}
        there = self.plan.modalities or self.modalities
        places = {"root": self.root, "output": str(self.directory)}
        return {**known, "modalities": without(list(there), self.lacking), **places, "labels": self.labels}

    def text(self, template: str) -> str:
        """A text of the report with its placeholders filled; of what has no value it says so.

        Raises:
            UsageError: It names something that is not there.
        """
        return text(template, {name: "not given" if value is None else value for name, value in self.names.items()})

    @property
    def shown(self) -> list[TablePlan]:
        """The tables that are asked for, in the plan's order."""
        return [one for name, one in self.plan.tables.items() if self.tables is None or name in self.tables]


# -- cases -------------------------------------------------------------------------------------------------------------


def study_splits(
    plan: Plan, choice: SplitChoice, cohort: Cohort, file: Path, folds: int | None
) -> tuple[list[Split], list[str]]:
    """The split or the folds of a study: those of its file, else drawn now; nothing is written.

    Args:
        plan: Says whether there is one split, folds, or nothing to settle as the runs name their own.
        choice: What the command line asks for.
        cohort: Its cases have all modalities of the study.
        file: Where the study keeps it.
        folds: How many were asked for; None for as many as the split file has, or the plan says.

    Returns:
        The splits, and notes: cases that came since the file was written are not used.

    Raises:
        UsageError: The file holds another split than the command line asks for, or the options contradict each other.
        CaseError: A split names cases that the data lack.
    """
    if plan.split == "none":
        return [], []
    if plan.split == "folds" and choice.fold is not None:
        raise UsageError(f"--data.fold {choice.fold}: all folds are run; leave it out")
    if not file.is_file():
        return _drawn(plan, choice, cohort, folds), []
    val: Val = "free" if plan.split == "named" else "needed"
    kept = load_folds(file, val=val)
    named = frozenset[str]().union(*(fold.named for fold in kept))
    kept = [fold.require_matches(cohort.cases, leftovers="ignore", leaks="allow", val=val) for fold in kept]
    then = replace(cohort, cases=tuple(case for case in cohort.cases if case.name in named))
    asked = _drawn(plan, choice, then, folds)
    parts = [[[set(getattr(one, part)) for part in ALL_PARTS] for one in folds] for folds in (asked, kept)]
    if parts[0] != parts[1]:
        raise UsageError(f"{file} holds another split than these options draw; choose another --output")
    new = sorted(case.name for case in cohort.cases if case.name not in named)
    return kept, [f"{len(new)} cases came after the study's split and are not used: {', '.join(new)}"] if new else []


def _drawn(plan: Plan, choice: SplitChoice, cohort: Cohort, folds: int | None) -> list[Split]:
    if plan.split == "named":
        there = {case.name: case for case in cohort.cases}
        parts: dict[str, tuple[str, ...]] = {}
        seen: dict[str, str] = {}
        for part, given in plan.parts.items():
            value = (
                plan.values.get(match[1]) if isinstance(given, str) and (match := VARIABLE.fullmatch(given)) else given
            )
            if not isinstance(value, list):
                raise UsageError(
                    f"{plan.name}: parts: {part}: expected a list of cases, or a value that is one; found {given}"
                )
            parts[part] = tuple(sorted(map(str, value)))
            for name in parts[part]:
                if name not in there:
                    hint = nearest(name, there)
                    raise UsageError(f"{plan.name}: parts: {part}: no case {name} in {cohort.source.root}; {hint}")
                if name in seen:
                    raise UsageError(
                        f"{plan.name}: parts: case {name} is in {seen[name]} and in {part}; expected it once"
                    )
                if part != "unlabelled" and there[name].mask is None:
                    raise UsageError(f"{plan.name}: parts: {part}: case {name} has no mask; name it under unlabelled")
                seen[name] = part
        # as with a split file: one that names unlabelled cases says which there are, else all without a mask are
        more = sorted(name for name in there.keys() - seen.keys() if there[name].mask is None)
        parts.setdefault("unlabelled", tuple(more))
        left = sorted(there.keys() - seen.keys() - set(parts["unlabelled"]))
        notes = (f"{len(left)} cases are in no part of the plan and not used: {some(left)}",) if left else ()
        split = Split(parts["train"], (), parts["test"], notes=notes, unlabelled=parts["unlabelled"])
        return [replace(split, digest=case_digest(case for case in cohort.cases if case.name in split.named))]
    if plan.split == "one":
        return [choice.choose(cohort, UnlabelledCases(split_seed=choice.seed), None, "")]
    if choice.file is None:
        test, by, seed = choice.test_fraction, choice.stratify_by, choice.seed
        return stratified_folds(cohort.cases, folds=plan.values["folds"], test_fraction=test, by=by, seed=seed)
    found = load_folds(Path(choice.file).expanduser())
    if len(found) < 2 or folds not in (None, len(found)):
        held = f"{choice.file} holds {len(found)}"
        raise UsageError(f"{held}; expected {folds or 'several'} folds; make them with segan_pl split --folds")
    cases, dropped, leftovers, leaks = cohort.cases, cohort.dropped, choice.leftovers, choice.leaks
    return [fold.require_matches(cases, dropped=dropped, leftovers=leftovers, leaks=leaks) for fold in found]


def training_split(split: Split, cohort: Cohort) -> Split:
    """The split without its test part: what the runs that train are told of."""
    digest = case_digest(case for case in cohort.cases if case.name in {*split.train, *split.val, *split.unlabelled})
    return replace(split, test=(), digest=digest)


def require_labelled(runs: Sequence[Run], split: Split) -> None:
    """Refuse runs that ask for another number of labelled cases than the split has, before any starts.

    Raises:
        UsageError: One does.
    """
    for run in runs:
        for option in ("--data.n_labelled", "--n_labelled"):
            if option in run.arguments:
                asked = run.arguments[run.arguments.index(option) + 1]
                if not (asked.isdigit() and 1 <= int(asked) <= len(split.train)):
                    raise UsageError(
                        f"run {run.name}: {asked} labelled cases; expected a whole number from 1 to "
                        f"{len(split.train)}, the cases to train on"
                    )


def write_manifest(cohort: Cohort, names: Collection[str], file: Path) -> None:
    """Write a CSV manifest of some cases, for `segan_pl predict` and `segan_pl evaluate`."""
    modalities = ordered(modality for case in cohort.cases for modality in case.images)
    columns = ["case", "patient", "grade", "institution", *modalities, "mask", "native_labels"]
    labels = cohort.scheme.convention.name if cohort.scheme else ""
    rows = []
    for case in (case for case in cohort.cases if case.name in names):
        files = {modality: str(path.resolve()) for modality, path in case.images.items()}
        facts = {"case": case.name, "patient": case.patient, "grade": case.grade, "institution": case.institution}
        mask = str(case.mask.resolve()) if case.mask else ""
        rows.append(
            {name: value or "" for name, value in facts.items()} | files | {"mask": mask, "native_labels": labels}
        )
    study_output(file.parent, file.name).write(csv_text(rows, columns))
