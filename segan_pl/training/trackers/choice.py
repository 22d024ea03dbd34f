"""The trackers that a run's options ask for: made where their package is there, left out with a warning elsewhere."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from segan_pl.training.run.folder import RunOptions
from segan_pl.training.trackers.tracker import Tracker, first_line

log = logging.getLogger(__name__)

MODULES = {
    "wandb": "segan_pl.training.trackers.wandb_run",
    "mlflow": "segan_pl.training.trackers.mlflow_run",
    "tensorboard": "segan_pl.training.trackers.in_folder",
    "trackio": "segan_pl.training.trackers.trackio_run",
    "csv": "segan_pl.training.trackers.in_folder",
}
"""Name to the module with the function `make_NAME`, imported only when it is asked for."""


def trackers(options: RunOptions, directory: Path) -> list[Tracker]:
    """Those that the options ask for; metrics.csv is always written, by RunRecord.

    Args:
        options: Of the run.
        directory: The run's folder, which names the run to all of them.
    """
    out = []
    for name in dict.fromkeys(options.loggers):
        if name == "wandb" and os.environ.get("WANDB_MODE") == "disabled":
            continue
        if name != "csv" and find_spec(name) is None:
            log.warning("%s is asked for but not installed (`pip install %s`); going on without it", name, name)
            continue
        make: Callable[[RunOptions, Path], Tracker] = getattr(import_module(MODULES[name]), f"make_{name}")
        try:
            out.append(make(options, directory))
        except Exception as error:
            log.warning("%s cannot be used (%s); going on without it", name, first_line(error))
    return out
