"""A report of runs from their saved files: its tables and figures, and the page and the Markdown that show them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from segan_pl.evaluation.metrics.base import COUNTS, NOT_METRICS
from segan_pl.evaluation.metrics.named import BUILT_IN
from segan_pl.evaluation.saved_files import mapping
from segan_pl.evaluation.statistics.scored_runs import Known
from segan_pl.evaluation.statistics.summaries import Summary
from segan_pl.report import score_rows
from segan_pl.report.charts import Chart, boxes
from segan_pl.report.headline import CARDS, PLAIN, Card, Paired, card, matrix, paired, region_name
from segan_pl.report.learning import all_curves, collapses, differences, run_facts, safe
from segan_pl.report.page import page
from segan_pl.report.published import published_for
from segan_pl.report.run_files import RunFiles, flat
from segan_pl.report.score_rows import Opens, number, scores_of, worst_first

if TYPE_CHECKING:
    # loads Matplotlib and nibabel, which a page without pictures need not wait for
    from segan_pl.report.case_pictures import Overlay
    from segan_pl.report.lesion_rows import Lesions
    from segan_pl.report.viewer import Viewed

DRAWN = ("dice", "hd95_mm")
"""Metrics of segan_pl whose cases are drawn."""
IDENTITY = tuple(name for name in NOT_METRICS if name not in COUNTS)
MARK = "<!-- written by segan_pl report -->"
"""A reader of the Markdown does not see it; a later call knows the file by it."""
NOT_THE_SAME = (
    "The papers' cases, splits and sizes of networks are not ours: the columns are next to each other to be looked at, "
    "not to be subtracted."
)
OUTLINES = "Ground truth in yellow, solid; prediction in blue, dashed; of a region the slice with most of it."
COLUMNS = {
    "score_columns": score_rows.COLUMNS,
    "published_columns": ("run", "region", "metric", "ours (mean)", "n", "published", "where"),
    "subset_columns": score_rows.SUBSET_COLUMNS,
    "lesion_columns": ("case", "run", "region", "lesion", "volume, ml", "found", "Dice", "slice"),
    "recall_columns": ("run", "region", "size, ml", "lesions", "found", "share found", "mean Dice"),
    "failure_columns": ("run", "case", "region", "what"),
}


@dataclass(frozen=True)
class Report:
    """What a page shows.

    Attributes:
        runs: At least one, with different names.
        overlays: Run to its pictures.
        viewed: Cases to look through.
        viewer_notes: Which cases are not among them, and why.
        lesions: Each lesion; None where no masks are at hand.
        notes: What could not be shown, and why.
    """

    runs: Sequence[RunFiles]
    overlays: Mapping[str, Sequence[Overlay]]
    notes: Sequence[str] = ()
    viewed: Sequence[Viewed] = ()
    viewer_notes: Sequence[str] = ()
    lesions: Lesions | None = None

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
        return {run.name: score_rows.statistics(run) for run in self.scored}

    @cached_property
    def origins(self) -> list[str]:
        """Where each run's scores come from, how they are defined, and what empty masks score there."""
        return [line for run in self.scored for line in score_rows.origin_lines(run)]

    @cached_property
    def score_rows(self) -> list[list[str]]:
        """One row for each run, region and metric."""
        rows = []
        for metric in self.metrics:
            known = self.known(metric)
            for region in self.regions:
                for run in (run for run in self.scored if (region, metric) in self.statistics[run.name]):
                    total = sum(where == region for where, _ in scores_of(run).rows)
                    cells = score_rows.summary_cells(self.statistics[run.name][region, metric], total)
                    rows.append([run.name, region.upper(), metric, *cells, known.unit or "not stated", known.better])
        return rows

    @cached_property
    def cards(self) -> list[Card]:
        """What is to be seen first of each run."""
        return [card(run, self.statistics.get(run.name)) for run in self.runs]

    @cached_property
    def matrix(self) -> tuple[list, list]:
        """Columns and rows of regions by metrics."""
        return matrix(self.scored, self.statistics, self.metrics)

    @cached_property
    def paired(self) -> Paired:
        """The differences of two runs."""
        return paired(self.scored)

    @cached_property
    def published_rows(self) -> list[list[str]]:
        """One row for each run and published number of its system, modalities, region and metric."""
        rows = []
        for run in self.scored:
            for row in published_for(run.config, scores_of(run).regions, run.summary.get("native_labels")):
                region, metric = row["region"], row["metric"]
                if found := self.statistics[run.name].get((region.lower(), metric)):
                    where = f"{row['model']}, {row['dataset']}, table {row['table']}"
                    rows.append([run.name, region, metric, number(found.mean), str(found.n), row["value"], where])
        return rows

    @cached_property
    def subset_rows(self) -> list[list[str]]:
        """One row for each run, region and subset of the modalities."""
        return [row for run in self.runs for row in score_rows.subset_rows(run)]

    @cached_property
    def subset_origins(self) -> list[str]:
        """Which file each run's subsets come from."""
        found = [(run.name, score_rows.subset_file(run)) for run in self.runs]
        return [f"{name}: subsets of the modalities from {file.name}" for name, file in found if file]

    @cached_property
    def failure_rows(self) -> list[list[str]]:
        """One row for each case and region that failed, each case that `predict` refused, and each empty mask."""
        rows, empty = [], []
        for run in self.scored:
            for cells in scores_of(run).cells:
                about = [run.name, cells["case"], cells["region"].upper()]
                if cells.get("status") not in (None, "", "ok", "scored"):
                    rows.append([*about, cells["status"]])
                if cells.get("empty") not in (None, "", "neither"):
                    empty.append([*about, f"empty: {cells['empty']}"])
        for run in self.runs:
            rows += [[run.name, row["case"], "", row["refused"]] for row in run.predictions if row["refused"]]
        return [*rows, *empty]

    @cached_property
    def case_tables(self) -> list[tuple[list[str], list[list[str | Opens]], str, list[int]]]:
        """Each run's table without voxel counts, the worst case first: columns, rows, caption, columns of numbers."""
        tables = []
        for run in self.scored:
            scores = scores_of(run)
            # what the data set does not state, as grade or institution, has no column
            stated = [name for name in scores.cells[0] if name in scores.metrics or any(c[name] for c in scores.cells)]
            names = [name for name in stated if name not in COUNTS]
            rows: list[list[str | Opens]] = []
            for cells in worst_first(run):
                rows.append([_cell(cells[name], name) for name in names])
                if one := self.anchors.get((cells["case"], run.name)):
                    rows[-1][names.index("case")] = Opens(one.case, one.anchor, cells["region"].upper(), run.name)
            caption = f"{run.name}: {scores.table.path.name}, the worst case first; an empty cell is not available"
            tables.append((names, rows, caption, [i for i, name in enumerate(names) if name not in IDENTITY]))
        return tables

    @cached_property
    def anchors(self) -> dict[tuple[str, str], Viewed]:
        """Case and run to where its prediction can be looked through."""
        return {(one.case, run): one for one in self.viewed for run in one.runs}

    @cached_property
    def lesion_rows(self) -> list[list[str | Opens]]:
        """A row for each lesion, which opens its voxel where its case can be looked through."""
        rows: list[list[str | Opens]] = []
        for cells, voxel in self.lesions.rows if self.lesions else ():
            case, run, region, *others = cells
            first: str | Opens = case
            if one := self.anchors.get((case, run)):
                at = [(place - low) // by for place, low, by in zip(voxel, one.corner, one.step, strict=True)]
                first = Opens(case, one.anchor, region, run, ",".join(map(str, at)))
            rows.append([first, run, region, *others, str(voxel[0])])
        return rows

    @cached_property
    def box_plots(self) -> list[Chart]:
        """Every case as a dot: a figure each for Dice, HD95 and every metric not of segan_pl that has a value."""
        drawn = []
        for metric in (name for name in self.metrics if name in DRAWN or name not in BUILT_IN):
            groups: dict[str, dict[str, list[float]]] = {r: {run.name: [] for run in self.scored} for r in self.regions}
            for run in self.scored:
                for (region, _), row in scores_of(run).rows.items():
                    if not math.isnan(value := row.values.get(metric, math.nan)):
                        groups[region][run.name].append(value)
            if not any(values for group in groups.values() for values in group.values()):
                continue  # the table says how many are not available
            better = self.known(metric).better
            direction = f"{better} is better" if better != "not stated" else "whether more is better is not stated"
            name = PLAIN.get(metric, metric)
            caption = f"{name} of every case by region ({direction})"
            shown = {region.upper(): values for region, values in groups.items()}
            svg, wide = boxes(shown, ylabel=name, limits=self.limits(metric))
            drawn.append(Chart(f"box_{safe(metric)}", svg, caption, wide))
        return drawn

    @cached_property
    def curves(self) -> list[Chart]:
        """What the runs logged, by epoch."""
        return all_curves(self.runs)

    @cached_property
    def collapses(self) -> list[str]:
        """In which epochs a game had collapsed, and how."""
        return collapses(self.runs)

    @cached_property
    def generated(self) -> dict[str, tuple[bytes, str]]:
        """Run to the last picture of generated patches, and what it is called; none where no generator trained."""
        last = {run.name: max((run.home / "previews").glob("*_generated.png"), default=None) for run in self.runs}
        return {
            name: (file.read_bytes(), f"{name}: generated patches next to real ones, {file.name}")
            for name, file in last.items()
            if file is not None
        }

    @cached_property
    def differences(self) -> tuple[list[str], list[list[str]]]:
        """Columns and rows: one row for each setting in which the runs differ."""
        return differences(self.runs)

    def known(self, metric: str) -> Known:
        """A metric's unit and direction, from the first run that states one."""
        said = [scores_of(run).known(metric) for run in self.scored if metric in scores_of(run).metrics]
        return next((one for one in said if one.higher_is_better is not None), said[0])

    def limits(self, metric: str) -> tuple[float, float] | None:
        """Of the axis of a metric that has a least and a largest value."""
        stated = [scores_of(run).described.get(metric) for run in self.scored]
        low, high = next((mapping(one)["bounds"] for one in stated if mapping(one).get("bounds")), (None, None))
        if metric in BUILT_IN:
            low, high = (bound if math.isfinite(bound) else None for bound in BUILT_IN[metric].bounds)
        return None if low is None or high is None else (low, high)

    def files(self) -> dict[str, bytes]:
        """Every figure of the page as a file: name to content."""
        charts = [*self.box_plots, *([self.paired.chart] if self.paired.chart else []), *self.curves]
        out = {f"{one.name}.svg": one.file.encode() for one in charts}
        for run, pictures in self.overlays.items():
            out |= {f"{safe(run)}_{one.region}_{one.rank}.png": one.png for one in pictures}
        return out


def whole_page(report: Report) -> str:
    """The page."""
    names = [run.name for run in report.runs]
    title = f"segan_pl report: {', '.join(names) if len(names) <= CARDS else f'{len(names)} runs'}"
    captions = {
        "matrix_caption": score_rows.MATRIX_CAPTION,
        "score_caption": score_rows.CAPTION,
        "subset_caption": score_rows.SUBSET_CAPTION,
    }
    more = {
        "outlines": OUTLINES,
        "region_names": [region_name(region) for region in report.regions],
        "many": len(report.runs) > CARDS,
        "run_facts": run_facts,
        "flat": flat,
        "not_the_same": NOT_THE_SAME,
        **captions,
    }
    return page("run.html", title=title, report=report, **COLUMNS, **more)


def markdown(report: Report) -> str:
    """The tables of the page, for a paper's draft or an issue."""
    return page("run.md", mark=MARK, report=report, not_the_same=NOT_THE_SAME, **COLUMNS)


def _cell(value: str, name: str) -> str:
    try:
        return value if name in IDENTITY or not value else number(float(value))
    except ValueError:
        return value
