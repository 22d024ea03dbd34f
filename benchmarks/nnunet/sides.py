"""nnU-Net and our systems, each driven by its own commands."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.nnunet.budget import cpu_seconds
from benchmarks.nnunet.dataset import small_configuration, write_raw
from benchmarks.nnunet.study import SEGAN_PL, Study

CONFIGURATION = "2d_small"
TRAINER = Path(__file__).with_name("fixed_iterations.py")


@dataclass(frozen=True)
class NNUNet:
    """nnU-Net's 2-D plan with a smaller network, in an environment of its own.

    Attributes:
        study: Folds and folders.
        python: The environment's Python; nnU-Net's commands lie next to it.
        width: Feature maps of the first stage.
        patch: Of training.
        batch: Slices of a batch.
        name: Of its runs.
    """

    study: Study
    python: Path
    width: int = 8
    patch: tuple[int, int] = (160, 160)
    batch: int = 12
    name: str = "nnunet"

    @property
    def settings(self) -> dict[str, Any]:
        """Those of the small configuration, and the data."""
        return {"data": self.study.data, "width": self.width, "patch": [*self.patch], "batch": self.batch}

    def prepare(self, fold: int) -> float:
        """Write the data set, let nnU-Net plan, add the small configuration, and preprocess."""
        dataset, log = self._dataset(fold), self._home / f"prepare_fold{fold}.log"
        raw, split = self._home / "raw" / dataset, self.study.folds[fold]
        if not (raw / "dataset.json").exists():
            train, test = ([self.study.cases[name] for name in part] for part in (split.train, split.test))
            write_raw(raw, train, test, self.study.modalities)
        which = ["-d", str(fold + 1)]
        # Planning wants at least one process of augmentation, training none: all of its time is then the command's own.
        places = {**self._places(self._home / "results"), "nnUNet_n_proc_DA": "1"}
        seconds = cpu_seconds([self._command("extract_fingerprint"), *which, "-np", "1"], log, places)
        seconds += cpu_seconds([self._command("plan_experiment"), *which], log, places)
        file = self._home / "preprocessed" / dataset / "nnUNetPlans.json"
        plans = json.loads(file.read_text())
        small = small_configuration(plans["configurations"]["2d"], self.width, self.patch, self.batch)
        plans["configurations"][CONFIGURATION] = small
        file.write_text(json.dumps(plans, indent=1))
        return seconds + cpu_seconds(
            [self._command("preprocess"), *which, "-c", CONFIGURATION, "-np", "1"], log, places
        )

    def train(self, fold: int, seed: int, steps: int, folder: Path) -> float:
        """Steps are iterations."""
        command = [str(self.python), str(TRAINER), self._dataset(fold), CONFIGURATION, str(steps), "--seed", str(seed)]
        return cpu_seconds(command, folder / "train.log", self._places(folder / "training"))

    def iterations(self, steps: int, folder: Path) -> int:
        """The steps themselves."""
        return steps

    def predict(self, fold: int, folder: Path, masks: Path, *, mirror: bool) -> float:
        """With the last weights and nnU-Net's own sliding window."""
        dataset = self._dataset(fold)
        model = folder / "training" / dataset / f"nnUNetTrainer__nnUNetPlans__{CONFIGURATION}"
        images = self._home / "raw" / dataset / "imagesTs"
        command = [self._command("predict_from_modelfolder"), "-i", str(images), "-o", str(masks), "-m", str(model)]
        command += ["-f", "all", "-device", "cpu", "-npp", "1", "-nps", "1", "--disable_progress_bar"]
        command += [] if mirror else ["--disable_tta"]
        return cpu_seconds(command, folder / f"{masks.name}.log", self._places(folder / "training"))

    @property
    def _home(self) -> Path:
        return self.study.output / "nnunet"

    def _dataset(self, fold: int) -> str:
        return f"Dataset{fold + 1:03d}_fold{fold}"

    def _command(self, name: str) -> str:
        return str(self.python.parent / f"nnUNetv2_{name}")

    def _places(self, results: Path) -> dict[str, str]:
        return {
            "nnUNet_raw": str(self._home / "raw"),
            "nnUNet_preprocessed": str(self._home / "preprocessed"),
            "nnUNet_results": str(results),
            "nnUNet_n_proc_DA": "0",
        }


@dataclass(frozen=True)
class Ours:
    """A system of this package on the same cases; a step is an epoch.

    Attributes:
        study: Folds and folders.
        system: Name or file of the system's configuration.
        name: Of its runs.
        options: Further ones of `fit`.
    """

    study: Study
    system: str
    name: str
    options: Sequence[str] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """System, data and options of `fit`."""
        return {"data": self.study.data, "system": self.system, "options": [*self.options]}

    def prepare(self, fold: int) -> float:
        """Fill the cache, of all folds at once: the second call finds it."""
        log = self.study.output / f"prepare_{self.name}.log"
        return cpu_seconds([*SEGAN_PL, "prepare", *self._data, "--workers", "1", *self.options], log)

    def train(self, fold: int, seed: int, steps: int, folder: Path) -> float:
        """All of the fold's training cases train, none validates, and the last weights are kept."""
        command = [*SEGAN_PL, "fit", *self._data, "--data.split_file", str(self.study.split_file)]
        command += ["--data.fold", str(fold), "--data.val_fraction", "0", "--data.workers", "0"]
        command += ["--trainer.accelerator", "cpu", "--trainer.max_epochs", str(steps)]
        command += ["--trainer.enable_progress_bar", "false", "--seed_everything", str(seed), "--data.seed", str(seed)]
        command += ["--run.directory", str(folder / "run"), *self.options]
        return cpu_seconds(command, folder / "train.log")

    def iterations(self, steps: int, folder: Path) -> int:
        """As the run's metrics count them."""
        with (folder / "run" / "metrics.csv").open() as file:
            return int(list(csv.DictReader(file))[-1]["batches_seen"])

    def predict(self, fold: int, folder: Path, masks: Path, *, mirror: bool) -> float:
        """With the last checkpoint."""
        checkpoint = folder / "run" / "checkpoints" / "last.ckpt"
        command = [*SEGAN_PL, "predict", *self.study.data_options, "--ckpt_path", str(checkpoint), "--part", "test"]
        command += ["--output", str(masks), *(["--mirror", "1", "2"] if mirror else [])]
        return cpu_seconds(command, folder / f"{masks.name}.log")

    @property
    def _data(self) -> list[str]:
        cache = ["--data.cache_dir", str(self.study.output / "cache")]
        return ["--config", self.system, *self.study.data_options, *cache]
