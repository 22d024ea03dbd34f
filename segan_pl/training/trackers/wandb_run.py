"""Weights & Biases, online where it can be reached, else on the disk for `wandb sync`."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.loggers.logger import DummyLogger

from segan_pl.training.run.folder import RunOptions
from segan_pl.training.run.requeue import AGENT_TOLD
from segan_pl.training.run.signals import REQUEUE
from segan_pl.training.trackers.naming import run_id, study_of
from segan_pl.training.trackers.tracker import FAILURES, Tracker, first_line, never_fatal, typed_rows

log = logging.getLogger(__name__)


@never_fatal
class WandbRun(WandbLogger, Tracker):
    """A run of W&B; figures of the system are its own."""

    title = "W&B"
    is_last_resort = False
    _nothing: Any = None

    @property
    def experiment(self) -> Any:
        """W&B's run; offline, where it cannot begin, one that takes everything and keeps nothing.

        Lightning asks for it when a fit begins, and an error there would end the run.
        """
        if self._nothing is None:
            try:
                return super().experiment
            except Exception as error:
                if not self.is_last_resort:
                    raise
                log.warning("W&B cannot begin offline (%s); going on without it", first_line(error))
                self._nothing = DummyLogger().experiment
                self.__dict__["failures"] = FAILURES  # it is told nothing more
        return self._nothing

    def log_settings(self, settings: Mapping[str, Any], text: str, facts: Mapping[str, Any]) -> None:
        """As the run's config, the facts under `environment`; what changed since an earlier start is replaced."""
        self.log_hyperparams({**settings, "environment": dict(facts)})

    def log_picture(self, name: str, file: Path, step: int) -> None:
        """As an image with a slider over its steps."""
        self.log_image(name, [str(file)], step=step)

    def log_cases(self, file: Path, step: int) -> None:
        """As the table `cases`."""
        columns, rows = typed_rows(file)
        self.log_table("cases", columns, rows, step=step)

    def log_checkpoint(self, file: Path) -> None:
        """As an artifact of type model, called by the run."""
        import wandb

        artifact = wandb.Artifact(f"{self.experiment.id}-best", type="model", metadata={"file": file.name})
        artifact.add_file(str(file))
        self.experiment.log_artifact(artifact, aliases=["best"])


def make_wandb(options: RunOptions, directory: Path) -> Tracker:
    """A run that is found again by its id, WANDB_RUN_ID or the folder's; offline without login or network."""
    directory.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {
        "project": options.experiment,
        "save_dir": str(directory),
        "id": os.environ.get("WANDB_RUN_ID") or run_id(directory),
        "name": directory.name,
        "group": os.environ.get("WANDB_RUN_GROUP") or study_of(directory),
        "resume": "allow",
    }
    if not options.wandb_offline and os.environ.get("WANDB_MODE") not in ("offline", "dryrun"):
        try:
            if logged_in():
                logger = WandbRun(**settings)
                _ = logger.experiment  # connects; without a network it raises
                return logger
            log.warning("W&B has no login (`wandb login`, or WANDB_API_KEY); logging offline")
        except Exception as error:
            log.warning("W&B cannot be reached (%s); logging offline, `wandb sync` sends it later", first_line(error))
    logger = WandbRun(**settings, offline=True)
    logger.is_last_resort = True
    return logger


def tell_preempted(loggers: Iterable[Logger], number: int) -> None:
    """Mark a run of W&B's sweep as preempted where its agent's job ends: the next agent gets the same run.

    One that W&B itself stops, by a signal to the run alone, is not to be repeated.

    Args:
        loggers: Of the trainer.
        number: The signal that ends the run.
    """
    told = os.environ.get(AGENT_TOLD)
    if "WANDB_SWEEP_ID" not in os.environ or not (number == REQUEUE or (told and Path(told).exists())):
        return
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.mark_preempting()


def logged_in() -> bool:
    """Whether W&B has credentials, so that it will not stop to ask for them; nothing is asked of its server."""
    import wandb

    return bool(wandb.login(prompt=False, verify=False))
