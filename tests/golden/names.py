"""What is called otherwise today than at the base commit. Base's name first; empty where nothing was renamed."""

from __future__ import annotations

METRICS: dict[str, str] = {"train/segmentor_virtual": "train/segmentor_vat"}
"""Columns of metrics.csv, e.g. {"train/critic_gap": "train/critic_distance"}."""

SCORES: dict[str, str] = {}
"""Columns of the table of scores for each case."""

WEIGHTS: dict[str, str] = {
    "players.": "networks.",
    "averaged.module.": "averaged.segmentor.module.",
    "averaged.n_averaged": "averaged.segmentor.n_averaged",
}
"""Beginnings of names in a checkpoint's state, e.g. {"players.": "networks."}; the longest that fits is replaced."""

DROPPED: dict[str, str] = {}
"""Columns and tensors of the base that today's runs no longer have, each with the reason."""

TIMES = frozenset({"seconds"})
"""Columns that two runs of the same code do not share."""
