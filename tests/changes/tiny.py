"""A run of seconds on the tiny cohort, by the command line."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segan_pl.__main__ import main

SMALL = (
    *("--model.networks.segmentor.init_args.width=2", "--model.networks.critic.init_args.width=2"),
    *("--data.patch=[32,32]", "--data.batch_size=12", "--data.preparation.crop=null"),
)
"""A system of the package, segan_cat, at a size for the tests."""


def fit(root: Path, run: Path, *more: Any, epochs: int = 2) -> int:
    """`segan_pl fit`, on the CPU and in this process; the configuration is among `more`."""
    return main(
        [
            *(
                "fit",
                *map(str, more),
                f"--root={root}",
                f"--run.directory={run}",
                f"--trainer.max_epochs={epochs}",
            ),
            *(f"--data.cache_dir={run.parent / 'cache'}", "--data.workers=0", "--data.prepare_workers=1"),
            *("--data.val_fraction=0.25", "--data.stratify_by=[]", "--trainer.accelerator=cpu", "--trainer.devices=1"),
            *("--trainer.enable_progress_bar=false", "--seed_everything=7"),
        ]
    )


def checkpoint(run: Path) -> Path:
    """The last one of a run."""
    return run / "checkpoints" / "last.ckpt"


def weights(run: Path) -> dict[str, Tensor]:
    """Every network's, after the last epoch."""
    state: dict[str, Tensor] = torch.load(checkpoint(run), weights_only=True)["state_dict"]
    return {name: value for name, value in state.items() if name.startswith("networks.")}


def differing(first: dict[str, Tensor], second: dict[str, Tensor]) -> list[str]:
    """Names of the tensors that are not equal to the bit."""
    assert set(first) == set(second)
    return [name for name, value in first.items() if not torch.equal(value, second[name])]


def rows(path: Path) -> list[dict[str, str]]:
    """A table's."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
