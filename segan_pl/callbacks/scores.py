"""Per-case scores, the split and the case table as files of the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from segan_pl.evaluation.cases import write_csv, write_table
from segan_pl.evaluation.subsets import beside, write_subsets
from segan_pl.run import has_trained


class CaseScores(Callback):
    """Writes the split once, and one CSV row a case and region after every validation.

    Args:
        directory: The run's folder; scores go to scores/val_epoch_0007.csv, or to `name` after `test` or `validate`;
            those of subsets of the modalities, where they were counted, to the same name with _subsets.
        name: File for a single scoring.
    """

    def __init__(self, directory: Path, name: str | None = None) -> None:
        self.directory = directory
        self.name = name

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep split.json and cases.csv beside the scores; the split of a run that has trained stays as it is."""
        if not trainer.is_global_zero:
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        self.directory.mkdir(parents=True, exist_ok=True)
        if not (file := self.directory / "split.json").exists() or not has_trained(self.directory):
            data.split.save(file)
        write_table(self.directory / "cases.csv", data.case_table())

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """After the module has gathered its counts."""
        if not trainer.sanity_checking:
            self._write(trainer, pl_module, f"val_epoch_{trainer.current_epoch:04d}.csv")

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The same for the test cases."""
        self._write(trainer, pl_module, "test.csv")

    def _write(self, trainer: L.Trainer, pl_module: L.LightningModule, name: str) -> None:
        if trainer.is_global_zero:
            file = self.directory / "scores" / (self.name or name)
            write_csv(file, pl_module.case_scores)  # type: ignore[arg-type]
            if rows := pl_module.subset_scores:
                write_subsets(beside(file), rows)  # type: ignore[arg-type]
