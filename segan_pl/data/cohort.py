"""A data set as a command uses it: found, its incomplete cases dealt with, its labels understood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from segan_pl.data.case import MODALITIES, ORIGIN_TOLERANCE_MM, Case, CaseError, ordered
from segan_pl.data.conventions import Stated, label_convention, remedy
from segan_pl.data.labels import LabelScheme, label_scheme
from segan_pl.data.layouts import DataSet, find_data_set, missing_parts, require_modalities
from segan_pl.data.layouts.folders import modality_name, modality_of
from segan_pl.errors import UsageError, nearest

Missing = Literal["refuse", "zero", "drop"]
CONTRADICTIONS_NAMED = 3


@dataclass(frozen=True)
class Cohort:
    """The cases that are used, and what became of the others.

    Attributes:
        source: What was found on disk.
        cases: Used, by name.
        dropped: Found but left out, by name.
        modalities: In the order asked for.
        absent: Name of a used case to the modalities that are zeros in it.
        scheme: Native labels to channels; None where it was not asked for, or where no case has a mask and nothing says
            what its labels would be.
    """

    source: DataSet
    cases: tuple[Case, ...]
    dropped: tuple[Case, ...]
    modalities: tuple[str, ...]
    absent: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    scheme: LabelScheme | None = None

    def notes(self) -> list[str]:
        """What a user must know: cases left out, modalities that are zeros, each case by name."""
        left = f"{len(self.dropped)} cases are incomplete and left out: "
        lacking = {case.name: missing_parts(case, self.modalities, mask=True) for case in self.dropped}
        without = (f"{name} (no {', '.join(what)})" for name, what in lacking.items())
        zeros = f"{len(self.absent)} cases have zeros for what they lack: "
        filled = (f"{name} (no {', '.join(what)})" for name, what in self.absent.items())
        return [
            *self.source.notes,
            *([left + ", ".join(without)] if self.dropped else []),
            *([zeros + ", ".join(filled)] if self.absent else []),
        ]


def find_cohort(
    root: Path | str,
    layout: str = "auto",
    *,
    modalities: Sequence[str] | None = None,
    labels: str | None = "whole_tumour",
    native_labels: Stated = "auto",
    missing: Missing = "refuse",
    mask: bool = True,
    unlabelled: bool = False,
    origin_tolerance_mm: float = ORIGIN_TOLERANCE_MM,
) -> Cohort:
    """Find the cases of a folder and deal with those that are incomplete; reads no voxel.

    Args:
        root: The data set's folder, or a CSV manifest.
        layout: A key of LAYOUTS, or "auto".
        modalities: Those that a complete case has; None for all that any case of the data set has.
        labels: What the masks become, one of `labels.TARGETS`; None where it need not be known.
        native_labels: As `conventions.label_convention`; "auto" takes what the layout or the manifest says.
        missing: A case that lacks a modality is refused, gets zeros for it, or is left out. A case without any of them,
            or without a mask where `mask` asks for one, cannot be filled: it is left out unless cases are refused.
        mask: Whether a complete case has a mask too.
        unlabelled: Use cases without a mask all the same.
        origin_tolerance_mm: How far apart the first voxels of a case's files may lie along each axis.

    Raises:
        CaseError: No case, an incomplete one with "refuse", or no word on what the masks' labels mean.
        UsageError: As `asked_modalities`.
    """
    source = find_data_set(root, layout).tolerating(origin_tolerance_mm)
    asked = asked_modalities(source, modalities)
    mask = mask and not unlabelled
    complete, incomplete = require_modalities(source.cases, asked, mask=mask, allow=missing != "refuse")
    filled = [
        case
        for case in incomplete
        if missing == "zero" and not set(asked).isdisjoint(case.images) and not (mask and case.mask is None)
    ]
    cases = tuple(sorted([*complete, *filled], key=lambda case: case.name))
    scheme = None if labels is None else scheme_of(source, labels, native_labels)
    if labels is not None and scheme is None and any(case.mask for case in cases):
        raise unknown_labels(source)
    return Cohort(
        source=source,
        cases=cases,
        dropped=tuple(case for case in incomplete if case not in filled),
        modalities=asked,
        absent={case.name: missing_parts(case, asked) for case in filled},
        scheme=scheme,
    )


def asked_modalities(source: DataSet, asked: Sequence[str] | None) -> tuple[str, ...]:
    """The modalities asked for, or all that any case has, in their usual order.

    Raises:
        UsageError: One that no case has, other than those of BraTS (such cases are incomplete), or one given twice.
    """
    held = ordered(modality for case in source.cases for modality in case.images)
    for modality in asked or ():
        if modality not in (*MODALITIES, *held):
            meant = modality_of(modality) or modality_name(modality)
            raise UsageError(
                f"--data.modalities {modality}: no case of {source.root} has it, they have {', '.join(held)}; "
                f"{nearest(meant, ordered([*MODALITIES, *held]))}"
            )
    if asked and len(set(asked)) < len(asked):
        raise UsageError(f"--data.modalities {list(asked)}: one is given twice; expected each once")
    return tuple(asked or held)


def native_convention(source: DataSet, native_labels: Stated = "auto", labels: str = "whole_tumour") -> str | None:
    """The convention asked for, else the one that the data set states; None where neither says.

    Args:
        source: As found.
        native_labels: As `conventions.label_convention`, or "auto". What the data set calls "ignore" is added to it.
        labels: What the masks become; "binary" asks for the convention of that name.

    Raises:
        UsageError: No convention of that name, or the data set's own names of its labels contradict it.
    """
    asked = "binary" if labels == "binary" else native_labels
    if asked == "auto":
        return source.native_labels
    convention = label_convention(asked)
    if against := convention.contradictions(source.names):
        assert source.names is not None  # which are what contradicts
        option = f"--data.labels {labels}" if labels == "binary" else f"--data.native_labels {native_labels}"
        correct = f"correct {source.names.where}"
        if not source.native_labels:
            instead = remedy((), source.names, "choose another", correct)
        elif labels == "binary":
            instead = "choose --data.labels whole_tumour"
        else:
            instead = f"leave it out (the names are those of '{source.native_labels}'), or {correct}"
        raise UsageError(f"{option}: {'; '.join(against[:CONTRADICTIONS_NAMED])}; {instead}")
    return convention.ignoring(source.names.ignored).name if source.names else convention.name


def scheme_of(source: DataSet, labels: str, native_labels: Stated) -> LabelScheme | None:
    """The scheme of a data set; None where neither it nor `native_labels` says what its labels mean.

    Raises:
        UsageError: As `native_convention` or `labels.label_scheme`.
    """
    convention = native_convention(source, native_labels, labels)
    if convention is None:
        return None
    scheme = label_scheme(labels, convention)
    return replace(scheme, convention=replace(scheme.convention, stated=source.names))


def unknown_labels(source: DataSet) -> CaseError:
    """That nothing says what the masks' labels mean."""
    fix = f"relabel the masks and correct {source.names.where}" if source.names else "relabel the masks"
    return CaseError(
        f"{source.root}: layout '{source.layout}' does not say what the masks' labels mean; "
        f"{remedy((), source.names, 'state it with --data.native_labels', fix)}"
    )
