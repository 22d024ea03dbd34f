"""One rank of a validation over all subsets (gloo, CPU), for test_subsets_ddp: as `tests.training.ddp_run`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from segan_pl.training.callbacks.record import CaseScores
from tests.cohort import CROP, build_data, build_system, build_trainer
from tests.training.ddp_run import strategy


def score(root: Path, cache: Path, world: int, folder: Path) -> dict[str, Any]:
    """What each rank knows of the subsets of 4 cases; the first one writes the table."""
    system = build_system(subsets="all", modality_mask="channels", modalities=("t1", "flair"))
    data = build_data(root, cache, preparation=CROP, val_fraction=0.5, modalities=["t1", "flair"])
    trainer = build_trainer(folder, CaseScores(folder, f"{world}.csv"), **strategy(world))
    trainer.validate(system, data, verbose=False)
    rows = [(row.subset, row.score.case, list(row.score.counts)) for row in system.subset_scores]
    own = sorted(torch.cat(system.scoring.subset_states.counts.keys)[:, 0].tolist())
    return {"rows": rows, "own": own, "mean": float(trainer.callback_metrics["val/dice_wt_subsets_mean"])}


if __name__ == "__main__":
    place = Path(sys.argv[3])
    number, own_rank = int(sys.argv[4]), int(sys.argv[5])
    torch.save(score(Path(sys.argv[1]), Path(sys.argv[2]), number, place), place / f"{number}_{own_rank}.pt")
