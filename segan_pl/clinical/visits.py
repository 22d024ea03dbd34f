"""Series to visits: who, when, which of them is which modality; and the table that says so."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segan_pl.clinical.modality import NONE, Recognised, Rule, choose, recognise
from segan_pl.clinical.series import Series
from segan_pl.clinical.work import Visit
from segan_pl.data.case import MODALITIES
from segan_pl.errors import UsageError
from segan_pl.files import csv_records, csv_text

COLUMNS = (
    *("case", "series", "number", "slices", "spacing_mm", "echo_time_ms", "repetition_time_ms", "inversion_time_ms"),
    *("contrast", "role", "modality", "used", "use_as", "why"),
)


@dataclass(frozen=True)
class Found:
    """All visits of a folder.

    Attributes:
        visits: Those without doubts.
        doubts: Case to what a user must decide; such a case is refused.
        rows: One for each series, of the table series.csv.
    """

    visits: tuple[Visit, ...]
    doubts: Mapping[str, tuple[str, ...]]
    rows: tuple[dict[str, object], ...]


def find_visits(
    series: Sequence[Series],
    names: Mapping[str, str],
    *,
    rules: Sequence[Rule] = (),
    by_hand: Mapping[str, str] | None = None,
    masks: Path | None = None,
    identifying: bool = False,
) -> Found:
    """Sort series into visits, and choose one series for each modality.

    Args:
        series: Of all patients.
        names: Patient to pseudonym.
        rules: Of a rule file.
        by_hand: Key of a series to its modality or "none".
        masks: Folder of brain masks, called like the case, or the patient where there is one visit.
        identifying: Give the table a column of the series' descriptions.

    Raises:
        UsageError: A series that is named by hand is not there.
    """
    hand = by_hand or {}
    if strange := sorted(set(hand) - {one.key for one in series}):
        raise UsageError(f"--series_file: no series {strange[0]} is below --root; was the table made of this folder?")
    groups: dict[str, dict[str, list[Series]]] = defaultdict(lambda: defaultdict(list))
    for one in series:
        groups[one.patient][one.visit].append(one)
    visits, doubts, rows = [], {}, []
    for patient, studies in sorted(groups.items(), key=lambda pair: names[pair[0]]):
        ordered = sorted(studies.items(), key=lambda pair: (min(one.header.order for one in pair[1]), pair[0]))
        for number, (_, members) in enumerate(ordered, 1):
            case = f"{names[patient]}_v{number}"
            seen = [(one, recognise(one, rules)) for one in members]
            chosen, notes, open_questions = choose(seen, hand)
            notes += [f"series {one.key}: {note}" for one, _ in seen for note in one.notes]
            used = {one.key: modality for modality, one in chosen.items()}
            for one, what in seen:
                rows.append(_row(case, one, what, used.get(one.key, ""), hand.get(one.key, ""), identifying))
            if open_questions:
                doubts[case] = tuple(open_questions)
                continue
            # a mask that is called like a patient does not say of which of several visits it is
            allowed = (case, names[patient], patient) if len(ordered) == 1 else (case,)
            visits.append(Visit(case, names[patient], chosen, _mask(masks, allowed), tuple(notes)))
    return Found(tuple(visits), doubts, tuple(rows))


def _row(case: str, series: Series, seen: Recognised, used: str, by_hand: str, identifying: bool) -> dict[str, object]:
    header = series.header
    row: dict[str, object] = {
        "case": case,
        "series": series.key,
        "number": header.number,
        "slices": series.slices,
        "spacing_mm": " ".join(f"{mm:.3g}" for mm in series.spacing_mm),
        "echo_time_ms": header.echo_time_ms,
        "repetition_time_ms": header.repetition_time_ms,
        "inversion_time_ms": header.inversion_time_ms,
        "contrast": {None: "", True: "yes", False: "no"}[header.contrast],
        "role": seen.role,
        "modality": seen.modality,
        "used": used,
        "use_as": by_hand,
        "why": "; ".join(text for text in (*seen.evidence, seen.doubt, series.fault) if text),
    }
    return {**row, "description": header.description} if identifying else row


def _mask(folder: Path | None, names: Sequence[str]) -> Path | None:
    """The brain mask that is called like one of these."""
    candidates = [folder / f"{name}{end}" for name in names for end in (".nii.gz", ".nii", ".mha")] if folder else []
    return next((path for path in candidates if path.is_file()), None)


def table_of(found: Found, earlier: Sequence[Mapping[str, object]] = ()) -> str:
    """series.csv: an edited copy, with a modality or "none" under use_as, decides by hand.

    Args:
        found: Of this call.
        earlier: Rows of earlier calls. What they say under use_as is left out: it is of another --root.
    """
    rows = [{name: row.get(name, "") for name in COLUMNS} | {"use_as": ""} for row in earlier]
    described = any("description" in row for row in found.rows)
    return csv_text([*rows, *found.rows], [*COLUMNS, *(("description",) if described else ())])


def read_choices(path: Path) -> dict[str, str]:
    """Key of a series to what it is by hand, of an edited series.csv.

    Raises:
        UsageError: It is no such table.
    """
    given = f"--series_file {path}"
    try:
        rows = csv_records(path.read_text(encoding="utf-8").splitlines(keepends=True))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{given}: cannot be read ({error}); expected an edited series.csv") from error
    if rows and not {"series", "use_as"} <= set(rows[0]):
        raise UsageError(f"{given}: has no columns series and use_as; expected an edited series.csv")
    choices = {row["series"]: row["use_as"].strip().lower() for row in rows if row["use_as"].strip()}
    for key, modality in choices.items():
        if modality not in (*MODALITIES, NONE):
            raise UsageError(f"{given}: series {key}: {modality!r}, expected one of {', '.join(MODALITIES)}, or {NONE}")
    return choices
