"""W&B and TensorBoard: asked for by an option, imported only then, never fatal."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from segan_pl.training.run.folder import RunOptions

log = logging.getLogger(__name__)


def loggers(options: RunOptions, directory: Path) -> list[Logger]:
    """The loggers that the options ask for; metrics.csv is always written, by RunRecord."""
    out: list[Logger] = []
    if "wandb" in options.loggers and os.environ.get("WANDB_MODE") != "disabled" and _installed("wandb"):
        out.append(_wandb(options, directory))
    if "tensorboard" in options.loggers and _installed("tensorboard"):
        from lightning.pytorch.loggers import TensorBoardLogger

        out.append(TensorBoardLogger(save_dir=directory, name="tensorboard", version=""))
    return out


def _installed(package: str) -> bool:
    """Whether a logger's package is there; a warning where it is not."""
    if find_spec(package) is not None:
        return True
    log.warning("%s is asked for but not installed (`pip install %s`); going on without it", package, package)
    return False


def _wandb(options: RunOptions, directory: Path) -> Logger:
    from lightning.pytorch.loggers import WandbLogger

    directory.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {
        "project": options.experiment,
        "save_dir": str(directory),
        "id": os.environ.get("WANDB_RUN_ID") or run_id(directory),
        "name": directory.name,
        "resume": "allow",
    }
    if not options.wandb_offline and os.environ.get("WANDB_MODE") not in ("offline", "dryrun"):
        try:
            if logged_in():
                logger = WandbLogger(**settings)
                _ = logger.experiment  # connects; without a network it raises
                return logger
            log.warning("W&B has no login (`wandb login`, or WANDB_API_KEY); logging offline")
        except Exception as error:
            log.warning(
                "W&B cannot be reached (%s); logging offline, `wandb sync` sends it later",
                str(error).splitlines()[0] if str(error) else type(error).__name__,
            )
    return WandbLogger(**settings, offline=True)


def run_id(directory: Path) -> str:
    """A W&B id that a continued folder finds again: its name, and a digest of its path, since names may repeat."""
    name = re.sub(r"[^\w.-]", "_", directory.name)[:48]
    return f"{name}-{hashlib.blake2b(str(directory.resolve()).encode(), digest_size=4).hexdigest()}"


def logged_in() -> bool:
    """Whether W&B has credentials, so that it will not stop to ask for them; nothing is asked of its server."""
    import wandb

    return bool(wandb.login(prompt=False, verify=False))
