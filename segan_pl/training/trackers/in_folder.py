"""TensorBoard's files and Lightning's CSV, both in the run's folder."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from matplotlib.image import imread

from segan_pl.evaluation.saved_files import csv_rows
from segan_pl.recipe import flatten
from segan_pl.training.run.folder import RunOptions
from segan_pl.training.trackers.tracker import Tracker, never_fatal, typed_rows


@never_fatal
class TensorBoardFiles(TensorBoardLogger, Tracker):
    """Files of events in RUN/tensorboard/; a run that goes on adds one."""

    title = "TensorBoard"

    def log_settings(self, settings: Mapping[str, Any], text: str, facts: Mapping[str, Any]) -> None:
        """As texts, and as hparams.yaml."""
        self.log_hyperparams(flatten(settings))
        self.experiment.add_text("config", _verbatim(text))
        self.experiment.add_text("environment", _verbatim(json.dumps(facts, indent=2)))

    def log_picture(self, name: str, file: Path, step: int) -> None:
        """As an image with a slider over its steps."""
        self.experiment.add_image(name, imread(file), step, dataformats="HWC")

    def log_cases(self, file: Path, step: int) -> None:
        """As a text, a table in Markdown."""
        columns, rows = typed_rows(file)
        lines = [columns, ["---"] * len(columns), *([_cell(one) for one in row] for row in rows)]
        self.experiment.add_text("cases", "\n".join(f"| {' | '.join(line)} |" for line in lines), step)


@never_fatal
class CSVFile(CSVLogger, Tracker):
    """RUN/csv/metrics.csv with a row for each call, as Lightning writes it; pictures and tables lie in the folder."""

    title = "CSV"

    def log_settings(self, settings: Mapping[str, Any], text: str, facts: Mapping[str, Any]) -> None:
        """As hparams.yaml."""
        self.log_hyperparams({**settings, "environment": dict(facts)})


def make_tensorboard(options: RunOptions, directory: Path) -> Tracker:
    """In the run's folder."""
    return TensorBoardFiles(save_dir=directory, name="tensorboard", version="", default_hp_metric=False)


def make_csv(options: RunOptions, directory: Path) -> Tracker:
    """In the run's folder; the rows of an earlier start of the run stay."""
    before: list[dict[str, Any]] = [*csv_rows(directory / "csv" / "metrics.csv")]
    tracker = CSVFile(directory, name="csv", version="", flush_logs_every_n_steps=1)
    with warnings.catch_warnings():  # Lightning begins the file anew, and says so
        warnings.filterwarnings("ignore", message="Experiment logs directory")
        tracker.experiment.metrics = before
    tracker.experiment.save()
    return tracker


def _verbatim(text: str) -> str:
    return f"```\n{text}\n```"


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value).replace("|", r"\|")
