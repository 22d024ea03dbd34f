"""Label schemes as values: native labels to channels and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.volume import CaseError


@dataclass(frozen=True)
class LabelScheme:
    """Which native labels make which channel.

    Attributes:
        name: E.g. "whole_tumour".
        channels: One name a channel, e.g. ("wt", "tc", "et"); they name the metrics.
        members: One tuple of native labels a channel.
        export: One native label a channel, written in this order where a thresholded channel is on (later ones win).
        activation: "sigmoid" for regions that may overlap, "softmax" for labels that exclude each other.
        known: Every native label that may occur, background included.
    """

    name: str
    channels: tuple[str, ...]
    members: tuple[tuple[int, ...], ...]
    export: tuple[int, ...]
    activation: Literal["sigmoid", "softmax"]
    known: tuple[int, ...]

    def table(self) -> NDArray[np.uint8]:
        """(C, 256) uint8 look-up table: `table()[:, label]` is the encoded mask."""
        table = np.zeros((len(self.channels), 256), np.uint8)
        for channel, members in enumerate(self.members):
            table[channel, list(members)] = 1
        return table

    def encode(self, label: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Native labels (*spatial) to channels (C, *spatial) in {0, 1}."""
        return self.table()[:, label]

    def decode(self, mask: NDArray) -> NDArray[np.uint8]:
        """Thresholded channels (C, *spatial) to native labels (*spatial)."""
        out = np.zeros(mask.shape[1:], np.uint8)
        for channel, value in zip(mask, self.export, strict=True):
            out[channel > 0] = value
        return out

    def require_known(self, labels: Sequence[int], case: str) -> None:
        """Raise CaseError when a mask holds a label that the scheme does not know."""
        strange = sorted(set(labels) - set(self.known))
        if strange:
            fitting = [scheme.name for scheme in SCHEMES.values() if set(labels) <= set(scheme.known)]
            raise CaseError(
                f"{case}: the mask holds label {strange}, scheme '{self.name}' knows {list(self.known)}; "
                f"choose --data.labels ({', '.join(fitting) or 'no scheme'} knows it) or mend the mask"
            )

    @property
    def foreground(self) -> tuple[str, ...]:
        """Channels that are scored: all but "background"."""
        return tuple(channel for channel in self.channels if channel != "background")


BRATS = (0, 1, 2, 4)
"""BraTS 2017 to 2021: 1 necrosis, 2 oedema, 4 enhancing tumour. A 3 is refused where regions are told apart: it is
non-enhancing tumour in 2015 and enhancing tumour from 2023 on."""

SCHEMES: dict[str, LabelScheme] = {
    scheme.name: scheme
    for scheme in (
        LabelScheme("whole_tumour", ("wt",), ((1, 2, 3, 4),), (1,), "sigmoid", (0, 1, 2, 3, 4)),
        LabelScheme("binary", ("wt",), ((1,),), (1,), "sigmoid", (0, 1)),
        LabelScheme("regions", ("wt", "tc", "et"), ((1, 2, 4), (1, 4), (4,)), (2, 1, 4), "sigmoid", BRATS),
        LabelScheme(
            "labels",
            ("background", "necrosis", "oedema", "enhancing"),
            ((0,), (1,), (2,), (4,)),
            (0, 1, 2, 4),
            "softmax",
            BRATS,
        ),
    )
}
