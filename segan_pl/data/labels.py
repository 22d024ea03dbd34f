"""What a data set's native labels mean, and the schemes that turn them into channels and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.volume import CaseError
from segan_pl.errors import nearest

HEALTHY = ("csf", "gm", "wm")
NOT_TUMOUR = ("cavity", *HEALTHY)


@dataclass(frozen=True)
class Convention:
    """Which tissue each native label of a data set stands for.

    Attributes:
        name: E.g. "brats2017".
        tissues: One (tissue, native label) each: "necrosis" (with non-enhancing tumour where a data set joins them),
            "non_enhancing", "oedema", "enhancing", "cavity" (resected: no tumour), "tumour" where no more is told; or
            those of a healthy brain, "csf" (cerebrospinal fluid), "gm" and "wm" (grey and white matter).
    """

    name: str
    tissues: tuple[tuple[str, int], ...]

    @property
    def known(self) -> tuple[int, ...]:
        """Every native label that may occur, background included."""
        return (0, *(label for _, label in self.tissues))

    @property
    def tumour(self) -> tuple[int, ...]:
        """Native labels of tumour; none where the data set labels a healthy brain."""
        return tuple(label for tissue, label in self.tissues if tissue not in NOT_TUMOUR)

    def require_known(self, labels: Iterable[int], case: str) -> None:
        """Refuse a mask with a label that the convention does not know.

        Raises:
            CaseError: It names the conventions that would fit.
        """
        found = set(labels)
        if strange := sorted(found - set(self.known)):
            fitting = fitting_conventions(found)
            raise CaseError(
                f"{case}: the mask holds label {strange}, '{self.name}' knows {list(self.known)}; choose "
                f"--data.native_labels ({', '.join(fitting) or 'none'} would fit) or mend the mask"
            )


CONVENTIONS: dict[str, Convention] = {
    convention.name: convention
    for convention in (
        Convention("brats2015", (("necrosis", 1), ("oedema", 2), ("non_enhancing", 3), ("enhancing", 4))),
        Convention("brats2017", (("necrosis", 1), ("oedema", 2), ("enhancing", 4))),  # 2017 to 2021
        Convention("brats2023", (("necrosis", 1), ("oedema", 2), ("enhancing", 3))),
        Convention("brats2024", (("necrosis", 1), ("oedema", 2), ("enhancing", 3), ("cavity", 4))),
        Convention("msd", (("oedema", 1), ("necrosis", 2), ("enhancing", 3))),  # Task01_BrainTumour
        Convention("binary", (("tumour", 1),)),
        Convention("iseg", (("csf", 10), ("gm", 150), ("wm", 250))),  # 2017 and 2019
        Convention("mrbrains13", (("csf", 1), ("gm", 2), ("wm", 3))),  # LabelsForTesting
    )
}
DEFAULT = "brats2017"
TARGETS = ("whole_tumour", "regions", "labels", "binary")


@dataclass(frozen=True)
class LabelScheme:
    """Which native labels make which channel.

    Attributes:
        target: One of TARGETS, e.g. "regions"; what a checkpoint is compared by.
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
    def known(self) -> tuple[int, ...]:
        """Every native label that may occur, background included."""
        return self.convention.known

    def table(self) -> NDArray[np.uint8]:
        """(C, 256) uint8 look-up table: `table()[:, label]` is what `encode` makes of a mask."""
        table = np.zeros((len(self.channels), 256), np.uint8)
        for channel, members in enumerate(self.members):
            table[channel, list(members)] = 1
        return table

    def encode(self, label: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Native labels (*spatial) to channels (C, *spatial) in {0, 1}.

        Values and memory layout are those of `table()[:, label]`, in a third of its time: NumPy's fancy indexing takes
        longer for three regions than reading a patch.

        Raises:
            ValueError: The labels are not bytes.
        """
        if label.dtype != np.uint8:
            raise ValueError(f"labels are {label.dtype}, expected uint8")
        labels = label.tobytes()
        out = np.empty((*label.shape, len(self.channels)), np.uint8)
        for channel, row in enumerate(self.table()):
            out[..., channel] = np.frombuffer(labels.translate(row.tobytes()), np.uint8).reshape(label.shape)
        return np.moveaxis(out, -1, 0)

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
            "labels" (background and each tissue; the only one without tumour); "binary" (whole tumour of 0/1
            masks); or a scheme's whole name.
        convention: A key of CONVENTIONS; "brats2017" where neither it nor `target` says.

    Raises:
        CaseError: No such target or convention, or the labels do not tell the regions apart.
    """
    target, _, named = target.partition("/")
    if target not in TARGETS:
        raise CaseError(f"--data.labels {target}: no such label scheme; {nearest(target, TARGETS)}")
    if target == "binary":
        target, named = "whole_tumour", "binary"
    meaning = label_convention(convention or named or DEFAULT)
    if target != "labels" and not meaning.tumour:
        raise CaseError(
            f"--data.labels {target}: the native labels '{meaning.name}' are tissues of a healthy brain; choose "
            f"--data.labels labels"
        )
    if target == "whole_tumour":
        return LabelScheme(target, meaning, ("wt",), (meaning.tumour,), meaning.tumour[:1], "sigmoid")
    if target == "labels":
        names, labels = zip(("background", 0), *meaning.tissues, strict=True)
        return LabelScheme(target, meaning, names, tuple((label,) for label in labels), labels, "softmax")
    return _regions(meaning)


def _regions(meaning: Convention) -> LabelScheme:
    """Whole tumour, tumour core, enhancing tumour, and the cavity where it is labelled (BraTS 2024)."""
    tissues = dict(meaning.tissues)
    if not {"necrosis", "oedema", "enhancing"} <= set(tissues):
        raise CaseError(
            f"--data.labels regions: the native labels '{meaning.name}' do not tell tumour core and enhancing tumour "
            f"apart; choose --data.labels whole_tumour"
        )
    core = tuple(label for label in meaning.tumour if label != tissues["oedema"])
    regions = [
        ("wt", meaning.tumour, tissues["oedema"]),
        ("tc", core, tissues["necrosis"]),
        ("et", (tissues["enhancing"],), tissues["enhancing"]),
        *(("rc", (label,), label) for tissue, label in meaning.tissues if tissue == "cavity"),
    ]
    names, members, export = zip(*regions, strict=True)
    return LabelScheme("regions", meaning, names, members, export, "sigmoid")


def fitting_conventions(labels: Iterable[int]) -> list[str]:
    """Names of the conventions that know all the labels; those of a healthy brain only where no other does."""
    fitting = [convention for convention in CONVENTIONS.values() if set(labels) <= set(convention.known)]
    return [convention.name for convention in fitting if convention.tumour] or [one.name for one in fitting]


def label_convention(name: str) -> Convention:
    """The convention of that name.

    Raises:
        CaseError: No such convention.
    """
    if name not in CONVENTIONS:
        raise CaseError(f"--data.native_labels {name}: unknown; {nearest(name, CONVENTIONS)}")
    return CONVENTIONS[name]
