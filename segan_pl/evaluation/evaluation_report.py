"""An evaluation as files, metrics_per_case.csv and summary.json; equal inputs, equal bytes."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from segan_pl.data.volume import Case
from segan_pl.evaluation.cases import write_table
from segan_pl.evaluation.evaluating import LESION_COUNTS, RegionScore
from segan_pl.evaluation.evaluating_files import Evaluation, Outcome
from segan_pl.evaluation.lesions import LesionRules
from segan_pl.evaluation.run_tables import PER_CASE
from segan_pl.evaluation.statistics import LEAST
from segan_pl.evaluation.summaries import (
    LEVEL,
    RESAMPLES,
    UNKNOWN,
    Scored,
    Summary,
    nested,
    strata_of,
    summarise_cases,
)
from segan_pl.evaluation.surface import DEFINITIONS
from segan_pl.files import write_whole

SUMMARY = "summary.json"
FORMAT = 1
ABOUT = ("case", "patient", "grade", "institution")
COUNTS = ("tp", "fp", "fn", "tn")
EMPTIES = ("neither", "both", "reference", "prediction")


@dataclass(frozen=True)
class EvaluationReport:
    """What became of the cases.

    Attributes:
        evaluation: What they were scored with.
        pairs: By name.
        outcomes: Case to outcome.
        strata: Columns that the summary is also given by.
        origin: What outputs state of the inputs, e.g. {"reference": "..."}.
        extra: Files beside the predictions that belong to no reference.
        seed: Of the bootstrap.
    """

    evaluation: Evaluation
    pairs: tuple[Case, ...]
    outcomes: Mapping[str, Outcome]
    strata: tuple[str, ...] = ()
    origin: Mapping[str, Any] | None = None
    extra: tuple[str, ...] = ()
    seed: int = 0

    @property
    def missing(self) -> list[str]:
        """Cases without a prediction; in the table as failures."""
        return [name for name, outcome in self.outcomes.items() if outcome.status == "missing"]

    @property
    def refusals(self) -> dict[str, str]:
        """Case to the line that says why it has no scores."""
        found = {name: outcome.status for name, outcome in self.outcomes.items()}
        return {name: s.removeprefix("refused: ") for name, s in found.items() if s.startswith("refused")}

    @property
    def columns(self) -> list[tuple[str, str]]:
        """Every (region, metric)."""
        names = self.evaluation.measures.names
        return [(region, name) for region in self.evaluation.regions for name in names]

    @cached_property
    def scored(self) -> tuple[Scored, ...]:
        """The cases with scores, missing predictions included."""
        return tuple(_scored(case, self.outcomes[case.name], self.strata) for case in self.pairs if self._scores(case))

    @cached_property
    def overall(self) -> Summary:
        """Statistics over all cases with scores."""
        return summarise_cases(self.scored, self.columns, seed=self.seed)

    def counts_line(self) -> str:
        """The line that ends the command."""
        lost = len(self.missing) + len(self.refusals)
        return f"{len(self.pairs)} given, {len(self.pairs) - lost} used, {lost} refused"

    def empties(self) -> dict[str, dict[str, int]]:
        """Region to how many scored cases have which mask empty; missing predictions are not among them."""
        found: dict[str, dict[str, int]] = {}
        for region in self.evaluation.regions:
            scores = [s for o in self.outcomes.values() if o.status == "scored" for s in o.scores if s.region == region]
            number = Counter[str](score.counts.empty for score in scores)
            found[region] = {empty: number[empty] for empty in EMPTIES}
        return found

    def notes(self) -> list[str]:
        """What a reader must know."""
        read = [note for outcome in self.outcomes.values() for note in outcome.notes]
        failed = [f"{len(self.missing)} predictions are missing and count as failures: {', '.join(self.missing)}"]
        extra = [f"{len(self.extra)} files beside the predictions belong to no reference: {', '.join(self.extra)}"]
        unknown = sum(not case.patient for case in self.pairs)
        alone = [f"no table says the patient of {unknown} cases; each counts as a patient of its own"]
        notes = [*read, *(failed if self.missing else []), *(extra if self.extra else [])]
        return [*notes, *(alone if unknown else [])]

    def rows(self) -> list[dict[str, object]]:
        """metrics_per_case.csv: one row a case and region; n/a is an empty cell."""
        return [row for case in self.pairs for row in self._rows(case)]

    def _scores(self, case: Case) -> tuple[RegionScore, ...]:
        return self.outcomes[case.name].scores

    def _rows(self, case: Case) -> list[dict[str, object]]:
        outcome = self.outcomes[case.name]
        names = self.evaluation.measures.names
        about = {"case": case.name, **{name: case.column(name) or "" for name in ABOUT[1:]}}
        taken = {*ABOUT, "region", "status", *COUNTS, *names, "empty", "policy"}
        about |= {f"extra_{name}" if name in taken else name: value for name, value in case.extra.items()}
        scores: dict[str, RegionScore] = {score.region: score for score in outcome.scores}
        rows = []
        for region in self.evaluation.regions:
            score, row = scores.get(region), {**about, "region": region, "status": outcome.status}
            counts = score.counts._asdict() if score else dict.fromkeys(COUNTS, "")
            values = {name: _cell(name, score.values[name]) if score else "" for name in names}
            empty = score.counts.empty if score and outcome.status == "scored" else ""
            rows.append({**row, **counts, **values, "empty": empty, "policy": self.evaluation.measures.policy.name})
        return rows

    def as_dict(self) -> dict[str, Any]:
        """summary.json; every number is finite, null is not available."""
        by_stratum = {
            column: {
                value: {
                    "cases": len(held),
                    "regions": nested(summarise_cases(held, self.columns, seed=self.seed)),
                }
                for value, held in strata_of(self.scored, column).items()
            }
            for column in self.strata
        }
        return {
            "format": FORMAT,
            **(self.origin or {}),
            "regions": list(self.evaluation.regions),
            "policy": self.evaluation.measures.policy.as_dict(),
            "empty_masks": self.empties(),
            "definitions": self.definitions(),
            "bootstrap": {
                "over": "patients",
                "interval": "expanded percentiles (Hesterberg 2015)",
                **{"level": LEVEL, "resamples": RESAMPLES, "seed": self.seed, "least_patients": LEAST},
            },
            "given": len(self.pairs),
            "used": len(self.pairs) - len(self.missing) - len(self.refusals),
            "refused": len(self.missing) + len(self.refusals),
            "missing": self.missing,
            "refusals": self.refusals,
            "extra_predictions": list(self.extra),
            "notes": self.notes(),
            "overall": {"cases": len(self.scored), "regions": nested(self.overall)},
            "strata": by_stratum,
        }

    def definitions(self) -> dict[str, Any]:
        """How the numbers are meant."""
        measures = self.evaluation.measures
        return {
            "hd95_mm": {"name": measures.hd95, "meaning": DEFINITIONS[measures.hd95]},
            "mean_surface_distance_mm": "mean over the boundary voxels of both masks together",
            "surface_dice": {"tolerance_mm": measures.tolerance_mm, "over": "boundary voxels of both masks"},
            "volume_difference_ml": "prediction minus reference",
            "lesions": lesions_as_dict(measures.lesions),
        }


def write_report(report: EvaluationReport, folder: Path) -> list[Path]:
    """Both files, each replaced at once; their paths."""
    table, summary = folder / PER_CASE, folder / SUMMARY
    write_table(table, report.rows())
    text = json.dumps(report.as_dict(), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    write_whole(summary, text)
    return [table, summary]


def _scored(case: Case, outcome: Outcome, strata: Sequence[str]) -> Scored:
    values = {(score.region, name): value for score in outcome.scores for name, value in score.values.items()}
    return Scored(case.name, case.patient or case.name, {name: case.column(name) or UNKNOWN for name in strata}, values)


def lesions_as_dict(rules: LesionRules | None) -> dict[str, Any] | None:
    """The rules as outputs state them; None without any."""
    if rules is None:
        return None
    grown = {"name": rules.name, "dilations": rules.dilations, "left_out_up_to_mm3": rules.least_mm3}
    return {**grown, "hd95": "deepmind"}


def _cell(name: str, value: float) -> str:
    return "" if math.isnan(value) else f"{value:.{0 if name in LESION_COUNTS else 6}f}"
