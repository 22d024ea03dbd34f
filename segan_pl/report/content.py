"""The parts of a report, each from saved files to HTML; the order here is the order on the page."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from segan_pl import __version__
from segan_pl.evaluation.scored_runs import ScoredRun, higher_is_better
from segan_pl.evaluation.statistics import bootstrap_interval
from segan_pl.report import figures, html
from segan_pl.report.overlays import Overlay
from segan_pl.report.published import published_for
from segan_pl.report.run_files import RunFiles, flat

CURVES = {"val/dice": "Dice on the validation volumes", "train/": "training losses", "lr": "learning rate"}
IDENTITY = ("case", "patient", "grade", "institution", "region", "status", "empty")
COUNTS = ("tp", "fp", "fn", "tn")
SOFTWARE = ("segan_pl", "python", "torch", "lightning", "monai", "numpy", "nibabel")
NOT_SETTINGS = ("run.directory", "data.cache_dir", "data.workers", "data.prepare_workers")


class Drawn(NamedTuple):
    """A figure, its file's stem, and its words."""

    name: str
    figure: Figure
    caption: str


@dataclass(frozen=True)
class Report:
    """What a page shows.

    Attributes:
        runs: At least one, with different names.
        overlays: Run to its pictures.
        notes: What could not be shown, and why.
    """

    runs: Sequence[RunFiles]
    overlays: Mapping[str, Sequence[Overlay]]
    notes: Sequence[str] = ()

    @cached_property
    def scored(self) -> list[RunFiles]:
        """The runs with scores of cases."""
        return [run for run in self.runs if run.scored]

    @cached_property
    def regions(self) -> list[str]:
        """Of all runs, in order."""
        return list(dict.fromkeys(region for run in self.scored for region in _scores(run).regions))

    @cached_property
    def metrics(self) -> list[str]:
        """Of all runs, in order."""
        return list(dict.fromkeys(metric for run in self.scored for metric in _scores(run).metrics))

    def files(self) -> dict[str, bytes]:
        """Every figure of the page as a file: name to content."""
        out = {
            f"{name}.svg": figures.as_svg(figure).encode() for name, figure, _ in [*box_plots(self), *all_curves(self)]
        }
        for run, pictures in self.overlays.items():
            out |= {f"{_safe(run)}_{one.region}_{one.rank}.png": one.png for one in pictures}
        return out

    def values(self, run: RunFiles, region: str, metric: str) -> list[float]:
        """A run's values, n/a left out."""
        rows = (row for (where, _), row in _scores(run).rows.items() if where == region)
        return [value for row in rows if not math.isnan(value := row.values.get(metric, math.nan))]


def _scores(run: RunFiles) -> ScoredRun:
    assert run.scored is not None
    return run.scored


def whole_page(report: Report) -> str:
    """The document."""
    title = "segan_pl report: " + ", ".join(run.name for run in report.runs)
    parts = [
        ("Scores", "scores", score_part(report)),
        ("Beside the published numbers", "published", published_part(report)),
        ("Cases", "pictures", overlay_part(report)),
        ("Every case", "cases", case_part(report)),
        ("Failures", "failures", failure_part(report)),
        ("Learning", "curves", curve_part(report)),
        ("What was run", "runs", run_part(report)),
    ]
    sections = [html.section(name, anchor, inside) for name, anchor, inside in parts]
    links = "".join(f'<a href="#{anchor}">{html.text(name)}</a>' for name, anchor, inside in parts if inside)
    notes = "".join(f'<p class="quiet">{html.text(note)}</p>\n' for note in report.notes)
    head = f'<h1>{html.text(title)}</h1>\n<nav aria-label="Parts of this page">{links}</nav>\n{notes}'
    foot = (
        f'<p class="quiet">Made by segan_pl {__version__} from the files of the runs; nothing was computed anew but '
        f"means, intervals and pictures.</p>\n"
    )
    return html.page(title, head + "".join(sections) + foot)


# -- scores ------------------------------------------------------------------------------------------------------------


def score_part(report: Report) -> str:
    """Means with intervals, and box plots."""
    if not report.scored:
        return ""
    origin = "".join(f'<p class="quiet">{html.text(line)}</p>\n' for line in origins(report))
    plots = [html.drawing(figures.as_svg(figure), caption) for _, figure, caption in box_plots(report)]
    return origin + html.table(*score_table(report)[:2], caption=SCORES, numbers=range(2, 9)) + "".join(plots)


SCORES = (
    "Mean over cases with its bootstrap 95 % interval over patients (10,000 resamples, seed 0), median and quartiles; "
    "n is the number of cases that the mean is over, n/a the number left out of it."
)


def origins(report: Report) -> list[str]:
    """Where each run's scores come from, and what empty masks score there."""
    lines = []
    for run in report.scored:
        scored = _scores(run)
        chosen = (
            " These cases chose the checkpoint, so the scores flatter it." if scored.table.kind == "validation" else ""
        )
        policy = f"; empty masks: policy {scored.policy}" if scored.policy else ""
        lines.append(f"{run.name}: {scored.table.path.name} ({scored.table.reason}){policy}.{chosen}{trained_on(run)}")
    return lines


def trained_on(run: RunFiles) -> str:
    """A warning where scored cases are the run's own training or validation cases."""
    if _scores(run).table.kind == "validation":
        return ""
    cases = set(_scores(run).cases)
    counts = {part: len(cases & set(run.split.get(part, ()))) for part in ("train", "val")}
    said = {"train": "trained the network", "val": "chose its checkpoint"}
    parts = [f"{count} {said[part]}" for part, count in counts.items() if count]
    return f" Of these {len(cases)} cases {' and '.join(parts)}: the scores flatter it." if parts else ""


def score_table(report: Report) -> tuple[list[str], list[list[str]]]:
    """Columns and rows: one a run, region and metric."""
    columns = ["run", "region", "metric", "mean", "95 % interval", "median", "quartiles", "n", "n/a"]
    rows = [
        [run.name, region.upper(), metric, *summary(report, run, region, metric)]
        for metric in report.metrics
        for region in report.regions
        for run in report.scored
        if region in _scores(run).regions and metric in _scores(run).metrics
    ]
    return columns, rows


def summary(report: Report, run: RunFiles, region: str, metric: str) -> list[str]:
    """Mean, interval, median, quartiles, n and n/a as text."""
    values = report.values(run, region, metric)
    total = sum(where == region for where, _ in _scores(run).rows)
    if not values:
        return ["n/a", "", "n/a", "", "0", str(total)]
    low, median, high = np.percentile(values, (25, 50, 75))
    means = _patient_means(run, region, metric)
    interval = " to ".join(map(number, bootstrap_interval(means))) if len(means) > 1 else "one patient"
    spread = f"{number(low)} to {number(high)}"
    return [
        number(float(np.mean(values))),
        interval,
        number(median),
        spread,
        str(len(values)),
        str(total - len(values)),
    ]


def _patient_means(run: RunFiles, region: str, metric: str) -> np.ndarray:
    scored = _scores(run)
    values: dict[str, list[float]] = {}
    for (where, case), row in scored.rows.items():
        value = row.values.get(metric, math.nan)
        if where == region and not math.isnan(value):
            values.setdefault(scored.patients.get(case, case), []).append(value)
    return np.array([np.mean(values[patient]) for patient in sorted(values)])


def number(value: float) -> str:
    """Four significant places below 10, fewer above."""
    return "n/a" if math.isnan(value) else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def box_plots(report: Report) -> list[Drawn]:
    """Every case as a dot, one figure a metric."""
    drawn = []
    for metric in (name for name in ("dice", "hd95_mm") if name in report.metrics):
        groups = {r: {run.name: report.values(run, r, metric) for run in report.scored} for r in report.regions}
        better = "higher is better" if higher_is_better(metric) else "lower is better"
        caption = f"{metric} of every case by region ({better}); the box is quartiles and median"
        drawn.append(Drawn(f"box_{metric}", figures.boxes(groups, ylabel=metric), caption))
    return drawn


# -- published ---------------------------------------------------------------------------------------------------------


def published_part(report: Report) -> str:
    """Ours beside the papers', for experiments that are known."""
    rows = []
    for run in report.scored:
        for row in published_for(run.config, report.regions):
            if (metric := row["metric"]) not in report.metrics:
                continue
            values = report.values(run, row["region"].lower(), metric)
            ours = number(float(np.mean(values))) if values else "n/a"
            rows.append(
                [
                    run.name,
                    row["region"],
                    metric,
                    ours,
                    len(values),
                    row["value"],
                    f"{row['dataset']}, table {row['table']}",
                ]
            )
    if not rows:
        return ""
    warning = (
        '<p class="quiet">The papers\' cases, splits and sizes of networks are not ours: the columns stand side by '
        "side to be looked at, not to be subtracted.</p>\n"
    )
    columns = ["run", "region", "metric", "ours (mean)", "n", "published", "where"]
    return warning + html.table(columns, rows, caption="Ours and the published numbers", numbers=(3, 4, 5))


# -- cases -------------------------------------------------------------------------------------------------------------


def overlay_part(report: Report) -> str:
    """Best, median and worst case of each region."""
    parts = []
    for run in report.runs:
        for region in dict.fromkeys(one.region for one in report.overlays.get(run.name, ())):
            mine = [one for one in report.overlays[run.name] if one.region == region]
            pictures = "".join(html.picture(one.png, f"{one.rank}: {one.caption}") for one in mine)
            parts.append(f'<h3>{html.text(f"{run.name}: {region.upper()}")}</h3>\n<div class="row">{pictures}</div>\n')
    return "".join(parts)


def case_part(report: Report) -> str:
    """The tables of all runs as they stand in their files, but for voxel counts."""
    parts = []
    for index, run in enumerate(report.scored):
        names = [name for name in run.scored_cells[0] if name not in COUNTS]
        rows = [[_cell(row[name], name) for name in names] for row in run.scored_cells]
        numbers = [i for i, name in enumerate(names) if name not in IDENTITY]
        caption = f"{run.name}: {_scores(run).table.path.name}; an empty cell is not available"
        parts.append(html.sorting_table(names, rows, caption=caption, anchor=f"search-{index}", numbers=numbers))
    return "".join(parts)


def _cell(value: str, name: str) -> str:
    try:
        return value if name in IDENTITY or not value else number(float(value))
    except ValueError:
        return value


def failure_part(report: Report) -> str:
    """Cases that were refused or have no prediction, and empty masks."""
    rows = [
        [run.name, cells["case"], cells["region"].upper(), cells["status"]]
        for run in report.scored
        for cells in run.scored_cells
        if cells.get("status") not in (None, "", "ok", "scored")
    ]
    rows += [
        [run.name, row["case"], "", row["refused"]] for run in report.runs for row in run.predictions if row["refused"]
    ]
    empty = [
        [run.name, cells["case"], cells["region"].upper(), f"empty: {cells['empty']}"]
        for run in report.scored
        for cells in run.scored_cells
        if cells.get("empty") not in (None, "", "neither")
    ]
    if not rows and not empty:
        return "<p>No case failed, and no mask is empty.</p>\n" if report.scored else ""
    return html.table(["run", "case", "region", "what"], [*rows, *empty], caption="Failures and empty masks")


# -- learning and settings ---------------------------------------------------------------------------------------------


def curve_part(report: Report) -> str:
    """One figure a group of logged values."""
    return "".join(html.drawing(figures.as_svg(figure), caption) for _, figure, caption in all_curves(report))


def all_curves(report: Report) -> list[Drawn]:
    """Each group of CURVES that a run logged."""
    drawn = []
    for prefix, name in CURVES.items():
        if series := _series(report.runs, prefix):
            caption = f"{name} by epoch: {', '.join(series)}"
            figure = figures.curves(series, xlabel="epoch", ylabel=name)
            drawn.append(Drawn(f"curve_{_safe(name)}", figure, caption))
    return drawn


def _series(runs: Sequence[RunFiles], prefix: str) -> dict[str, list[tuple[float, float]]]:
    """Name in the legend to (epoch, value), of what was logged under a prefix."""
    series = {}
    keys = dict.fromkeys(key for run in runs for row in run.epochs for key in row if key.startswith(prefix))
    if len([key for key in keys if key.startswith("val/dice_")]) == 2:  # one region: its mean says nothing more
        keys.pop("val/dice_mean", None)
    for key in keys:
        for run in runs:
            if points := [(float(row["epoch"]), float(row[key])) for row in run.epochs if row.get(key)]:
                series[key if len(runs) == 1 else f"{run.name}: {key}"] = points
    return series


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)


def run_part(report: Report) -> str:
    """Differences of the configurations first, then each run."""
    return difference_table(report.runs) + "".join(one_run(run) for run in report.runs)


def difference_table(runs: Sequence[RunFiles]) -> str:
    """The settings in which the runs differ."""
    settings = {run.name: flat(run.config) for run in runs if run.config}
    if len(settings) < 2:
        return ""
    keys = list(dict.fromkeys(key for one in settings.values() for key in one if key not in NOT_SETTINGS))
    differing = [key for key in keys if len({one.get(key) for one in settings.values()}) > 1]
    rows = [[key, *(one.get(key, "not set") for one in settings.values())] for key in differing]
    if not rows:
        return "<p>The runs' configurations are equal.</p>\n"
    return html.table(["setting", *settings], rows, caption="Settings in which the runs differ")


def one_run(run: RunFiles) -> str:
    """Data, split, software, hardware and time of a run, and its whole configuration."""
    data, environment = run.config.get("data") or {}, run.environment
    seconds = sum(float(row["seconds"]) for row in run.epochs if row.get("seconds"))
    parts = {part: len(run.split.get(part, ())) for part in ("train", "val", "test")} if run.split else {}
    facts = html.facts(
        [
            ("folder", run.folder),
            ("data", data.get("root")),
            ("modalities", ", ".join(data.get("modalities") or ())),
            ("labels", data.get("labels")),
            ("split", ", ".join(f"{count} {part}" for part, count in parts.items() if count)),
            ("split seed", run.split.get("seed")),
            ("epochs", len(run.epochs) or None),
            ("time", f"{seconds / 60:.1f} minutes in epochs" if seconds else None),
            ("started", environment.get("started")),
            ("git", environment.get("git")),
            ("software", ", ".join(f"{name} {environment[name]}" for name in SOFTWARE if environment.get(name))),
            ("hardware", ", ".join([*environment.get("gpus", ()), f"{environment.get('cpu_count', '?')} CPU cores"])),
            ("platform", environment.get("platform")),
        ]
    )  # fmt: skip
    folded = ""
    if run.commands:
        folded += html.folded("Command lines", f"<pre>{html.text(chr(10).join(run.commands))}</pre>\n")
    if run.config:
        rows = [[key, value] for key, value in flat(run.config).items()]
        folded += html.folded("Whole configuration", html.table(["setting", "value"], rows, caption="config.yaml"))
    return f"<h3>{html.text(run.name)}</h3>\n{facts}{folded}"
