"""trackio, whose interface is W&B's: a database on this machine, for which no account is needed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segan_pl.recipe import flatten
from segan_pl.training.run.folder import RunOptions
from segan_pl.training.trackers.naming import run_id, study_of
from segan_pl.training.trackers.tracker import Tracker, never_fatal, typed_rows


@never_fatal
class TrackioRun(Tracker):
    """A run of trackio, which begins when it is told the run's settings: its config is given at its start only.

    Figures of the CPU and of GPUs are trackio's own, where psutil and nvidia-ml-py are installed.

    Args:
        project: Of the run.
        name: By which a continued run is found again.
        group: Of runs, or None.
    """

    title = "trackio"

    def __init__(self, project: str, name: str, group: str | None = None) -> None:
        super().__init__()
        self.project, self.run_name, self.group = project, name, group
        self.experiment: Any = None

    @property
    def name(self) -> str:
        """The project."""
        return self.project

    @property
    def version(self) -> str:
        """The run."""
        return self.run_name

    def log_settings(self, settings: Mapping[str, Any], text: str, facts: Mapping[str, Any]) -> None:
        """As the run's config, in dotted keys."""
        import trackio

        self.experiment = trackio.init(
            self.project,
            name=self.run_name,
            group=self.group,
            config=flatten({**settings, "environment": facts}),
            resume="allow",
            embed=False,
        )

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: Lightning calls it with a model's own, and ours come by `log_settings`."""

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """As a point of each curve."""
        self.experiment.log(dict(metrics), step=step)

    def log_picture(self, name: str, file: Path, step: int) -> None:
        """As an image with a slider over its steps."""
        import trackio

        self.log_metrics({name: trackio.Image(str(file), caption=file.stem)}, step)

    def log_cases(self, file: Path, step: int) -> None:
        """As the table `cases`."""
        import trackio

        columns, rows = typed_rows(file)
        self.log_metrics({"cases": trackio.Table(columns=columns, data=rows)}, step)

    def log_checkpoint(self, file: Path) -> None:
        """As an artifact of type model, called by the run."""
        self.experiment.log_artifact(file, name=f"{self.run_name}-best", type="model", aliases=["best"])

    def finalize(self, status: str) -> None:
        """Write what is still queued."""
        import trackio

        if self.experiment is not None:
            trackio.finish()


def make_trackio(options: RunOptions, directory: Path) -> Tracker:
    """A run in the project that `--run.experiment` names, where trackio's own settings say."""
    return TrackioRun(options.experiment, run_id(directory), study_of(directory))
