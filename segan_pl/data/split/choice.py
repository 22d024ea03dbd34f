"""Which split a run uses: its own, a file's, or one drawn now; and which of its training cases count as unlabelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from segan_pl.data.case import Case, CaseError
from segan_pl.data.cohort import Cohort
from segan_pl.data.split.drawing import stratified_split
from segan_pl.data.split.files import ALL_PARTS
from segan_pl.data.split.record import Split, Val, case_digest, some
from segan_pl.errors import UsageError

Unlabelled = Literal["refuse", "use"]


@dataclass(frozen=True)
class UnlabelledCases:
    """Which training cases are unlabelled; the attributes are options of `MRIDataModule`.

    Attributes:
        unlabelled: Cases without a mask: "refuse", or "use" them as unlabelled training cases.
        n_labelled: How many training cases count as labelled; None for all that have a mask.
        labelled_per_batch: Patches of labelled cases in a batch where there are unlabelled ones; None for half of them.
        split_seed: Of the choice of the labelled cases.
    """

    unlabelled: Unlabelled = "refuse"
    n_labelled: int | None = None
    labelled_per_batch: int | None = None
    split_seed: int = 0

    def __post_init__(self) -> None:
        if self.n_labelled is not None and self.n_labelled < 1:
            raise UsageError(f"--data.n_labelled {self.n_labelled}: expected at least 1")

    def part(self, split: Split, cases: Sequence[Case]) -> Split:
        """The split with its unlabelled part, which `train` then lacks.

        Of N and more labelled cases the first N are the same: a run with more labels has those of one with fewer.

        Args:
            split: Drawn, or a file's, which may name unlabelled cases itself.
            cases: All that can be used.

        Raises:
            UsageError: More labelled cases than the split trains on.
        """
        split = self._with_those_without_mask(split, cases)
        if self.n_labelled is None:
            return split
        if self.n_labelled > len(split.train):
            raise UsageError(
                f"--data.n_labelled {self.n_labelled}: the split has {len(split.train)} labelled training cases; give "
                f"at most that, or leave it out"
            )
        order = np.random.default_rng(self.split_seed).permutation(sorted(split.train)).tolist()
        kept, rest = set(order[: self.n_labelled]), set(order[self.n_labelled :])
        note = (
            f"{len(kept)} of {len(split.train)} training cases count as labelled (--data.n_labelled "
            f"{self.n_labelled}, --data.split_seed {self.split_seed}): {some(sorted(kept))}"
        )
        return replace(
            split,
            train=tuple(name for name in split.train if name in kept),
            unlabelled=tuple(sorted({*split.unlabelled, *rest})),
            notes=(*split.notes, *([note] if rest else [])),
        )

    def labelled(self, batch_size: int) -> int:
        """Labelled patches of a batch that has unlabelled ones, too."""
        return -(-batch_size // 2) if self.labelled_per_batch is None else self.labelled_per_batch

    def idle_note(self, split: Split, objective: str) -> str:
        """What an objective that reads no unlabelled sample makes of the split's; empty where it has none."""
        if not split.unlabelled:
            return ""
        instead = " or --data.missing drop in place of --data.unlabelled use" if self.unlabelled == "use" else ""
        return (
            f"note: {objective} reads labelled samples alone, so those of {len(split.unlabelled)} unlabelled cases "
            f"only take time; fewer of them by a larger --data.labelled_per_batch{instead} (docs/splits.md)"
        )

    def shares(self, split: Split, batch_size: int, least: int = 1, of_unlabelled: int = 1) -> tuple[int, int]:
        """Labelled and unlabelled patches of a batch.

        Args:
            split: With its unlabelled part.
            batch_size: Patches of both.
            least: Patches that the networks need at once: a loss may show them the labelled ones alone.
            of_unlabelled: The same for the unlabelled ones; 0 where nothing reads them, and a batch may have none.

        Raises:
            UsageError: A batch has no room for both, or a share is asked for where there is nothing to share.
        """
        given = self.labelled_per_batch
        if not split.unlabelled:
            if given not in (None, batch_size):
                raise UsageError(
                    f"--data.labelled_per_batch {given}: every training case is labelled; give --data.n_labelled or "
                    f"--data.unlabelled use, or leave it out"
                )
            return batch_size, 0
        labelled = self.labelled(batch_size)
        if labelled == batch_size == given and not of_unlabelled:
            return batch_size, 0  # so that no time goes into patches that nothing reads
        if not 0 < labelled < batch_size:
            asked = "" if given is None else f"--data.labelled_per_batch {given} of "
            raise UsageError(
                f"{asked}--data.batch_size {batch_size}: expected at least one labelled and one unlabelled patch in a "
                f"batch; {len(split.unlabelled)} training cases are unlabelled"
            )
        unlabelled = batch_size - labelled
        if labelled < least or unlabelled < of_unlabelled:
            few = "labelled" if labelled < least else "unlabelled"
            raise UsageError(
                f"--data.labelled_per_batch {labelled} of --data.batch_size {batch_size}: so few {few} patches leave "
                f"the networks' batch norm one value for each channel; expected at least {least} labelled and "
                f"{max(of_unlabelled, 1)} unlabelled; raise both numbers, or --data.patch"
            )
        return labelled, unlabelled

    def _with_those_without_mask(self, split: Split, cases: Sequence[Case]) -> Split:
        """Cases without a mask, but not scans of patients who validate or test, nor what is held out.

        A split that names unlabelled cases says which there are: no other joins them.
        """
        without = [case for case in cases if case.mask is None and case.name not in split.named]
        if self.unlabelled == "refuse" or not without or split.unlabelled:
            return split
        held_out = {*split.val, *split.test}
        patients = {case.patient for case in cases if case.name in held_out}
        apart = [case.name for case in without if split.holds_out(case)]
        left = [case.name for case in without if case.patient in patients and case.name not in apart]
        used = [case.name for case in without if case.name not in {*left, *apart}]
        notes = [f"{len(used)} cases have no mask and train as unlabelled: {some(used)}"] if used else []
        held = f"{len(left)} cases without a mask are of patients who validate or test, and not used: {some(left)}"
        notes += [held] if left else []
        of_it = f"{len(apart)} cases without a mask have {split.held_out}, which is held out, and are not used: "
        notes += [f"{of_it}{some(apart)}"] if apart else []
        unlabelled = tuple(sorted({*split.unlabelled, *used}))
        parted = replace(split, unlabelled=unlabelled, notes=(*split.notes, *notes))
        digest = case_digest(case for case in cases if case.name in parted.named)
        return replace(parted, digest=split.digest and digest)


def with_masks(cases: Sequence[Case]) -> list[Case]:
    """The cases that a split is drawn from.

    Raises:
        CaseError: There is none.
    """
    found = [case for case in cases if case.mask is not None]
    if not found:
        raise CaseError(f"none of {len(cases)} cases has a mask; expected some to train on and to validate with")
    return found


def require_masks(split: Split, cases: Sequence[Case]) -> None:
    """Refuse a case without a mask in a part that needs one.

    Raises:
        CaseError: With the case and its part.
    """
    without = {case.name for case in cases if case.mask is None}
    for part in ("train", "val", "test"):
        if found := [name for name in getattr(split, part) if name in without]:
            raise CaseError(
                f'the split has cases without a mask under "{part}": {some(found)}; put them under "unlabelled", or '
                f"leave them out"
            )


@dataclass(frozen=True)
class SplitChoice:
    """How the cases are parted; the attributes are options of `MRIDataModule`."""

    val_fraction: float
    test_fraction: float
    stratify_by: tuple[str, ...]
    file: str | None
    fold: int | None
    leftovers: Literal["refuse", "ignore"]
    leaks: Literal["refuse", "allow"]
    seed: int

    def choose(self, cohort: Cohort, unlabelled: UnlabelledCases, saved: Path | None, owner: str) -> Split:
        """The run's own split, else that of the split file, else one drawn now.

        Args:
            cohort: The cases.
            unlabelled: Which training cases are; the run's own split says it itself.
            saved: split.json of the run that is continued or scored, where there is one; it beats all settings.
            owner: Whose split that is, for the note.

        Raises:
            CaseError: A split made for other data, or one without training or validation.
            UsageError: Options that contradict one another.
        """
        if saved is not None and saved.exists():  # cases that came since are left out
            own = Split.load(saved, val="free")
            require_masks(own, cohort.cases)
            split = own.require_matches(
                cohort.cases, dropped=cohort.dropped, leftovers="ignore", leaks=self.leaks, val="free"
            )
            return replace(split, notes=(*split.notes, f"the split is {owner}, {saved}"))
        if self.file:
            return self._of_file(cohort, unlabelled, Path(self.file).expanduser())
        if self.fold is not None:
            raise UsageError("--data.fold is given without --data.split_file; make one with segan_pl split --folds")
        drawn = stratified_split(
            with_masks(cohort.cases),
            val_fraction=self.val_fraction,
            test_fraction=self.test_fraction,
            by=self.stratify_by,
            seed=self.seed,
            val="free",
        )
        return unlabelled.part(drawn, cohort.cases)

    def _of_file(self, cohort: Cohort, unlabelled: UnlabelledCases, file: Path) -> Split:
        """The split file's, without validation only where that is asked for."""
        val: Val = "needed" if self.val_fraction else "free"
        split = Split.load(file, self.fold, val=val)
        if split.val and val == "free":
            raise UsageError(
                f"--data.val_fraction 0 and --data.split_file {file}, which has {len(split.val)} validation cases; "
                f"leave out the fraction, or put these cases into another part"
            )
        split = split.in_form_of(case.name for case in cohort.cases)
        require_masks(split, cohort.cases)
        known = expected_in(split, cohort.cases)
        matched = split.require_matches(
            known, dropped=cohort.dropped, leftovers=self.leftovers, leaks=self.leaks, val=val
        )
        return unlabelled.part(matched, cohort.cases)


def expected_in(split: Split, cases: Sequence[Case]) -> list[Case]:
    """The cases that a file's split must name: those without a mask only where it names unlabelled ones itself.

    Others without a mask join it later (`UnlabelledCases.part`).
    """
    names_them = bool(split.unlabelled)
    return [
        case for case in cases if case.mask or case.name in split.named or (names_them and not split.holds_out(case))
    ]


def part_table(cohort: Cohort, split: Split, modalities: Sequence[str]) -> list[dict[str, str]]:
    """One row for each case found: name, patient, grade, institution, part of the split, what is there and absent."""
    part_of = {name: part for part in ALL_PARTS for name in getattr(split, part)}
    dropped = {case.name for case in cohort.dropped}
    return [
        {
            "case": case.name,
            "patient": case.patient,
            "grade": case.grade or "",
            "institution": case.institution or "",
            "part": "dropped" if case.name in dropped else part_of.get(case.name, ""),
            "modalities": " ".join(m for m in modalities if m in case.images),
            "absent": " ".join(m for m in modalities if m not in case.images),
            **{f"extra_{name}": value for name, value in case.extra.items()},
        }
        for case in cohort.source.cases
    ]
