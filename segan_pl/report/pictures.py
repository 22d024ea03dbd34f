"""Which cases a report shows, and where their files are."""

from __future__ import annotations

from pathlib import Path

from segan_pl.data.labels import label_scheme
from segan_pl.data.volume import Case, CaseError
from segan_pl.errors import UsageError
from segan_pl.evaluation.evaluating_files import PREDICTION, with_predictions
from segan_pl.evaluation.references import find_references
from segan_pl.report.overlays import Overlay, chosen, draw
from segan_pl.report.run_files import RunFiles


def case_pictures(run: RunFiles) -> tuple[list[Overlay], list[str]]:
    """Best, median and worst case of each region, and notes on what could not be drawn.

    The evaluation's summary.json says where references and predictions were; what has moved since is noted, not drawn.
    """
    summary = run.summary
    if run.scored is None or not {"reference", "prediction"} <= set(summary):
        return [], []
    try:
        source = find_references(Path(summary["reference"]), summary["layout"])
        masked = [case for case in source.cases if case.mask]
        paired, _ = with_predictions(masked, Path(summary["prediction"]), source.root)
        schemes = [label_scheme(summary["labels"], summary[key]) for key in ("native_labels", "prediction_labels")]
    except (CaseError, UsageError, OSError) as error:
        return [], [f"no picture of a case: {error}"]
    images = {case.name: case for case in source.cases}
    predictions = {case.name: case for case in paired}
    drawn, notes = [], []
    for region in run.scored.regions:
        scores = {name: row.values["dice"] for (where, name), row in run.scored.rows.items() if where == region}
        for rank, name in chosen(scores).items():
            try:
                prediction = _prediction(predictions.get(name), images.get(name), name)
                drawn.append(draw(images[name], prediction, schemes, region, rank=rank, score=scores[name]))
            except CaseError as error:
                notes.append(f"no picture of the {rank} case, {region.upper()}: {error}")
    return drawn, notes


def _prediction(paired: Case | None, case: Case | None, name: str) -> Path:
    """The predicted file of a case that can be drawn."""
    if case is None or not case.images:
        raise CaseError(f"{name}: no image beside its reference")
    if paired is None or PREDICTION not in paired.images:
        raise CaseError(f"{name}: no prediction")
    return paired.images[PREDICTION]
