"""Finding the cases of a data set on disk; one file a layout, none reads a voxel.

A layout is a module with NAME, EXPECTS (its form, for messages), recognises(root) and find(root).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from segan_pl.data.layouts import brats2019, brats2021, lgg
from segan_pl.data.layouts.naming import folders, modality_of
from segan_pl.data.volume import Case, CaseError

__all__ = ["LAYOUTS", "find_cases", "missing_parts", "modality_of", "require_modalities"]

NESTING = 2  # how many folders down a data set may lie below the given one


class Layout(Protocol):
    """What each layout module offers."""

    NAME: str
    EXPECTS: str

    def recognises(self, root: Path) -> bool:
        """Whether the folder looks like this layout."""

    def find(self, root: Path) -> list[Case]:
        """All cases in the folder."""


LAYOUTS: dict[str, Layout] = {layout.NAME: layout for layout in (brats2019, brats2021, lgg)}


def find_cases(root: Path | str, layout: str = "auto") -> list[Case]:
    """All cases below `root`, by name.

    Args:
        root: The data set's folder, or one that holds nothing else of the kind.
        layout: A key of LAYOUTS, or "auto".

    Raises:
        CaseError: No folder, no case, several data sets or layouts, or one name for two cases.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        raise CaseError(f"{root}: no such folder; expected a data set; check --data.root")
    if layout != "auto" and layout not in LAYOUTS:
        raise CaseError(f"unknown layout {layout!r}; expected auto or one of {sorted(LAYOUTS)}")
    tried = list(LAYOUTS.values()) if layout == "auto" else [LAYOUTS[layout]]
    place, found = _locate(root, tried)
    cases = sorted(found.find(place), key=lambda case: case.name)
    if double := sorted(name for name, count in Counter(case.name for case in cases).items() if count > 1):
        raise CaseError(f"{place}: {double} occur twice; expected one folder a case; rename or remove one of each")
    return cases


def _locate(root: Path, tried: Sequence[Layout]) -> tuple[Path, Layout]:
    """The one folder at or below `root` that a layout recognises, nearest first."""
    level = [root]
    for _ in range(NESTING + 1):
        hits = [(place, layout) for place in level for layout in tried if layout.recognises(place)]
        if len(hits) == 1:
            return hits[0]
        if hits:
            listed = ", ".join(f"{place} ({layout.NAME})" for place, layout in hits)
            raise CaseError(f"{root}: several data sets: {listed}; give one as --data.root, or name --data.layout")
        level = [folder for place in level for folder in folders(place)]
    forms = "; ".join(f"{layout.NAME}: {layout.EXPECTS}" for layout in tried)
    raise CaseError(f"{root}: no cases found; tried {forms}; check --data.root and --data.layout")


def require_modalities(
    cases: Sequence[Case], modalities: Sequence[str], *, mask: bool = False, allow: bool = False
) -> tuple[list[Case], list[Case]]:
    """Part the cases into complete and incomplete ones, for the caller to report.

    Args:
        cases: As found.
        modalities: Those that a complete case has.
        mask: Whether a complete case has a mask too.
        allow: Return the incomplete ones rather than refuse.

    Raises:
        CaseError: A case is incomplete and `allow` is off, or no case is complete.
    """
    lacking = {case.name: what for case in cases if (what := missing_parts(case, modalities, mask=mask))}
    complete = [case for case in cases if case.name not in lacking]
    if lacking and (not allow or not complete):
        shared = set.intersection(*map(set, lacking.values())) if not complete else set()
        listed = ", ".join(f"{name} (no {', '.join(what)})" for name, what in lacking.items())
        raise CaseError(
            f"{len(lacking)} of {len(cases)} cases are incomplete: "
            f"{f'all lack {sorted(shared)}' if shared else listed}; expected {', '.join(modalities)}"
            f"{' and a mask' if mask else ''}; complete them, choose --data.modalities or set --data.missing=drop"
        )
    return complete, [case for case in cases if case.name in lacking]


def missing_parts(case: Case, modalities: Sequence[str], *, mask: bool = False) -> tuple[str, ...]:
    """Which of the modalities, and "mask" if asked, a case lacks."""
    return (*(m for m in modalities if m not in case.images), *(("mask",) if mask and case.mask is None else ()))
