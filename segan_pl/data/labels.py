"""The schemes that turn native labels into channels and back, and what a prediction's labels tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.case import CaseError
from segan_pl.data.conventions import Convention, label_convention
from segan_pl.errors import UsageError, nearest

DEFAULT = "brats2017"
DEFAULT_TARGET, TISSUES = "whole_tumour", "labels"
TARGETS = ("whole_tumour", "regions", "labels", "binary")
ONLY = "only:"
"""Before the name of a region or tissue: the target that is that one alone, e.g. "only:et" or "only:csf"."""


@dataclass(frozen=True)
class LabelScheme:
    """Which native labels make which channel.

    Attributes:
        target: One of TARGETS, e.g. "regions", or ONLY and a name; what a checkpoint is compared by.
        convention: What the native labels mean.
        channels: One name a channel, e.g. ("wt", "tc", "et"); they name the metrics.
        members: One tuple of native labels a channel.
        export: One native label a channel, written in this order where a thresholded channel is on (later ones win).
        activation: "sigmoid" for regions that may overlap, "softmax" for labels that exclude each other.
    """

    target: str
    convention: Convention
    channels: tuple[str, ...]
    members: tuple[tuple[int, ...], ...]
    export: tuple[int, ...]
    activation: Literal["sigmoid", "softmax"]

    @property
    def name(self) -> str:
        """E.g. "regions/brats2017"; `label_scheme` takes it."""
        return f"{self.target}/{self.convention.name}"

    @property
    def ignore(self) -> tuple[int, ...]:
        """Native labels of voxels that are not judged."""
        return self.convention.ignore

    @property
    def known(self) -> tuple[int, ...]:
        """Every native label that may occur, background included."""
        return self.convention.known

    def ignored(self, label: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Where native labels (*spatial) are not judged."""
        table = np.zeros(256, bool)
        table[list(self.ignore)] = True
        return table[label]

    def table(self) -> NDArray[np.uint8]:
        """(C, 256) uint8 look-up table: `table()[:, label]` is what `encode` makes of a mask without ignored voxels."""
        table = np.zeros((len(self.channels), 256), np.uint8)
        for channel, members in enumerate(self.members):
            table[channel, list(members)] = 1
        return table

    def encode(self, label: NDArray[np.uint8]) -> NDArray[np.uint8] | NDArray[np.int8]:
        """Native labels (*spatial) to channels (C, *spatial) in {0, 1}; int8 with -1 in ignored voxels if `ignore`.

        Values and memory layout are those of `table()[:, label]`, in a third of its time: NumPy's fancy indexing takes
        longer for three regions than reading a patch. One channel is compared, in a third again.

        Raises:
            ValueError: The labels are not bytes.
        """
        if label.dtype != np.uint8:
            raise ValueError(f"labels are {label.dtype}, expected uint8")
        out = np.empty((*label.shape, len(self.channels)), np.uint8)
        if len(self.channels) == 1 and not self.ignore:
            (members,), inside = self.members, out[..., 0].view(np.bool_)
            np.equal(label, members[0], out=inside)
            for member in members[1:]:
                inside |= label == member
            return np.moveaxis(out, -1, 0)
        labels = label.tobytes()
        table = self.table()
        table[:, list(self.ignore)] = 255  # -1 as int8
        for channel, row in enumerate(table):
            out[..., channel] = np.frombuffer(labels.translate(row.tobytes()), np.uint8).reshape(label.shape)
        return np.moveaxis(out.view(np.int8) if self.ignore else out, -1, 0)

    def decode(self, mask: NDArray) -> NDArray[np.uint8]:
        """Thresholded channels (C, *spatial) to native labels (*spatial).

        The inverse of `encode` wherever the channels tell the labels apart; what they cannot (necrosis from
        non-enhancing core by regions, anything by whole tumour) comes back as the first label of its kind, and encodes
        to the same channels again.
        """
        out = np.zeros(mask.shape[1:], np.uint8)
        for channel, value in zip(mask, self.export, strict=True):
            out[channel > 0] = value
        return out

    def require_known(self, labels: Sequence[int], case: str) -> None:
        """Raise CaseError when a mask holds a label that the convention does not know."""
        self.convention.require_known(labels, case)

    @property
    def foreground(self) -> tuple[str, ...]:
        """Channels that are scored: all but "background"."""
        return tuple(channel for channel in self.channels if channel != "background")

    @property
    def foreground_labels(self) -> tuple[int, ...]:
        """Native labels that are in a channel that is scored, in ascending order."""
        pairs = zip(self.channels, self.members, strict=True)
        return tuple(sorted({label for channel, members in pairs if channel != "background" for label in members}))


@cache
def label_scheme(target: str, convention: str | None = None) -> LabelScheme:
    """The scheme that makes a target of a data set's native labels.

    Args:
        target: "whole_tumour"; "regions" (WT, TC, ET, overlapping; and RC, the resection cavity, where labelled);
            "labels" (background and each tissue; it needs no tumour); "only:et" (one region or tissue alone); "binary"
            (whole tumour of 0/1 masks); or a scheme's whole name.
        convention: As `label_convention`; "brats2017" where neither it nor `target` says.

    Raises:
        UsageError: No such target or convention, or the labels do not tell the regions apart.

    Example:
        >>> regions = label_scheme("regions", "brats2017")
        >>> regions.channels
        ('wt', 'tc', 'et')
        >>> regions.encode(np.array([[[0, 1, 2, 4]]], np.uint8))[:, 0, 0].tolist()
        [[0, 1, 1, 1], [0, 1, 0, 1], [0, 0, 0, 1]]
    """
    target, _, named = target.partition("/")
    if target not in TARGETS and not target.startswith(ONLY):
        raise UsageError(
            f"--data.labels {target}: no such label scheme; {nearest(target, TARGETS)}, or {ONLY}NAME for one "
            f"region or tissue"
        )
    if target == "binary":
        target, named = "whole_tumour", "binary"
    meaning = label_convention(convention or named or DEFAULT)
    if target.startswith(ONLY):
        return _only(target.removeprefix(ONLY), meaning)
    if target != "labels" and not meaning.tumour:
        raise UsageError(
            f"--data.labels {target}: the native labels '{meaning.name}' name no tumour; choose --data.labels labels"
        )
    if target == "whole_tumour":
        return LabelScheme(target, meaning, ("wt",), (meaning.tumour,), meaning.tumour[:1], "sigmoid")
    if target == "labels":
        names, members = zip(("background", (0,)), *meaning.numbers.items(), strict=True)
        return LabelScheme(target, meaning, names, members, tuple(labels[0] for labels in members), "softmax")
    return _regions(meaning)


def _only(name: str, meaning: Convention) -> LabelScheme:
    """One region or tissue alone, in a channel of its own."""
    channels = {tissue: (labels, labels[0]) for tissue, labels in meaning.numbers.items()}
    if meaning.tells_regions:
        whole = _regions(meaning)
        channels |= {one: (m, e) for one, m, e in zip(whole.channels, whole.members, whole.export, strict=True)}
    if meaning.tumour:
        channels["wt"] = (meaning.tumour, meaning.tumour[0])
    if name not in channels:
        raise UsageError(
            f"--data.labels {ONLY}{name}: not among the native labels '{meaning.name}'; {nearest(name, channels)}"
        )
    members, export = channels[name]
    return LabelScheme(f"{ONLY}{name}", meaning, (name,), (members,), (export,), "sigmoid")


def _regions(meaning: Convention) -> LabelScheme:
    """Whole tumour, tumour core, enhancing tumour, and the cavity where it is labelled (BraTS 2024)."""
    if not meaning.tells_regions:
        raise UsageError(
            f"--data.labels regions: the native labels '{meaning.name}' do not tell tumour core and enhancing tumour "
            f"apart; choose --data.labels whole_tumour"
        )
    numbers = meaning.numbers
    oedema, enhancing = numbers["oedema"], numbers["enhancing"]
    core = tuple(label for label in meaning.tumour if label not in oedema)
    regions = [
        ("wt", meaning.tumour, oedema[0]),
        ("tc", core, next(label for label in core if label not in enhancing)),
        ("et", enhancing, enhancing[0]),
        *(("rc", labels, labels[0]) for tissue, labels in numbers.items() if tissue == "cavity"),
    ]
    names, members, export = zip(*regions, strict=True)
    return LabelScheme("regions", meaning, names, members, export, "sigmoid")


def require_target(target: str, convention: str | None) -> None:
    """Refuse a wrong target before any case is looked for, as far as it can be told without the data set's convention.

    Raises:
        UsageError: As `label_scheme`.
    """
    if convention is not None or not target.startswith(ONLY):
        label_scheme(target, convention)


def possible_target(target: str, convention: str | None) -> str:
    """What masks become where a command needs no target: where the labels name no tumour, the tissues.

    Args:
        target: As asked for; only the default gives way, since nobody may have asked for it.
        convention: As `label_convention`, or None where nothing says it.

    Raises:
        UsageError: As `label_convention`.
    """
    healthy = convention is not None and not label_convention(convention).tumour
    return TISSUES if healthy and target == DEFAULT_TARGET else target


def label_meanings(made: LabelScheme) -> dict[int, tuple[str, ...]]:
    """The value of each label that a scheme writes, to the tissues that it means; several are not told apart.

    E.g. {1: ("necrosis", "oedema", "enhancing")} of the whole tumour, {2: ("oedema",), 1: ("necrosis",), ...} of
    regions.
    """
    kinds = _kinds(made)
    tissues = made.convention.tissues
    return {
        value: tuple(dict.fromkeys(tissue for tissue, label in tissues if kinds[label] == kinds[value]))
        for value in made.export
        if value
    }


def meaning_line(made: LabelScheme) -> str:
    """The same in words: "1 is necrosis, oedema or enhancing, which are not told apart"."""
    parts = []
    for value, tissues in sorted(label_meanings(made).items()):
        words = " or ".join([", ".join(tissues[:-1]), tissues[-1]] if tissues[1:] else tissues)
        parts.append(f"{value} is {words}{', which are not told apart' if tissues[1:] else ''}")
    return "; ".join(parts)


def told_apart(made: LabelScheme, wanted: LabelScheme) -> tuple[str, ...]:
    """The scored channels of a scheme that another scheme's labels tell from everything else, in order.

    Args:
        made: Whose channels were predicted, perhaps some of a scheme's only.
        wanted: Of the same convention.
    """
    kinds = _kinds(made)
    found = []
    for channel, members in zip(wanted.channels, wanted.members, strict=True):
        inside = {kinds[label] for label in members}
        outside = {kinds[label] for label in wanted.known if label not in (*members, *wanted.ignore)}
        if channel in wanted.foreground and not inside & outside:
            found.append(channel)
    return tuple(found)


def scheme_with(target: str, convention: str, channels: tuple[str, ...] | None = None) -> LabelScheme:
    """A scheme with those of its channels that were predicted.

    Args:
        target: As `label_scheme`.
        convention: In whose labels they were written.
        channels: Names; None for all.

    Raises:
        CaseError: There is no such scheme or channel.
    """
    whole = label_scheme(target, convention)
    if channels is None or channels == whole.channels:
        return whole
    if strange := [name for name in channels if name not in whole.channels]:
        raise CaseError(f"'{whole.name}' has no channel {', '.join(strange)}; it has {', '.join(whole.channels)}")
    rows = [whole.channels.index(name) for name in channels]
    members, export = tuple(whole.members[row] for row in rows), tuple(whole.export[row] for row in rows)
    return replace(whole, channels=channels, members=members, export=export)


def _kinds(made: LabelScheme) -> dict[int, tuple[bool, ...]]:
    """Native label to the channels that it is in: labels of one kind are written as one."""
    return {label: tuple(label in members for members in made.members) for label in made.known}
