"""What the native labels of a data set mean: the known conventions, and one that a user states."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from segan_pl.data.case import CaseError
from segan_pl.data.label_names import BACKGROUND, IGNORE, MEAN, LabelNames, tissue_name
from segan_pl.errors import UsageError, nearest

TUMOUR = ("necrosis", "non_enhancing", "oedema", "enhancing", "cyst", "tumour")
# Labels are bytes; so many of them stand in an example.
LARGEST, LABELS_SHOWN = 255, 6
Stated = str | dict[str, Any]  # "auto", a key of CONVENTIONS, a YAML or JSON file, or name to labels


@dataclass(frozen=True)
class Convention:
    """Which tissue each native label of a data set means.

    Attributes:
        name: E.g. "brats2017"; of one that a user stated, its content, e.g. "{csf: [5, 6], gm: 1, ignore: 7}", so that
            a checkpoint or a table that holds the name holds the meaning.
        tissues: One (tissue, native label) each; a tissue may have several. Of tumour: "necrosis" (with non-enhancing
            tumour where a data set joins them), "non_enhancing", "oedema", "enhancing", "cyst", "tumour" where no more
            is told. Others: "cavity" (resected), "csf" (cerebrospinal fluid), "gm" and "wm" (grey and white matter), or
            any name that a user gives.
        ignore: Labels of voxels that are not judged: no loss and no score sees them.
        stated: What the data set itself calls its labels, where it does; only advice follows from it.
        advised: Whether it is proposed where others fit too; not where few data sets follow it.
    """

    name: str
    tissues: tuple[tuple[str, int], ...]
    ignore: tuple[int, ...] = ()
    stated: LabelNames | None = field(default=None, compare=False, repr=False)
    advised: bool = True

    @property
    def meanings(self) -> dict[int, str]:
        """Every native label that may occur to its tissue, "background" or "ignore"."""
        tissues = {label: tissue for tissue, label in self.tissues}
        return {0: BACKGROUND, **tissues, **dict.fromkeys(self.ignore, IGNORE)}

    @property
    def known(self) -> tuple[int, ...]:
        """Every native label that may occur, background included."""
        return tuple(self.meanings)

    @property
    def numbers(self) -> dict[str, tuple[int, ...]]:
        """Tissue to its labels, in the order of `tissues`."""
        names = dict.fromkeys(tissue for tissue, _ in self.tissues)
        return {name: tuple(label for tissue, label in self.tissues if tissue == name) for name in names}

    @property
    def tumour(self) -> tuple[int, ...]:
        """Native labels of tumour; none where the data set labels a healthy brain."""
        return tuple(label for tissue, label in self.tissues if tissue in TUMOUR)

    @property
    def tells_regions(self) -> bool:
        """Whether the labels tell tumour core and enhancing tumour apart from the whole."""
        return {"oedema", "enhancing"} < {tissue for tissue, _ in self.tissues if tissue in TUMOUR}

    def regions(self) -> dict[str, frozenset[int]]:
        """Whole tumour "wt", core "tc" and enhancing tumour "et" to their labels, as far as these tell them apart."""
        numbers, whole = self.numbers, frozenset(self.tumour)
        if not self.tells_regions:
            return {"wt": whole} if whole else {}
        return {"wt": whole, "tc": whole - set(numbers["oedema"]), "et": frozenset(numbers["enhancing"])}

    def contradictions(self, names: LabelNames | None) -> list[str]:
        """A line for each label that a data set's own names say is something else; none where it names none."""
        return names.contradictions(self.name, self.meanings, self.regions()) if names else []

    def ignoring(self, labels: Iterable[int]) -> Convention:
        """The same with more labels that are not judged, those that it knows as something else left as they are."""
        more = [label for label in labels if label not in self.known]
        return _of_content({**self.numbers, IGNORE: (*self.ignore, *more)}) if more else self

    def require_known(self, labels: Iterable[int], case: str) -> None:
        """Refuse a mask with a label that the convention does not know.

        Raises:
            CaseError: It names the conventions that would fit, or how to complete a mapping.
        """
        found = set(labels)
        if strange := sorted(found - set(self.known)):
            way = remedy(found, self.stated, "choose --data.native_labels", "fix the mask")
            raise CaseError(
                f"{case}: the mask holds label {strange}, '{self.name}' knows {list(self.known)}; "
                f"{f'{self.completed(strange)}, or fix the mask' if self.is_mapping else way}"
            )

    @property
    def is_mapping(self) -> bool:
        """Whether it has no name but is a mapping of names to labels, which can be completed."""
        return self.name.startswith("{")

    def completed(self, strange: Sequence[int]) -> str:
        """How to complete the mapping by labels that it lacks."""
        ignored = sorted({*self.ignore, *strange})
        given = f"[{', '.join(map(str, ignored))}]" if len(ignored) > 1 else str(ignored[0])
        return f"add {', '.join(map(str, strange))} to the mapping of --data.native_labels, or 'ignore: {given}'"


# 1 and 2 are grey matter (cortex, basal ganglia), 3 and 4 white matter (4 lesions), 5 and 6 fluid (6 ventricles),
# merged as the challenge's page says; 7 cerebellum and 8 brainstem are excluded from its evaluation
_MRBRAINS = (("csf", 5), ("csf", 6), ("gm", 1), ("gm", 2), ("wm", 3), ("wm", 4))

CONVENTIONS: dict[str, Convention] = {
    convention.name: convention
    for convention in (
        Convention("brats2015", (("necrosis", 1), ("oedema", 2), ("non_enhancing", 3), ("enhancing", 4))),
        Convention("brats2017", (("necrosis", 1), ("oedema", 2), ("enhancing", 4))),  # 2017 to 2021
        Convention("brats2023", (("necrosis", 1), ("oedema", 2), ("enhancing", 3))),
        Convention("brats2024", (("necrosis", 1), ("oedema", 2), ("enhancing", 3), ("cavity", 4))),
        Convention("brats2024_ped", (("enhancing", 1), ("necrosis", 2), ("cyst", 3), ("oedema", 4)), advised=False),
        Convention("msd", (("oedema", 1), ("necrosis", 2), ("enhancing", 3))),  # Task01_BrainTumour
        Convention("binary", (("tumour", 1),)),
        Convention("iseg", (("csf", 10), ("gm", 150), ("wm", 250))),  # 2017 and 2019
        Convention("mrbrains13", (("csf", 1), ("gm", 2), ("wm", 3))),  # LabelsForTesting
        Convention("mrbrains13_training", _MRBRAINS, ignore=(7, 8), advised=False),  # LabelsForTraining
        Convention("mrbrains18", _MRBRAINS, ignore=(7, 8, 9, 10), advised=False),  # 9 infarction, 10 other
        Convention("ibsr18", (("csf", 1), ("gm", 2), ("wm", 3)), advised=False),  # the numbers of LabelsForTesting
    )
}
YEARS = {
    **dict.fromkeys(("brats2013", "brats2014", "brats2016"), "brats2015"),
    **dict.fromkeys(("brats2018", "brats2019", "brats2020", "brats2021"), "brats2017"),
}


def label_convention(stated: Stated) -> Convention:
    """The convention of that name, or the one that a file or a mapping states.

    Args:
        stated: A key of CONVENTIONS; a YAML or JSON file of a mapping; or the mapping itself or its text, of names to
            labels: {csf: [5, 6], gm: 1, ignore: 7}. Names of tissues are taken in their usual spellings ("edema").

    Raises:
        UsageError: No such convention or file, or a mapping that cannot be.
    """
    return _of_content(stated) if isinstance(stated, dict) else _of_text(stated)


@cache
def _of_text(text: str) -> Convention:
    option = f"--data.native_labels {text}"
    if text in CONVENTIONS:
        return CONVENTIONS[text]
    is_file = text.lower().endswith((".yaml", ".yml", ".json"))
    if not is_file and not text.startswith("{"):
        raise UsageError(
            f"{option}: unknown; {nearest(YEARS.get(text.lower(), text), CONVENTIONS)}; or a YAML file, or a mapping "
            f"of names to labels"
        )
    try:
        content = yaml.safe_load(Path(text).expanduser().read_text(encoding="utf-8") if is_file else text)
    except OSError as error:
        raise UsageError(f"{option}: cannot be read ({error.strerror}); check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{option}: is no YAML ({' '.join(str(error).split())})") from error
    return _of_content(content, option)


def _of_content(content: Any, option: str = "--data.native_labels") -> Convention:
    """The convention of a mapping; its name is the mapping, in one spelling.

    Raises:
        UsageError: It is no mapping of names to labels from 0 to 255, a label has two meanings, or a name comes twice.
    """
    expected = "expected a mapping of names to labels, e.g. {csf: [5, 6], gm: 1, ignore: 7}"
    if not isinstance(content, Mapping) or not content:
        raise UsageError(f"{option}: {content!r}; {expected}")
    meanings: dict[int, str] = {}
    words: dict[str, Any] = {}
    for word, value in content.items():
        name = tissue_name(str(word))
        if not name or name == MEAN:
            raise UsageError(
                f"{option}: {word!r} is no name for a tissue; expected letters a to z and digits, not {MEAN}"
            )
        if name in words:
            raise UsageError(
                f"{option}: {words[name]!r} and {word!r} are both {name!r}; expected each name once; give its "
                f"labels as one list, or rename one"
            )
        words[name] = word
        labels = list(value) if isinstance(value, (list, tuple)) else [value]
        for label in labels or [value]:  # an empty list is no label
            if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label <= LARGEST:
                raise UsageError(f"{option}: {word!r} is {value!r}; {expected}, from 0 to {LARGEST}")
            if (label == 0) != (name == BACKGROUND):
                raise UsageError(f"{option}: {word!r} is {label}; expected the background to be 0, and nothing else")
            if (other := meanings.setdefault(label, name)) != name:
                raise UsageError(f"{option}: label {label} is {other!r} and {name!r}; expected one name for each label")
    tissues = tuple((name, label) for label, name in meanings.items() if name not in (BACKGROUND, IGNORE))
    if not tissues:
        raise UsageError(f"{option}: names no tissue; {expected}")
    ignored = tuple(label for label, name in meanings.items() if name == IGNORE)
    numbers = Convention("", tissues).numbers | ({IGNORE: ignored} if ignored else {})
    spelt = (f"{name}: {list(some) if len(some) > 1 else some[0]}" for name, some in numbers.items())
    return Convention("{" + ", ".join(spelt) + "}", tissues, ignored)


def fitting_conventions(labels: Iterable[int], names: LabelNames | None = None) -> list[str]:
    """Names of the conventions that know all the labels and that a data set's own names do not contradict.

    Those of a healthy brain are among them where no other is, or where all of their tissues occur; those that few data
    sets follow where no other fits and all of their tissues occur.
    """
    found = set(labels)
    fitting = [one for one in CONVENTIONS.values() if found <= set(one.known) and not one.contradictions(names)]
    whole = [one for one in fitting if not found or found >= {label for _, label in one.tissues}]
    fitting = [one for one in fitting if one.advised] or whole
    tumour = [one for one in fitting if one.tumour]
    return [one.name for one in fitting if one.tumour or not tumour or one in whole]


def remedy(labels: Collection[int], names: LabelNames | None, choose: str, fix: str) -> str:
    """What to do about labels that a convention does not know: another convention where one fits, else other masks.

    Args:
        labels: All that were found; none where no mask was read.
        names: What the data set itself calls its labels.
        choose: How a convention is given, e.g. "choose --data.native_labels".
        fix: What else can be done, e.g. "fix the mask".
    """
    if fitting := fitting_conventions(labels, names):
        mapping = "" if names else " or a mapping of your own, e.g. '{csf: 1, gm: 2}'"
        listed = f" ({', '.join(fitting)} would fit)" if labels else f", one of {', '.join(fitting)}{mapping}"
        own = f", or as {names.where} has it, '{names.mapping}'" if not labels and names and names.mapping else ""
        return f"{choose}{listed}{own}, or {fix}"
    if not names or not names.numbers:
        found = sorted(set(labels) - {0})
        shown = [f"name{label}: {label}" for label in found[:LABELS_SHOWN]] + ["..."] * (len(found) > LABELS_SHOWN)
        return (
            f"no --data.native_labels fits but a mapping with names of your own, '{{{', '.join(shown)}}}', where the "
            f"name ignore is for labels that are not judged; or {fix}"
        )
    given = f", give the names as --data.native_labels '{names.mapping}'" if names.mapping else ""
    return f"no --data.native_labels fits without contradicting the names in {names.where}{given}, or {fix}"


def described_convention(names: LabelNames) -> str | None:
    """The convention whose tissues, or whose regions, have exactly the numbers that a data set's own names say.

    What the names ignore is added to it; None where no convention is certain.
    """
    if names.background != (0,):
        return None
    if len(names.named) == 1:
        candidates = [CONVENTIONS["binary"]] if list(names.named.values()) == [(1,)] else []
    else:
        tissues, regions = names.tissues(), names.regions()
        candidates = [
            one for one in CONVENTIONS.values() if tissues == one.numbers or (regions and regions == one.regions())
        ]
    described = [one for one in candidates if not one.contradictions(names)]
    alike = [one for one in described if set(one.ignore) == set(names.ignored)]
    found = next(iter([*alike, *described]), None)
    return found.ignoring(names.ignored).name if found else None
