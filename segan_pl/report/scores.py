"""A run's scores for the report: means with the intervals of `segan_pl evaluate`, and what the numbers are made of."""

from __future__ import annotations

import math
from collections import Counter

from segan_pl.evaluation.saved_files import mapping
from segan_pl.evaluation.scored_runs import ScoredRun
from segan_pl.evaluation.statistics import LEAST
from segan_pl.evaluation.summaries import RESAMPLES, Scored, Statistics, Summary, summarise_cases
from segan_pl.report.run_files import RunFiles

COLUMNS = ("run", "region", "metric", "mean", "95 % interval", "median", "quartiles", "n", "n/a")
CAPTION = (
    f"Mean over cases with its bootstrap 95 % interval ({RESAMPLES:,} cohorts of patients with all their scans; n/a "
    f"with fewer than {LEAST} patients), median and quartiles; n is the number of cases that the mean is over, n/a the "
    f"number left out of it. volume_difference_ml is prediction minus reference."
)
Cells = dict[str, int]


def scores_of(run: RunFiles) -> ScoredRun:
    """Of a run that has them."""
    assert run.scored is not None
    return run.scored


def statistics(run: RunFiles) -> Summary:
    """Of each region and metric, as `segan_pl evaluate` computes them, with the seed of the run's evaluation or 0."""
    scored = scores_of(run)
    columns = [(region, metric) for region in scored.regions for metric in scored.metrics]
    cases = []
    for case in scored.cases:
        rows = {region: scored.rows.get((region, case)) for region in scored.regions}
        values = {(r, metric): row.values[metric] if (row := rows[r]) else math.nan for r, metric in columns}
        cases.append(Scored(case, scored.patients.get(case, case), {}, values))
    seed = mapping(run.summary.get("bootstrap")).get("seed")
    return summarise_cases(cases, columns, seed=seed if isinstance(seed, int) and seed >= 0 else 0)


def summary_cells(found: Statistics, total: int) -> list[str]:
    """Mean, interval, median, quartiles, n and n/a as text, of `total` rows."""
    if not found.n:
        return ["n/a", "n/a", "n/a", "", "0", str(total)]
    interval = "n/a" if math.isnan(found.low) else f"{number(found.low)} to {number(found.high)}"
    quartiles = f"{number(found.q1)} to {number(found.q3)}"
    return [number(found.mean), interval, number(found.median), quartiles, str(found.n), str(total - found.n)]


def number(value: float) -> str:
    """Three decimals below 10, one above."""
    return "n/a" if math.isnan(value) else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def origin_lines(run: RunFiles) -> list[str]:
    """Where a run's scores come from, how they are defined, and what empty masks score and how often there are any."""
    scored = scores_of(run)
    chosen = " These cases chose the checkpoint, so the scores flatter it." if scored.table.kind == "validation" else ""
    seen = f" O{found[1:]}." if (found := scored.seen()) else ""
    policy = f"; empty masks: policy {scored.policy}" if scored.policy else ""
    where = f"{run.name}: {scored.table.path.name} ({scored.table.reason}){policy}.{chosen}{seen}"
    unknown = sum(case not in scored.patients for case in scored.cases)
    alone = [f"{run.name}: no table says the patient of {unknown} cases; each counts as a patient of its own."]
    return [where, *_definitions(run), *_empty_masks(run), *(alone if unknown else [])]


def _definitions(run: RunFiles) -> list[str]:
    """Which of several definitions the distances have."""
    scored = scores_of(run)
    said = [f"{m}: {d}" for m in scored.metrics if (d := scored.definition(m)) is not None]
    meaning = mapping(scored.definitions.get("hd95_mm")).get("meaning")
    more = f" (hd95_mm: {meaning})" if meaning and "hd95_mm" in scored.metrics else ""
    return [f"{run.name}: definitions: {'; '.join(said)}{more}."] if said else []


def _empty_masks(run: RunFiles) -> list[str]:
    """How often which mask is empty, by the table; missing predictions are not among them."""
    counts: dict[str, Cells] = {}
    for (region, _), row in scores_of(run).rows.items():
        if row.empty:
            counts.setdefault(region, Counter[str]())
            counts[region][row.empty] += 1
    kinds = ("both", "reference", "prediction")
    parts = [f"{r.upper()}: " + ", ".join(f"{found[kind]} {kind}" for kind in kinds) for r, found in counts.items()]
    return [f"{run.name}: cases whose masks are empty: {'; '.join(parts)}."] if parts else []
