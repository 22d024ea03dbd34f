"""Scores of a set of cases: one row a case and region, gathered over ranks, averaged, and kept as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segan_pl.evaluation.policies import METRICS, Counts, EmptyPolicy, mean_available, scores
from segan_pl.files import write_whole

COLUMNS = ("case", "patient", "grade", "institution", "region", "tp", "fp", "fn", "tn", *METRICS, "empty")


@dataclass(frozen=True)
class CaseScore:
    """One case and one region."""

    case: str
    region: str
    counts: Counts
    values: Mapping[str, float]
    patient: str | None = None
    grade: str | None = None
    institution: str | None = None

    def row(self) -> dict[str, str | int]:
        """A CSV row; a metric that is not available is an empty cell."""
        values = {name: "" if math.isnan(value) else f"{value:.6f}" for name, value in self.values.items()}
        about = {"case": self.case, **{name: getattr(self, name) or "" for name in ("patient", "grade", "institution")}}
        return {**about, "region": self.region, **self.counts._asdict(), **values, "empty": self.counts.empty}


def score_case(
    case: str,
    counts: Sequence[Sequence[int]],
    regions: Sequence[str],
    policy: EmptyPolicy,
    *,
    patient: str | None = None,
    grade: str | None = None,
    institution: str | None = None,
) -> list[CaseScore]:
    """One row a region from a case's (C, 4) counts."""
    rows = []
    for region, numbers in zip(regions, counts, strict=True):
        count = Counts(*numbers)
        rows.append(CaseScore(case, region, count, scores(count, policy), patient, grade, institution))
    return rows


def require_each_once(found: Iterable[str], expected: Iterable[str]) -> None:
    """Raise RuntimeError unless every expected case was scored exactly once, whichever rank scored it."""
    seen, wanted = Counter(found), Counter(expected)
    if seen != wanted:
        missing, surplus = sorted((wanted - seen).elements()), sorted((seen - wanted).elements())
        raise RuntimeError(f"cases scored differ from the split's: missing {missing}, too many {surplus}")


def summarise(rows: Sequence[CaseScore], regions: Sequence[str]) -> dict[str, float]:
    """Means over cases: "dice_wt", ..., "dice_mean" over regions, and how often a mask was empty."""
    out: dict[str, float] = {}
    for metric in METRICS:
        means = []
        for region in regions:
            mean, number = mean_available([row.values[metric] for row in rows if row.region == region])
            means.append(mean)
            out[f"{metric}_{region}"] = mean
            if metric == "dice":
                out[f"cases_{region}"] = float(number)
        if metric == "dice":
            out["dice_mean"] = mean_available(means)[0]
    for kind in ("both", "reference", "prediction"):
        out[f"empty_{kind}"] = float(sum(row.counts.empty == kind for row in rows))
    return out


def summary_names(regions: Sequence[str]) -> list[str]:
    """The keys of `summarise`, known before any case is scored."""
    names = [f"{metric}_{region}" for metric in METRICS for region in regions]
    return [
        *names,
        "dice_mean",
        *(f"cases_{region}" for region in regions),
        "empty_both",
        "empty_reference",
        "empty_prediction",
    ]


def write_csv(path: Path, rows: Sequence[CaseScore]) -> None:
    """One row a case and region, replacing the file at once."""
    write_table(path, [row.row() for row in rows], COLUMNS)


def write_table(path: Path, rows: Sequence[Mapping[str, object]], columns: Sequence[str] = ()) -> None:
    """Rows as CSV, replacing the file at once; columns as they come unless given, empty where a row lacks one."""
    text = io.StringIO()
    names = list(columns) or list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue())
