"""The one table of scores: a row for each case and region, of a validation, a test and an evaluation alike.

Its columns are the case's (case, patient, grade, institution, a manifest's further ones), region, status, voxel counts,
one for each metric, which mask is empty, and the policy. Next to it a JSON file says what its metrics are.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from segan_pl.data.case import Case
from segan_pl.evaluation.metrics.base import ABOUT, COUNTS, NOT_METRICS, Metric
from segan_pl.evaluation.policies import Counts, EmptyPolicy, mean_available
from segan_pl.evaluation.saved_files import METRICS, SUBSETS, json_file
from segan_pl.evaluation.scoring import RegionScore
from segan_pl.files import csv_text, write_whole


@dataclass(frozen=True)
class CaseScore:
    """One case and one region.

    Attributes:
        case: Its name.
        region: E.g. "wt".
        counts: None where the case is refused.
        values: Metric to value; NaN is not available; empty where the case is refused.
        patient: As the data set states it.
        grade: The same.
        institution: The same.
        extra: Further columns of a manifest.
        status: "scored", "missing", or "refused: " and why.
    """

    case: str
    region: str
    counts: Counts | None
    values: Mapping[str, float]
    patient: str | None = None
    grade: str | None = None
    institution: str | None = None
    extra: Mapping[str, str] = field(default_factory=dict)
    status: str = "scored"

    def row(self, metrics: Sequence[Metric], policy: EmptyPolicy) -> dict[str, object]:
        """A row of the table; a value that is not available is an empty cell."""
        about = {name: getattr(self, name) or "" for name in ABOUT}
        taken = {*NOT_METRICS, *(metric.name for metric in metrics)}
        about |= {f"extra_{name}" if name in taken else name: value for name, value in self.extra.items()}
        counts = self.counts._asdict() if self.counts else dict.fromkeys(COUNTS, "")
        values = {}
        for metric in metrics:
            value = self.values.get(metric.name, math.nan)
            values[metric.name] = "" if math.isnan(value) else f"{value:.{metric.decimals}f}"
        empty = self.counts.empty if self.counts and self.status == "scored" else ""
        last = {"empty": empty, "policy": policy.name}
        return {**about, "region": self.region, "status": self.status, **counts, **values, **last}


def case_rows(
    case: Case, scores: Sequence[RegionScore], regions: Sequence[str], *, status: str = "scored"
) -> list[CaseScore]:
    """A row for each region of one case, without counts where it has no score."""
    found = {score.region: score for score in scores}
    about = {name: case.column(name) for name in ABOUT[1:]}
    return [
        CaseScore(
            case.name,
            region,
            found[region].counts if region in found else None,
            found[region].values if region in found else {},
            **about,
            extra=case.extra,
            status=status,
        )
        for region in regions
    ]


def limited(cases: Sequence[str], limit: float, ranks: int) -> list[str]:
    """The cases that are scored where each rank scores only the first of its own.

    Args:
        cases: All of the part, in order; a rank's are every `ranks`-th.
        limit: Cases of each rank, or their share where it is no int (Lightning's `limit_val_batches`).
        ranks: How many processes score.
    """
    own = [cases[rank::ranks] for rank in range(ranks)]
    counts = [limit if isinstance(limit, int) else int(limit * len(some)) for some in own]
    return [case for some, count in zip(own, counts, strict=True) for case in some[:count]]


def require_each_once(found: Iterable[str], expected: Iterable[str]) -> None:
    """Raise RuntimeError unless every expected case was scored exactly once, whichever rank scored it."""
    seen, wanted = Counter(found), Counter(expected)
    if seen != wanted:
        missing, surplus = sorted((wanted - seen).elements()), sorted((seen - wanted).elements())
        raise RuntimeError(f"cases scored differ from the split's: missing {missing}, too many {surplus}")


def summarise(rows: Sequence[CaseScore], regions: Sequence[str], metrics: Sequence[Metric]) -> dict[str, float]:
    """Means over cases: "dice_wt", ..., "dice_mean" over regions, and how often a mask was empty."""
    out: dict[str, float] = {}
    for metric in metrics:
        means = []
        for region in regions:
            mean, number = mean_available([row.values[metric.name] for row in rows if row.region == region])
            means.append(mean)
            out[f"{metric.name}_{region}"] = mean
            if metric.name == "dice":
                out[f"cases_{region}"] = float(number)
        if metric.name == "dice":
            out["dice_mean"] = mean_available(means)[0]
    for kind in ("both", "reference", "prediction"):
        out[f"empty_{kind}"] = float(sum(row.counts is not None and row.counts.empty == kind for row in rows))
    return out


def summary_names(regions: Sequence[str], metrics: Sequence[Metric]) -> list[str]:
    """The keys of `summarise`, known before any case is scored."""
    names = [f"{metric.name}_{region}" for metric in metrics for region in regions]
    return [
        *names,
        "dice_mean",
        *(f"cases_{region}" for region in regions),
        "empty_both",
        "empty_reference",
        "empty_prediction",
    ]


def write_scores(path: Path, rows: Sequence[CaseScore], metrics: Sequence[Metric], policy: EmptyPolicy) -> None:
    """The table, and what its metrics are, in METRICS with those of the folder's other tables; each replaced at once.

    Where another table's metric of the same name is something else (HD95 by another definition), METRICS stays true of
    that table, and a JSON file of this table's own name says what its metrics are.
    """
    write_table(path, [row.row(metrics, policy) for row in rows])
    described = {metric.name: metric.described() for metric in metrics}
    shared = {**described, **json_file(path.with_name(METRICS))}
    _write_json(path.with_name(METRICS), shared)
    if any(shared[name] != said for name, said in described.items()):
        _write_json(path.with_suffix(".json"), described)
    else:
        # of an earlier table in this one's place
        path.with_suffix(".json").unlink(missing_ok=True)


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    write_whole(path, json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def write_table(path: Path, rows: Sequence[Mapping[str, object]], columns: Sequence[str] = ()) -> None:
    """Rows as CSV, replacing the file at once; columns as they come unless given, empty where a row lacks one."""
    write_whole(path, csv_text(rows, columns))


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

    def row(self, metrics: Sequence[Metric], policy: EmptyPolicy) -> dict[str, object]:
        """A row of the table: that of the case, with the subset after its name."""
        return {
            "case": self.score.case,
            "subset": self.subset,
            "modalities": self.size,
            **self.score.row(metrics, policy),
        }


def subsets_of(present: Sequence[bool]) -> list[Subset]:
    """Every non-empty subset of the modalities that are there, as their places: small ones first, all of them last."""
    there = [place for place, has in enumerate(present) if has]
    return [subset for size in range(1, len(there) + 1) for subset in combinations(there, size)]


def dice_over_subsets(rows: Sequence[SubsetScore], regions: Sequence[str]) -> dict[str, float]:
    """Mean Dice of each region over subsets, each the mean over its cases: "dice_wt_subsets_mean"."""
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


def subsets_file(scores: Path) -> Path:
    """The file of the subsets' scores that belongs to a file of scores."""
    return scores.with_name(f"{scores.stem}{SUBSETS}{scores.suffix}")
