"""The numbers that the papers report, to stand beside ours (published.csv: facts only, one number a row)."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from segan_pl.evaluation.saved_files import mapping

FILE = Path(__file__).with_name("published.csv")
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


@cache
def published() -> tuple[Mapping[str, str], ...]:
    """All rows of published.csv."""
    with FILE.open(newline="", encoding="utf-8") as file:
        return tuple(csv.DictReader(file))


def published_for(config: Mapping[str, Any], regions: Sequence[str]) -> list[Mapping[str, str]]:
    """The rows of SegAN-CAT's tables I and II for the same model, the same modalities and a region that was scored.

    A model at another size is set beside them too: the page says so. Data sets are not matched: the page names each.
    """
    experiment = str(mapping(config.get("run")).get("experiment") or "")
    if (model := KNOWN.get(experiment)) is None:
        return []
    modalities = frozenset(mapping(config.get("data")).get("modalities") or ("t1", "t1ce", "t2", "flair"))
    scored = {region.lower() for region in regions}
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
