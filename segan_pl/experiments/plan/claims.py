"""Whether what a paper says of its tables holds here: one paired comparison for each claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from segan_pl.evaluation.statistics.comparison import Comparison, compare
from segan_pl.evaluation.statistics.paired import LEAST
from segan_pl.experiments.plan.cell import Claim
from segan_pl.experiments.plan.cells import Result

Verdict = Literal["holds here", "does not hold here", "not decided", "not run"]


@dataclass(frozen=True)
class Finding:
    """A claim, and what the runs say of it.

    Attributes:
        claim: Which.
        verdict: Of the interval of the paired difference, and of the seeds where there are several.
        region: The first of the better side's table that both sides have.
        comparison: Of Dice, with patients as units, seeds averaged first; None where a side has not finished.
        by_seed: Seed to the difference of that seed alone.
        published: Data set to the paper's difference.
    """

    claim: Claim
    verdict: Verdict
    region: str
    comparison: Comparison | None
    by_seed: Mapping[int, float]
    published: Mapping[str, float]

    def line(self) -> str:
        """One line: the claim, the verdict, and the numbers behind it."""
        paper = ", ".join(f"{value:+.3f} {name}" for name, value in self.published.items())
        printed = f"; paper {paper}" if paper else ""
        if self.comparison is None:
            return f"{self.claim.text}: {self.verdict}{printed}"
        found, values = self.comparison, list(self.by_seed.values())
        spread = f"{len(values)} seeds, {min(values):+.3f} to {max(values):+.3f}" if len(values) > 1 else "1 seed"
        if found.interval:
            interval = f"95 % interval {found.interval[0]:+.3f} to {found.interval[1]:+.3f}"
        else:
            few = found.patients < LEAST
            interval = f"no interval (fewer than {LEAST} patients)" if few else "no patient differs"
        return (
            f"{self.claim.text}: {self.verdict}; Dice{'' if self.region == 'wt' else f' of {self.region.upper()}'} "
            f"{found.difference:+.3f}, {interval}, n = {found.patients}, {spread}{printed}"
        )


def findings(asked: Sequence[Claim], found: Sequence[Result]) -> list[Finding]:
    """Each claim tested on the seeds that both of its sides have finished."""
    by_cell = {(one.cell.table, one.cell.label): one for one in found}
    sides = [(claim, [by_cell[cell.table, cell.label] for cell in (claim.better, claim.worse)]) for claim in asked]
    return [_finding(claim, better, worse) for claim, (better, worse) in sides]


def _finding(claim: Claim, better: Result, worse: Result) -> Finding:
    region = next((one for one in better.regions if one in worse.regions), "")
    ours, theirs = (
        {key.dataset: value for key, value in one.cell.published.items()
         if (key.region, key.metric, key.statistic) == (region, "dice", "mean")}
        for one in (better, worse)
    )  # fmt: skip
    published = {dataset: value - theirs[dataset] for dataset, value in ours.items() if dataset in theirs}
    seeds = [seed for seed in better.finished if seed in worse.finished]
    if not seeds or not region:
        return Finding(claim, "not decided" if seeds else "not run", region, None, {}, published)

    def difference(seeds: Sequence[int], resamples: int = 10_000) -> Comparison:
        return compare(better.of_seeds(seeds, region), worse.of_seeds(seeds, region), resamples=resamples)

    whole = difference(seeds)
    # of a seed alone the mean difference is wanted, and no interval
    alone = {seed: difference([seed], resamples=99).difference for seed in seeds}
    # decided where the interval leaves out 0 and no seed says the opposite
    clear = whole.interval is not None and not whole.interval[0] <= 0 <= whole.interval[1]
    agreed = all(value * whole.difference > 0 for value in alone.values())  # never of NaN
    verdict: Verdict = "not decided"
    if clear and agreed:
        verdict = "holds here" if whole.difference > 0 else "does not hold here"
    return Finding(claim, verdict, region, whole, alone, published)


def lines(found: Sequence[Finding]) -> list[str]:
    """All findings; before those of a group, what they say together."""
    out: list[str] = []
    for one in found:
        group = [other for other in found if other.claim.group and other.claim.group == one.claim.group]
        if group and group[0] is one:
            out.append(f"{one.claim.group}: {together([other.verdict for other in group])} ({len(group)} comparisons)")
        out.append(("  " if group else "") + one.line())
    return out


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """Several that must all hold: one that does not is enough against them."""
    order: tuple[Verdict, ...] = ("does not hold here", "not run", "not decided", "holds here")
    return next(word for word in order if word in verdicts)
