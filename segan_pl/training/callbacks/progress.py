"""Progress of a run: bars on a terminal, plain lines elsewhere, each with the time left and the best score so far."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

from segan_pl.evaluation.kept import Mode
from segan_pl.training.callbacks.epoch_line import epoch_line
from segan_pl.training.callbacks.pace import Pace, cost, duration, run_left
from segan_pl.training.callbacks.readings import (
    batch_in_epoch,
    improves,
    moment,
    of_epoch,
    readings,
)

# seconds of validation an epoch below which nobody needs advice
NOTICED = 1.0
STAGES = {"sanity_check": "first look at validation", "validate": "validation", "test": "test"}


class Progress(ProgressBar):
    """Says how far a run is; on rank 0 only.

    Args:
        monitor: The score whose best value is shown; None for a run without validation.
        mode: Whether larger or smaller is better.
        plain_every: Seconds without a line where there is no terminal, after which one says how far the epoch is; each
            epoch's end has its line.
        validation_share: Of an epoch's time; where validation takes more, a line says once what would help.
        console: Where to write; this process's standard output by default.

    Attributes:
        says_epochs: That each epoch has a line here, so that others need not say its score again.
    """

    says_epochs = True

    def __init__(
        self,
        monitor: str | None = "val/dice_wt",
        *,
        mode: Mode = "max",
        plain_every: float = 300.0,
        validation_share: float = 0.25,
        console: Console | None = None,
    ) -> None:
        super().__init__()
        self.validation_share, self._advised = validation_share, False
        self.monitor, self.mode, self.plain_every = monitor, mode, plain_every
        self.best_score: float | None = None
        self.best_epoch: int | None = None
        self.best_batch: int | None = None
        self._validated = False
        self.pace = Pace()
        self._console = console or Console(soft_wrap=True, highlight=False)
        self._enabled = True
        self._bars: Bars | None = None
        self._tasks: dict[str, TaskID] = {}
        self._spoke = -math.inf

    @property
    def is_enabled(self) -> bool:
        """Whether it speaks; the module's own print asks."""
        return self._enabled

    def enable(self) -> None:
        """Speak again (Lightning calls it)."""
        self._enabled = True

    def disable(self) -> None:
        """Be silent (Lightning calls it, on other ranks too)."""
        self._enabled = False

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print a line without tearing the bars."""
        if self._enabled:
            self._console.print(*args, markup=False, **kwargs)

    @property
    def best(self) -> str:
        """The best score so far, in words."""
        if self.monitor is None:
            return "no validation"
        if self.best_score is None:
            return f"no {self.monitor} yet"
        return f"best {self.monitor} {self.best_score:.4f} at {moment(self.best_epoch, self.best_batch)}"

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Other ranks are disabled here."""
        super().setup(trainer, pl_module, stage)
        self._spoke = time.monotonic()

    # Training

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The run begins or goes on."""
        last = trainer.max_epochs if trainer.max_epochs not in (None, -1) else None
        batches = trainer.num_training_batches
        loop = trainer.fit_loop
        done = loop.epoch_loop.batch_progress.current.ready if loop.restarted_mid_epoch else 0
        self.pace.start_run(time.monotonic(), epoch=trainer.current_epoch, epochs=last, batches=batches, done=done)
        if not getattr(trainer, "fast_dev_run", False):
            self.print(cost(trainer, self.pace))
        self._show("run", None if last is None else last * batches)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """An epoch begins."""
        batches = trainer.num_training_batches
        self._validated = False
        self.pace.start_epoch(time.monotonic(), epoch=trainer.current_epoch, batches=batches)
        self._show("epoch", batches, reset=True)

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """A batch is done."""
        self.pace.done += 1
        now = time.monotonic()
        epoch_left, left = duration(self.pace.epoch_left(now)), run_left(trainer, self.pace, now)
        done = self.pace.epoch * self.pace.batches + self.pace.done
        self._move("epoch", self.pace.done, f"epoch {self._epoch}", f"{epoch_left} left")
        self._move("run", done, "run", f"{left}, {self.best}")
        count = _of(self.pace.done, self.pace.batches)
        self._line(f"epoch {self._epoch}, batch {count}: {epoch_left} left, run {left}, {self.best}")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """One line with what the epoch brought, on a terminal too."""
        now = time.monotonic()
        self.pace.done = 0
        self.pace.epoch += 1  # this one is whole now, its validation included
        left = run_left(trainer, self.pace, now, brief=True)
        self.pace.epoch -= 1
        best = "" if self.best_score is None else f"best {self.best_score:.4f} at {self.best_epoch}"
        self.print(
            epoch_line(
                self._epoch,
                of_epoch(trainer, validated=self._validated),
                networks=getattr(pl_module, "trained", ()),
                monitor=self.monitor,
                best=best,
                left=left,
            )
        )
        self._advise(trainer, now)
        self._spoke = now

    def _advise(self, trainer: pl.Trainer, now: float) -> None:
        """Say once that validation takes long; a process's first epoch has other things to do besides."""
        first = self.pace.epoch == self.pace.first_epoch
        if self._advised or first or self.pace.validation < NOTICED:
            return
        if self.pace.validation_share(now) <= self.validation_share:
            return
        epochs = self.pace.epochs_a_validation(now, self.validation_share)
        if epochs <= (trainer.check_val_every_n_epoch or 1):
            # one epoch has much of it, all together have not
            return
        self._advised = True
        self.print(
            f"validation takes {self.pace.validation_share(now):.0%} of an epoch that has one, more than "
            f"--run.validation_share {self.validation_share:g}; less often: --trainer.check_val_every_n_epoch {epochs}"
        )

    # Validation, test, prediction

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Its time counts."""
        self.pace.validation_started = time.monotonic()

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """A case is scored."""
        self._evaluated(trainer, args[2], trainer.num_sanity_val_batches, trainer.num_val_batches)

    def on_test_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """A case is scored."""
        self._evaluated(trainer, args[2], trainer.num_test_batches, trainer.num_test_batches)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the monitored score in."""
        self.pace.end_validation(time.monotonic())
        if self._bars is not None and "cases" in self._tasks:
            self._bars.update(self._tasks["cases"], visible=False)
        score = readings(trainer).get(self.monitor or "", math.nan)
        if not trainer.sanity_checking and improves(score, self.best_score, self.mode):
            self.best_score, self.best_epoch = score, trainer.current_epoch
            self.best_batch = batch_in_epoch(trainer) if trainer.state.fn == "fit" else None
        self._validated = not trainer.sanity_checking and batch_in_epoch(trainer) is None

    def teardown(self, *_: Any, **__: Any) -> None:
        """Leave the terminal as it was."""
        if self._bars is not None:
            self._bars.stop()
        self._bars, self._tasks = None, {}

    on_exception = teardown  # whose last argument is the error

    def state_dict(self) -> dict[str, Any]:
        """The best score, as plain values."""
        best = {"best_score": self.best_score, "best_epoch": self.best_epoch, "best_batch": self.best_batch}
        return {"monitor": self.monitor, **best}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """A resumed run knows the best of the epochs before, by the same score."""
        if state_dict["monitor"] == self.monitor:
            self.best_score, self.best_epoch = state_dict["best_score"], state_dict["best_epoch"]
            self.best_batch = state_dict.get("best_batch")

    # How it looks

    @property
    def _epoch(self) -> str:
        """Epochs count from 0, as in metrics.csv and in checkpoints' names."""
        return str(self.pace.epoch) if self.pace.epochs is None else f"{self.pace.epoch} of 0-{self.pace.epochs - 1}"

    def _evaluated(self, trainer: pl.Trainer, index: int, sanity: Any, batches: Any) -> None:
        """Move on by one case, whatever the stage."""
        total = sum(sanity if trainer.sanity_checking else batches)
        name = trainer.state.stage.value if trainer.state.stage is not None else ""
        stage = STAGES[name]
        self._show("cases", total)
        self._move("cases", index + 1, stage, "")
        last = index + 1 == total and trainer.state.fn != "fit"
        self._line(f"{stage}: {_of(index + 1, total)} cases", always=last)

    def _line(self, text: str, *, always: bool = False) -> None:
        """A plain line, if there is no terminal and the last one is old enough."""
        if not self._terminal and (always or time.monotonic() - self._spoke >= self.plain_every):
            self.print(text)
            self._spoke = time.monotonic()

    @property
    def _terminal(self) -> bool:
        return self._console.is_terminal and not self._console.is_dumb_terminal

    def _show(self, name: str, total: float | None, *, reset: bool = False) -> None:
        """Make a bar, or bring it back."""
        if not self._enabled or not self._terminal:
            return
        if self._bars is None:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
            )
            self._bars = Bars(*columns, console=self._console, transient=True)
            self._bars.start()
        finite = None if total is None or not math.isfinite(total) else total
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=finite, note="")
        self._bars.update(self._tasks[name], total=finite, visible=True)
        if reset:
            self._bars.reset(self._tasks[name], total=finite)

    def _move(self, name: str, done: float, description: str, note: str) -> None:
        """Set a bar."""
        if self._bars is not None and name in self._tasks:
            self._bars.update(self._tasks[name], completed=done, description=description, note=note)


def _of(done: int, total: float) -> str:
    """Text like "3 of 10", or "3" where the end is unknown."""
    return f"{done} of {total:.0f}" if math.isfinite(total) else str(done)
