"""Which convention a data set's own names of its labels describe, where that is certain."""

from __future__ import annotations

from collections.abc import Mapping

from segan_pl.data.labels import CONVENTIONS, Convention

BACKGROUND = "background"
HEALTHY = {
    **dict.fromkeys(("csf", "cerebrospinalfluid"), "csf"),
    **dict.fromkeys(("gm", "greymatter", "graymatter"), "gm"),
    **dict.fromkeys(("wm", "whitematter"), "wm"),
}


def convention_of(labels: Mapping[str, tuple[int, ...]]) -> str | None:
    """The convention whose tissues, or whose regions, have exactly these numbers; None where none does.

    Args:
        labels: Name to numbers, e.g. {"background": (0,), "edema": (1,), "enhancing tumour": (3,)}.
    """
    named = {name.lower(): numbers for name, numbers in labels.items()}
    if named.pop(BACKGROUND, (0,)) != (0,):
        return None
    named.pop("ignore", None)  # nnU-Net's word for voxels that are not judged
    if len(named) == 1:
        return "binary" if next(iter(named.values())) == (1,) else None
    tissues, regions = _tissues(named), _regions(named)
    for convention in CONVENTIONS.values():
        if tissues == dict(convention.tissues) or (regions and regions == _regions_of(convention)):
            return convention.name
    return None


def _tissues(named: Mapping[str, tuple[int, ...]]) -> dict[str, int] | None:
    """Tissue to number, or None where a name says no tissue, two say the same, or one has several numbers."""
    tissues: dict[str, int] = {}
    for name, numbers in named.items():
        tissue = _tissue(name)
        if tissue is None or tissue in tissues or len(numbers) != 1:
            return None
        tissues[tissue] = numbers[0]
    if "necrosis" not in tissues and "non_enhancing" in tissues:  # the core without enhancement, under one of its names
        tissues["necrosis"] = tissues.pop("non_enhancing")
    return tissues


def _tissue(name: str) -> str | None:
    """The tissue that a label's name says, as `Convention.tissues` calls it."""
    plain = name.replace("-", "").replace("_", "").replace(" ", "")
    if any(word in plain for word in ("edema", "snfh")) or plain == "ed":
        return "oedema"
    if "necro" in plain or plain in ("ncr", "netc", "ncrnet"):
        return "necrosis"
    if plain in HEALTHY:
        return HEALTHY[plain]
    if "nonenhanc" in plain or plain == "net":
        return "non_enhancing"
    if "enhanc" in plain or plain == "et":
        return "enhancing"
    return "cavity" if "cavity" in plain or plain == "rc" else None


def _regions(named: Mapping[str, tuple[int, ...]]) -> dict[str, frozenset[int]] | None:
    """Whole tumour, core and enhancing tumour to their numbers, or None where the names are others."""
    words = {"whole": "wt", "wt": "wt", "core": "tc", "tc": "tc", "enhanc": "et", "et": "et"}
    regions: dict[str, frozenset[int]] = {}
    for name, numbers in named.items():
        region = next((words[w] for w in words if (w in name if len(w) > 2 else w == name)), None)
        if region is None or region in regions:
            return None
        regions[region] = frozenset(numbers)
    return regions if len(regions) == 3 else None


def _regions_of(convention: Convention) -> dict[str, frozenset[int]] | None:
    """The regions of a convention without a cavity."""
    tissues = dict(convention.tissues)
    if not {"necrosis", "oedema", "enhancing"} <= set(tissues) or "cavity" in tissues:
        return None
    whole = frozenset(convention.tumour)
    return {"wt": whole, "tc": whole - {tissues["oedema"]}, "et": frozenset({tissues["enhancing"]})}
