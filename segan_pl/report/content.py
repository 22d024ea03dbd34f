"""The parts of a report, each from saved files to HTML; the order here is the order on the page."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from matplotlib.figure import Figure

from segan_pl import __version__
from segan_pl.evaluation.saved_files import mapping
from segan_pl.evaluation.scored_runs import higher_is_better
from segan_pl.evaluation.summaries import Summary
from segan_pl.report import figures, html
from segan_pl.report.overlays import Overlay
from segan_pl.report.published import published_for
from segan_pl.report.run_files import RunFiles, flat
from segan_pl.report.scores import CAPTION, COLUMNS, number, origin_lines, scores_of, statistics, summary_cells
from segan_pl.report.subsets import subset_part

CURVES = {"val/dice": "Dice on the validation volumes", "train/": "training losses", "lr": "learning rate"}
IDENTITY = ("case", "patient", "grade", "institution", "region", "status", "empty", "policy")
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
        return list(dict.fromkeys(region for run in self.scored for region in scores_of(run).regions))

    @cached_property
    def metrics(self) -> list[str]:
        """Of all runs, in order."""
        return list(dict.fromkeys(metric for run in self.scored for metric in scores_of(run).metrics))

    @cached_property
    def statistics(self) -> dict[str, Summary]:
        """Run to its means, intervals and quartiles."""
        return {run.name: statistics(run) for run in self.scored}

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
        rows = (row for (where, _), row in scores_of(run).rows.items() if where == region)
        return [value for row in rows if not math.isnan(value := row.values.get(metric, math.nan))]


def whole_page(report: Report) -> str:
    """The document."""
    title = "segan_pl report: " + ", ".join(run.name for run in report.runs)
    parts = [
        ("Scores", "scores", score_part(report)),
        ("Beside the published numbers", "published", published_part(report)),
        ("Subsets of the modalities", "subsets", subset_part(report.runs)),
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
    return origin + html.table(*score_table(report)[:2], caption=CAPTION, numbers=range(2, 9)) + "".join(plots)


def origins(report: Report) -> list[str]:
    """Where each run's scores come from, how they are defined, and what empty masks score there."""
    return [line for run in report.scored for line in origin_lines(run)]


def score_table(report: Report) -> tuple[list[str], list[list[str]]]:
    """Columns and rows: one a run, region and metric."""
    rows = [
        [run.name, region.upper(), metric, *summary(report, run, region, metric)]
        for metric in report.metrics
        for region in report.regions
        for run in report.scored
        if (region, metric) in report.statistics[run.name]
    ]
    return list(COLUMNS), rows


def summary(report: Report, run: RunFiles, region: str, metric: str) -> list[str]:
    """Mean, interval, median, quartiles, n and n/a as text."""
    total = sum(where == region for where, _ in scores_of(run).rows)
    return summary_cells(report.statistics[run.name][region, metric], total)


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
    rows = published_rows(report)
    if not rows:
        return ""
    warning = f'<p class="quiet">{html.text(NOT_THE_SAME)}</p>\n'
    return warning + html.table(PUBLISHED, rows, caption="Ours and the published numbers", numbers=(3, 4, 5))


NOT_THE_SAME = (
    "The papers' cases, splits and sizes of networks are not ours: the columns stand side by side to be looked at, not "
    "to be subtracted."
)
PUBLISHED = ["run", "region", "metric", "ours (mean)", "n", "published", "where"]


def published_rows(report: Report) -> list[list[str]]:
    """One a run and published number of its system, modalities, region and metric."""
    rows = []
    for run in report.scored:
        for row in published_for(run.config, scores_of(run).regions):
            region, metric = row["region"], row["metric"]
            if (region.lower(), metric) in report.statistics[run.name]:
                found = report.statistics[run.name][region.lower(), metric]
                where = f"{row['dataset']}, table {row['table']}"
                rows.append([run.name, region, metric, number(found.mean), str(found.n), row["value"], where])
    return rows


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
        caption = f"{run.name}: {scores_of(run).table.path.name}; an empty cell is not available"
        parts.append(html.sorting_table(names, rows, caption=caption, anchor=f"search-{index}", numbers=numbers))
    return "".join(parts)


def _cell(value: str, name: str) -> str:
    try:
        return value if name in IDENTITY or not value else number(float(value))
    except ValueError:
        return value


def failure_part(report: Report) -> str:
    """Cases that were refused or have no prediction, and empty masks."""
    if rows := failure_rows(report):
        return html.table(FAILURES, rows, caption="Failures and empty masks")
    return "<p>No case failed, and no mask is empty.</p>\n" if report.scored else ""


FAILURES = ["run", "case", "region", "what"]


def failure_rows(report: Report) -> list[list[str]]:
    """One a case and region that failed, a case that `predict` refused, and an empty mask."""
    rows, empty = [], []
    for run in report.scored:
        for cells in run.scored_cells:
            about = [run.name, cells["case"], cells["region"].upper()]
            if cells.get("status") not in (None, "", "ok", "scored"):
                rows.append([*about, cells["status"]])
            if cells.get("empty") not in (None, "", "neither"):
                empty.append([*about, f"empty: {cells['empty']}"])
    refused = [(run.name, row) for run in report.runs for row in run.predictions if row["refused"]]
    return [*rows, *([name, row["case"], "", row["refused"]] for name, row in refused), *empty]


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
    columns, rows = differences(runs)
    if not columns:
        return ""
    if not rows:
        return "<p>The runs' configurations are equal.</p>\n"
    return html.table(columns, rows, caption="Settings in which the runs differ")


def differences(runs: Sequence[RunFiles]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows: one a setting; both empty with fewer than two configurations."""
    settings = {run.name: flat(run.config) for run in runs if run.config}
    if len(settings) < 2:
        return [], []
    keys = list(dict.fromkeys(key for one in settings.values() for key in one if key not in NOT_SETTINGS))
    differing = [key for key in keys if len({one.get(key) for one in settings.values()}) > 1]
    return ["setting", *settings], [[key, *(o.get(key, "not set") for o in settings.values())] for key in differing]


def _git(state: object) -> str | None:
    """The revision and whether the checkout had changes of its own."""
    if not isinstance(state, Mapping):
        return str(state) if state else None
    changed = " with changes" if state.get("dirty") else ""
    return f"{state['revision']}{changed}" if state.get("revision") else None


def one_run(run: RunFiles) -> str:
    """Data, split, software, hardware and time of a run, and its whole configuration."""
    data, environment = mapping(run.config.get("data")), run.environment
    seconds = sum(float(row["seconds"]) for row in run.epochs if row.get("seconds"))
    gpus = environment.get("gpus") or ()
    parts = {part: len(run.split.get(part) or ()) for part in ("train", "val", "test")} if run.split else {}
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
            ("git", _git(environment.get("git"))),
            ("software", ", ".join(f"{name} {environment[name]}" for name in SOFTWARE if environment.get(name))),
            ("hardware", ", ".join([*gpus, f"{environment.get('cpu_count', '?')} CPU cores"])),
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
