"""Where a patch lies in its case: drawn to a labelled voxel, where there is enough of the brain, or anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.case import ABSENT
from segan_pl.data.labels import LabelScheme
from segan_pl.data.sample.case_index import CaseIndex, labelled_voxels, opened
from segan_pl.data.sample.options import Sampling
from segan_pl.data.sample.samplers import ANYWHERE, Plan


@dataclass(frozen=True)
class Places:
    """How a plan's numbers become places.

    Attributes:
        patch: (D, H, W).
        kinds: Native labels from which a patch is drawn to one: of all scored channels in one, or one for each channel.
        least_brain: Share of voxels above background that a patch has where one of its places has it.
        background: The prepared value of padding.
    """

    patch: tuple[int, int, int]
    kinds: tuple[tuple[int, ...], ...]
    least_brain: float
    background: float

    @classmethod
    def of(cls, sampling: Sampling, scheme: LabelScheme, patch: tuple[int, int, int], background: float) -> Places:
        """Those of some options."""
        channels = zip(scheme.channels, scheme.members, strict=True)
        each = tuple(members for channel, members in channels if channel != "background")
        kinds = each if sampling.foreground_of == "channels" else (scheme.foreground_labels,)
        return cls(patch, kinds, sampling.brain, background)

    def start(self, case: CaseIndex, within: Sequence[slice], plan: Plan, b: int, margin: Sequence[int]) -> list[int]:
        """First voxel of a patch in the prepared volume: such that the box that it needs lies inside, if it can.

        Args:
            case: Whose patch it is.
            within: (3,) the part of the prepared volume that is drawn from.
            plan: Of the batch.
            b: The patch's place in it.
            margin: (3,) voxels on either side that its changes need.
        """
        centre = self._centre(case, float(plan.pick[b])) if plan.foreground[b] and case.label else None
        z = int(plan.z[b])
        best = self._placed(within, plan.corner[b], centre, z, margin)
        if not self.least_brain or centre is not None:
            return best
        most = self._brain(case, within, best)
        for corner in plan.others[b]:
            if most >= self.least_brain:
                break
            other = self._placed(within, corner, None, z, margin)
            if (share := self._brain(case, within, other)) > most:
                best, most = other, share
        return best

    def _centre(self, case: CaseIndex, pick: float) -> NDArray[np.int64] | None:
        """(3,) the voxel that a number in [0, 1) picks: of a kind that the case has, all equally likely, one of its."""
        assert case.label is not None
        voxels = [found for kind in self.kinds if len(found := labelled_voxels(case.label, kind))]
        if not voxels:
            return None
        # The number's first digits say the kind, and what is left of it is as even.
        kind = int(pick * len(voxels))
        pick = pick * len(voxels) - kind
        return voxels[kind][int(pick * len(voxels[kind]))]

    def _placed(
        self,
        within: Sequence[slice],
        corner: NDArray[np.float64],
        centre: NDArray[np.int64] | None,
        z: int,
        margin: Sequence[int],
    ) -> list[int]:
        start = []
        for axis, (side, n, more) in enumerate(zip(within, self.patch, margin, strict=True)):
            room = side.stop - side.start - (n + 2 * more)
            if axis == 0 and z != ANYWHERE:
                first = z - more
            elif room < 0:
                # The volume is smaller: the patch lies in its middle, to the voxel where MONAI's windows have it.
                first = side.start - -room // 2
            elif centre is None:
                first = side.start + int(corner[axis] * (room + 1))
            else:
                first = min(max(int(centre[axis]) - n // 2 - more, side.start), side.start + room)
            start.append(first + more)
        return start

    def _brain(self, case: CaseIndex, within: Sequence[slice], start: Sequence[int]) -> float:
        """Share of a patch's voxels that are not background in some modality of the case; what lies outside is air."""
        box = tuple(
            slice(max(first, side.start), max(first, side.start, min(first + n, side.stop)))
            for first, n, side in zip(start, self.patch, within, strict=True)
        )
        image, air = opened(case.image), np.float16(self.background)
        shown = np.logical_or.reduce([image[row][box] != air for row in case.channels if row != ABSENT])
        return np.count_nonzero(shown) / float(np.prod(self.patch))
