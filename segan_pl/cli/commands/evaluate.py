"""`segan_pl evaluate`: score segmentation files against masks, case by case, and summarise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace
from jsonargparse.typing import NonNegativeInt, PositiveInt

from segan_pl.cli.commands.options import ReferenceOptions, parse
from segan_pl.cli.parsing import OneLineErrors
from segan_pl.data.case import Case
from segan_pl.data.case_pool import cores, shown
from segan_pl.data.cohort import native_convention, scheme_of, unknown_labels
from segan_pl.data.labels import label_scheme
from segan_pl.data.layouts import DataSet
from segan_pl.data.outputs import require_free
from segan_pl.errors import UsageError, nearest
from segan_pl.evaluation.policies import POLICIES
from segan_pl.evaluation.predicted import (
    Predicted,
    predicted_by,
    predicted_part,
    region_notes,
    scored_regions,
    seen_before,
)
from segan_pl.files import made_writable
from segan_pl.inference.output import read_identity

if TYPE_CHECKING:
    from segan_pl.evaluation.pairs import Evaluation

DESCRIPTION = "Score segmentation files against reference masks, one row for each case and region."
DEFAULT_STRATA = ("grade", "institution")
CHALLENGES = ("gli", "ssa", "ped", "men", "met")
CROP = (128, 160, 160)  # as `model.crop`
HD95 = ("monai", "medpy", "deepmind")


def main(arguments: list[str]) -> int:
    """Evaluate a folder of predictions.

    Args:
        arguments: "evaluate" and its options.

    Returns:
        0, or 1 when a prediction is missing (unless allowed) or a case is refused.
    """
    options, settings = parse(arguments, DESCRIPTION, _add_arguments, ReferenceOptions)
    # these load SciPy, which --help and a wrong option need not wait for
    from segan_pl.evaluation.pairs import evaluate_all, probability_file, with_predictions
    from segan_pl.evaluation.references import find_references
    from segan_pl.evaluation.results import EvaluationReport, print_report, report_outputs, write_report

    predictions, reference = Path(settings.pred).expanduser(), Path(options.root).expanduser()
    if not predictions.is_dir():
        raise UsageError(f"--pred {settings.pred}: no such folder; give the folder that holds the predictions")
    if predictions.resolve() == reference.resolve():
        raise UsageError(f"--pred and --root are both {settings.pred}; a mask would be scored against itself")
    text = settings.output or settings.pred
    given = f"--output {text}" if settings.output else f"--pred {text} (where outputs go without --output)"
    folder = made_writable(Path(text).expanduser(), given)  # now: not after hours of reading
    outputs = report_outputs(folder, given, (reference,), None if settings.output else "give --output")
    require_free(outputs)
    source = find_references(reference, options.layout).tolerating(options.origin_tolerance_mm)
    record = read_identity(predictions)
    made = predicted_by(record) if record else None
    source = predicted_part(source, made, settings.pred)
    evaluation = _evaluation(source, options, settings, made)
    strata = _strata(source.cases, settings.strata)
    pairs, extra = with_predictions(source.cases, predictions, source.root)
    if made:  # what predict writes next to the labels belongs to its case
        beside = ("variance", *(made.files if evaluation.probabilities else ()))
        files = {probability_file(predictions, case.name, name).name for case in pairs for name in beside}
        extra = [name for name in extra if name not in files]
    with shown(len(pairs), label="evaluating", done="evaluated") as advance:
        outcomes = evaluate_all(pairs, evaluation, workers=settings.workers or cores(), advance=advance)
    report = EvaluationReport(
        evaluation=evaluation,
        pairs=tuple(pairs),
        outcomes=outcomes,
        strata=strata,
        origin=_origin(source, predictions, evaluation),
        extra=tuple(extra),
        seed=settings.seed,
        about=(
            *_notes(source, evaluation, options, settings, made),
            *seen_before([case.name for case in pairs], made, outputs[0].path),
        ),
        parts=made.parts if made else None,
    )
    for note in source.notes:
        print(f"note: {note}")
    print_report(report)
    for path in write_report(report, outputs):
        print(f"written: {path}")
    print(report.counts_line())
    return 1 if report.refusals or (report.missing and not settings.allow_missing) else 0


def _add_arguments(parser: OneLineErrors) -> None:
    add = parser.add_argument
    add("--pred", type=str, required=True, help="folder of the predictions, named after case or reference")
    add("--output", type=str | None, help="folder for metrics_per_case.csv and summary.json; default that of --pred")
    add(
        "--pred_labels",
        type=str | None,
        help="what the predictions' labels mean; default what predict.json says, else the references' convention",
    )
    add("--regions", type=str | None, help="e.g. wt,et; default all of the label scheme")
    add("--policy", choices=tuple(POLICIES), default="segan_cat", help="what empty masks score")
    add(
        "--metrics",
        type=list[str] | None,
        help="further metrics: names, or import paths of your own, e.g. [my_package.MyMetric]; those of the defaults "
        "are computed anyhow",
    )
    add("--score_on", choices=("volume", "crop"), default="volume", help="whole volumes, or their central --crop alone")
    add("--crop", type=tuple[int, int, int] | None, help="(D, H, W) in LPS; default 128, 160, 160, as fit's")
    add("--hd95", choices=HD95, default="monai", help="which definition of the 95th percentile")
    add("--tolerance_mm", type=float, default=1.0, help="of the surface Dice")
    add(
        "--surface_dice_area",
        type=bool,
        default=False,
        help="also the surface Dice by area (mm2), as surface-distance has it",
    )
    add(
        "--lesions",
        nargs="?",
        const="gli",
        choices=CHALLENGES,
        help="also lesion by lesion, by the rules of a BraTS 2023 challenge (gli where none is named); --policy "
        "brats2023 implies it",
    )
    add("--strata", type=str | None, help="columns of the case table to summarise by; default grade,institution")
    add("--seed", type=NonNegativeInt, default=0, help="of the bootstrap")
    add("--workers", type=PositiveInt | None, help="processes; default all cores")
    add(
        "--allow_missing",
        type=bool,
        default=False,
        help="exit code 0 although predictions are missing; they stay failures",
    )


def _evaluation(source: DataSet, options: ReferenceOptions, settings: Namespace, made: Predicted | None) -> Evaluation:
    from segan_pl.evaluation.lesions import RULES
    from segan_pl.evaluation.metrics.named import evaluation_metrics, with_named
    from segan_pl.evaluation.pairs import Evaluation

    if not 0 <= settings.tolerance_mm < math.inf:
        raise UsageError(f"--tolerance_mm {settings.tolerance_mm}; expected 0 or more")
    from segan_pl.evaluation.references import target_for

    convention = native_convention(source, options.native_labels, options.labels)
    if convention is None:
        raise unknown_labels(source)
    theirs = settings.pred_labels or (made.convention if made else convention)
    target = target_for(convention) if options.labels == "auto" else options.labels
    if options.labels == "auto" and target == "regions" and target_for(theirs) == "whole_tumour":
        target = "whole_tumour"  # labels such as binary tell no regions apart
    ours = scheme_of(source, target, options.native_labels)
    assert ours is not None  # its convention is known
    scheme, theirs = ours, label_scheme(ours.target, theirs)
    lesions = settings.lesions or ("gli" if settings.policy == "brats2023" else None)
    metrics = evaluation_metrics(
        tolerance_mm=settings.tolerance_mm,
        hd95=settings.hd95,
        areas=settings.surface_dice_area,
        lesions=RULES.get(lesions or ""),
    )
    metrics = with_named(metrics, settings.metrics or (), "--metrics")
    regions = scored_regions(scheme, theirs, settings.regions, made)
    size = tuple(settings.crop or CROP)
    if min(size) < 1:
        raise UsageError(f"--crop {list(size)}: expected three sizes (D, H, W) above 0")
    crop = size if settings.score_on == "crop" else None
    added = {}
    if made and made.files:
        from segan_pl.evaluation.calibration import METRICS, region_channels

        added = region_channels(regions, theirs, made.scheme(theirs.convention.name))
        metrics = (*metrics, *METRICS) if added else metrics
    return Evaluation(scheme, theirs, regions, metrics, POLICIES[settings.policy], crop, added)


def _notes(
    source: DataSet, evaluation: Evaluation, options: ReferenceOptions, settings: Namespace, made: Predicted | None
) -> list[str]:
    """What a reader must know of the predictions as a whole."""
    from segan_pl.evaluation.references import target_for

    scheme = evaluation.scheme
    wished = target_for(scheme.convention.name) if options.labels == "auto" else scheme.target
    known = label_scheme(wished, scheme.convention.name).foreground
    size = " x ".join(map(str, evaluation.crop or ()))
    if size:
        cut = [f"only the central {size} voxels (z, y, x in LPS) of each case are scored"]
    else:
        cut = ["--crop means nothing without --score_on crop: whole volumes are scored"] if settings.crop else []
    asked = {"chosen": bool(settings.regions), "folder": settings.pred, "convention": settings.pred_labels}
    return [*cut, *region_notes(made, evaluation.regions, known, **asked)]


def _strata(cases: Sequence[Case], asked: str | None) -> tuple[str, ...]:
    """The columns to summarise by: those asked for, else grade and institution where the data set states them."""
    stated = {name for case in cases for name in (*DEFAULT_STRATA, *case.extra) if case.column(name)}
    if asked is None:
        return tuple(name for name in DEFAULT_STRATA if name in stated)
    names = [name.strip() for name in asked.split(",") if name.strip()]
    for name in names:
        if name not in stated:
            raise UsageError(f"--strata {name}: no case states it; {nearest(name, stated)}")
    return tuple(dict.fromkeys(names))


def _origin(source: DataSet, predictions: Path, evaluation: Evaluation) -> dict[str, Any]:
    scheme, theirs = evaluation.scheme, evaluation.prediction_scheme
    return {
        "reference": str(source.root),
        "layout": source.layout,
        "prediction": str(predictions),
        "labels": scheme.target,
        "native_labels": scheme.convention.name,
        "prediction_labels": theirs.convention.name,
        **({"crop": list(evaluation.crop)} if evaluation.crop else {}),
    }
