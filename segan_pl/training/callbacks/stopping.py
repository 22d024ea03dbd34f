"""Ends a run that was told to stop, or whose folder another process took over, where nothing is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from segan_pl.training.run.launch import starts_own_ranks
from segan_pl.training.run.lease import RunLease
from segan_pl.training.run.requeue import in_batch_job_without_srun, requeue_job
from segan_pl.training.run.signals import REQUEUE, SAVE, STOPPING, Signals, Stopped, name_of
from segan_pl.training.trackers.wandb_run import tell_preempted

# what ranks were told; the highest of them holds for all
ORDER = (0, SAVE, REQUEUE, *STOPPING)
VALIDATION = "epoch_loop.val_loop.batch_progress"
BEFORE_FIRST_CASE = {"ready": 1, "started": 1, "processed": 0, "completed": 0}


class Stopping(Callback):
    """Writes last.ckpt and ends the run after the batch in which a signal came; SIGUSR1 writes it and goes on.

    Ranks agree at the end of every batch, by one number that they reduce: a rank that stopped alone would leave the
    others waiting in a collective. In validation, where ranks have different numbers of cases, each one goes to the
    same meeting point: at once if it was told to stop, else after its last case. Slurm's signal to requeue is a stop
    too, after which the first rank has the job queued again.

    Args:
        directory: The run's; the checkpoint is its checkpoints/last.ckpt.
        signals: What this process was told.
    """

    def __init__(self, directory: str | Path, signals: Signals) -> None:
        self.directory = Path(directory)
        self.path = self.directory / "checkpoints" / "last.ckpt"
        self.signals = signals
        self._agreed = 0
        self._in_validation = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """One rank talks for all."""
        self.signals.rank = trainer.global_rank

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """From here on a stop waits for the end of a batch; an epoch that is continued begins for all callbacks."""
        self.signals.training = True
        if not trainer.fit_loop.restarted_mid_epoch:
            return
        done = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        # none where another joined batch lets the epoch begin again, which is said already
        if done:
            rank_zero_info(
                f"note: epoch {trainer.current_epoch} goes on after batch {done} of {trainer.num_training_batches}; "
                f"its training losses and seconds will be those of the rest"
            )
        for callback in trainer.callbacks:  # type: ignore[attr-defined]  # Lightning calls it for whole epochs only
            callback.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Carry out a stop that was agreed on at the last epoch's last batch: that epoch is in last.ckpt now."""
        if self._agreed:
            whole = self._writes(trainer) and not self._failures(trainer)
            self._end(trainer, f"after epoch {trainer.current_epoch - 1}", whole=whole)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Agree whether to stop. The gradients of a part of an accumulated group are in no checkpoint: not there."""
        last = batch_idx + 1 >= trainer.num_training_batches
        if not last and (batch_idx + 1) % getattr(pl_module, "accumulate", 1):
            return
        asked = self._agree(trainer)
        where = f"epoch {trainer.current_epoch}, batch {batch_idx + 1} of {trainer.num_training_batches}"
        # what comes now, validation or the epoch's end, saves what this batch brought
        if last:
            self._agreed = 0 if asked == SAVE else asked
        elif asked == SAVE:
            self.signals.save = False
            self.signals.say(f"SIGUSR1 in {where}: {self._save(trainer)[0]}; training goes on")
        elif asked:
            self._agreed = asked
            saved, whole = self._save(trainer)
            self._end(trainer, f"in {where}; {saved}", whole=whole)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A stop from here on ends the command at once; one that no batch followed is answered."""
        self.signals.end_training()
        if told := self._agreed or self.signals.stop:
            self.signals.say(f"{name_of(told)} came after the last batch: training is complete")
            self.signals.stop = self._agreed = 0

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """No batch follows either."""
        self.signals.end_training()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Do not begin with it when the ranks know already that they stop."""
        if self._agreed:
            self._end_in_validation(trainer)

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """A rank that was told to stop scores no further case."""
        if self.signals.stop:
            self._meet(trainer)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The others meet those that stopped, before anything else that needs all of them."""
        self._meet(trainer)

    def _meet(self, trainer: pl.Trainer) -> None:
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        asked = self._agree(trainer)
        if asked not in (0, SAVE):
            self._agreed = asked
            self._end_in_validation(trainer)

    def _end_in_validation(self, trainer: pl.Trainer) -> NoReturn:
        self._in_validation = True
        saved, whole = self._save(trainer)
        # A run that goes on validates at this batch too, unless the validation came because time was up.
        repeated = False
        if trainer.val_check_batch is not None:
            loop = trainer.fit_loop.epoch_loop
            batches = loop.total_batch_idx if trainer.check_val_every_n_epoch is None else loop.batch_idx
            repeated = (batches + 1) % trainer.val_check_batch == 0
        fate = "which will be repeated" if repeated else "which time began and nothing repeats"
        self._end(trainer, f"in the validation of epoch {trainer.current_epoch}, {fate}; {saved}", whole=whole)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """A validation that was broken off begins again with its first case: its counts are in no checkpoint."""
        if self._in_validation:
            progress = checkpoint["loops"]["fit_loop"][VALIDATION]
            for part in ("total", "current"):
                progress[part] = dict(BEFORE_FIRST_CASE)
            progress["is_last_batch"] = False

    def _agree(self, trainer: pl.Trainer) -> int:
        """What the ranks were told: 0 for nothing, SAVE, or the signal to stop by."""
        asked = self.signals.stop or (SAVE if self.signals.save else 0)
        if trainer.world_size == 1:
            return asked
        level = torch.tensor(ORDER.index(asked), device=trainer.strategy.root_device)
        dist.all_reduce(level, op=dist.ReduceOp.MAX)
        return ORDER[int(level)]

    def _save(self, trainer: pl.Trainer) -> tuple[str, bool]:
        """Write last.ckpt; returns what to say of it, and whether it was written."""
        if not self._writes(trainer):
            return "no checkpoint, as this run writes none", False
        before = len(self._failures(trainer))
        trainer.save_checkpoint(self.path, weights_only=False)
        failed = self._failures(trainer)[before:]
        return (failed[-1], False) if failed else (f"checkpoint {self.path}", True)

    @staticmethod
    def _writes(trainer: pl.Trainer) -> bool:
        given = any(isinstance(one, ModelCheckpoint) for one in trainer.callbacks)  # type: ignore[attr-defined]
        return given and not trainer.fast_dev_run  # type: ignore[attr-defined]  # where Lightning has one of its own

    @staticmethod
    def _failures(trainer: pl.Trainer) -> list[str]:
        return getattr(trainer.strategy.checkpoint_io, "failures", [])

    def _end(self, trainer: pl.Trainer, where: str, *, whole: bool) -> NoReturn:
        """End the run on all ranks; `whole` says whether last.ckpt holds all that was trained."""
        number = self._agreed
        self.signals.ending = True
        self.signals.stop = self.signals.stop or number
        self.signals.tell_fellows()
        then = f"; --run.directory {self.directory} goes on from there" if whole else ""
        if not whole and self._writes(trainer) and self.path.is_file():
            then = f"; --run.directory {self.directory} goes on from the checkpoint before"
        self.signals.last_word(f"stopped by {name_of(number)} {where}{then}")
        if whole:
            tell_preempted(trainer.loggers, number)
        if number == REQUEUE and whole:
            if trainer.is_global_zero:
                self.signals.say(requeue_job())
            # srun may end all tasks as soon as one has ended
            trainer.strategy.barrier()
        raise Stopped(number)


def own_signals(trainer: pl.Trainer, signals: Signals) -> None:
    """Let a trainer leave signals to `signals`, and tell these which ranks it will launch and what requeues the job.

    The two private names of Lightning are here alone, since it offers no other way: its handler for SIGTERM
    broadcasts and Slurm's saves, in the middle of whatever the main thread does, while another rank may be in another
    collective; then both wait for ever.
    """
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    environment = trainer._accelerator_connector.cluster_environment
    if isinstance(environment, SLURMEnvironment):
        if environment.auto_requeue and environment.requeue_signal:
            signals.requeue_by(environment.requeue_signal)
    elif in_batch_job_without_srun() or starts_own_ranks():
        signals.requeue_by(SAVE)
    launcher: Any = trainer.strategy.launcher
    if hasattr(launcher, "procs") and not environment.creates_processes_externally:
        signals.launches(launcher)


class HeldFolder(Callback):
    """Looks whether the run's folder is still ours: at each batch what the last beat found, and before each checkpoint.

    Args:
        lease: Of the run's folder.
    """

    def __init__(self, lease: RunLease) -> None:
        self.lease = lease

    def on_train_batch_end(self, *args: Any) -> None:
        """Stop before anything more is written."""
        self.lease.require_held()

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: Any) -> None:
        """Never replace a checkpoint of the process that holds the folder now."""
        self.lease.require_held(look=True)
