"""Which cases train, validate and test, as a record that knows what data it was made for."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from segan_pl.data.case import Case, CaseError
from segan_pl.data.split.files import ALL_PARTS, UNLABELLED, json_text, read_folds
from segan_pl.errors import UsageError
from segan_pl.files import write_whole

Grouped = Literal["patient", "scan"]
Val = Literal["needed", "free"]
Form = Literal["NFC", "NFD"]
FORMS: tuple[Form, ...] = ("NFC", "NFD")
"""Of Unicode: the same letters composed, as they are typed, and decomposed, as in macOS's names of files."""


@dataclass(frozen=True)
class Split:
    """Names of the cases of each part.

    Attributes:
        train: For training; never empty.
        val: For validation; empty only where training without it was asked for.
        test: Held out; may be empty.
        seed: That drew it, or None where it came from elsewhere.
        notes: What a user should know, e.g. strata too small to be split.
        digest: Of the names and patients of all its cases (`case_digest`), or None where it came from elsewhere.
        grouped: What stays on one side: all scans of a "patient", or each "scan" by itself (then patients may leak).
        name: Of a fold, e.g. "fold 2" or "outer 1 inner 0".
        unlabelled: For training without labels, whether there are masks or not; may be empty.
        held_out: COLUMN=VALUE of the cases that are the test part, e.g. "institution=C", or None.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...] = ()
    seed: int | None = None
    notes: tuple[str, ...] = ()
    digest: str | None = None
    grouped: Grouped = "patient"
    name: str | None = None
    unlabelled: tuple[str, ...] = ()
    held_out: str | None = None

    def holds_out(self, case: Case) -> bool:
        """Whether a case has the value that is held out, so that it may not train, not even without labels."""
        column, _, value = (self.held_out or "").partition("=")
        return bool(column) and case.column(column) == value

    @property
    def named(self) -> frozenset[str]:
        """All cases of all parts."""
        return frozenset((*self.train, *self.val, *self.test, *self.unlabelled))

    def as_dict(self) -> dict[str, Any]:
        """What is saved; a split without unlabelled or held-out cases does not name these."""
        fields = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        return {key: value for key, value in fields.items() if value or key not in (UNLABELLED, "held_out")}

    def save(self, path: Path | str) -> None:
        """Write JSON, atomically."""
        write_whole(path, json_text(self.as_dict()))

    @classmethod
    def load(cls, path: Path | str, fold: int | None = None, *, val: Val = "needed") -> Split:
        """Read one split: JSON with "train" and "val", or one of the folds of a file with several.

        Args:
            path: As `load_folds`.
            fold: Which, from 0; needed where the file holds several.
            val: Whether "val" may be empty, or not there: "free".

        Raises:
            CaseError: As `load_folds`.
            UsageError: As `load_folds`, or no such fold.
        """
        folds = load_folds(path, val=val)
        if fold is None and len(folds) > 1:
            raise UsageError(f"{path} holds {len(folds)} folds; choose one of 0 to {len(folds) - 1} with --data.fold")
        if not 0 <= (fold or 0) < len(folds):
            held = "one split; leave out --data.fold" if len(folds) == 1 else f"the folds 0 to {len(folds) - 1}"
            raise UsageError(f"{path}: no fold {fold}; it holds {held}")
        return folds[fold or 0]

    def require_matches(
        self,
        cases: Sequence[Case],
        *,
        dropped: Sequence[Case] = (),
        leftovers: Literal["refuse", "ignore"] = "refuse",
        leaks: Literal["refuse", "allow"] = "refuse",
        together: Sequence[Sequence[str]] = (),
        val: Val = "needed",
    ) -> Split:
        """This split, once it is known to fit the data; what is ignored or allowed becomes a note.

        Args:
            cases: All that can be used.
            dropped: Those that were found but set aside; the split loses them, with a note.
            leftovers: Usable cases that no part names.
            leaks: Patients, or groups of `together`, on two sides, and patients other than those it was made for. A
                split grouped by scan says that its patients may be, so for these it is not refused.
            together: Groups of case names that must share a side, e.g. those with the same content.
            val: Whether "val" may be empty: "free".

        Raises:
            CaseError: The split names a case that is not there, leaves one out, was made for other patients, puts a
                patient or a case on two sides, or is left without training or validation.
        """
        given = self.in_form_of(case.name for case in (*cases, *dropped))
        _require_same_names(given, cases, dropped, leftovers)
        why = {case.name: "no mask" if case.mask is None else "incomplete" for case in dropped}
        held = [f"{name} ({part}: {why[name]})" for part in ALL_PARTS for name in getattr(given, part) if name in why]
        notes = [f"{len(held)} cases of the split cannot be used and are left out: {', '.join(held)}"] if held else []
        parts = {part: tuple(name for name in getattr(given, part) if name not in why) for part in ALL_PARTS}
        kept = replace(given, **parts)  # type: ignore[arg-type]
        kept.require_sound("the split", val=val)
        notes += _notes_on_patients(given, [*cases, *dropped], leaks)
        scans: dict[str, list[str]] = defaultdict(list)
        for case in cases:
            scans[case.patient].append(case.name)
        notes += _notes_on_leaks(kept, scans, "patients", "allow" if self.grouped == "scan" else leaks)
        contents = {f"{{{', '.join(sorted(group))}}}": group for group in together}
        notes += _notes_on_leaks(kept, contents, "cases with the same content", leaks)
        if unnamed := sorted({case.name for case in cases} - kept.named):
            notes.append(f"{len(unnamed)} cases are in no part of the split and not used: {', '.join(unnamed)}")
        digest = case_digest(case for case in cases if case.name in kept.named)
        added = tuple(note for note in notes if note not in self.notes)
        return replace(kept, digest=digest, notes=(*self.notes, *added))

    def in_form_of(self, names: Iterable[str]) -> Split:
        """This split with its names in the Unicode form of the data's: macOS decomposes the names of folders.

        Args:
            names: Of the data's cases, no two of which differ in their form alone.
        """
        known = {unicodedata.normalize("NFC", name): name for name in names}
        parts: dict[str, Any] = {
            part: tuple(known.get(unicodedata.normalize("NFC", name), name) for name in getattr(self, part))
            for part in ALL_PARTS
        }
        return replace(self, **parts)

    def require_sound(self, source: str, *, val: Val = "needed") -> Split:
        """This split, once no name is repeated and neither training nor, where it is needed, validation is empty.

        Raises:
            CaseError: One of these; `source` begins the message.
        """
        counts = Counter(name for part in ALL_PARTS for name in getattr(self, part))
        if double := sorted(name for name, count in counts.items() if count > 1):
            raise CaseError(f"{source}: {some(double)} named twice; expected each case once; fix the split")
        if not self.train:
            raise CaseError(f'{source}: "train" is empty; expected at least one case')
        if not self.val and val == "needed":
            raise CaseError(
                f'{source}: "val" is empty; expected at least one case (fit without validation: --data.val_fraction 0)'
            )
        return self


def load_folds(path: Path | str, *, val: Val = "needed") -> list[Split]:
    """Every split of a file: one, {"folds": [...]}, or nnU-Net's splits_final.json.

    Raises:
        CaseError: The file is none of these, names a case twice in a fold, or a part is empty.
        UsageError: The file is missing.
    """
    folds = []
    for number, found in enumerate(contents := read_folds(path)):
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in found.items()
        }
        source = str(path) if len(contents) == 1 else f"{path}: fold {number}"
        folds.append(Split(**{"val": (), **values}).require_sound(source, val=val))
    return folds


def save_folds(folds: Sequence[Split], path: Path | str, form: Literal["json", "nnunet"] = "json") -> None:
    """Write all folds into one file, atomically; the same folds give the same bytes.

    Args:
        folds: At least one; a single one without a name is written as `Split.save` does.
        path: Replaced if it is there.
        form: "json" holds everything. "nnunet" is splits_final.json: train and val; it has no test cases.
    """
    write_whole(path, folds_text(folds, form))


def folds_text(folds: Sequence[Split], form: Literal["json", "nnunet"] = "json") -> str:
    """What `save_folds` writes."""
    if form == "nnunet":
        return json_text([{"train": list(fold.train), "val": list(fold.val)} for fold in folds], indent=4)
    if len(folds) == 1 and folds[0].name is None:
        return json_text(folds[0].as_dict())
    return json_text({"folds": [fold.as_dict() for fold in folds]})


def case_digest(cases: Iterable[Case], form: Form | None = None) -> str:
    """SHA-256 of the names and patients of some cases; their order does not matter.

    Args:
        cases: Of the data.
        form: The Unicode form in which names count, or as they are.
    """
    rows = sorted([case.name, case.patient] for case in cases)
    if form:
        rows = sorted([unicodedata.normalize(form, text) for text in row] for row in rows)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def some(names: Sequence[str], limit: int = 6) -> str:
    """The first few names, and how many more."""
    listed = ", ".join(names[:limit]) or "none"
    return listed if len(names) <= limit else f"{listed} and {len(names) - limit} more"


def _require_same_names(split: Split, cases: Sequence[Case], dropped: Sequence[Case], leftovers: str) -> None:
    """Refuse strangers, and leftovers unless they are ignored; both differences are named."""
    known = {case.name for case in cases}
    strangers = sorted(split.named - known - {case.name for case in dropped})
    unnamed = sorted(known - split.named)
    if strangers:
        raise CaseError(
            f"the split names {len(strangers)} cases that the data lacks: {some(strangers)}; the data has "
            f"{len(unnamed)} that the split lacks: {some(unnamed)}; choose the split made for this data"
        )
    if unnamed and leftovers == "refuse":
        raise CaseError(
            f"the split leaves out {len(unnamed)} of the data's {len(cases)} cases: {some(unnamed)}; it names none "
            f"that the data lacks; draw a new one, or ignore them (fit: --data.split_leftovers ignore, "
            f"split --check: --leftovers ignore)"
        )


def _notes_on_patients(split: Split, found: Sequence[Case], leaks: str) -> list[str]:
    """Refuse, or note, a split made for the same names but other patients."""
    used = [case for case in found if case.name in split.named]
    digest = case_digest(used)
    if split.digest in (None, digest, *(case_digest(used, form) for form in FORMS)):
        return []
    differs = f"the split was made for the same {len(split.named)} case names, but for other patients"
    if leaks == "refuse":
        raise CaseError(
            f"{differs} (its digest is {str(split.digest)[:12]}, the data's {digest[:12]}); draw a new one, or allow "
            f"it (fit: --data.split_leaks allow, split --check: --leaks allow)"
        )
    return [differs]


def _notes_on_leaks(split: Split, groups: Mapping[str, Sequence[str]], what: str, leaks: str) -> list[str]:
    """Refuse, or note, groups of case names with members in two parts."""
    part_of = {name: part for part in ALL_PARTS for name in getattr(split, part)}
    part_of |= dict.fromkeys(split.unlabelled, "train")  # one side with it
    sides = {key: sorted({part_of[name] for name in names if name in part_of}) for key, names in groups.items()}
    found = [f"{key} ({', '.join(on)})" for key, on in sorted(sides.items()) if len(on) > 1]
    if found and leaks == "refuse":
        raise CaseError(
            f"the split has {what} on two sides: {some(found)}; put all scans of one on one side, or allow it "
            f"(fit: --data.split_leaks allow, split --check: --leaks allow)"
        )
    return [f"{len(found)} {what} are on two sides of the split: {', '.join(found)}"] if found else []
