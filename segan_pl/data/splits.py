"""Which cases train, validate and test: stratified, grouped by patient, seeded, kept as JSON."""

from __future__ import annotations

import json
import os
import secrets
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from segan_pl.data.volume import Case, CaseError

COLUMNS = ("grade", "institution")
PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Split:
    """Names of the cases of each part.

    Attributes:
        train: For training.
        val: For validation; never empty.
        test: Held out; may be empty.
        seed: That drew it, or None where it came from elsewhere.
        notes: What a user should know, e.g. strata too small to be split.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...] = ()
    seed: int | None = None
    notes: tuple[str, ...] = ()

    def save(self, path: Path | str) -> None:
        """Write JSON, atomically."""
        path = Path(path)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        try:
            temporary.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path | str) -> Split:
        """Read JSON with at least "train" and "val", each a list of case names.

        Raises:
            CaseError: The file is missing, is no such JSON, names a case twice, or a part is empty.
        """
        try:
            found = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CaseError(f"{path}: cannot be read as JSON ({error}); give a split file") from error
        if not isinstance(found, dict) or not {"train", "val"} <= set(found):
            raise CaseError(f'{path}: no split; expected {{"train": [names], "val": [names]}}')
        parts = {name: found.get(name, []) for name in PARTS}
        for name, cases in parts.items():
            if not isinstance(cases, list) or not all(isinstance(case, str) for case in cases):
                raise CaseError(f'{path}: "{name}" is not a list of case names; mend the file')
        seed, notes = found.get("seed"), found.get("notes", ())
        split = cls(**{name: tuple(cases) for name, cases in parts.items()}, seed=seed, notes=tuple(notes))
        split._require_sound(str(path))
        return split

    def require_matches(self, cases: Sequence[Case], *, dropped: Sequence[Case] = ()) -> Split:
        """This split, once it is known to fit the data; what it leaves out becomes a note.

        Args:
            cases: All that can be used.
            dropped: Those that were found but set aside; the split loses them, with a note.

        Raises:
            CaseError: The split names a case that is not there, puts a case or a patient on two sides, or is left
                without training or validation.
        """
        kept, notes = self._without({case.name for case in dropped})
        by_name = {case.name: case for case in cases}
        named = {name for part in PARTS for name in getattr(kept, part)}
        leftovers = sorted(set(by_name) - named)
        if strangers := sorted(named - set(by_name)):
            raise CaseError(
                f"the split names {len(strangers)} cases that the data lacks: {_some(strangers)}; the data has "
                f"{len(leftovers)} that the split lacks: {_some(leftovers)}; choose the split made for this data"
            )
        kept._require_sound("the split")
        kept._require_no_leak({name: case.patient for name, case in by_name.items()})
        if leftovers:
            notes.append(f"{len(leftovers)} cases are in no part of the split and not used: {', '.join(leftovers)}")
        return replace(kept, notes=(*self.notes, *(note for note in notes if note not in self.notes)))

    def _without(self, names: set[str]) -> tuple[Split, list[str]]:
        """The split without some cases, and a note if it held any."""
        held = sorted(name for part in PARTS for name in getattr(self, part) if name in names)
        train, val, test = (tuple(name for name in getattr(self, part) if name not in names) for part in PARTS)
        notes = [f"{len(held)} cases of the split cannot be used and are left out: {', '.join(held)}"] if held else []
        return replace(self, train=train, val=val, test=test), notes

    def _require_no_leak(self, patients: Mapping[str, str]) -> None:
        """Refuse a patient with scans in two parts."""
        sides: dict[str, set[str]] = defaultdict(set)
        for part in PARTS:
            for name in getattr(self, part):
                sides[patients[name]].add(part)
        if leaks := [f"{patient} ({', '.join(sorted(on))})" for patient, on in sorted(sides.items()) if len(on) > 1]:
            raise CaseError(f"the split has patients on two sides: {_some(leaks)}; put all scans of one on one side")

    def _require_sound(self, source: str) -> None:
        """Refuse repeated names and empty parts."""
        counts = Counter(name for part in PARTS for name in getattr(self, part))
        if double := sorted(name for name, count in counts.items() if count > 1):
            raise CaseError(f"{source}: {_some(double)} named twice; expected each case once; mend the split")
        for part in ("train", "val"):
            if not getattr(self, part):
                raise CaseError(f'{source}: "{part}" is empty; expected at least one case')


def stratified_split(
    cases: Sequence[Case],
    *,
    val_fraction: float = 0.2,
    test_fraction: float = 0.0,
    by: Sequence[str] = ("grade", "institution"),
    seed: int,
) -> Split:
    """Part the patients at random, each stratum in proportion; the same seed and cases give the same split.

    The parts' sizes are exact for the whole (of all patients in strata large enough), and within one patient of
    proportion in each stratum. A patient belongs to the stratum of the first scan by name.

    Args:
        cases: In any order.
        val_fraction: Of the patients, above 0.
        test_fraction: Of the patients, from 0.
        by: Columns of the case whose combinations are the strata; one that no case has is left out and noted.
        seed: From 0.

    Raises:
        CaseError: The fractions leave nothing to train on, or validation would be empty.
    """
    if not (val_fraction > 0 and test_fraction >= 0 and val_fraction + test_fraction < 1):
        raise CaseError(f"val {val_fraction} and test {test_fraction} of the cases; expected val > 0, sum below 1")
    if strange := sorted(set(by) - set(COLUMNS)):
        raise CaseError(f"cannot stratify by {strange}; expected any of {list(COLUMNS)}")
    strata, notes = _strata(cases, by)
    rng = np.random.default_rng(seed)
    shuffled = {key: [patients[i] for i in rng.permutation(len(patients))] for key, patients in strata.items()}
    parts = {"val": val_fraction} | ({"test": test_fraction} if test_fraction else {})
    large = {key: patients for key, patients in shuffled.items() if len(patients) > len(parts)}
    for key in sorted(set(shuffled) - set(large)):
        notes.append(f"stratum {' '.join(key)} has {len(shuffled[key])} of {len(parts) + 1} patients: all in training")
    if not large:
        raise CaseError(
            f"{len(cases)} cases in {len(strata)} strata, none with a patient for each of {len(parts) + 1} parts; "
            f"validation would be empty; stratify by less than {list(by)} or add cases"
        )
    sides: dict[str, str] = {}
    for part, fraction in parts.items():
        for key, count in _quotas(large, fraction, sides).items():
            free = [patient for patient in large[key] if patient not in sides]
            sides |= dict.fromkeys(free[:count], part)
    names = {part: tuple(sorted(c.name for c in cases if sides.get(c.patient, "train") == part)) for part in PARTS}
    return Split(names["train"], names["val"], names["test"], seed, tuple(notes))


def _strata(cases: Sequence[Case], by: Sequence[str]) -> tuple[dict[tuple[str, ...], list[str]], list[str]]:
    """Stratum to its patients, both in order, and notes on the columns."""
    known = [column for column in by if any(getattr(case, column) is not None for case in cases)]
    notes = [f"no case has a {column}: one stratum" for column in by if column not in known]
    of_patient: dict[str, tuple[str, ...]] = {}
    for case in sorted(cases, key=lambda case: case.name):
        of_patient.setdefault(case.patient, tuple(getattr(case, column) or "unknown" for column in known) or ("all",))
    strata: dict[tuple[str, ...], list[str]] = {}
    for patient, stratum in sorted(of_patient.items(), key=lambda item: (item[1], item[0])):
        strata.setdefault(stratum, []).append(patient)
    return strata, notes


def _quotas(
    strata: Mapping[tuple[str, ...], Sequence[str]], fraction: float, taken: Mapping[str, str]
) -> dict[tuple[str, ...], int]:
    """Patients of each stratum that a part gets: largest remainders, so that the parts' total is right too.

    Of each stratum at least one patient stays for training.
    """
    exact = {key: fraction * len(patients) for key, patients in strata.items()}
    room = {key: sum(patient not in taken for patient in patients) - 1 for key, patients in strata.items()}
    counts = {key: min(int(share), room[key]) for key, share in exact.items()}
    total = max(1, round(sum(exact.values())))
    for key in sorted(exact, key=lambda key: (counts[key] - exact[key], key)):
        if sum(counts.values()) < total and counts[key] < room[key]:
            counts[key] += 1
    return counts


def _some(names: Sequence[str], limit: int = 6) -> str:
    """The first few names, and how many more."""
    listed = ", ".join(names[:limit]) or "none"
    return listed if len(names) <= limit else f"{listed} and {len(names) - limit} more"
