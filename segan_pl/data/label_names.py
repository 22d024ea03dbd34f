"""What a data set's own description calls its labels, and where a convention says something else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

BACKGROUND = "background"
# NnU-Net's word for voxels that are not judged.
IGNORE = "ignore"
# No tissue's name: dice_mean is the mean over all.
MEAN = "mean"
TUMOUR_WORDS = ("tumor", "tumors", "tumours")
HEALTHY = {
    **dict.fromkeys(("csf", "cerebrospinalfluid"), "csf"),
    **dict.fromkeys(("gm", "greymatter", "graymatter"), "gm"),
    **dict.fromkeys(("wm", "whitematter"), "wm"),
}


@dataclass(frozen=True)
class LabelNames:
    """Names of labels, as a data set states them.

    Attributes:
        where: What states them, for messages, e.g. "dataset.json".
        numbers: Name to its label, or to the labels that make the region: {"background": (0,), "edema": (1,)}.
    """

    where: str
    numbers: Mapping[str, tuple[int, ...]]

    @cached_property
    def named(self) -> dict[str, tuple[int, ...]]:
        """Lower-case name to numbers, without background and ignore."""
        lower = {name.lower(): numbers for name, numbers in self.numbers.items()}
        return {name: numbers for name, numbers in lower.items() if name not in (BACKGROUND, IGNORE)}

    @property
    def mapping(self) -> str | None:
        """The names as `conventions.label_convention` takes them; None where two share a label or a name."""
        every = [number for numbers in self.named.values() for number in numbers]
        names = {tissue_name(name) for name in self.named} - {"", MEAN}
        if not every or 0 in every or len(set(every)) < len(every) or len(names) < len(self.named):
            return None
        plain = {re.sub(r"[^a-z0-9]+", "_", name).strip("_"): numbers for name, numbers in self.named.items()}
        plain |= {IGNORE: self.ignored} if self.ignored else {}
        spelt = (f"{name}: {list(some) if len(some) > 1 else some[0]}" for name, some in plain.items())
        return "{" + ", ".join(spelt) + "}"

    @property
    def background(self) -> tuple[int, ...]:
        """The numbers of the background."""
        return self._of(BACKGROUND, (0,))

    @property
    def ignored(self) -> tuple[int, ...]:
        """The numbers of voxels that are not to be judged."""
        return self._of(IGNORE, ())

    def _of(self, word: str, default: tuple[int, ...]) -> tuple[int, ...]:
        return next((numbers for name, numbers in self.numbers.items() if name.lower() == word), default)

    def tissues(self) -> dict[str, tuple[int, ...]] | None:
        """Tissue to numbers, or None where a name says no tissue, two say the same, or two share a number."""
        found = [(self.tissue(name), numbers) for name, numbers in self.named.items()]
        tissues = {tissue: numbers for tissue, numbers in found if tissue}
        every = [number for _, numbers in found for number in numbers]
        return tissues if len(tissues) == len(found) and len(set(every)) == len(every) else None

    def tissue(self, name: str) -> str | None:
        """The tissue that a name says; the core without enhancement is necrosis, under whichever of its names."""
        found = tissue_of(name)
        if found == "non_enhancing" and "necrosis" not in map(tissue_of, self.named):
            return "necrosis"
        return found

    def regions(self) -> dict[str, frozenset[int]] | None:
        """Whole tumour, core and enhancing tumour to their numbers, or None where the names are others."""
        found = [(region_of(name), frozenset(numbers)) for name, numbers in self.named.items()]
        regions = {region: numbers for region, numbers in found if region}
        return regions if len(regions) == len(found) == 3 else None

    def contradictions(
        self, convention: str, meanings: Mapping[int, str], regions: Mapping[str, frozenset[int]]
    ) -> list[str]:
        """A line for each label or region that is something else in a convention.

        Args:
            convention: Its name, for the lines.
            meanings: What each of its labels means, "background" and "ignore" included.
            regions: Its whole tumour "wt", core "tc" and enhancing tumour "et", as far as it tells them.
        """
        alone = len(self.named) == 1
        lines = []
        stated = {number: (IGNORE, IGNORE) for number in self.ignored if number in meanings}
        stated |= {number: (BACKGROUND, BACKGROUND) for number in self.background if number in meanings}
        for name, numbers in self.named.items():
            tissue = self.tissue(name)
            if 0 in numbers:
                stated[0] = (name, name)
            elif tissue and (len(numbers) == 1 or not region_of(name)):
                for number in numbers:
                    only = alone and meanings.get(number) == "tumour" and tissue not in (*HEALTHY.values(), "cavity")
                    stated[number] = (name, "tumour" if only else tissue)
        for number, (name, meaning) in sorted(stated.items()):
            if (other := meanings.get(number)) != meaning:
                means = f"{other!r} in '{convention}'" if other else f"unknown to '{convention}'"
                lines.append(f"label {number} is {name!r} in {self.where}, {means}")
        for name, numbers in self.named.items():
            region = region_of(name) or ("wt" if alone else None)  # the only name: of all that is there
            if region is None or (self.tissue(name) and (len(numbers) == 1 or not region_of(name))):
                continue
            theirs = regions.get(region, frozenset())
            if frozenset(numbers) != theirs:
                lines.append(f"{name!r} is {sorted(numbers)} in {self.where}, {sorted(theirs)} in '{convention}'")
        return lines


def tissue_of(name: str) -> str | None:
    """The tissue that a label's name says, as `conventions.Convention.tissues` calls it."""
    plain = _plain(name)
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
    if "cyst" in plain or plain == "cc":
        return "cyst"
    return "cavity" if "cavity" in plain or plain == "rc" else None


def tissue_name(word: str) -> str:
    """What a tissue is called here: by its usual name, else the word in small letters, digits and _; "" of none."""
    plain = re.sub(r"[^a-z0-9]+", "_", word.lower()).strip("_")
    return tissue_of(word) or ("tumour" if plain in TUMOUR_WORDS else plain)


def region_of(name: str) -> str | None:
    """The region that a name says: "wt", "tc" or "et"."""
    words = {"whole": "wt", "wt": "wt", "core": "tc", "tc": "tc", "enhanc": "et", "et": "et"}
    name = name.lower()
    if "nonenhanc" in _plain(name):
        return None
    return next((words[w] for w in words if (w in name if len(w) > 2 else w == name)), None)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
