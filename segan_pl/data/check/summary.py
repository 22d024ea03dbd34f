"""What the rows of the case table say together: distributions, and what is only visible across cases."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from segan_pl.data.case import ordered
from segan_pl.data.check.case_table import CaseRow, rounded, triple
from segan_pl.data.conventions import Convention, fitting_conventions

# Groups of cases with the same content that get a line each.
GROUPS_NAMED = 10
# In place of a grade or an institution that nothing tells.
UNKNOWN = "unknown"
QUARTILES = {"minimum": 0, "lower_quartile": 25, "median": 50, "upper_quartile": 75, "maximum": 100}


def summary(rows: Sequence[CaseRow], convention: Convention | None) -> dict[str, Any]:
    """Counts and distributions over all cases, whatever becomes of them; JSON-ready."""
    status = Counter(row.status for row in rows)
    held = {part for row in rows for part in row.files}
    # Modalities in their usual order, the mask last.
    parts = [*ordered(held - {"mask"}), *(held & {"mask"})]
    return {
        "given": len(rows),
        "used": status["used"],
        "refused": status["refused"],
        "left_out": status["left out"],
        "patients": len({row.patient for row in rows}),
        "files": sum(len(set(row.files.values())) for row in rows),
        "size_bytes": sum(row.size_bytes for row in rows),
        "modalities": {part: sum(part in row.files for row in rows) for part in parts},
        "shapes": _counts(rows, lambda row: [triple(row.shape)] if row.shape else []),
        "spacings_mm": _counts(rows, lambda row: [triple(row.spacing_mm)] if row.spacing_mm else []),
        "orientations": _counts(rows, lambda row: [row.orientation] if row.orientation else []),
        "data_types": _counts(rows, lambda row: row.data_types.values()),
        "labels": _labels(rows, convention),
        "grades": _counts(rows, lambda row: [row.grade or UNKNOWN]),
        "institutions": _counts(rows, lambda row: [row.institution or UNKNOWN]),
        "tumour_ml": quartiles(rows),
        "strata": strata(rows),
    }


def _counts(rows: Iterable[CaseRow], values: Callable[[CaseRow], Iterable[str]]) -> dict[str, int]:
    """Value to its number of occurrences, the most frequent first."""
    counts = Counter(value for row in rows for value in values(row))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _labels(rows: Sequence[CaseRow], convention: Convention | None) -> list[dict[str, Any]]:
    """Each native label that occurs or that the convention knows: its tissue, its cases, its voxels."""
    if not any(row.labels for row in rows):
        return []
    tissues = convention.meanings if convention else {0: "background"}
    found = {label for row in rows for label in row.labels}
    return [
        {
            "label": label,
            "tissue": tissues.get(label),
            "cases": sum(label in row.labels for row in rows),
            "voxels": sum(row.labels.get(label, 0) for row in rows),
        }
        for label in sorted(found | set(tissues))
    ]


def strata(rows: Sequence[CaseRow]) -> list[dict[str, Any]]:
    """Grade x institution: cases, patients and tumour volumes of each pair that occurs."""
    members: dict[tuple[str, str], list[CaseRow]] = defaultdict(list)
    for row in rows:
        members[row.grade or UNKNOWN, row.institution or UNKNOWN].append(row)
    return [
        {
            "grade": grade,
            "institution": institution,
            "cases": len(some),
            "patients": len({row.patient for row in some}),
            "tumour_ml": quartiles(some),
        }
        for (grade, institution), some in sorted(members.items())
    ]


def quartiles(rows: Iterable[CaseRow]) -> dict[str, float] | None:
    """Of the tumour volumes, ml, over the cases that have one; None where none has."""
    volumes = [row.tumour_ml for row in rows if row.tumour_ml is not None]
    if not volumes:
        return None
    values = np.percentile(volumes, list(QUARTILES.values()))
    return {"cases": len(volumes), **{name: rounded(float(v)) for name, v in zip(QUARTILES, values, strict=True)}}


def duplicate_groups(rows: Sequence[CaseRow]) -> tuple[tuple[str, ...], ...]:
    """Groups of cases that share the content of at least one image, directly or through others; by name."""
    group: dict[str, set[str]] = {row.name: {row.name} for row in rows}
    first: dict[str, str] = {}
    for row in rows:
        for part, content in row.contents.items():
            twin = first.setdefault(content, row.name) if part != "mask" else row.name
            if group[twin] is not group[row.name]:
                group[twin] |= group[row.name]
                group.update(dict.fromkeys(group[row.name], group[twin]))
    groups = {min(names): tuple(sorted(names)) for names in group.values() if len(names) > 1}
    return tuple(groups[name] for name in sorted(groups))


def data_set_notes(
    rows: Sequence[CaseRow],
    convention: Convention | None,
    groups: Sequence[Sequence[str]],
    *,
    settled: bool = False,
) -> list[str]:
    """What is only visible across cases.

    Args:
        rows: The case table.
        convention: What the labels mean, or None.
        groups: As `duplicate_groups` finds them.
        settled: Whether the user stated the convention, and needs no advice on others that would fit too.
    """
    by_name = {row.name: row for row in rows}
    notes = []
    for group in groups[:GROUPS_NAMED]:
        some = [by_name[name] for name in group]
        counts = Counter(content for row in some for content in set(row.contents.values()))
        parts = [part for row in some for part, content in row.contents.items() if counts[content] > 1]
        shared = ", ".join(dict.fromkeys(parts))
        whose = "" if len({row.patient for row in some}) == 1 else "; keep them on one side of a split"
        notes.append(f"{listed(group)} have the same content ({shared}){whose}")
    if len(groups) > GROUPS_NAMED:
        notes.append(f"{len(groups) - GROUPS_NAMED} more groups of cases have the same content: --json names all")
    notes = [*notes, *_same_masks(rows, groups)]
    if bare := [row.name for row in rows if "mask" not in row.files]:
        which = "all" if len(bare) == len(rows) else listed(bare)
        notes.append(f"{len(bare)} of {len(rows)} cases have no mask: {which}")
    return [*notes, *_label_notes(rows, convention, settled)]


def _same_masks(rows: Sequence[CaseRow], groups: Sequence[Sequence[str]]) -> list[str]:
    """A line for each of the first groups of cases with one mask, but for those whose images are alike too."""
    by_content: dict[str, list[CaseRow]] = defaultdict(list)
    for row in rows:
        if "mask" in row.contents:
            by_content[row.contents["mask"]].append(row)
    alike = [set(group) for group in groups]
    found = [some for some in by_content.values() if len(some) > 1]
    found = [some for some in found if not any({row.name for row in some} <= group for group in alike)]
    lines = [
        f"{listed([row.name for row in some])} have the same mask, not the same images"
        f"{'' if len({row.patient for row in some}) == 1 else ', and are of several patients'}; is it the right one?"
        for some in found[:GROUPS_NAMED]
    ]
    more = len(found) - GROUPS_NAMED
    return [*lines, *([f"{more} more groups of cases have the same mask: contents in --json"] if more > 0 else [])]


def _label_notes(rows: Sequence[CaseRow], convention: Convention | None, settled: bool) -> list[str]:
    """Tissues that the convention names and no mask holds; conventions that fit where this one does not."""
    found = {label for row in rows for label in row.labels}
    masks = sum(bool(row.labels) for row in rows)
    if convention is None or not found - {0}:
        return []
    fitting = fitting_conventions(found, convention.stated)
    if strange := sorted(found - set(convention.known)):
        if convention.is_mapping:
            return [f"the masks together hold labels {sorted(found)}: {convention.completed(strange)}"]
        return [f"the masks together hold labels {sorted(found)}: {', '.join(fitting) or 'no convention'} would fit"]
    absent = [f"{tissue} (label {label})" for tissue, label in convention.tissues if label not in found]
    others = [name for name in fitting if name != convention.name]
    advice = f"; the labels {sorted(found)} would fit {', '.join(others)} too (--data.native_labels)"
    return [
        f"{tissue} occurs in none of {masks} masks, though '{convention.name}' has it"
        f"{advice if others and not settled else ''}"
        for tissue in absent
    ]


def listed(names: Sequence[str], limit: int = 6) -> str:
    """The first few names, and how many more."""
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
