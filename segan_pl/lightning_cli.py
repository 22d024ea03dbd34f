"""Lightning's command line over our system and data: options, the run's folder, the trainer that fits both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_only
from torch import nn

from segan_pl.callbacks.checkpoint import AtomicCheckpointIO
from segan_pl.callbacks.early_stopping import VolumeDiceStopping
from segan_pl.callbacks.freezing import Freezing, find_rest
from segan_pl.callbacks.preview import Preview
from segan_pl.callbacks.progress import Progress
from segan_pl.callbacks.record import RunRecord
from segan_pl.callbacks.scores import CaseScores
from segan_pl.checkpoint_file import refuse_folder
from segan_pl.data.module import MRIDataModule
from segan_pl.data.volume import MODALITIES, CaseError
from segan_pl.errors import UsageError, nearest
from segan_pl.files import require_writable
from segan_pl.initialising import initialise
from segan_pl.loggers import loggers
from segan_pl.parsing import OneLineErrors
from segan_pl.presence import segmentor_channels
from segan_pl.pretrained import asking, load_pretrained
from segan_pl.run import RunOptions, continue_from, has_trained, run_directory
from segan_pl.transfer import TransferOptions, frozen_patterns

LATER = {"model.presence": "zeros", "data.augmentation.modality_dropout": 0.0}
"""Settings that came after the first runs, and what those did."""


class Parser(OneLineErrors, LightningArgumentParser):
    """Lightning's parser with one-line errors."""


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
        parser.add_class_arguments(TransferOptions, instantiate=False)
        parser.link_arguments("data.modalities", "model.modalities", compute_fn=modalities)
        parser.link_arguments("data.patch", "model.patch")
        parser.link_arguments("data", "model.labels", compute_fn=scheme_name, apply_on="instantiate")

    def _parse_ckpt_path(self) -> None:
        """Nothing of a checkpoint overrides what was asked for (Lightning would let it)."""

    def before_instantiate_classes(self) -> None:
        """Settle the run's folder, whether it is continued, and what is to be transferred."""
        settings = self.config[self.subcommand]
        self.settings = yaml.safe_load(self._parser(self.subcommand).dump(settings, skip_unset=False))
        options = RunOptions(**settings.run.as_dict())
        checkpoint = settings.get("ckpt_path")
        self.transfer = TransferOptions.of(settings)
        if checkpoint:
            refuse_folder(Path(checkpoint).expanduser(), "--ckpt_path ")
        if self.subcommand == "fit":
            self.transfer.require_sense(checkpoint)
            self.directory = run_directory(options)
            self._require_place(options)
            found = continue_from(self.directory, self.settings, defaults={**asdict(TransferOptions()), **LATER})
            if found is not None:  # further on than any --ckpt_path that it began with
                settings.ckpt_path = str(found)
                rank_zero_info(f"continuing {self.directory} from {found.name}")
            elif (self.directory / "config.yaml").is_file() and not has_trained(self.directory):
                rank_zero_info(f"{self.directory} holds a run that ended before its first epoch; it begins anew")
        else:
            self.directory = scored_directory(options, checkpoint)
            self._require_place(options)
        self.options = options

    def _require_place(self, options: RunOptions) -> None:
        """Refuse a folder that cannot be written to before hours of preparing; nothing is made."""
        if getattr(rank_zero_only, "rank", 0) == 0:
            given = options.directory or f"(by default {self.directory})"
            require_writable(self.directory, f"--run.directory {given}")

    def instantiate_classes(self) -> None:
        """Build data, model and trainer; an error of the data is raised as it is, not as one of the link to it."""
        try:
            super().instantiate_classes()
        except ValueError as error:
            if isinstance(error.__cause__, CaseError | UsageError):
                raise error.__cause__ from None
            raise

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer with our callbacks and atomic checkpoints."""
        self.model.config_text = self.config_text
        self.model.allow_other_modalities = self.transfer.other_modalities == "allow"
        self._keep_split()
        trainer_settings = self._get(self.config_init, "trainer")
        plugins = [*(trainer_settings.get("plugins") or []), AtomicCheckpointIO()]
        given = trainer_settings.get("logger")
        found = given if isinstance(given, list) else [] if given in (None, True, False) else [given]
        if self.subcommand == "fit" and getattr(rank_zero_only, "rank", 0) == 0:
            found = [*found, *loggers(self.options, self.directory)]
        return super().instantiate_trainer(
            strategy=strategy(trainer_settings),
            default_root_dir=str(self.directory),  # else Slurm's checkpoints of other jobs would be taken for ours
            plugins=plugins,
            logger=found or False,
            callbacks=[*(trainer_settings.get("callbacks") or []), *self._callbacks(trainer_settings)],
        )

    def _keep_split(self) -> None:
        """Hand the data the split that the run has, or that of the run which it begins with."""
        data, checkpoint = self.settings["data"], self.config[self.subcommand].get("ckpt_path")
        anew = self.subcommand == "fit" and not has_trained(self.directory)
        self.datamodule.saved_split = saved_split(None if anew else self.directory, checkpoint, data["root"])
        if self.subcommand == "fit" and self.datamodule.saved_split is None:
            self.datamodule.saved_split = source_split(self.transfer.init_from, data)
            self.datamodule.split_owner = "that of the source"

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
        progress = Progress(options.monitor, plain_every=options.plain_every, validation_share=options.validation_share)
        common: list[Callback] = [] if silent else [progress]
        if self.subcommand != "fit":
            checkpoint = self.config[self.subcommand].get("ckpt_path")
            stem = f"{self.subcommand}_{Path(checkpoint).stem if checkpoint else 'untrained'}"
            if self.transfer.other_modalities == "allow":
                stem += f"_on_{'+'.join(self.model.modalities)}"
            return [*common, CaseScores(self.directory, f"{stem}.csv")]
        every = trainer.get("check_val_every_n_epoch") or 1
        best = ModelCheckpoint(
            dirpath=self.directory / "checkpoints",
            filename="epoch{epoch:04d}_dice{" + options.monitor + ":.4f}",
            auto_insert_metric_name=False,
            monitor=options.monitor,
            mode="max",
            save_top_k=options.keep_best,
            every_n_epochs=every,
            save_on_train_epoch_end=True,
        )
        last = ModelCheckpoint(  # of its own: with a monitor, Lightning's save_last waits for the next improvement
            dirpath=best.dirpath,
            filename="last",
            enable_version_counter=False,
            save_on_train_epoch_end=True,
        )
        stop = VolumeDiceStopping(monitor=options.monitor, patience=options.patience)
        pictures = [Preview(self.directory, every=options.preview_every)] if options.preview_every else []
        kept = [CaseScores(self.directory), RunRecord(self.directory, self.config_text)]
        frozen = frozen_patterns(self.transfer, self.model.players)
        freezing = [Freezing(frozen, self.transfer.thaw_epoch)] if frozen else []
        return [*common, stop, *pictures, *freezing, *kept, best, last]

    def after_instantiate_classes(self) -> None:
        """Refuse now what would fail after hours of preparing; say what will happen."""
        if self.subcommand == "fit":
            low = "bf16" in str(self.trainer.precision) and self.trainer.strategy.root_device.type == "cpu"
            self.model.require_patch(self.datamodule.patch, low_on_cpu=low)
            if len(self.datamodule.patch) == 3 or self.datamodule.batch_size == 1:
                self.datamodule.require_batch(self.model.least_batch(self.datamodule.patch))
            known = self.model.metric_names()
            if self.options.monitor not in known:
                raise UsageError(
                    f"--run.monitor {self.options.monitor} is never logged; {nearest(self.options.monitor, known)}"
                )
            self._begin_with_weights()
        else:
            self.model.require_windows(self.datamodule.patch)
        for name, player in self.model.players.items():
            rank_zero_info(f"{name}: {sum(p.numel() for p in player.parameters()):,} parameters")
        if self.subcommand == "fit":
            rank_zero_info(f"run directory: {self.directory}")

    def _begin_with_weights(self) -> None:
        """Load what a new run begins with; refuse patterns of what rests that name nothing."""
        rest = find_rest(self.model.players, frozen_patterns(self.transfer, self.model.players))
        if self.config[self.subcommand].get("ckpt_path"):  # continued, or resumed: its own weights come
            return
        players = (self.transfer.init_players or list(self.model.players)) if self.transfer.init_from else []
        modalities = len(self.model.modalities)
        planes = segmentor_channels(modalities, self.model.presence) - modalities
        found = [] if "segmentor" in players else load_pretrained(self.model, planes=planes)
        loaded = [*players, *(pretrained_parts(self.model.players) if found else [])]
        found += initialise(self.model, self.transfer) if players else []
        for line in [*found, *random_at_rest(rest.parameters, loaded)]:
            rank_zero_info(line)


def pretrained_parts(players: nn.Module) -> list[str]:
    """The parts that `load_pretrained` fills, by dotted name."""
    return [f"{name}.encoder" for name in asking(players)]


def random_at_rest(resting: Iterable[str], loaded: Iterable[str]) -> list[str]:
    """A note of the layers that will rest with random weights, if there are any.

    Args:
        resting: Dotted names of parameters, player first.
        loaded: Dotted names of the players and parts that take weights.
    """
    filled = tuple(f"{part}." for part in loaded)
    layers = dict.fromkeys(".".join(name.split(".")[:2]) for name in resting if not name.startswith(filled))
    if not layers:
        return []
    return [f"note: at rest with random weights: {', '.join(layers)}; --init_from gives trained ones"]


def saved_split(directory: Path | None, checkpoint: str | None, root: str) -> Path | None:
    """The split that the run's folder holds, or that of the run which a checkpoint comes from; not for other data.

    A split drawn anew, with cases that came since, could put what was trained on into validation.
    """
    homes = [*([directory] if directory else []), *([Path(checkpoint).resolve().parent.parent] if checkpoint else [])]
    for home in homes:
        if (home / "split.json").is_file() and (home / "config.yaml").is_file():
            before = yaml.safe_load((home / "config.yaml").read_text())["data"]["root"]
            if Path(before).expanduser().resolve() == Path(root).expanduser().resolve():
                return home / "split.json"
    return None


def source_split(checkpoint: str | None, data: Mapping[str, Any]) -> Path | None:
    """The split of the run that a new run begins with, for the same data and settings of the split; else None.

    Drawn anew, for other modalities perhaps from other cases, it could put what the source was trained on into
    validation; that is said.
    """
    if not checkpoint or data.get("split_file") or not (file := Path(checkpoint).expanduser().resolve()).is_file():
        return None
    home = file.parent.parent
    kept = all((home / name).is_file() for name in ("split.json", "config.yaml"))
    if not kept or saved_split(home, None, data["root"]) is None:
        _note_another_split(home, "another --data.root" if kept else "it has no split.json and config.yaml")
        return None
    before = yaml.safe_load((home / "config.yaml").read_text())["data"]
    names = ("split_file", "fold", "val_fraction", "test_fraction", "stratify_by", "split_seed")
    differing = [name for name in names if before.get(name) != data.get(name)]
    if differing:
        _note_another_split(home, f"another --data.{differing[0]}")
        return None
    return home / "split.json"


def _note_another_split(home: Path, why: str) -> None:
    rank_zero_info(
        f"note: the split is not that of {home} ({why}); what that run was trained on may be among the validation cases"
    )


def strategy(trainer: Any) -> Any:
    """The strategy as given, but for plain DDP: with two players, each turn leaves the other's parameters unused."""
    given = trainer.get("strategy", "auto")
    ranks = devices(trainer) * int(trainer.get("num_nodes") or 1)
    if given in ("ddp", "ddp_spawn") or (given == "auto" and ranks > 1):
        return f"{'ddp' if given == 'auto' else given}_find_unused_parameters_true"
    return given


def devices(trainer: Any) -> int:
    """How many devices a node `--trainer.devices` asks for."""
    asked = trainer.get("devices", "auto")
    if asked in ("auto", "-1", -1):
        return max(1, torch.cuda.device_count()) if trainer.get("accelerator") != "cpu" else 1
    if isinstance(asked, str) and "," in asked:
        asked = [part for part in asked.split(",") if part.strip()]
    return len(asked) if isinstance(asked, list) else int(asked)


def modalities(names: list[str] | None) -> list[str]:
    """The modalities that the data module will serve."""
    return list(names or MODALITIES)


def scheme_name(data: MRIDataModule) -> str:
    """The label scheme's whole name; what the labels mean may be told by the data set only."""
    return data.scheme.name


def scored_directory(options: RunOptions, checkpoint: str | None) -> Path:
    """Where `validate` and `test` write: the run that the checkpoint came from, or a new one."""
    if options.directory is None and checkpoint:
        home = Path(checkpoint).resolve().parent
        if home.name == "checkpoints":
            return home.parent
    return run_directory(options)
