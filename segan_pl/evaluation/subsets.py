"""Scores of cases with only some of their modalities: which subsets there are, their rows, means and file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from segan_pl.evaluation.cases import COLUMNS, CaseScore, write_table
from segan_pl.evaluation.policies import mean_available

SUFFIX = "_subsets"
"""Of the file's stem, beside the scores that it belongs to."""
SUBSET_COLUMNS = (COLUMNS[0], "subset", "modalities", *COLUMNS[1:])
Subset = tuple[int, ...]


@dataclass(frozen=True)
class SubsetScore:
    """One case and region, predicted from some of its modalities.

    Attributes:
        subset: Names of those it was predicted from, joined by "+", e.g. "t1ce+flair".
        size: How many they are.
        score: Of the whole case.
    """

    subset: str
    size: int
    score: CaseScore

    def row(self) -> dict[str, str | int]:
        """A CSV row: that of the case, and the subset."""
        return {**self.score.row(), "subset": self.subset, "modalities": self.size}


def subsets_of(present: Sequence[bool]) -> list[Subset]:
    """Every non-empty subset of the modalities that are there, as their places: small ones first, all of them last."""
    there = [place for place, has in enumerate(present) if has]
    return [subset for size in range(1, len(there) + 1) for subset in combinations(there, size)]


def subset_name(subset: Subset, modalities: Sequence[str]) -> str:
    """E.g. "t1ce+flair"."""
    return "+".join(modalities[place] for place in subset)


def dice_over_subsets(rows: Sequence[SubsetScore], regions: Sequence[str]) -> dict[str, float]:
    """Mean Dice a region over subsets, each the mean over its cases: "dice_wt_subsets_mean"."""
    names = list(dict.fromkeys(row.subset for row in rows))
    out = {}
    for region in regions:
        here = [row for row in rows if row.score.region == region]
        means = [mean_available([row.score.values["dice"] for row in here if row.subset == name])[0] for name in names]
        out[f"dice_{region}_subsets_mean"] = mean_available(means)[0]
    return out


def dice_over_subsets_names(regions: Iterable[str]) -> list[str]:
    """The keys of `dice_over_subsets`, known before any case is scored."""
    return [f"dice_{region}_subsets_mean" for region in regions]


def beside(scores: Path) -> Path:
    """The file of the subsets' scores that belongs to a file of scores."""
    return scores.with_name(f"{scores.stem}{SUFFIX}{scores.suffix}")


def write_subsets(path: Path, rows: Sequence[SubsetScore]) -> None:
    """One row a case, subset and region, replacing the file at once."""
    write_table(path, [row.row() for row in rows], SUBSET_COLUMNS)
