"""Folders as `fit` and `evaluate` leave them, made by hand."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

CONFIG = {
    "model": {"averaging": 0.9},
    "data": {"root": "/data/a & b", "modalities": ["t1", "t1ce", "t2", "flair"], "labels": "whole_tumour"},
    "run": {"experiment": "segan_cat", "directory": "x"},
}


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def score(case: str, dice: float | str, region: str = "wt", **more: object) -> dict[str, object]:
    about = {"case": case, "patient": case, "grade": "HGG", "institution": "CBICA", "region": region}
    return {**about, "tp": 1, "fp": 1, "fn": 1, "tn": 7, "dice": dice, "precision": 0.5, "empty": "neither", **more}


def make_run(folder: Path, dices: Sequence[float | str] = (0.9, 0.5, 0.1), *, config: dict | None = None) -> Path:
    """A finished run with three validation cases and two epochs."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config or CONFIG))
    (folder / "command.txt").write_text("segan_pl fit --config segan_cat\n")
    environment = {
        "started": "2026-11-21",
        "git": {"revision": "abc", "dirty": False},
        "segan_pl": "0.1",
        "torch": "2.13.0",
        "cpu_count": 2,
        "gpus": [],
    }
    (folder / "environment.json").write_text(json.dumps(environment))
    names = [f"case_{i}" for i in range(len(dices))]
    (folder / "split.json").write_text(json.dumps({"train": ["a", "b"], "val": names, "test": [], "seed": 3}))
    epochs = [{"epoch": e, "seconds": 60, "val/dice_wt": 0.4 + e / 10, "train/segmentor_dice": 0.6} for e in range(2)]
    write_rows(folder / "metrics.csv", epochs)
    write_rows(folder / "scores" / "val_epoch_0001.csv", [score(n, d) for n, d in zip(names, dices, strict=True)])
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "epoch0001_dice0.5000.ckpt").touch()
    return folder


def make_evaluation(folder: Path, rows: Sequence[Mapping[str, object]], **summary: object) -> Path:
    """What `segan_pl evaluate` leaves."""
    write_rows(folder / "metrics_per_case.csv", rows)
    (folder / "summary.json").write_text(json.dumps({"policy": {"name": "brats2018"}, **summary}))
    return folder
