"""W&B and TensorBoard: asked for by a flag, imported only then, never fatal."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from segan_pl.run import RunOptions

log = logging.getLogger(__name__)


def loggers(options: RunOptions, directory: Path) -> list[Logger]:
    """The loggers that the options ask for; metrics.csv is always written, by RunRecord."""
    out: list[Logger] = []
    if options.wandb != "off":
        out.append(_wandb(options, directory))
    if options.tensorboard:
        from lightning.pytorch.loggers import TensorBoardLogger

        out.append(TensorBoardLogger(save_dir=directory, name="tensorboard", version=""))
    return out


def _wandb(options: RunOptions, directory: Path) -> Logger:
    from lightning.pytorch.loggers import WandbLogger

    directory.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {
        "project": options.experiment,
        "save_dir": str(directory),
        "id": os.environ.get("WANDB_RUN_ID"),
        "name": directory.name,
    }
    if options.wandb == "online" and not logged_in():
        log.warning("W&B is asked for online, but there is no login (`wandb login`, or WANDB_API_KEY); logging offline")
    elif options.wandb == "online" and os.environ.get("WANDB_MODE") not in ("offline", "disabled"):
        try:
            logger = WandbLogger(**settings)
            _ = logger.experiment  # connects; without a network or a login it raises
            return logger
        except Exception as error:
            log.warning(
                "W&B cannot be reached (%s); logging offline, `wandb sync` sends it later",
                str(error).splitlines()[0] if str(error) else type(error).__name__,
            )
    return WandbLogger(**settings, offline=True)


def logged_in() -> bool:
    """Whether W&B has a key, so that it will not stop to ask for one."""
    import wandb

    return bool(wandb.api.api_key)
