"""MLflow: on the server that MLFLOW_TRACKING_URI names, else in a database of SQLite next to the run's folder."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import MLFlowLogger
from matplotlib.image import imread

from segan_pl.recipe import flatten
from segan_pl.training.run.folder import RunOptions
from segan_pl.training.trackers.naming import run_id, study_of
from segan_pl.training.trackers.tracker import Tracker, never_fatal

FOLDER = "segan_pl.folder"
"""The tag by which a folder's run is found again."""
DATABASE = "mlflow.db"
ARTIFACTS = "mlflow_artifacts"


@never_fatal
class MLflowRun(MLFlowLogger, Tracker):
    """A run of MLflow that exists already."""

    title = "MLflow"

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.tracking_uri = settings["tracking_uri"]
        self.system: Any = None

    def log_settings(self, settings: Mapping[str, Any], text: str, facts: Mapping[str, Any]) -> None:
        """As parameters, as config.yaml and environment.json, and the git revision as MLflow's own tag.

        A parameter of MLflow's never changes: what an earlier start of the run said stays, and config.yaml is new.
        """
        run, client = str(self.run_id), self.experiment
        said = client.get_run(run).data.params
        self.log_hyperparams({key: value for key, value in flatten(settings).items() if key not in said})
        client.log_text(run, text, "config.yaml")
        client.log_dict(run, dict(facts), "environment.json")
        for name, value in flatten({"git": facts.get("git") or {}}).items():
            client.set_tag(run, name, value)
            if name == "git.revision":
                client.set_tag(run, "mlflow.source.git.commit", value)
        # without psutil MLflow has no figures of the system
        if self.system is None and find_spec("psutil") is not None:
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            self.system = SystemMetricsMonitor(run, resume_logging=True, tracking_uri=self.tracking_uri)
            self.system.start()

    def log_picture(self, name: str, file: Path, step: int) -> None:
        """As an image with a slider over its steps."""
        self.experiment.log_image(self.run_id, imread(file), key=name, step=step)

    def log_cases(self, file: Path, step: int) -> None:
        """As an artifact, scores/val_epoch_0007.csv."""
        self.experiment.log_artifact(self.run_id, str(file), "scores")

    def log_checkpoint(self, file: Path) -> None:
        """As an artifact, in checkpoints/."""
        self.experiment.log_artifact(self.run_id, str(file), "checkpoints")

    def finalize(self, status: str = "success") -> None:
        """End the run, and the thread that reads the system's figures."""
        if self.system is not None:
            self.system.finish()
            self.system = None
        super().finalize(status)


def make_mlflow(options: RunOptions, directory: Path) -> Tracker:
    """A run that is found again by a tag with the folder's id, in the experiment that `--run.experiment` names.

    Raises:
        Exception: Whatever MLflow raises, e.g. where its server does not answer.
    """
    # A server that does not answer holds the run up for a quarter of a minute, not for two minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    # MLflow would tell its makers that it is used.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient

    # which say what tables they make, and that a thread begins
    for name in ("mlflow.store.db.utils", "alembic", "mlflow.system_metrics"):
        logging.getLogger(name).setLevel(logging.WARNING)
    here, place = directory.parent, None
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        here.mkdir(parents=True, exist_ok=True)
        uri, place = f"sqlite:///{here / DATABASE}", (here / ARTIFACTS).as_uri()
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(options.experiment)
    experiment = found.experiment_id if found else client.create_experiment(options.experiment, place)
    name = run_id(directory)
    runs = client.search_runs([experiment], f"tags.`{FOLDER}` = '{name}'", max_results=1)
    if runs:
        run = runs[0]
        client.update_run(run.info.run_id, status="RUNNING")
    else:
        group = study_of(directory)
        tags = {FOLDER: name, **({"segan_pl.study": group} if group else {})}
        run = client.create_run(experiment, tags=tags, run_name=directory.name)
    return MLflowRun(experiment_name=options.experiment, tracking_uri=uri, run_id=run.info.run_id)
