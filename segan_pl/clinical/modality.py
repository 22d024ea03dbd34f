"""Which modality a series is: by a rule file, by its header's times, by words. What remains in doubt is not guessed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import yaml

from segan_pl.clinical.series import Header, Series
from segan_pl.data.case import MODALITIES
from segan_pl.errors import UsageError, nearest

Role = Literal["image", "localiser", "derived", "other", "unusable"]
NONE = "none"

FLAIR = re.compile(r"flair|dark.?fluid")
T2 = re.compile(r"(?<![a-z0-9])t2(?!\*|.?star|f(?![a-z]))|t2w")
T1 = re.compile(r"(?<![a-z0-9])t1|t1w|mp.?rage|spgr|bravo|(?<![a-z])tfl(?![a-z])")
AFTER = re.compile(
    r"(?<![a-z])((gd|gado?|post|ce|km|contrast)(?![a-z])|gado?(linium|vist|.?dtpa)|gddtpa|dotarem"
    r"|post.?(contrast|gd|gad|km|ce)(?![a-z]))|\+ ?c(?![a-z])|c\+|t1w?(c|gd|ce|gad|post|km|contrast)(?![a-z])"
)
BEFORE = re.compile(r"(?<![a-z])(pre|native?|without|w/o|ohne|non?)(?![a-z])|t1(w?pre|n|native)(?![a-z])|unenhanced")
# "without contrast" says nothing of an agent that was given
NEGATED = re.compile(r"(?<![a-z])(pre|without|w/o|ohne|non?)[ .+-]*(contrast|gado?|gd|ce|km|c)(?![a-z])")
# before or after surgery: says nothing of an agent
OPERATION = re.compile(r"(?<![a-z])(pre|post)[ .-]*op\w*")
LOCALISER = re.compile(r"(?<![a-z])loc(ali[sz]er)?(?![a-z])|scout|survey|3.?plane|three.?plane|topogram")
OTHER = re.compile(
    r"(?<![a-z])(adc|dwi|dti|diff\w*|trace\w*|ep2d\w*|perf\w*|dsc|dce|asl|pcasl|r?cbv|r?cbf|mtt|ttp|swi|swan|tof|angio|mra|mrv|"
    r"venbold|venogram|bold|field.?map|ciss|fiesta|space.?iac|spectro\w*|mrs|pd|stir|phase|pcasl)(?![a-z])|t2\*|t2.?star"
)
DERIVED = re.compile(
    r"(?<![a-z])(mip|sub(?!-)|subtract\w*|screen.?save|reformat\w*|projection|fused|coreg\w*)(?![a-z])"
)
# A reformatted image, unless it is stated to be as scanned: Siemens's t1_mpr is an MPRAGE.
REFORMATTED = re.compile(r"(?<![a-z])mpr(?![a-z])")
# Of double series one counts as finer from this share of the other's voxel volume on.
FINER = 0.9


@dataclass(frozen=True)
class Recognised:
    """What a series was taken for.

    Attributes:
        role: "image" where it may be used as a modality.
        modality: "t1", "t1ce", "t2" or "flair"; empty where none is certain.
        evidence: What said so; it quotes no header.
        doubt: Why it is not certain; empty where it is, and where the series is no candidate.
    """

    role: Role
    modality: str = ""
    evidence: tuple[str, ...] = ()
    doubt: str = ""


@dataclass(frozen=True)
class Rule:
    """One line of a rule file; all that it states must hold.

    Attributes:
        modality: What such a series is, "none" for one that is not to be used.
        description: A regular expression that its descriptions, protocol or file name hold, in whatever case.
        sequence: The same of the sequence's kind, variant and options.
        image_type: The same of the image type.
        contrast: Whether a contrast agent is stated.
        echo_time_ms: [lowest, highest].
        repetition_time_ms: The same.
        inversion_time_ms: The same.
    """

    modality: str
    description: str | None = None
    sequence: str | None = None
    image_type: str | None = None
    contrast: bool | None = None
    echo_time_ms: Sequence[float] | None = None
    repetition_time_ms: Sequence[float] | None = None
    inversion_time_ms: Sequence[float] | None = None

    def fits(self, header: Header) -> bool:
        """Whether all holds."""
        texts = {
            "description": header.description,
            "sequence": " ".join(header.sequence),
            "image_type": " ".join(header.image_type),
        }
        for name, text in texts.items():
            pattern = getattr(self, name)
            if pattern is not None and not re.search(pattern, text, re.IGNORECASE):
                return False
        for name in ("echo_time_ms", "repetition_time_ms", "inversion_time_ms"):
            limits, value = getattr(self, name), getattr(header, name)
            if limits is not None and (value is None or not limits[0] <= value <= limits[1]):
                return False
        return self.contrast is None or self.contrast == bool(header.contrast)


def read_rules(path: Path) -> list[Rule]:
    """The rules of a YAML file, a list of mappings; the first that fits a series counts.

    Raises:
        UsageError: It cannot be read, or says what no rule has.
    """
    given = f"--rules {path}"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{given}: cannot be read as YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, list) or not all(isinstance(one, Mapping) for one in content):
        raise UsageError(f"{given}: expected a list of rules, e.g. [{{modality: t1ce, description: mprage.*gd}}]")
    return [_rule(one, f"{given}, rule {number}") for number, one in enumerate(content, 1)]


def _rule(content: Mapping[str, Any], given: str) -> Rule:
    known = [one.name for one in fields(Rule)]
    if strange := [name for name in content if name not in known]:
        raise UsageError(f"{given}: {strange[0]!r} is unknown; {nearest(str(strange[0]), known)}")
    if "modality" not in content or len(content) < 2:
        raise UsageError(f"{given}: expected a modality (or {NONE}) and at least one condition")
    if content["modality"] not in (*MODALITIES, NONE):
        raise UsageError(
            f"{given}: modality: {content['modality']!r}, expected one of {', '.join(MODALITIES)}, or {NONE}"
        )
    for name in ("description", "sequence", "image_type"):
        try:
            re.compile(str(content.get(name) or ""))
        except re.error as error:
            raise UsageError(f"{given}: {name}: {content[name]!r} is no regular expression ({error})") from error
    for name in ("echo_time_ms", "repetition_time_ms", "inversion_time_ms"):
        limits = content.get(name)
        numbers = isinstance(limits, list) and len(limits) == 2 and all(isinstance(one, (int, float)) for one in limits)
        if limits is not None and not numbers:
            raise UsageError(f"{given}: {name}: {limits!r}, expected [lowest, highest] in milliseconds")
    return Rule(**content)


def recognise(series: Series, rules: Sequence[Rule] = ()) -> Recognised:
    """What one series is: the first rule that fits, else its header's times and words, which must not contradict."""
    header = series.header
    for number, rule in enumerate(rules, 1):
        if rule.fits(header):
            said = (f"rule {number}",)
            return Recognised("other", evidence=said) if rule.modality == NONE else _image(series, rule.modality, said)
    words = OPERATION.sub(" ", header.description.lower().replace("_", " "))
    if LOCALISER.search(words) or "LOCALIZER" in header.image_type:
        return Recognised("localiser", evidence=("words or image type",))
    scanned = header.image_type[:2] == ("ORIGINAL", "PRIMARY")
    derived = "DERIVED" in header.image_type[:1] or "SECONDARY" in header.image_type[1:2]
    if derived or DERIVED.search(words) or (REFORMATTED.search(words) and not scanned):
        return Recognised("derived", evidence=("words or image type",))
    fat_nulled = 80 <= (header.inversion_time_ms or 0) <= 300  # STIR
    if header.b_value or "EP" in header.sequence or OTHER.search(words) or _is_t2_star(header) or fat_nulled:
        return Recognised("other", evidence=("diffusion, perfusion, susceptibility, angiography or the like",))
    times, words_say = by_times(header), by_words(words)
    evidence = tuple(
        text
        for text in (
            f"times say {times}" if times else "",
            f"words say {words_say}" if words_say else "",
            "a contrast agent is stated" if header.contrast else "",
        )
        if text
    )
    if times and words_say and times != words_say:
        return Recognised("image", "", evidence, f"its times say {times}, its words {words_say}")
    found = times or words_say
    if not found:
        return Recognised("image", "", evidence, "neither its times nor its words say which modality it is")
    if found != "t1":
        return _image(series, found, evidence)
    after, before = bool(AFTER.search(NEGATED.sub(" ", words))), bool(BEFORE.search(words))
    if before and (after or header.contrast):
        # "post" and "pre" in one name, or a field that a scanner kept from the patient's first injection
        return Recognised("image", "", evidence, "it is T1, and what is said of the contrast agent contradicts itself")
    if after or header.contrast:
        return _image(series, "t1ce", (*evidence, *(("words say contrast agent",) if after else ())))
    silent = () if header.contrast is False or before else ("nothing is said of a contrast agent",)
    return _image(series, "t1", (*evidence, *silent))


def _image(series: Series, modality: str, evidence: tuple[str, ...]) -> Recognised:
    """A modality, unless the series cannot be used."""
    if series.fault:
        return Recognised("unusable", modality, evidence, series.fault)
    return Recognised("image", modality, evidence)


def by_times(header: Header) -> str:
    """Modality of the contrast that TE, TR and TI give at 1.5 and 3 T; empty where they do not tell.

    The limits are ours: FLAIR nulls fluid by a TI above 1500 ms; an MPRAGE has a TI of about 1000 ms and a TE of a few.
    """
    echo, repetition, inversion = header.echo_time_ms, header.repetition_time_ms, header.inversion_time_ms
    if echo is None or repetition is None:
        return ""
    if inversion is not None and inversion >= 1500:
        return "flair" if echo >= 60 else ""
    if inversion is not None and 400 <= inversion <= 1400 and echo <= 40:
        return "t1"
    if echo >= 60 and repetition >= 1500 and inversion is None and "IR" not in header.sequence:
        return "t2"
    if echo <= 30 and repetition <= 1200:
        return "t1"
    return ""


def by_words(words: str) -> str:
    """Modality that a description in lower case names; empty where it names none, or two."""
    if FLAIR.search(words):
        return "" if T1.search(words) else "flair"
    named = [name for name, pattern in (("t1", T1), ("t2", T2)) if pattern.search(words)]
    # files of other data sets: x_t2f, x_fla
    if not named and (short := re.search(r"(?<![a-z0-9])(t2f|fla)(?![a-z0-9])", words)):
        return "flair" if short else ""
    return named[0] if len(named) == 1 else ""


def _is_t2_star(header: Header) -> bool:
    """Whether it is a gradient echo with a long echo time."""
    gradient = "GR" in header.sequence and "SE" not in header.sequence
    return gradient and (header.echo_time_ms or 0) > 12 and (header.inversion_time_ms is None)


def choose(
    found: Sequence[tuple[Series, Recognised]], by_hand: Mapping[str, str] | None = None
) -> tuple[dict[str, Series], list[str], list[str]]:
    """One series for each modality of a visit.

    Args:
        found: All series of the visit and what they were taken for.
        by_hand: Key of a series to its modality, or "none"; goes before all else.

    Returns:
        Modality to series; notes; and doubts, each of which a user must decide.
    """
    hand = by_hand or {}
    groups: dict[str, list[Series]] = {}
    notes: list[str] = []
    doubts: list[str] = []
    taken = {hand[series.key] for series, _ in found if hand.get(series.key, NONE) != NONE}
    for series, seen in found:
        asked = hand.get(series.key)
        if asked is not None and asked != NONE:
            if series.fault:
                doubts.append(f"series {series.key}, named {asked} by hand, {series.fault}")
            else:
                groups.setdefault(asked, []).append(series)
        elif asked is None and seen.role in ("image", "unusable") and seen.modality not in taken:
            if seen.doubt and seen.role == "image" and not series.fault:
                doubts.append(f"series {series.key}: {seen.doubt}")
            elif seen.doubt or series.fault:
                notes.append(f"series {series.key} ({seen.modality or 'image'}) {series.fault or seen.doubt}")
            else:
                groups.setdefault(seen.modality, []).append(series)
    chosen: dict[str, Series] = {}
    for modality, members in groups.items():
        ranked = sorted(members, key=lambda one: one.voxel_mm3)
        if len(ranked) > 1 and ranked[0].voxel_mm3 > FINER * ranked[1].voxel_mm3:
            keys = ", ".join(one.key for one in ranked)
            doubts.append(f"{len(ranked)} series are {modality} and none is clearly the finest: {keys}")
            continue
        chosen[modality] = ranked[0]
        if len(ranked) > 1:
            others = ", ".join(one.key for one in ranked[1:])
            notes.append(f"{modality}: the finest of {len(ranked)} series, {ranked[0].key}; left out: {others}")
    if not chosen:
        doubts.append("no series is known to be t1, t1ce, t2 or flair")
    return chosen, notes, doubts
