"""What the rows of the case table say together: distributions, and what is only visible across cases."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from segan_pl.data.case_table import CaseRow, rounded, triple
from segan_pl.data.labels import Convention, fitting_conventions
from segan_pl.data.volume import MODALITIES

GROUPS_NAMED = 10  # groups of cases with the same content that get a line each
UNKNOWN = "unknown"  # in place of a grade or an institution that nothing tells
QUARTILES = {"minimum": 0, "lower_quartile": 25, "median": 50, "upper_quartile": 75, "maximum": 100}


def summary(rows: Sequence[CaseRow], convention: Convention | None) -> dict[str, Any]:
    """Counts and distributions over all cases, whatever becomes of them; JSON-ready."""
    status = Counter(row.status for row in rows)
    return {
        "given": len(rows),
        "used": status["used"],
        "refused": status["refused"],
        "left_out": status["left out"],
        "patients": len({row.patient for row in rows}),
        "files": sum(len(set(row.files.values())) for row in rows),
        "size_bytes": sum(row.size_bytes for row in rows),
        "modalities": {part: sum(part in row.files for row in rows) for part in _parts(rows)},
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


def _parts(rows: Iterable[CaseRow]) -> list[str]:
    """Modalities in their usual order, strange ones after them, the mask last."""
    held = {part for row in rows for part in row.files}
    return sorted(held, key=lambda part: (part == "mask", _place(part), part))


def _place(part: str) -> int:
    return MODALITIES.index(part) if part in MODALITIES else len(MODALITIES)


def _counts(rows: Iterable[CaseRow], values: Callable[[CaseRow], Iterable[str]]) -> dict[str, int]:
    """Value to its number of occurrences, the most frequent first."""
    counts = Counter(value for row in rows for value in values(row))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _labels(rows: Sequence[CaseRow], convention: Convention | None) -> list[dict[str, Any]]:
    """Each native label that occurs or that the convention knows: its tissue, its cases, its voxels."""
    if not any(row.labels for row in rows):
        return []
    tissues = {0: "background", **({label: tissue for tissue, label in convention.tissues} if convention else {})}
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
    rows: Sequence[CaseRow], convention: Convention | None, groups: Sequence[Sequence[str]]
) -> list[str]:
    """What is only visible across cases."""
    return [*_duplicate_notes(rows, groups), *_mask_notes(rows), *_label_notes(rows, convention)]


def _duplicate_notes(rows: Sequence[CaseRow], groups: Sequence[Sequence[str]]) -> list[str]:
    """A line for each of the first groups, with the parts that are alike and whether it is one patient's."""
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
    return notes


def _mask_notes(rows: Sequence[CaseRow]) -> list[str]:
    bare = [row.name for row in rows if "mask" not in row.files]
    if not bare:
        return []
    return [f"{len(bare)} of {len(rows)} cases have no mask: {'all' if len(bare) == len(rows) else listed(bare)}"]


def _label_notes(rows: Sequence[CaseRow], convention: Convention | None) -> list[str]:
    """Tissues that the convention names and no mask holds; conventions that fit where this one does not."""
    found = {label for row in rows for label in row.labels}
    masks = sum(bool(row.labels) for row in rows)
    if convention is None or not found - {0}:
        return []
    fitting = fitting_conventions(found)
    if convention.name not in fitting:
        return [f"the masks together hold labels {sorted(found)}: {', '.join(fitting) or 'no convention'} would fit"]
    absent = [f"{tissue} (label {label})" for tissue, label in convention.tissues if label not in found]
    others = [name for name in fitting if name != convention.name]
    return [
        f"{tissue} occurs in none of {masks} masks, though '{convention.name}' has it; the labels {sorted(found)} "
        f"would fit {', '.join(others) or 'no other convention'} too (--data.native_labels)"
        for tissue in absent
    ]


def listed(names: Sequence[str], limit: int = 6) -> str:
    """The first few names, and how many more."""
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
