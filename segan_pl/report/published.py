"""The numbers that the papers report, to be set next to ours (published.csv: facts only, one number in a row)."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from segan_pl.evaluation.saved_files import mapping

FILE = Path(__file__).with_name("published.csv")
COLUMNS = (
    *("system", "table", "dataset", "model", "trained_on", "tested_on", "fine_tuning", "region", "statistic"),
    *("metric", "value", "note"),
)
KNOWN = {
    "segan": "segan",
    "segan_small": "segan",
    "segan_dice": "segan_dice",
    "segan_dice_small": "segan_dice",
    "segan_cat": "segan_cat",
    "segan_cat_small": "segan_cat",
}
"""Experiment (config `run.experiment`) to the published model; segan_isic and the like have no published number."""
PAPER = "segan_cat"
TABLES = ("I", "II")
HEALTHY = {
    "iseg": "iSEG2017",
    **dict.fromkeys(("mrbrains13", "mrbrains13_training", "mrbrains13_testing"), "MRBrainS13"),
}
"""What the labels mean, or the layout, to the data set of GT-GAN's tables; no system here is one of its models."""


class Key(NamedTuple):
    """Which of a row's numbers.

    Attributes:
        dataset: E.g. "BraTS2019".
        region: In lower case.
        metric: A column of the score tables.
        statistic: The first word of what published.csv says: "mean", "median", "one" (patient), "not" (stated).
    """

    dataset: str
    region: str
    metric: str
    statistic: str


@cache
def published() -> tuple[Mapping[str, str], ...]:
    """All rows of published.csv."""
    with FILE.open(newline="", encoding="utf-8") as file:
        return tuple(csv.DictReader(file))


def selected(selection: Mapping[str, Sequence[str]]) -> tuple[Mapping[str, str], ...]:
    """The rows whose columns have one of the values that a selection gives for them."""
    return tuple(row for row in published() if all(row[column] in values for column, values in selection.items()))


def numbers_of(rows: Sequence[Mapping[str, str]]) -> dict[Key, float]:
    """What some rows report; of several with the same key the last."""
    return {
        Key(row["dataset"], row["region"].lower(), row["metric"], row["statistic"].split()[0].strip(",")): float(
            row["value"]
        )
        for row in rows
    }


def published_for(
    config: Mapping[str, Any], regions: Sequence[str], native_labels: str | None = None
) -> list[Mapping[str, str]]:
    """The rows that a report sets next to a run, of a region that was scored.

    For the systems of SegAN-CAT's tables I and II those of the same model and modalities, also at another size: the
    page says so. For tissues of a healthy brain those of GT-GAN's tables of the same data set. Other data sets are not
    matched: the page names each.

    Args:
        config: Of the run.
        regions: That were scored.
        native_labels: What an evaluation found the labels to mean: a configuration may leave that to the layout.
    """
    data = mapping(config.get("data"))
    scored = {region.lower() for region in regions}
    said = (data.get("native_labels"), data.get("layout"), native_labels)
    # The labels may be a mapping of the user's own.
    if known := [HEALTHY[name] for name in said if isinstance(name, str) and name in HEALTHY]:
        return [row for row in published() if row["dataset"] == known[0] and row["region"].lower() in scored]
    if (model := KNOWN.get(str(mapping(config.get("run")).get("experiment") or ""))) is None:
        return []
    modalities = frozenset(data.get("modalities") or ("t1", "t1ce", "t2", "flair"))
    return [
        row
        for row in published()
        if row["system"] == PAPER
        and row["table"] in TABLES
        and row["model"] == model
        and row["trained_on"] == row["tested_on"]
        and frozenset(row["trained_on"].split("+")) == modalities
        and row["region"].lower() in scored
    ]
