"""fit, validate and test: Lightning's sub-commands over our system and data."""

from __future__ import annotations

import logging
import os
import shlex
import warnings
from typing import Any

from jsonargparse import set_parsing_settings
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_only

from segan_pl.cli.lightning import Parser, SeganCLI
from segan_pl.cli.score_table import print_scores
from segan_pl.cli.trainer_flags import whole_numbers_first
from segan_pl.data.case import CaseError
from segan_pl.data.layouts import find_data_set
from segan_pl.data.module import MRIDataModule
from segan_pl.errors import UsageError, own_packages
from segan_pl.experiments.config_layers import (
    defines_model,
    refuse_two_models,
    replaced_settings,
    require_system_first,
    stated_layout,
)
from segan_pl.experiments.shipped import config_paths, made_for, option_value, resolve_config_arguments
from segan_pl.inference.checkpoint_file import KEY, own_part, stored_settings
from segan_pl.recipe import ALLOWED_IMPORTS
from segan_pl.training.callbacks.checkpoint import AtomicCheckpointIO, BestCheckpoint
from segan_pl.training.callbacks.early_stopping import VolumeDiceStopping
from segan_pl.training.finetuning.settings import refuse_out_of_place
from segan_pl.training.run.continuing import NothingToTrain
from segan_pl.training.run.fellows import LostRankError
from segan_pl.training.run.launch import launched
from segan_pl.training.run.signals import Stopped, active, name_of
from segan_pl.training.run.surroundings import SRUN_WARNING, srun_note
from segan_pl.training.system import AdversarialSegmentation

log = logging.getLogger(__name__)

PARTS = {"val": "the validation cases", "test": "the test cases"}
UNWANTED = ("litlogger", "litmodels", "TPU", "Seed set to")
"""Words of Lightning's tips on other products, of absent TPUs, and of the seed, which we say later."""


def config_from_checkpoint(arguments: list[str]) -> dict[str, Any] | None:
    """The configuration that the checkpoint holds, for `validate` and `test` without a system's --config; else None.

    But for the run's directory, which the checkpoint may have left since.
    """
    checkpoint = option_value(arguments, "--ckpt_path")
    if checkpoint is None or any(map(defines_model, config_paths(arguments))):
        return None
    loaded = AtomicCheckpointIO().load_checkpoint(checkpoint, map_location="cpu")
    if not isinstance(loaded.get(KEY), dict):
        raise UsageError(f"--ckpt_path {checkpoint}: not a checkpoint of segan_pl; give one of a run's checkpoints/")
    if not (settings := stored_settings(own_part(loaded, checkpoint), checkpoint)):
        return None
    if isinstance(run := settings.get("run"), dict):
        run.pop("directory", None)
    return settings


def run_lightning(arguments: list[str]) -> int:
    """fit, validate, test."""
    if launched() is None and "LOCAL_RANK" not in os.environ:
        # Lightning believes a RANK that another program has left, and would say nothing; it types no such attribute
        setattr(rank_zero_only, "rank", 0)  # noqa: B010
    if note := srun_note():
        rank_zero_info(note)
    refuse_two_models(config_paths(arguments))
    require_system_first(config_paths(arguments))
    refuse_out_of_place(arguments)
    try:
        if arguments[0] == "fit":
            for note in replaced_settings(config_paths(arguments)):
                rank_zero_info(note)
            try:
                return finish(_run(arguments))
            except NothingToTrain as ended:
                for line in ended.args:
                    rank_zero_info(line)
                return 0
        quiet = [arguments[0], "--verbose=false", *arguments[1:]]  # Lightning's table of means; ours has the cases too
        return finish(_run(quiet, config_from_checkpoint(arguments)))
    except Exception as error:
        if (told := active()).lost:
            raise LostRankError(told.lost) from error
        if not told.stop and type(error) is CaseError and (hint := with_data_file(arguments)):
            raise CaseError(f"{error}; {hint}") from error
        if not told.stop:
            raise
        text = " ".join(f"{type(error).__name__}: {error}".split())
        told.last_word(f"stopped by {name_of(told.stop)}, without a checkpoint of this moment ({text})")
        raise Stopped(told.stop) from error


def with_data_file(arguments: list[str]) -> str:
    """Of a `fit` whose cases cannot be used as they are: the shipped file that says what this layout holds, if any."""
    root, paths = option_value(arguments, "--data.root"), config_paths(arguments)
    if arguments[0] != "fit" or root is None or option_value(arguments, "--data.layout"):
        return ""
    try:
        layout = find_data_set(root).layout
    except (CaseError, UsageError):  # what was found wrong is told already
        return ""
    preset, data = made_for(layout)
    if data is None or stated_layout(paths) == layout:
        return ""
    for path in paths:
        if (other := stated_layout([path])) not in (None, "auto"):
            return f"or, since -c {path.stem} is made for layout {other}, -c {preset or data} in its place"
    first = f", or -c {preset} alone for a first model" if preset else ""
    return f"this is layout {layout}, of which -c {data} after the system says what it holds{first}"


def _run(arguments: list[str], below: dict[str, Any] | None = None) -> SeganCLI:
    whole_numbers_first(Trainer.__init__)
    return SeganCLI(
        AdversarialSegmentation,
        MRIDataModule,
        args=arguments,
        below=below,
        save_config_callback=None,
        seed_everything_default=0,
        auto_configure_optimizers=False,
        load_from_checkpoint_support=False,
        parser_class=Parser,
        trainer_defaults={"use_distributed_sampler": False, "enable_model_summary": False, "num_sanity_val_steps": 1},
    )


def finish(cli: SeganCLI) -> int:
    """Say how the run ended; 1 when a checkpoint could not be written, or none was."""
    if cli.limit:
        rank_zero_info(f"scored {cli.limit}")
    if not cli.leaves_files:
        rank_zero_info("fast_dev_run: went through; no file was left")
        return 0
    for file in sorted(cli.directory.glob(f"{cli.subcommand}-profile*")):
        rank_zero_info(f"profile: {file}")
    if cli.subcommand != "fit":
        if cli.trainer.is_global_zero and cli.model.scoring.case_scores:
            part = cli.datamodule.test_part if cli.subcommand == "test" else "val"
            print_scores(f"{cli.subcommand}: {PARTS[part]}", cli.model.scoring.case_scores)
        rank_zero_info(f"scores: {cli.directory / 'scores'}")
        return 0
    stops = [c for c in cli.trainer.callbacks if isinstance(c, VolumeDiceStopping)]  # type: ignore[attr-defined]
    for stop in stops:
        rank_zero_info(stop.summary)
        for best in cli.trainer.checkpoint_callbacks:
            if isinstance(best, BestCheckpoint) and best.best_model_path:
                rank_zero_info(f"best checkpoint: {best.best_model_path}{where_the_best_is(best, stop.best_score)}")
    if stops:
        rank_zero_info(f"next: segan_pl report {shlex.quote(str(cli.directory))}")
    last = cli.directory / "checkpoints" / "last.ckpt"
    if not cli.validates and last.is_file():
        rank_zero_info(f"nothing was validated, so no checkpoint was chosen; last checkpoint: {last}")
    if getattr(cli.trainer.strategy.checkpoint_io, "failures", None):
        return 1
    if not any(last.parent.glob("*.ckpt")):  # a run that had ended may have lost its last one alone
        rank_zero_only(log.error)(
            "no checkpoint was written: the run ended before an epoch or --trainer.max_time let it write one"
        )
        return 1
    return 0


def where_the_best_is(best: BestCheckpoint, score: float | None) -> str:
    """Of a run that continues another's checkpoint: that the other's best is better than all of this folder."""
    here = best.best_model_score
    if best.elsewhere is None or here is None or score is None or float(here) == score:
        return ""
    lies = "" if best.elsewhere.is_file() else ", which is no longer there"
    return f" ({float(here):.4f}, of this folder; the best is of the run that it continues: {best.elsewhere}{lies})"


def main(arguments: list[str]) -> int:
    """Run fit, validate or test; the exit code."""
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=[*ALLOWED_IMPORTS, *own_packages()])
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*exists and is not empty.*")  # a continued run
    warnings.filterwarnings("ignore", message="The dirpath has changed")  # of a run that is scored elsewhere
    warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")  # its sampler is told the place
    # all ranks hold the same
    warnings.filterwarnings("ignore", message=r".*self.log\('(train|val|test|step).*sync_dist.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # between Lightning 2.6 and torch 2.13
    warnings.filterwarnings("ignore", message=".*LightningCLI's args parameter is intended.*")
    warnings.filterwarnings(
        "ignore", message="You're resuming from a checkpoint that ended before"
    )  # the sampler knows
    warnings.filterwarnings("ignore", message="Be aware that when using `ckpt_path`, callbacks used to create")
    warnings.filterwarnings("ignore", message=SRUN_WARNING)
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed"):
        logging.getLogger(name).addFilter(lambda record: not any(word in record.getMessage() for word in UNWANTED))
    return run_lightning(resolve_config_arguments(arguments))
