"""The cases of a study of many runs: one split for all of them, and a manifest of those that are scored."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path

from segan_pl.data.cohort import Cohort
from segan_pl.data.split_record import Split, load_folds, save_folds
from segan_pl.data.volume import MODALITIES, Case
from segan_pl.errors import UsageError
from segan_pl.files import write_whole

Draw = Callable[[Sequence[Case]], list[Split]]


def settled(cohort: Cohort, draw: Draw, file: Path) -> tuple[list[Split], list[str]]:
    """The study's split or folds: those of its file, else drawn now; nothing is written.

    Args:
        cohort: Its cases have all modalities of the study.
        draw: What the command line asks for, over some cases.
        file: Where the study keeps it.

    Returns:
        The splits, and notes: cases that came since the file was written are not used.

    Raises:
        UsageError: The file holds another split than the command line asks for.
        CaseError: It names cases that the data lack, or `draw` cannot.
    """
    if not file.is_file():
        return draw(cohort.cases), []
    kept = load_folds(file)
    named = frozenset[str]().union(*(fold.named for fold in kept))
    kept = [fold.require_matches(cohort.cases, leftovers="ignore", leaks="allow") for fold in kept]
    asked = draw([case for case in cohort.cases if case.name in named])
    if [_parts(fold) for fold in asked] != [_parts(fold) for fold in kept]:
        raise UsageError(f"{file} holds another split than these options draw; choose another --output")
    new = sorted(case.name for case in cohort.cases if case.name not in named)
    return kept, [f"{len(new)} cases came after the study's split and are not used: {', '.join(new)}"] if new else []


def _parts(split: Split) -> tuple[frozenset[str], ...]:
    return frozenset(split.train), frozenset(split.val), frozenset(split.test)


def keep(splits: Sequence[Split], file: Path) -> None:
    """Write the study's split or folds, once."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        save_folds(splits, file)


def scored_part(split: Split) -> str:
    """The part whose cases are scored: "test" where the split has one, else "val"."""
    return "test" if split.test else "val"


def write_manifest(cohort: Cohort, names: Sequence[str], file: Path) -> None:
    """Write a CSV manifest of some cases, for `segan_pl predict` and `segan_pl evaluate`."""
    text = io.StringIO()
    columns = ["case", "patient", "grade", "institution", *MODALITIES, "mask", "native_labels"]
    writer = csv.DictWriter(text, columns, lineterminator="\n", restval="")
    writer.writeheader()
    wanted = set(names)
    for case in cohort.cases:
        if case.name in wanted:
            writer.writerow(_row(case) | {"native_labels": cohort.scheme.convention.name if cohort.scheme else ""})
    write_whole(file, text.getvalue())


def _row(case: Case) -> dict[str, str]:
    files = {modality: str(path.resolve()) for modality, path in case.images.items()}
    facts = {"case": case.name, "patient": case.patient, "grade": case.grade, "institution": case.institution}
    mask = {"mask": str(case.mask.resolve())} if case.mask else {}
    return {name: value or "" for name, value in facts.items()} | files | mask
