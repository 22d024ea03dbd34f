"""What the paper says of its tables, and whether it holds here: one paired comparison a claim."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from segan_pl.evaluation.comparing import Comparison, compare
from segan_pl.evaluation.statistics import LEAST
from segan_pl.experiments.paper_plan import SOURCE, PaperStudy
from segan_pl.experiments.results import DATA_SETS, Result

Verdict = Literal["holds here", "does not hold here", "not decided", "not run"]
Key = tuple[str, str, str, str, str]


@dataclass(frozen=True)
class Claim:
    """One cell is said to have a higher Dice than another.

    Attributes:
        text: What is said, e.g. "FLAIR alone beats T1 alone".
        better: Key of the cell that is said to be better.
        worse: Key of the other.
        group: Claims of one group are one claim, which holds when all do; "" stands alone.
    """

    text: str
    better: Key
    worse: Key
    group: str = ""


@dataclass(frozen=True)
class Finding:
    """A claim, and what the runs say of it.

    Attributes:
        claim: Which.
        verdict: Of the interval of the paired difference, and of the seeds where there are several.
        comparison: Of Dice, patients as units, seeds averaged first; None where a side has not finished.
        by_seed: Seed to the difference of that seed alone.
        published: Data set to the paper's difference.
    """

    claim: Claim
    verdict: Verdict
    comparison: Comparison | None
    by_seed: Mapping[int, float]
    published: Mapping[str, float]

    def line(self) -> str:
        """One line: the claim, the verdict, and the numbers behind it."""
        paper = ", ".join(f"{value:+.3f} {name}" for name, value in self.published.items())
        printed = f"; paper {paper}" if paper else ""
        if self.comparison is None:
            return f"{self.claim.text}: {self.verdict}{printed}"
        found, seeds = self.comparison, len(self.by_seed)
        values = list(self.by_seed.values())
        spread = f"{seeds} seeds, {min(values):+.3f} to {max(values):+.3f}" if seeds > 1 else "1 seed"
        return (
            f"{self.claim.text}: {self.verdict}; Dice {found.difference:+.3f}, {_interval(found)}, n = "
            f"{found.patients}, {spread}{printed}"
        )


def _interval(found: Comparison) -> str:
    if found.interval:
        return f"95 % interval {found.interval[0]:+.3f} to {found.interval[1]:+.3f}"
    return f"no interval (fewer than {LEAST} patients)" if found.patients < LEAST else "no patient differs"


def claims(study: PaperStudy) -> list[Claim]:
    """The paper's claims that these modalities allow."""
    base, whole = study.base, study.whole
    # a model of one modality stands in Figure 2's diagonal too
    home = next((table for table in ("II", "figure2") if table in study.tables), None)
    alone: dict[str, Key] = {one: (home, base, one, one, "") for one in study.modalities} if home else {}
    found = []
    if "I" in study.tables:
        systems = {name: ("I", name, whole, whole, "") for name in ("segan", "segan_dice", "segan_cat")}
        found += [
            Claim("The Dice term helps (segan_dice over segan)", systems["segan_dice"], systems["segan"]),
            Claim("One stack of image and mask helps (segan_cat over segan_dice)", systems["segan_cat"],
                  systems["segan_dice"]),
        ]  # fmt: skip
    if "II" in study.tables and SOURCE in study.modalities:
        group = "FLAIR is the best modality alone"
        found += [Claim(f"FLAIR alone over {one} alone", alone[SOURCE], alone[one], group) for one in study.targets]
        found.append(Claim("All modalities over FLAIR alone", ("II", base, whole, whole, ""), alone[SOURCE]))
    if "III" in study.tables:
        for one in study.targets:
            tuned = {way: ("III", base, SOURCE, one, way) for way in study.ways}
            found += [
                Claim(f"Transfer from FLAIR to {one} ({WORDS[way]}) over {one} from scratch", tuned[way], alone[one])
                for way in study.ways
                if alone
            ]
            if {"all", "critic_input"} <= set(study.ways):
                text = f"Transfer to {one}: {WORDS['critic_input']} over {WORDS['all']}"
                found.append(Claim(text, tuned["critic_input"], tuned["all"]))
    return found


WORDS = {"all": "S,D", "critic_input": "S,D_in", "segmentor": "S, critic at rest"}


def findings(asked: Sequence[Claim], found: Sequence[Result]) -> list[Finding]:
    """Each claim tested on the seeds that both of its sides have finished."""
    by_key = {one.cell.key: one for one in found}
    return [_finding(claim, by_key.get(claim.better), by_key.get(claim.worse)) for claim in asked]


def _finding(claim: Claim, better: Result | None, worse: Result | None) -> Finding:
    if better is None or worse is None:
        return Finding(claim, "not run", None, {}, {})
    published = {
        name: better.published[name, "dice"] - worse.published[name, "dice"]
        for name in DATA_SETS
        if (name, "dice") in better.published and (name, "dice") in worse.published
    }
    seeds = [seed for seed in better.finished if seed in worse.finished]
    if not seeds:
        return Finding(claim, "not run", None, {}, published)
    whole = compare(better.scores("dice", seeds), worse.scores("dice", seeds))
    alone = {seed: _difference(better, worse, seed) for seed in seeds}
    return Finding(claim, _verdict(whole, list(alone.values())), whole, alone, published)


def _difference(better: Result, worse: Result, seed: int) -> float:
    """Mean difference over patients of one seed; the interval of it is not asked for."""
    return compare(better.scores("dice", [seed]), worse.scores("dice", [seed]), resamples=1).difference


def _verdict(found: Comparison, by_seed: Sequence[float]) -> Verdict:
    """Decided where the interval leaves out 0 and no seed says the opposite."""
    if found.interval is None or math.isnan(found.difference) or found.interval[0] <= 0 <= found.interval[1]:
        return "not decided"
    if any(value * found.difference <= 0 for value in by_seed):
        return "not decided"
    return "holds here" if found.difference > 0 else "does not hold here"


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
