"""What a plan is made from: a data set, as the check found it, and the machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from segan_pl.data.case import Case, ordered
from segan_pl.data.case_pool import cores
from segan_pl.data.check.case_table import CaseRow
from segan_pl.data.check.cases import CheckReport
from segan_pl.data.layouts import DataSet
from segan_pl.errors import UsageError

AXES = {letter: axis for axis, letters in enumerate(("LR", "PA", "IS")) for letter in letters}
ENOUGH = 0.8
"""Of the labelled cases: a modality that fewer have is left out of the plan."""


@dataclass(frozen=True)
class Machine:
    """Where the model will be trained.

    Attributes:
        cores: Of the processor.
        memory_bytes: Of the whole machine, or as much as its container may take.
        gpu_bytes: Of one GPU; 0 without any.
        gpu: Its name, or how it was given.
    """

    cores: int
    memory_bytes: int
    gpu_bytes: int = 0
    gpu: str = ""


def this_machine(gpu_gb: float | None = None) -> Machine:
    """The machine at hand; `gpu_gb` is a GPU of another one, 0 for none."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    files = map(Path, ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"))
    limits += [int(text) for file in files if file.is_file() and (text := file.read_text().strip()).isdecimal()]
    if gpu_gb is not None:
        return Machine(cores(), min(limits), round(gpu_gb * 1e9), f"--gpu_gb {gpu_gb:g}" if gpu_gb else "")
    if torch.cuda.is_available():
        found = torch.cuda.get_device_properties(0)
        return Machine(cores(), min(limits), int(found.total_memory), str(found.name))
    return Machine(cores(), min(limits))


def common_modalities(cases: Sequence[Case]) -> tuple[str, ...]:
    """The modalities that most cases with a mask have, or the most frequent one.

    Raises:
        UsageError: No case has a mask, or there is one case alone.
    """
    labelled = [case for case in cases if case.mask is not None]
    if len(labelled) < 2:
        raise UsageError(
            f"{len(labelled)} of {len(cases)} cases have a mask; expected 2 at least, one to train on and one to "
            f"validate; look at `segan_pl check`"
        )
    held = ordered({modality for case in labelled for modality in case.images})
    count = {modality: sum(modality in case.images for case in labelled) for modality in held}
    found = tuple(modality for modality in held if count[modality] >= ENOUGH * len(labelled))
    return found or (max(held, key=lambda modality: count[modality]),)


@dataclass(frozen=True)
class Fingerprint:
    """A data set in the numbers that choices follow from. Axes are x (left to right), y and z (feet to head).

    Attributes:
        source: As found.
        modalities: That are trained on.
        dropped: Modalities that too few cases have.
        cases: Complete ones with a mask.
        left_out: Names of the others, which the plan leaves out.
        patients: Of the complete cases.
        size: Median number of voxels along x, y, z.
        spacing_mm: Median along x, y, z.
        spread: Largest spacing of an axis over its smallest, of the axis where that is most.
        empty: Median share of voxels that are 0, in the modality where it is least: high after skull stripping.
        grades: How many there are.
        institutions: The same.
    """

    source: DataSet
    modalities: tuple[str, ...]
    dropped: tuple[str, ...]
    cases: int
    left_out: tuple[str, ...]
    patients: int
    size: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    spread: float
    empty: float
    grades: int
    institutions: int

    @property
    def coarsest(self) -> int:
        """The axis with the largest voxels; z where another's are hardly larger."""
        axis = int(np.argmax(self.spacing_mm))
        return axis if self.spacing_mm[axis] > 1.2 * self.spacing_mm[2] else 2

    @property
    def anisotropy(self) -> float:
        """Largest median spacing over the smallest."""
        return max(self.spacing_mm) / min(self.spacing_mm)


def fingerprint(report: CheckReport, source: DataSet) -> Fingerprint:
    """The numbers of a checked data set.

    Raises:
        UsageError: Fewer than two cases can be used.
    """
    used = [row for row in report.rows if row.status == "used" and "mask" in row.files]
    if len(used) < 2:
        raise UsageError(
            f"{len(used)} of {len(report.rows)} cases can be used; expected 2 at least; look at `segan_pl check`"
        )
    names = {row.name for row in used}
    spacings = np.array([_along_axes(row, row.spacing_mm or (1, 1, 1)) for row in used])  # (cases, 3)
    sizes = np.array([_along_axes(row, row.shape or (1, 1, 1)) for row in used])
    empty = [min(row.intensities[modality].zeros for modality in report.modalities) for row in used]
    held = ordered({modality for case in source.cases for modality in case.images})
    x, y, z = np.median(sizes, axis=0).round().astype(int)
    u, v, w = np.median(spacings, axis=0)
    return Fingerprint(
        source=source,
        modalities=report.modalities,
        dropped=tuple(modality for modality in held if modality not in report.modalities),
        cases=len(used),
        left_out=tuple(row.name for row in report.rows if row.name not in names),
        patients=len({row.patient for row in used}),
        size=(int(x), int(y), int(z)),
        spacing_mm=(float(u), float(v), float(w)),
        spread=float((spacings.max(axis=0) / spacings.min(axis=0)).max()),
        empty=float(np.median(empty)),
        grades=len({row.grade for row in used if row.grade}),
        institutions=len({row.institution for row in used if row.institution}),
    )


def _along_axes(row: CaseRow, numbers: Sequence[float]) -> list[float]:
    """Three numbers of a file's axes, in the order x, y, z."""
    found = [0.0, 0.0, 0.0]
    for letter, number in zip(row.orientation or "LPS", numbers, strict=True):
        found[AXES[letter]] = number
    return found
