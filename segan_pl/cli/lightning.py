"""Lightning's command line over our system and data: options, the run's folder, the trainer that fits both."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import yaml
from jsonargparse import Namespace
from lightning.fabric.plugins.environments import ClusterEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from segan_pl.cli.parsing import OneLineErrors
from segan_pl.cli.precision import settle_precision
from segan_pl.cli.trainer import (
    NO_VALIDATION,
    batch_norm_note,
    carried_out,
    joined_note,
    kept,
    limit_of,
    make_trainer,
    progress,
    require_validation_or_end,
    score_file,
    strategy,
    use_fast_kernels,
)
from segan_pl.cli.trainer_flags import listed, require_flags
from segan_pl.data.case import MODALITIES
from segan_pl.data.module import MRIDataModule
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.evaluation.kept import Monitor, direction, require_chooser
from segan_pl.experiments.shipped import config_paths
from segan_pl.files import require_writable
from segan_pl.inference.checkpoint_file import refuse_folder
from segan_pl.training.callbacks.checkpoint import AtomicCheckpointIO
from segan_pl.training.callbacks.early_stopping import VolumeDiceStopping
from segan_pl.training.callbacks.freezing import Freezing, find_frozen, frozen_at_random
from segan_pl.training.callbacks.record import CaseScores
from segan_pl.training.callbacks.stopping import HeldFolder, Stopping, own_signals
from segan_pl.training.finetuning.initialising import initialise
from segan_pl.training.finetuning.pretrained import pretrained_parts
from segan_pl.training.finetuning.settings import SCORING, FinetuningOptions, frozen_patterns
from segan_pl.training.run.continuing import continuation, require_more, saved_split, source_split
from segan_pl.training.run.folder import (
    RunOptions,
    has_trained,
    lies_at,
    require_own_run,
    require_split_in_place,
    run_directory,
    scored_directory,
)
from segan_pl.training.run.lease import RunLease
from segan_pl.training.run.signals import active
from segan_pl.training.run.surroundings import environments, is_first_rank
from segan_pl.training.trackers.choice import trackers


class Parser(OneLineErrors, LightningArgumentParser):
    """Lightning's parser with one-line errors."""


class SeganCLI(LightningCLI):
    """fit, validate and test of `AdversarialSegmentation` on `MRIDataModule`.

    Args:
        below: Settings below all that the command line says, e.g. those that a checkpoint holds.
    """

    def __init__(
        self, model: type, data: type, *, args: list[str], below: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        self.lease: RunLease | None = None
        self.arguments, self.below = args, below
        try:
            super().__init__(model, data, args=args, **kwargs)
        finally:
            if self.lease is not None:
                self.lease.release()

    @property
    def _is_first_rank(self) -> bool:
        return is_first_rank(int(self.config[self.subcommand].trainer.num_nodes or 1))

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """What is asked for alone: the options of each command take a while to make."""
        return {self.arguments[0]: {"model", "dataloaders", "train_dataloaders", "val_dataloaders", "datamodule"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The run's options, and what the model learns from the data."""
        parser.add_class_arguments(RunOptions, "run")
        parser.add_class_arguments(FinetuningOptions, "finetuning")
        parser.add_argument(
            f"--{SCORING}",
            type=Literal["refuse", "allow"],
            default="refuse",
            help="for validate and test: score a checkpoint on as many other modalities, named by --data.modalities",
        )
        parser.link_arguments("data.modalities", "model.modalities", compute_fn=modalities)
        parser.link_arguments("data.patch", "model.patch")
        parser.link_arguments("data", "model.labels", compute_fn=scheme_name, apply_on="instantiate")

    def parse_arguments(self, parser: Any, args: Any) -> None:
        """With what lies below the arguments; these are kept, so that what was asked for is told from a default."""
        # a text, no file that a kill could leave
        below = ["--config", yaml.safe_dump(self.below)] if self.below else []
        parser.commands = {args[0]: self._parser(args[0])}
        super().parse_arguments(parser, [args[0], *below, *args[1:]])

    def _parse_ckpt_path(self) -> None:
        """Nothing of a checkpoint overrides what was asked for (Lightning would let it)."""

    def before_instantiate_classes(self) -> None:
        """Settle the run's folder, whether it is continued, and what it begins with."""
        settings = self.config[self.subcommand]
        options = RunOptions(**settings.run.as_dict())
        require_flags(settings.trainer, settings.run, str(self.subcommand))
        checkpoint = settings.get("ckpt_path")
        self.finetuning = FinetuningOptions(**settings.finetuning.as_dict())
        if checkpoint:
            refuse_folder(Path(checkpoint).expanduser(), "--ckpt_path ")
        fitting = self.subcommand == "fit"
        if fitting:
            self.finetuning.require_sense(checkpoint)
        self.directory = run_directory(options) if fitting else scored_directory(options, checkpoint)
        if self._is_first_rank:
            place = options.directory or f"(by default {self.directory})"
            require_writable(self.directory, f"--run.directory {place}")
            if self.subcommand == "fit":
                data = self.config[self.subcommand].data
                split_file = Path(data.split_file).expanduser() if data.split_file else None
                reads = config_paths(self.arguments)
                require_own_run(self.directory, f"--run.directory {place}", reads, split_file, data.root)
        if fitting and self._is_first_rank and not settings.trainer.fast_dev_run:  # one for all ranks
            self.lease = RunLease(self.directory, rank_zero_info)
            self.lease.acquire()
        if note := settle_precision(settings, self.directory):
            rank_zero_info(note)
        if settings.data.preparation is None:  # in full, so that a saved configuration says what its defaults were
            settings.data.preparation = Namespace(**asdict(Preparation()))
        self.settings = yaml.safe_load(self._parser(self.subcommand).dump(settings, skip_unset=False))
        if fitting:
            given = Path(checkpoint).expanduser() if checkpoint else None
            begin = continuation(self.directory, self.settings, given=given)
            if not settings.trainer.fast_dev_run:  # which tries a batch of a run that has ended, too
                require_more(begin, self.directory, settings.trainer.max_epochs)
            if begin.checkpoint is not None:
                settings.ckpt_path = str(begin.checkpoint)
            elif (self.directory / "config.yaml").is_file() and not has_trained(self.directory):
                rank_zero_info(f"{self.directory} holds a run that ended before its first epoch; it starts again")
            for note in begin.notes:
                rank_zero_info(note)
        self.options = options
        self.signals = active()

    def instantiate_classes(self) -> None:
        """Build data, model and trainer; what one of our classes refuses is raised in its own words."""
        with cast(OneLineErrors, self.parser).own_words(self.config):
            super().instantiate_classes()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer with our callbacks and atomic checkpoints."""
        self.model.config_text = self.config_text
        self.model.allow_other_modalities = self._on_other_modalities
        data, checkpoint = self.settings["data"], self.config[self.subcommand].get("ckpt_path")
        new = self.subcommand == "fit" and not has_trained(self.directory)
        self.datamodule.saved_split = saved_split(None if new else self.directory, checkpoint, data["root"])
        if self.subcommand == "fit" and self.datamodule.saved_split is None:
            self.datamodule.saved_split = source_split(self.finetuning.init_from, data)
            self.datamodule.split_owner = "that of the source"
        file = self.directory / "split.json"
        if new and data["split_file"] and lies_at(Path(data["split_file"]).expanduser(), file):
            self.datamodule.find()
            require_split_in_place(self.datamodule.split, file)
        trainer_settings = self._get(self.config_init, "trainer")
        given = listed(trainer_settings.get("plugins"))
        named = any(isinstance(plugin, ClusterEnvironment) for plugin in given)
        plugins = [*given, AtomicCheckpointIO(), *environments(named)]
        given = trainer_settings.get("logger")
        found = [] if isinstance(given, bool) else listed(given)
        self.leaves_files = not trainer_settings.get("fast_dev_run")
        if self.subcommand == "fit" and self.leaves_files and self._is_first_rank:
            found = [*found, *trackers(self.options, self.directory)]
        self.datamodule.same_batches = bool(trainer_settings.get("overfit_batches"))
        fitting = self.subcommand == "fit"
        self.validates = not fitting or require_validation_or_end(trainer_settings, self.datamodule, self.arguments)
        make = partial(
            super().instantiate_trainer,
            **carried_out(trainer_settings, self.directory, validates=self.validates),
            strategy=strategy(trainer_settings, str(self.subcommand)),
            default_root_dir=str(self.directory),  # else Slurm's checkpoints of other jobs would be taken for ours
            plugins=plugins,
            logger=found or False,
            callbacks=[*listed(trainer_settings.get("callbacks")), *self._callbacks(trainer_settings)],
        )
        trainer = make_trainer(make, validates=self.validates)
        own_signals(trainer, self.signals)
        return trainer

    @property
    def _on_other_modalities(self) -> bool:
        return self.config[self.subcommand][SCORING] == "allow"

    @property
    def config_text(self) -> str:
        """The configuration that makes this model again."""
        return yaml.safe_dump(
            {k: v for k, v in self.settings.items() if k not in ("ckpt_path", "weights_only", "verbose")},
            sort_keys=False,
        )

    def _callbacks(self, trainer: Any) -> list[Callback]:
        name = self.options.monitor
        # one that cannot choose is refused before training
        mode = direction(name, self.model.described_metrics()) or "max"
        chooser = Monitor(name, mode) if self.validates else None
        common = progress(self.options, trainer, chooser)
        if self.subcommand != "fit":
            checkpoint = self.config[self.subcommand].get("ckpt_path")
            others = self.model.modalities if self._on_other_modalities else []
            file = score_file(str(self.subcommand), trainer, checkpoint, others)
            return [*common, *([CaseScores(self.directory, file)] if self.leaves_files else [])]
        frozen = frozen_patterns(self.finetuning, self.model.networks)
        freezing = [Freezing(frozen, self.finetuning.unfreeze_epoch)] if frozen else []
        held = [HeldFolder(self.lease)] if self.lease is not None else []
        common += [*held, Stopping(self.directory, self.signals)]
        if chooser is not None:
            stop = VolumeDiceStopping(monitor=chooser.name, patience=self.options.patience, mode=chooser.mode)
            common.append(stop)
        if not self.leaves_files:
            return [*common, *freezing]
        pictures, records = kept(self.directory, self.options, self.config_text, trainer, chooser, self.datamodule)
        return [*common, *pictures, *freezing, *records]

    def after_instantiate_classes(self) -> None:
        """Refuse now what would fail after hours of preparing; say what will happen."""
        if fitting := self.subcommand == "fit":
            low = "bf16" in str(self.trainer.precision) and self.trainer.strategy.root_device.type == "cpu"
            self.model.require_data(self.datamodule, low_on_cpu=low)
            self.model.began = True  # below, or with what it continues
            if self.validates:
                require_chooser(self.options.monitor, self.model.metric_names(), self.model.described_metrics())
            self._begin_with_weights()
            drawn = self.datamodule.unlabelled.labelled_per_batch != self.datamodule.batch_size
            if self.datamodule.split is not None and drawn and not self.model.objective.reads_unlabelled():
                idle = self.datamodule.unlabelled.idle_note(self.datamodule.split, type(self.model.objective).__name__)
                if idle:
                    rank_zero_info(idle)
        else:
            self.model.require_windows(self.datamodule.patch)
        self.limit = limit_of(self.trainer, self.datamodule, str(self.subcommand))
        kernels = use_fast_kernels(self.trainer.strategy.root_device, self.settings["trainer"])
        for name, network in self.model.networks.items():
            rank_zero_info(f"{name}: {sum(p.numel() for p in network.parameters()):,} parameters")
        batch_norm = batch_norm_note(self.trainer, self.model, bool(self.settings["trainer"].get("sync_batchnorm")))
        unscored = "" if self.validates else NO_VALIDATION
        joined = joined_note(self.trainer, self.datamodule.batch_size, self.model.accumulate) if fitting else ""
        for note in [
            f"note: each scoring takes {self.limit}" if self.limit else "",
            kernels,
            batch_norm,
            unscored,
            joined,
        ]:
            if note:
                rank_zero_info(note)
        if not self.leaves_files:
            rank_zero_info("note: --trainer.fast_dev_run tries everything once and leaves no file")
        elif fitting:
            rank_zero_info(f"seed: {self.config[self.subcommand].seed_everything}")
            rank_zero_info(f"run directory: {self.directory}")

    def _begin_with_weights(self) -> None:
        """Load what a new run begins with; refuse patterns of what is frozen that name nothing."""
        frozen = find_frozen(self.model.networks, frozen_patterns(self.finetuning, self.model.networks))
        if self.config[self.subcommand].get("ckpt_path"):  # continued, or resumed: its own weights come
            return
        networks = (self.finetuning.networks or self.model.trained) if self.finetuning.init_from else []
        found = [] if "segmentor" in networks else self.model.load_pretrained()
        loaded = [*networks, *(pretrained_parts(self.model.networks) if found else [])]
        found += initialise(self.model, self.finetuning, self.datamodule.preparation.as_dict()) if networks else []
        for line in [*found, *frozen_at_random(frozen.parameters, loaded)]:
            rank_zero_info(line)


def modalities(names: list[str] | None) -> list[str]:
    """The modalities that the data module will serve."""
    return list(names or MODALITIES)


def scheme_name(data: MRIDataModule) -> str:
    """The label scheme's whole name; what the labels mean may be told by the data set only."""
    return data.scheme.name
