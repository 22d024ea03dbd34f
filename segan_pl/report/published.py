"""The numbers that the papers report, to stand beside ours (published.csv: facts only, one number a row)."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("published.csv")
KNOWN = {"segan": "segan", "segan_dice": "segan_dice", "segan_cat": "segan_cat"}
"""Experiment (config `run.experiment`, without what follows the system's name) to the published model's name."""


@cache
def published() -> tuple[Mapping[str, str], ...]:
    """All rows of published.csv."""
    with FILE.open(newline="", encoding="utf-8") as file:
        return tuple(csv.DictReader(file))


def published_for(config: Mapping[str, Any], regions: Sequence[str]) -> list[Mapping[str, str]]:
    """The rows that a run can be set beside: same model, same modalities, a region that was scored.

    The model is told by the longest known system that the experiment's name begins with (segan_cat_small is SegAN-CAT,
    at another size: the page says so). Data sets are not matched: the page names each.
    """
    experiment = str((config.get("run") or {}).get("experiment") or "")
    models = [model for name, model in KNOWN.items() if experiment == name or experiment.startswith(f"{name}_")]
    if not models:
        return []
    model = max(models, key=len)
    modalities = "+".join((config.get("data") or {}).get("modalities") or ("t1", "t1ce", "t2", "flair"))
    scored = {region.lower() for region in regions}
    return [
        row
        for row in published()
        if row["model"] == model
        and row["table"] in ("I", "II")
        and row["trained_on"] == row["tested_on"] == modalities
        and row["region"].lower() in scored
    ]
