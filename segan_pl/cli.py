"""The command line: Lightning's sub-commands over our system and data, and siblings that need no trainer."""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml
from jsonargparse import set_parsing_settings
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from segan_pl.callbacks.checkpoint import AtomicCheckpointIO
from segan_pl.callbacks.early_stopping import VolumeDiceStopping
from segan_pl.checkpoint_format import KEY
from segan_pl.data.module import MRIDataModule
from segan_pl.errors import UsageError
from segan_pl.lightning_cli import Parser, SeganCLI
from segan_pl.shipped import config_paths, refuse_two_models, require_system_first, resolve_config_arguments
from segan_pl.system import AdversarialSegmentation
from segan_pl.transfer import refuse_out_of_place

ALLOWED_IMPORTS = ["segan_pl", "torch.optim", "torch.nn", "lightning.pytorch", "monai.networks", "monai.losses"]
"""What a configuration may name in a class_path; a user's own packages are added by SEGAN_PL_ALLOW_IMPORTS."""


def config_from_checkpoint(arguments: list[str], folder: Path) -> list[str]:
    """`validate` and `test` without --config take the configuration that the checkpoint holds, written to `folder`.

    But for the run's directory, which the checkpoint may have left since.
    """
    checkpoint = option_value(arguments, "--ckpt_path")
    if checkpoint is None or option_value(arguments, "--config") or option_value(arguments, "-c"):
        return arguments
    ours = AtomicCheckpointIO().load_checkpoint(checkpoint, map_location="cpu").get(KEY)
    if ours is None:
        raise UsageError(f"--ckpt_path {checkpoint}: not a checkpoint of segan_pl; give one of a run's checkpoints/")
    if not (text := ours["config"]):
        return arguments
    settings = yaml.safe_load(text)
    settings.get("run", {}).pop("directory", None)
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(settings))
    return [arguments[0], "--config", str(file), *arguments[1:]]


def option_value(arguments: Sequence[str], name: str) -> str | None:
    """The value of `--name value` or `--name=value`."""
    for number, argument in enumerate(arguments):
        if argument == name and number + 1 < len(arguments):
            return arguments[number + 1]
        if argument.startswith(f"{name}="):
            return argument.split("=", 1)[1]
    return None


def run_lightning(arguments: list[str]) -> int:
    """fit, validate, test."""
    refuse_two_models(config_paths(arguments))
    require_system_first(config_paths(arguments))
    refuse_out_of_place(arguments)
    with tempfile.TemporaryDirectory() as folder:
        if arguments[0] != "fit":
            arguments = config_from_checkpoint(arguments, Path(folder))
        return finish(_run(arguments))


def _run(arguments: list[str]) -> SeganCLI:
    return SeganCLI(
        AdversarialSegmentation,
        MRIDataModule,
        args=arguments,
        save_config_callback=None,
        seed_everything_default=0,
        auto_configure_optimizers=False,
        load_from_checkpoint_support=False,
        parser_class=Parser,
        trainer_defaults={"use_distributed_sampler": False, "enable_model_summary": False, "num_sanity_val_steps": 1},
    )


def finish(cli: SeganCLI) -> int:
    """Say how the run ended; 1 when a checkpoint could not be written."""
    if cli.subcommand != "fit":
        rank_zero_info(f"scores: {cli.directory / 'scores'}")
        return 0
    best = cli.trainer.checkpoint_callback
    stop = next(c for c in cli.trainer.callbacks if isinstance(c, VolumeDiceStopping))  # type: ignore[attr-defined]
    rank_zero_info(stop.summary)
    if isinstance(best, ModelCheckpoint) and best.best_model_path:
        rank_zero_info(f"best checkpoint: {best.best_model_path}")
    return 1 if getattr(cli.trainer.strategy.checkpoint_io, "failures", None) else 0


def run_demo(arguments: list[str]) -> int:
    """The demonstration."""
    from segan_pl.demo import main as demo

    return demo(arguments[1:])


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "fit": run_lightning,
    "validate": run_lightning,
    "test": run_lightning,
    "demo": run_demo,
}


def no_advertisement(record: logging.LogRecord) -> bool:
    """Keep Lightning's messages but for its tips on other products and absent TPUs."""
    return not any(word in record.getMessage() for word in ("litlogger", "litmodels", "TPU"))


def main(arguments: list[str]) -> int:
    """Run one command; returns the exit code."""
    own = [name.strip() for name in os.environ.get("SEGAN_PL_ALLOW_IMPORTS", "").split(",") if name.strip()]
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=[*ALLOWED_IMPORTS, *own])
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*exists and is not empty.*")  # a continued run
    warnings.filterwarnings("ignore", message="The dirpath has changed")  # a checkpoint of another run
    warnings.filterwarnings("ignore", message=r".*self.log\('(val|test|step).*sync_dist.*")  # all ranks hold the same
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # between Lightning 2.6 and torch 2.13
    warnings.filterwarnings("ignore", message=".*LightningCLI's args parameter is intended.*")
    warnings.filterwarnings("ignore", message="Be aware that when using `ckpt_path`, callbacks used to create")
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(no_advertisement)
    return COMMANDS[arguments[0]](resolve_config_arguments(arguments))
