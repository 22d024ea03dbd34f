"""A data set as a command uses it: found, its incomplete cases dealt with, its labels understood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from segan_pl.data.labels import CONVENTIONS, LabelScheme, label_convention, label_scheme
from segan_pl.data.layouts import DataSet, find_data_set, missing_parts, require_modalities
from segan_pl.data.volume import MODALITIES, Case, CaseError
from segan_pl.errors import UsageError, nearest

Missing = Literal["refuse", "zero", "drop"]


@dataclass(frozen=True)
class Cohort:
    """The cases that are used, and what became of the others.

    Attributes:
        source: What was found on disk.
        cases: Used, by name.
        dropped: Found but left out, by name.
        modalities: In the order asked for.
        absent: Name of a used case to the modalities that are zeros in it.
        scheme: Native labels to channels; None where no case has a mask and nothing says what its labels would be.
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
    labels: str = "whole_tumour",
    native_labels: str = "auto",
    missing: Missing = "refuse",
    mask: bool = True,
) -> Cohort:
    """Find the cases of a folder and deal with those that are incomplete; reads no voxel.

    Args:
        root: The data set's folder, or a CSV manifest.
        layout: A key of LAYOUTS, or "auto".
        modalities: Those that a complete case has; None for all that any case of the data set has.
        labels: What the masks become, one of `labels.TARGETS`.
        native_labels: A key of `labels.CONVENTIONS`; "auto" takes what the layout or the manifest says.
        missing: A case that lacks a modality is refused, gets zeros for it, or is left out. A case without any of them,
            or without a mask where `mask` asks for one, cannot be filled: it is left out unless cases are refused.
        mask: Whether a complete case has a mask too.

    Raises:
        CaseError: No case, an incomplete one with "refuse", or no word on what the masks' labels mean.
        UsageError: As `asked_modalities`.
    """
    source = find_data_set(root, layout)
    asked = asked_modalities(source, modalities)
    complete, incomplete = require_modalities(source.cases, asked, mask=mask, allow=missing != "refuse")
    filled = [case for case in incomplete if missing == "zero" and _can_be_filled(case, asked, mask)]
    cases = tuple(sorted([*complete, *filled], key=lambda case: case.name))
    return Cohort(
        source=source,
        cases=cases,
        dropped=tuple(case for case in incomplete if case not in filled),
        modalities=asked,
        absent={case.name: missing_parts(case, asked) for case in filled},
        scheme=_scheme(source, labels, native_labels, masks=any(case.mask for case in cases)),
    )


def asked_modalities(source: DataSet, asked: Sequence[str] | None) -> tuple[str, ...]:
    """The modalities asked for, or all that any case has, in their usual order.

    Raises:
        UsageError: One that is no modality, or twice.
    """
    held = {modality for case in source.cases for modality in case.images}
    for modality in asked or ():
        if modality not in MODALITIES:
            raise UsageError(f"--data.modalities {modality}: unknown; {nearest(modality, MODALITIES)}")
    if asked and len(set(asked)) < len(asked):
        raise UsageError(f"--data.modalities {list(asked)}: one stands there twice; expected each once")
    return tuple(asked or (modality for modality in MODALITIES if modality in held))


def native_convention(source: DataSet, native_labels: str = "auto") -> str | None:
    """The convention asked for, else the one that the data set states; None where neither says.

    Raises:
        CaseError: No convention of that name.
    """
    return source.native_labels if native_labels == "auto" else label_convention(native_labels).name


def unknown_labels(source: DataSet) -> CaseError:
    """That nothing says what the masks' labels mean."""
    return CaseError(
        f"{source.root}: layout '{source.layout}' does not say what the masks' labels mean; state it with "
        f"--data.native_labels, one of {', '.join(CONVENTIONS)}"
    )


def _can_be_filled(case: Case, modalities: Sequence[str], mask: bool) -> bool:
    return any(modality in case.images for modality in modalities) and not (mask and case.mask is None)


def _scheme(source: DataSet, labels: str, native_labels: str, *, masks: bool) -> LabelScheme | None:
    convention = "binary" if labels == "binary" else native_convention(source, native_labels)
    if convention is not None:
        return label_scheme(labels, convention)
    if masks:
        raise unknown_labels(source)
    return None
