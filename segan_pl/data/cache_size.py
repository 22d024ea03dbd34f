"""What preparing a data set will take on the disk, from the images' headers alone."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segan_pl.data.cache import Cache
from segan_pl.data.cache_building import SLACK_BYTES, existing
from segan_pl.data.framing import require_frame
from segan_pl.data.io import read_grid
from segan_pl.data.preparation import Preparation
from segan_pl.data.volume import Case, CaseError

HEADERS_BYTES = 2 * 128 + 4096  # of the two arrays, and a sidecar of the usual size
IMAGE_BYTES, LABEL_BYTES = 2, 1  # a voxel: float16, uint8


@dataclass(frozen=True)
class Need:
    """What the cache lacks.

    Attributes:
        directory: Of the cache.
        held: Names of the cases that are there.
        missing: Name of a case that is not to the bytes that its entry will take.
        refused: (name, one line that says why) of cases whose headers cannot be read.
        bounded: Whether `missing` is only an upper bound, since the crop depends on the voxels.
        free: Bytes on the cache's disk.
    """

    directory: Path
    held: tuple[str, ...]
    missing: Mapping[str, int]
    refused: tuple[tuple[str, str], ...]
    bounded: bool
    free: int

    @property
    def total(self) -> int:
        """Bytes of all missing entries."""
        return sum(self.missing.values())

    @property
    def fits(self) -> bool:
        """Whether the disk has room for them."""
        return not self.missing or self.total + SLACK_BYTES <= self.free

    def lines(self) -> list[str]:
        """What is there, what would come, whether it fits; "N given, M used, K refused" last."""
        used = len(self.held) + len(self.missing)
        return [
            f"there already: {len(self.held)} cases",
            f"to build: {len(self.missing)} cases{self._sizes()}",
            f"free: {size(self.free)} on the disk of {existing(self.directory)}{self._verdict()}",
            *(f"refused: {why}" for _, why in self.refused),
            f"{used + len(self.refused)} given, {used} used, {len(self.refused)} refused",
        ]

    def _sizes(self) -> str:
        if not self.missing:
            return ""
        least, most = min(self.missing.values()), max(self.missing.values())
        each = size(most) if size(least) == size(most) else f"{size(least)} to {size(most)}"
        return f", {'at most ' if self.bounded else ''}{each} each, {size(self.total)} in all"

    def _verdict(self) -> str:
        if not self.missing:
            return ""
        return "; it fits" if self.fits else f"; it {'may' if self.bounded else 'does'} not fit"

    def require_room(self) -> None:
        """Refuse to begin what cannot be finished; an upper bound refuses nothing, each entry is weighed as it comes.

        Raises:
            CaseError: The disk is too small; with both numbers.
        """
        if not self.fits and not self.bounded:
            raise CaseError(
                f"the disk of the cache {self.directory} is too full: {size(self.total)} needed for "
                f"{len(self.missing)} cases, {size(self.free)} free; make room, or set SEGAN_PL_CACHE or "
                f"--data.cache_dir to another folder"
            )


def need(cases: Sequence[Case], cache: Cache) -> Need:
    """What the cache lacks of the cases; reads their headers and the sidecars that are there, writes nothing."""
    held: list[str] = []
    missing: dict[str, int] = {}
    refused: list[tuple[str, str]] = []
    for case in cases:
        try:
            if cache.lists(case):
                held.append(case.name)
            else:
                missing[case.name] = entry_bytes(case, cache.preparation)
        except CaseError as error:
            refused.append((case.name, str(error)))
    return Need(
        directory=cache.directory,
        held=tuple(held),
        missing=missing,
        refused=tuple(refused),
        bounded=isinstance(cache.preparation.crop, str),
        free=shutil.disk_usage(existing(cache.directory)).free,
    )


def entry_bytes(case: Case, preparation: Preparation) -> int:
    """Bytes of a case's entry, at most where the crop depends on the voxels.

    Raises:
        CaseError: There is no image, or the header of the first one cannot be read.
    """
    if not case.images:
        raise CaseError(f"{case.name}: no image found, expected at least one modality; complete the case or drop it")
    voxels = math.prod(_prepared_shape(case, preparation))
    return voxels * (IMAGE_BYTES * len(case.images) + LABEL_BYTES * (case.mask is not None)) + HEADERS_BYTES


def size(count: float) -> str:
    """Bytes for people: "33.2 MB", "11.2 GB"."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _prepared_shape(case: Case, preparation: Preparation) -> Sequence[int]:
    if preparation.crop is not None and not isinstance(preparation.crop, str):
        return preparation.crop
    try:
        grid = read_grid(next(iter(case.images.values())))
    except CaseError as error:
        raise CaseError(f"{case.name}: {error}") from error
    return require_frame(case.name, grid.shape, grid.affine, preparation).frame
