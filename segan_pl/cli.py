"""The command line: Lightning's sub-commands over our system and data, and siblings that need no trainer."""

from __future__ import annotations

import difflib
import logging
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import ArgumentParser, set_parsing_settings
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from segan_pl.callbacks.checkpoint import AtomicCheckpointIO
from segan_pl.callbacks.early_stopping import VolumeDiceStopping
from segan_pl.callbacks.preview import Preview
from segan_pl.callbacks.progress import Progress
from segan_pl.callbacks.record import RunRecord
from segan_pl.callbacks.scores import CaseScores
from segan_pl.checkpoint_format import KEY
from segan_pl.data.module import MRIDataModule
from segan_pl.data.volume import MODALITIES
from segan_pl.loggers import loggers
from segan_pl.run import RunOptions, continue_from, run_directory
from segan_pl.shipped import config_paths, refuse_two_models, resolve_config_arguments
from segan_pl.system import AdversarialSegmentation

ALLOWED_IMPORTS = ["segan_pl", "torch.optim", "torch.nn", "lightning.pytorch", "monai.networks", "monai.losses"]
"""What a configuration may name in a class_path; a user's own packages are added by SEGAN_PL_ALLOW_IMPORTS."""


class Parser(LightningArgumentParser):
    """A parser whose errors are one line, with the nearest match for an unknown key."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Exit with code 2."""
        print(f"segan_pl: error: {explain(message, known_keys(self))}", file=sys.stderr)
        raise SystemExit(2) from ex


def known_keys(parser: ArgumentParser) -> list[str]:
    """Every dotted key that a parser takes."""
    return [action.dest for action in parser._actions if action.dest != "help"]


def explain(message: str, known: Sequence[str]) -> str:
    """One line of a parser's message, with the nearest known key where one was not known."""
    line = " ".join(message.split())
    match = re.search(r"(?:Key|Option|key) '([\w.]+)'|[Uu]nrecognized arguments: --([\w.]+)", line)
    if match:
        key = match[1] or match[2]
        near = difflib.get_close_matches(key, known, 1, 0.6) or difflib.get_close_matches(
            key.rsplit(".", 1)[-1], [k.rsplit(".", 1)[-1] for k in known], 1, 0.6
        )
        line += f" Did you mean '{near[0]}'?" if near else ""
    return line


class SeganCLI(LightningCLI):
    """fit, validate and test of `AdversarialSegmentation` on `MRIDataModule`."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's, without its predict: predicting files is a command of its own."""
        skip = {"model", "dataloaders", "datamodule"}
        return {"fit": {"model", "train_dataloaders", "val_dataloaders", "datamodule"}, "validate": skip, "test": skip}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The run's options, and what the model learns from the data."""
        parser.add_class_arguments(RunOptions, "run")
        parser.link_arguments("data.modalities", "model.modalities", compute_fn=modalities)
        parser.link_arguments("data.labels", "model.labels")

    def _parse_ckpt_path(self) -> None:
        """Nothing of a checkpoint overrides what was asked for (Lightning would let it)."""

    def before_instantiate_classes(self) -> None:
        """Settle the run's folder, and whether it is continued."""
        settings = self.config[self.subcommand]
        self.settings = yaml.safe_load(self._parser(self.subcommand).dump(settings, skip_none=False))
        options = RunOptions(**settings.run.as_dict())
        checkpoint = settings.get("ckpt_path")
        if self.subcommand == "fit":
            self.directory = run_directory(options)
            found = continue_from(self.directory, self.settings)
            if found is not None and not checkpoint:
                settings.ckpt_path = str(found)
                rank_zero_info(f"continuing {self.directory} from {found.name}")
        else:
            self.directory = scored_directory(options, checkpoint)
        self.options = options

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer with our callbacks and atomic checkpoints."""
        self.model.config_text = self.config_text
        trainer_settings = self._get(self.config_init, "trainer")
        plugins = [*(trainer_settings.get("plugins") or []), AtomicCheckpointIO()]
        found = (
            loggers(self.options, self.directory)
            if os.environ.get("LOCAL_RANK", "0") == "0" and self.subcommand == "fit"
            else []
        )
        return super().instantiate_trainer(
            plugins=plugins,
            logger=found or False,
            callbacks=[*(trainer_settings.get("callbacks") or []), *self._callbacks(trainer_settings)],
        )

    @property
    def config_text(self) -> str:
        """The configuration that makes this model again."""
        return yaml.safe_dump(
            {k: v for k, v in self.settings.items() if k not in ("ckpt_path", "weights_only", "verbose")},
            sort_keys=False,
        )

    def _callbacks(self, trainer: Any) -> list[Callback]:
        options = self.options
        silent = trainer.get("enable_progress_bar") is False
        common: list[Callback] = [] if silent else [Progress(monitor=options.monitor, plain_every=options.plain_every)]
        if self.subcommand != "fit":
            checkpoint = self.config[self.subcommand].get("ckpt_path")
            name = f"{self.subcommand}_{Path(checkpoint).stem if checkpoint else 'untrained'}.csv"
            return [*common, CaseScores(self.directory, name)]
        every = trainer.get("check_val_every_n_epoch") or 1
        best = ModelCheckpoint(
            dirpath=self.directory / "checkpoints",
            filename="epoch{epoch:04d}_dice{" + options.monitor + ":.4f}",
            auto_insert_metric_name=False,
            monitor=options.monitor,
            mode="max",
            save_top_k=options.keep_best,
            save_last=True,
            every_n_epochs=every,
            save_on_train_epoch_end=True,
        )
        stop = VolumeDiceStopping(monitor=options.monitor, patience=options.patience)
        pictures = [Preview(self.directory, every=options.preview_every)] if options.preview_every else []
        return [*common, stop, *pictures, CaseScores(self.directory), RunRecord(self.directory, self.config_text), best]

    def after_instantiate_classes(self) -> None:
        """Say what will happen."""
        for name, player in self.model.players.items():
            rank_zero_info(f"{name}: {sum(p.numel() for p in player.parameters()):,} parameters")
        if self.subcommand == "fit":
            rank_zero_info(f"run directory: {self.directory}")


def modalities(names: list[str] | None) -> list[str]:
    """The modalities that the data module will serve."""
    return list(names or MODALITIES)


def scored_directory(options: RunOptions, checkpoint: str | None) -> Path:
    """Where `validate` and `test` write: the run that the checkpoint came from, or a new one."""
    if options.directory is None and checkpoint:
        home = Path(checkpoint).resolve().parent
        if home.name == "checkpoints":
            return home.parent
    return run_directory(options)


def config_from_checkpoint(arguments: list[str]) -> list[str]:
    """`validate` and `test` without --config take the configuration that the checkpoint holds."""
    checkpoint = option_value(arguments, "--ckpt_path")
    if checkpoint is None or option_value(arguments, "--config") or option_value(arguments, "-c"):
        return arguments
    text = AtomicCheckpointIO().load_checkpoint(checkpoint, map_location="cpu").get(KEY, {}).get("config")
    if not text:
        return arguments
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", delete=False) as file:
        file.write(text)
    return [arguments[0], "--config", file.name, *arguments[1:]]


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
    if arguments[0] != "fit":
        arguments = config_from_checkpoint(arguments)
    cli = SeganCLI(
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
    return finish(cli)


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


def run_prepare(arguments: list[str]) -> int:
    """Prepare every case of a data set into the cache."""
    parser = Parser(prog="segan_pl prepare", description="Prepare cases once, into a cache of memory-mapped arrays.")
    parser.add_argument("-c", "--config", action="config", help="A data file, e.g. lgg")
    parser.add_lightning_class_args(MRIDataModule, "data")
    settings = parser.parse_args(arguments[1:])
    data = parser.instantiate_classes(settings).data
    report = data.prepare()
    print("\n".join(report.lines()))
    print(f"cache: {data.cache.folder}")
    return 1 if report.refused else 0


def run_demo(arguments: list[str]) -> int:
    """The demonstration."""
    from segan_pl.demo import main as demo

    return demo(arguments[1:])


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "fit": run_lightning,
    "validate": run_lightning,
    "test": run_lightning,
    "prepare": run_prepare,
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
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # between Lightning 2.6 and torch 2.13
    warnings.filterwarnings("ignore", message=".*LightningCLI's args parameter is intended.*")
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(no_advertisement)
    return COMMANDS[arguments[0]](resolve_config_arguments(arguments))
