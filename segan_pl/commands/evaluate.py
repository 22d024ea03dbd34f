"""`segan_pl evaluate`: score segmentation files against masks, case by case, and summarise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from jsonargparse.typing import NonNegativeInt, PositiveInt

from segan_pl.commands.options import parse
from segan_pl.data.case_pool import cores
from segan_pl.data.cohort import native_convention, unknown_labels
from segan_pl.data.labels import LabelScheme, label_scheme
from segan_pl.data.layouts import DataSet
from segan_pl.data.progress import shown
from segan_pl.data.volume import Case
from segan_pl.errors import UsageError, nearest
from segan_pl.evaluation.policies import POLICIES
from segan_pl.files import made_writable
from segan_pl.parsing import OneLineErrors

DESCRIPTION = "Score segmentation files against reference masks, one row a case and region."
DEFAULT_STRATA = ("grade", "institution")
CHALLENGES = ("gli", "ssa", "ped", "men", "met")
HD95 = ("monai", "medpy", "deepmind")


@dataclass(frozen=True)
class ReferenceOptions:
    """How the references are laid out and labelled.

    Attributes:
        layout: How they lie on disk, "flat" for a folder of masks alone, or "auto".
        labels: "regions" (WT, TC, ET), "whole_tumour", "labels" or "binary"; "auto" is regions where the labels tell
            them apart, labels where they are tissues of a healthy brain, else whole_tumour.
        native_labels: What their labels mean: brats2015, brats2017 (to 2021), brats2023, brats2024, msd, binary,
            iseg, mrbrains13; "auto" where the layout says it.
    """

    layout: str = "auto"
    labels: str = "auto"
    native_labels: str = "auto"


def main(arguments: list[str]) -> int:
    """Evaluate a folder of predictions.

    Args:
        arguments: "evaluate" and its options.

    Returns:
        0, or 1 when a prediction is missing (unless allowed) or a case is refused.
    """
    options, settings = parse(arguments, DESCRIPTION, _add_arguments, ReferenceOptions)
    # these load SciPy, which --help and a wrong option need not wait for
    from segan_pl.evaluation.evaluating_files import evaluate_all, with_predictions
    from segan_pl.evaluation.evaluation_report import EvaluationReport, write_report
    from segan_pl.evaluation.evaluation_text import print_report
    from segan_pl.evaluation.references import find_references

    predictions, reference = _folders(settings)
    text = settings.output or settings.pred
    output = made_writable(Path(text).expanduser(), f"--output {text}")  # now: not after hours of reading
    source = find_references(reference, options.layout)
    evaluation = _evaluation(source, options, settings)
    strata = _strata(source.cases, settings.strata)
    pairs, extra = with_predictions(source.cases, predictions, source.root)
    with shown(len(pairs), label="evaluating", done="evaluated") as advance:
        outcomes = evaluate_all(pairs, evaluation, workers=settings.workers or cores(), advance=advance)
    report = EvaluationReport(
        evaluation=evaluation,
        pairs=tuple(pairs),
        outcomes=outcomes,
        strata=strata,
        origin=_origin(source, predictions, evaluation.scheme, evaluation.prediction_scheme),
        extra=tuple(extra),
        seed=settings.seed,
    )
    for note in source.notes:
        print(f"note: {note}")
    print_report(report)
    for path in write_report(report, output):
        print(f"written: {path}")
    print(report.counts_line())
    return 1 if report.refusals or (report.missing and not settings.allow_missing) else 0


def _add_arguments(parser: OneLineErrors) -> None:
    add = parser.add_argument
    add("--pred", type=str, required=True, help="folder of the predictions, named after case or reference")
    add(
        "--ref", type=str, required=True, help="the references: a data set of any layout, a manifest, a folder of masks"
    )
    add("--output", type=str | None, help="folder for metrics_per_case.csv and summary.json; default that of --pred")
    add("--pred_labels", type=str | None, help="what the predictions' labels mean; default the references' convention")
    add("--regions", type=str | None, help="e.g. wt,et; default all of the label scheme")
    add("--policy", choices=tuple(POLICIES), default="segan_cat", help="what empty masks score")
    add("--hd95", choices=HD95, default="monai", help="which definition of the 95th percentile")
    add("--tolerance_mm", type=float, default=1.0, help="of the surface Dice")
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
    add("--allow_missing", action="store_true", help="exit code 0 although predictions are missing; they stay failures")


def _folders(settings: Namespace) -> tuple[Path, Path]:
    """Predictions and references."""
    predictions, reference = (Path(text).expanduser() for text in (settings.pred, settings.ref))
    if not predictions.is_dir():
        raise UsageError(f"--pred {settings.pred}: no such folder; give the folder that holds the predictions")
    if predictions.resolve() == reference.resolve():
        raise UsageError(f"--pred and --ref are both {settings.ref}; a mask would be scored against itself")
    return predictions, reference


def _evaluation(source: DataSet, options: ReferenceOptions, settings: Namespace) -> Any:
    from segan_pl.evaluation.evaluating import Measures
    from segan_pl.evaluation.evaluating_files import Evaluation
    from segan_pl.evaluation.lesions import RULES

    if not 0 <= settings.tolerance_mm < math.inf:
        raise UsageError(f"--tolerance_mm {settings.tolerance_mm}; expected 0 or more")
    scheme, theirs = _schemes(source, options, settings.pred_labels)
    lesions = settings.lesions or ("gli" if settings.policy == "brats2023" else None)
    measures = Measures(POLICIES[settings.policy], settings.tolerance_mm, settings.hd95, RULES.get(lesions or ""))
    return Evaluation(scheme, theirs, _regions(scheme, theirs, settings.regions), measures)


def _schemes(source: DataSet, options: ReferenceOptions, pred_labels: str | None) -> tuple[LabelScheme, LabelScheme]:
    """Of the references and of the predictions."""
    from segan_pl.evaluation.references import target_for

    convention = "binary" if options.labels == "binary" else native_convention(source, options.native_labels)
    if convention is None:
        raise unknown_labels(source)
    target = target_for(convention) if options.labels == "auto" else options.labels
    target = "whole_tumour" if target == "binary" else target
    return label_scheme(target, convention), label_scheme(target, pred_labels or convention)


def _regions(scheme: LabelScheme, theirs: LabelScheme, asked: str | None) -> tuple[str, ...]:
    """The channels to score, which both conventions have."""
    known = scheme.foreground
    names = [name.strip().lower() for name in (asked or ",".join(known)).split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise UsageError(f"--regions {name}: not in '{scheme.name}'; {nearest(name, known)}")
        if name not in theirs.foreground:
            both = ",".join(one for one in known if one in theirs.foreground)
            raise UsageError(
                f"region {name} of '{scheme.name}' is not in the predictions' '{theirs.name}'; give --regions {both}"
            )
    if not names:
        raise UsageError(f"--regions is empty; known: {', '.join(known)}")
    return tuple(dict.fromkeys(names))


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


def _origin(source: DataSet, predictions: Path, scheme: LabelScheme, theirs: LabelScheme) -> dict[str, Any]:
    return {
        "reference": str(source.root),
        "layout": source.layout,
        "prediction": str(predictions),
        "labels": scheme.target,
        "native_labels": scheme.convention.name,
        "prediction_labels": theirs.convention.name,
    }
