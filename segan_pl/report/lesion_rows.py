"""Each lesion's own row, and how many of which size were found, from the masks of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from segan_pl.data.case import CaseError
from segan_pl.data.case_pool import Advance, shown
from segan_pl.data.conventions import label_convention
from segan_pl.evaluation.lesions import RULES, Lesion, LesionRules, each_lesion
from segan_pl.evaluation.pairs import PREDICTION
from segan_pl.report.case_pictures import Sources
from segan_pl.report.case_volumes import MOST_REGIONS, read_masks
from segan_pl.report.run_files import RunFiles
from segan_pl.report.score_rows import number, scores_of

SIZES_ML = (0.1, 1.0, 10.0, 100.0)
"""Between lesions of one size and of the next; one of exactly so much is of the larger size."""
MOST_FALSE = 10
"""False components of a case and region that have rows, the largest; a network that has just begun has thousands."""


class Lesions(NamedTuple):
    """Of all runs with masks.

    Attributes:
        rows: One for each lesion: cells, and the voxel (z, y, x) in the volume turned to LPS; the missed ones first.
        recall: One for each run, region and size.
        rules: How lesions were told apart.
        notes: What is left out.
    """

    rows: list[tuple[list[str], tuple[int, int, int]]]
    recall: list[list[str]]
    rules: str
    notes: list[str]


def all_lesions(runs: Sequence[RunFiles], sources: Mapping[str, Sources]) -> Lesions:
    """Read the masks of every case and take each lesion for itself, by the rules of the evaluation or those of glioma.

    Args:
        runs: With scores.
        sources: Run to where its masks are.
    """
    there = [run for run in runs if run.name in sources and of_tumour(run)]
    total = sum(len(scores_of(run).cases) for run in there)
    with shown(total, "reading masks", "lesions taken from") as advance:
        return _all_lesions(there, sources, advance)


def _all_lesions(runs: Sequence[RunFiles], sources: Mapping[str, Sources], advance: Advance) -> Lesions:
    found: list[tuple[float, list[str], tuple[int, int, int]]] = []
    recall, notes, names = [], [], {}
    for run in runs:
        source, scored, rules = sources[run.name], scores_of(run), rules_of(run)
        names[rules.name] = f"{rules.name}: grown by {rules.dilations} voxels, up to {rules.least_mm3:g} mm³ left out"
        by_region: dict[str, list[Lesion]] = {region: [] for region in scored.regions}
        hidden = 0
        for case in scored.cases:
            try:
                lesions = _of_case(run, source, case, rules)
            except CaseError as error:
                notes.append(f"{run.name}: no lesions: {error}")
                continue
            finally:
                advance()
            for region, some in lesions.items():
                by_region[region] += some
                true = [one for one in some if one.found is not None]
                false = [one for one in some if one.found is None]
                hidden += len(false[MOST_FALSE:])
                for place, one in enumerate([*true, *false[:MOST_FALSE]], 1):
                    said = "false" if one.found is None else "yes" if one.found else "missed"
                    dice = "" if one.found is None else number(one.dice)
                    cells = [case, run.name, region.upper(), str(place), f"{one.volume_ml:.3f}", said, dice]
                    found.append((_order(one), cells, one.voxel))
        if hidden:
            notes.append(f"{run.name}: {hidden} smaller false components have no row")
        recall += [row for region, some in by_region.items() for row in recall_rows(run.name, region, some)]
    # a sort keeps the cases' order
    rows = [(cells, voxel) for _, cells, voxel in sorted(found, key=lambda one: one[0])]
    return Lesions(rows, recall, "; ".join(names.values()), notes)


def of_tumour(run: RunFiles) -> bool:
    """Whether the run's masks are of a tumour: a tissue has no lesions."""
    return bool(label_convention(run.summary["native_labels"]).tumour)


def rules_of(run: RunFiles) -> LesionRules:
    """Those by which the run was evaluated, else those of glioma."""
    name = (scores_of(run).known("lesion_dice").definition or "gli").split(" ")[0]
    return RULES.get(name, RULES["gli"])


def recall_rows(run: str, region: str, lesions: Sequence[Lesion]) -> list[list[str]]:
    """One for each size that there is; false components have none of these."""
    rows = []
    for low, high in zip((0.0, *SIZES_ML), (*SIZES_ML, math.inf), strict=True):
        here = [one for one in lesions if one.found is not None and low <= one.volume_ml < high]
        if here:
            size = f"{low:g} to {high:g}" if high < math.inf else f"from {low:g}"
            many = sum(bool(one.found) for one in here)
            dice = math.fsum(one.dice for one in here) / len(here)
            share = f"{100 * many / len(here):.0f} %"
            rows.append([run, region.upper(), size, str(len(here)), str(many), share, number(dice)])
    return rows


def _of_case(run: RunFiles, source: Sources, case: str, rules: LesionRules) -> dict[str, list[Lesion]]:
    found, pair = source.images.get(case), source.predictions.get(case)
    if found is None or pair is None or PREDICTION not in pair.images:
        raise CaseError(f"{case}: no prediction or no reference where the evaluation found it")
    regions = scores_of(run).regions[:MOST_REGIONS]
    crop = scores_of(run).crop
    box = (crop[0], crop[1], crop[2]) if crop else None
    masks = read_masks(found, pair.images[PREDICTION], source.schemes, regions, box)
    return {
        region: each_lesion((masks.prediction >> bit & 1) > 0, (masks.reference >> bit & 1) > 0, masks.spacing, rules)
        for bit, region in enumerate(masks.regions)
    }


def _order(one: Lesion) -> float:
    """Missed lesions first, then the found by Dice, then false components; the larger first among equals."""
    if one.found is None:
        return 2.0 - one.volume_ml * 1e-6
    return one.dice if one.found else -1.0 - one.volume_ml
