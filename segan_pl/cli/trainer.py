"""The trainer of a run: how Lightning's options that are kept are carried out, and the callbacks of our own options."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, ProgressBar
from lightning.pytorch.profilers import AdvancedProfiler, Profiler, PyTorchProfiler, SimpleProfiler
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from segan_pl.cli.trainer_flags import listed
from segan_pl.data.module import MRIDataModule
from segan_pl.errors import UsageError
from segan_pl.evaluation.kept import Monitor
from segan_pl.evaluation.tables import limited
from segan_pl.training.callbacks.checkpoint import checkpoints
from segan_pl.training.callbacks.generated import GeneratedPatches
from segan_pl.training.callbacks.health import Health
from segan_pl.training.callbacks.measures import Measures
from segan_pl.training.callbacks.pace import NO_END
from segan_pl.training.callbacks.preview import Preview
from segan_pl.training.callbacks.progress import Progress
from segan_pl.training.callbacks.record import CaseScores, RunRecord
from segan_pl.training.callbacks.tracking import Tracking
from segan_pl.training.ddp import PhaseDDP
from segan_pl.training.networks import require_syncable
from segan_pl.training.run.folder import RunOptions
from segan_pl.training.run.launch import require_ranks
from segan_pl.training.system import AdversarialSegmentation

NO_VALIDATION = "note: nothing is validated, so nothing chooses a checkpoint or stops early; the last one is kept"
LIMITS = {"fit": "limit_val_batches", "validate": "limit_val_batches", "test": "limit_test_batches"}
PROFILERS: dict[str, type[Profiler]] = {
    "simple": SimpleProfiler,
    "advanced": AdvancedProfiler,
    "pytorch": PyTorchProfiler,
}


def require_validation_or_end(trainer: Mapping[str, Any], data: MRIDataModule, arguments: Sequence[str] = ()) -> bool:
    """Whether a fit validates; one that does not needs an end of its own.

    Args:
        trainer: Its settings.
        data: Whose split says whether there is anything to validate.
        arguments: The command line; a number of epochs that is typed there is meant, however large it is.

    Raises:
        UsageError: Nothing ends a run without validation.
        CaseError: The cases cannot be split.
    """
    data.find()
    assert data.split is not None
    if data.split.val and trainer.get("limit_val_batches") not in (0, 0.0):
        return True
    last = trainer.get("max_epochs")
    typed = any(argument.partition("=")[0] == "--trainer.max_epochs" for argument in arguments)
    large = last is not None and last >= NO_END and not typed
    endless = large or last is None or last == -1
    if endless and not (trainer.get("max_time") or trainer.get("fast_dev_run")):
        how = "--trainer.limit_val_batches 0" if data.split.val else "--data.val_fraction 0"
        why = f", and the {last} epochs of the configuration stand for no end" if large else ""
        raise UsageError(f"{how}: without validation nothing stops the run early{why}; give --trainer.max_epochs")
    return False


def carried_out(trainer: Mapping[str, Any], directory: Path, *, validates: bool) -> dict[str, Any]:
    """Arguments for the Trainer in place of those given, where it would do something else with ours.

    Its `overfit_batches` would replace our samplers: the data module repeats the batches instead (`same_batches`).
    Its profilers by name would print: their table goes into the run's folder.
    """
    changed: dict[str, Any] = {}
    if not validates:
        changed |= {"limit_val_batches": 0, "num_sanity_val_steps": 0}
    if overfit := trainer.get("overfit_batches"):
        scored = {"limit_val_batches": overfit} if validates else {}
        changed |= {"overfit_batches": 0.0, "limit_train_batches": overfit, **scored}
    if isinstance(name := trainer.get("profiler"), str):
        changed["profiler"] = PROFILERS[name](dirpath=str(directory), filename="profile")
    return changed


def make_trainer(make: Callable[[], Trainer], *, validates: bool) -> Trainer:
    """The trainer; what it refuses of its arguments is told in one line, and `fast_dev_run` counts batches.

    Lightning has `fast_dev_run` end after as many optimiser steps, which with two networks is half the batches.

    Raises:
        UsageError: The Trainer refused its arguments.
    """
    try:
        trainer = make()
    except MisconfigurationException as error:
        if match := re.search(r"No supported (\w+) backend found", str(error)):
            raise UsageError(
                f"--trainer.accelerator {match[1]}: this machine has none that PyTorch can use; give cpu or auto"
            ) from error
        raise
    except (ValueError, TypeError, RuntimeError) as error:
        raise UsageError(f"--trainer: {error}") from error
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        trainer.fit_loop.epoch_loop.max_steps = -1
        trainer.limit_val_batches = trainer.limit_val_batches if validates else 0
    return trainer


def use_fast_kernels(device: torch.device, trainer: Mapping[str, Any]) -> str:
    """On a GPU, let cuDNN try which convolution is fastest and float32 products use TF32; returns a note that says so.

    Both change the last bits between two runs or machines: `--trainer.deterministic true` leaves them off, and
    `--trainer.benchmark false` the trying alone.
    """
    if device.type != "cuda" or trainer.get("deterministic"):
        return ""
    if trainer.get("benchmark") is None:
        torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    return "note: TF32 and cuDNN's fastest convolutions; --trainer.deterministic true for a run that repeats to the bit"


def batch_norm_note(trainer: Trainer, model: AdversarialSegmentation, asked: bool) -> str:
    """What `sync_batchnorm` cannot do here; "" where it does what it says.

    Raises:
        UsageError: Several ranks on the CPU, where PyTorch has none, or a loss that needs its second derivatives.
    """
    if not asked:
        return ""
    if trainer.world_size == 1:
        return "note: --trainer.sync_batchnorm true changes nothing on one device"
    if trainer.strategy.root_device.type == "cpu":
        raise UsageError("--trainer.sync_batchnorm true: PyTorch has it for GPUs only; leave it out")
    require_syncable(dict(model.networks.items()), model.objective)
    return ""


def joined_note(trainer: Trainer, batch_size: int, accumulate: int) -> str:
    """What a step takes where several ranks have a batch each; "" for one rank."""
    if (ranks := trainer.world_size) == 1:
        return ""
    steps = f", and a step takes {accumulate} of them (--model.accumulate)" if accumulate > 1 else ""
    joined = ranks * batch_size
    return f"{ranks} ranks x --data.batch_size {batch_size} = {joined} patches in a joined batch{steps}"


def limits(trainer: Mapping[str, Any], command: str) -> bool:
    """Whether fewer cases than all may be scored."""
    limit = trainer.get(LIMITS[command])
    return limit is not None and (isinstance(limit, int) or limit < 1)


def limit_of(trainer: Trainer, data: MRIDataModule, command: str) -> str:
    """What a limit makes of the command's scorings: "2 of 10 cases, as asked (...)"; "" where all cases are scored.

    Raises:
        UsageError: A rank would score none.
    """
    data.find()
    part = data.test_part if command == "test" else "val"
    name = LIMITS[command]
    cases, limit, ranks = getattr(data.split, part), getattr(trainer, name), trainer.world_size
    scored = limited(cases, limit, ranks)
    if not cases and command != "fit":
        raise UsageError(
            f"{command}: the split has no case to score, since the run was trained without validation; predict and "
            f"evaluate other cases"
        )
    if len(scored) == len(cases) or limit == 0:
        return ""
    if len(scored) < ranks:
        raise UsageError(
            f"--trainer.{name} {limit}: less than a case of {len(cases)} for each of {ranks} ranks; give a larger "
            f"share, or a number of cases"
        )
    return f"{len(scored)} of {len(cases)} cases, as asked (--trainer.{name} {limit})"


def strategy(trainer: Any, command: str) -> Any:
    """The strategy as given, but ours for plain DDP, which asks for every parameter in every backward pass.

    Raises:
        UsageError: The processes that were started are others than the settings ask for.
    """
    require_ranks(command, trainer, gpus=torch.cuda.device_count() or None)
    given = trainer.get("strategy", "auto")
    ranks = devices(trainer) * int(trainer.get("num_nodes") or 1)
    return PhaseDDP() if given == "ddp" or (given == "auto" and ranks > 1) else given


def devices(trainer: Any) -> int:
    """How many devices a node `--trainer.devices` asks for."""
    asked = trainer.get("devices", "auto")
    if asked in ("auto", "-1", -1):
        return max(1, torch.cuda.device_count()) if trainer.get("accelerator") != "cpu" else 1
    if isinstance(asked, str) and "," in asked:
        asked = [part for part in asked.split(",") if part.strip()]
    return len(asked) if isinstance(asked, list) else int(asked)


# -- callbacks ---------------------------------------------------------------------------------------------------------


def progress(options: RunOptions, trainer: Mapping[str, Any], chooser: Monitor | None) -> list[Callback]:
    """Our progress, unless another is given or none is asked for.

    Args:
        options: Of the run.
        trainer: Its settings.
        chooser: The score whose best value is shown; None where nothing is validated.
    """
    theirs = any(isinstance(callback, ProgressBar) for callback in listed(trainer.get("callbacks")))
    if theirs or trainer.get("enable_progress_bar") is False:
        return []
    return [
        Progress(
            chooser and chooser.name,
            mode=chooser.mode if chooser else "max",
            plain_every=options.plain_every,
            validation_share=options.validation_share,
        )
    ]


def kept(
    directory: Path,
    options: RunOptions,
    config_text: str,
    trainer: Mapping[str, Any],
    chooser: Monitor | None,
    data: MRIDataModule,
) -> tuple[list[Callback], list[Callback]]:
    """What a run leaves in its folder: pictures, which see each validation first, and records with checkpoints, last.

    Args:
        directory: The run's.
        options: Of the run.
        config_text: Its configuration.
        trainer: The trainer's settings.
        chooser: The score whose best checkpoints are kept; None keeps the last one only.
        data: Whose split and table of cases are kept.
    """
    every = trainer.get("check_val_every_n_epoch") or 1
    saved = checkpoints(directory / "checkpoints", chooser, keep_best=options.keep_best, every=every)
    pictures: list[Callback] = []
    if options.preview_every:
        pictures = [cls(directory, every=options.preview_every) for cls in (Preview, GeneratedPatches)]
    told = Tracking(directory, config_text, best_checkpoint=options.log_best_checkpoint)
    # config.yaml first: a folder with another of a run's files and without it counts as somebody else's
    records = [RunRecord(directory, config_text), CaseScores(directory, data=data)]
    health = [] if options.health == "off" else [Health(stops=options.health == "stop")]
    return pictures, [Measures(), *health, *records, told, *saved]


def score_file(command: str, trainer: Mapping[str, Any], checkpoint: str | None, modalities: Sequence[str]) -> str:
    """The table that `validate` or `test` writes: never over that of all cases, or of the trained modalities.

    Args:
        command: Either.
        trainer: The trainer's settings.
        checkpoint: That is scored.
        modalities: That it is scored on where these may be others than it was trained on, else none.
    """
    stem = f"{command}_{Path(checkpoint).stem if checkpoint else 'untrained'}"
    if limits(trainer, command):
        stem = f"limited_{stem}"
    return f"{stem}_on_{'+'.join(modalities)}.csv" if modalities else f"{stem}.csv"
