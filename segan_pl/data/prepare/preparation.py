"""What is done to a case once, before training: orient, resample, crop or pad, and scale; a frozen value."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.case import CaseError, Geometry, Nonfinite
from segan_pl.data.geometry import Interpolation, Shape, target_geometry

FLOAT16_MAX = float(np.finfo(np.float16).max)
# Of a target grid; a head at 0.25 mm has as many.
MOST_VOXELS = 1 << 30


@dataclass(frozen=True)
class Preparation:
    """How native volumes become network input; the defaults are SegAN-CAT's (section IV; specs 3.3).

    Attributes:
        crop: (D, H, W) of a centre crop, with zero padding where a volume is smaller; "nonzero" for the box that
            holds every voxel that is not 0 in some modality, "scaled" for the same after scaling; None for the whole.
        scaling: "percentile" clips each modality to `percentiles` and scales it to `interval`; "zscore" is mean 0 and
            deviation 1 inside the brain (where any modality is not 0) and 0 outside; "none" keeps the values.
        percentiles: Of the voxels in `statistics_mask`, linearly interpolated, 0 to 100.
        statistics_mask: Which voxels the percentiles, or mean and deviation, count: those of the crop, the non-zero
            ones of the crop, the positive ones of the crop, or the whole volume. Padding never counts.
        interval: What "percentile" scales to; a constant modality and padding become its low end.
        margin: Voxels (below, above) that a "nonzero" or "scaled" box gains on each axis, as far as the volume goes.
        spacing_mm: (x, y, z) to resample to, after orienting and before all else; None keeps the file's.
        interpolation: Of images when resampling; masks take the nearest voxel, and so does the brain. Label counts are
            of the resampled grid, scores of the file's own. "cubic" rings, so there a voxel stays 0 whose nearest
            native voxel is 0.
        orientation: Where x, y and z lead; "LPS", as BraTS stores its files, whatever order a file has, so that one
            brain is prepared alike out of all of them. None keeps the file's axes.
        nonfinite: NaN and Inf voxels of an image: "refuse" the case, or make them "zero", with a note.
        version: Of this arithmetic; a change of results changes it, and with it every cache entry's key. What files are
            read as is not of it: see READER in cache_entry.py.
    """

    crop: tuple[int, int, int] | Literal["nonzero", "scaled"] | None = (128, 180, 180)
    scaling: Literal["percentile", "zscore", "none"] = "percentile"
    percentiles: tuple[float, float] = (2.0, 98.0)
    statistics_mask: Literal["crop", "nonzero", "positive", "volume"] = "crop"
    interval: tuple[float, float] = (0.0, 1.0)
    margin: tuple[int, int] = (0, 0)
    spacing_mm: tuple[float, float, float] | None = None
    interpolation: Interpolation = "linear"
    orientation: str | None = "LPS"
    nonfinite: Nonfinite = "refuse"
    version: int = 1

    def __post_init__(self) -> None:
        """Refuse values that make no sense, alone or together.

        Raises:
            ValueError: With the value.
        """
        if isinstance(self.crop, tuple | list) and min(self.crop) < 1:
            raise ValueError(f"crop is {self.crop}; expected positive sizes (D, H, W)")
        boxed = self.crop in ("nonzero", "scaled")
        if min(self.margin) < 0 or (max(self.margin) > 0 and not boxed):
            raise ValueError(f"margin is {self.margin}; expected voxels >= 0, with crop 'nonzero' or 'scaled' only")
        from_zero = self.scaling != "percentile" or self.interval[0] == 0
        if self.crop == "scaled" and (self.statistics_mask == "crop" or not from_zero):
            raise ValueError(
                "crop 'scaled' is found after scaling; expected another statistics_mask than 'crop', interval from 0"
            )
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise ValueError(f"percentiles are {self.percentiles}; expected 0 <= low < high <= 100")
        if self.scaling != "percentile" and tuple(self.interval) != (0, 1):
            raise ValueError(
                f"interval is {self.interval}; expected it with scaling 'percentile' only, not {self.scaling!r}"
            )
        if not -FLOAT16_MAX <= self.interval[0] < self.interval[1] <= FLOAT16_MAX:
            raise ValueError(f"interval is {self.interval}; expected low < high")
        if self.spacing_mm is not None and not (min(self.spacing_mm) > 0 and max(self.spacing_mm) < np.inf):
            raise ValueError(f"spacing_mm is {self.spacing_mm}; expected positive sizes (x, y, z)")
        axes = [{"L": "R", "P": "A", "I": "S"}.get(letter, letter) for letter in self.orientation or "RAS"]
        if sorted(axes) != ["A", "R", "S"]:
            raise ValueError(
                f"orientation is {self.orientation!r}; expected one letter each of L/R, P/A, I/S, as 'LPS'"
            )
        if self.version != 1:
            raise ValueError(f"preparation version {self.version}; this release knows 1")

    @property
    def background(self) -> float:
        """The prepared value of padding."""
        return float(self.interval[0]) if self.scaling == "percentile" else 0.0

    @property
    def intensities(self) -> tuple[float, float] | None:
        """What all prepared intensities lie in, background at its low end; None where they are not bounded."""
        return (float(self.interval[0]), float(self.interval[1])) if self.scaling == "percentile" else None

    @property
    def clips_brain(self) -> bool:
        """Whether the darkest voxels that are not 0 become background, and cannot be told from air any more."""
        return (
            self.scaling == "percentile" and self.percentiles[0] > 0 and self.statistics_mask in ("nonzero", "positive")
        )

    def as_dict(self) -> dict[str, object]:
        """The fields as JSON holds them; equal for equal preparations, however they were typed."""
        crop = [int(n) for n in self.crop] if isinstance(self.crop, tuple | list) else self.crop
        spacing = None if self.spacing_mm is None else [float(size) for size in self.spacing_mm]
        floats = {name: [float(p) for p in getattr(self, name)] for name in ("percentiles", "interval")}
        margin = [int(n) for n in self.margin]
        return {**asdict(self), "crop": crop, "margin": margin, "spacing_mm": spacing, **floats}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Preparation:
        """The inverse of `as_dict`.

        Raises:
            TypeError: A field is not known here.
            ValueError: A value makes no sense.
        """
        typed: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()
        }
        return cls(**typed)

    def digest(self) -> str:
        """12 hexadecimal digits that differ whenever a field does."""
        text = json.dumps(self.as_dict(), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()

    def target_grid(self, case: str, native: Shape, affine: NDArray[np.float64]) -> Geometry:
        """The grid that is cropped, not cropped yet: the file's, oriented and resampled.

        Args:
            case: Its name, for messages.
            native: (D, H, W) of the file.
            affine: (4, 4) of the file, voxel (x, y, z) to mm.

        Raises:
            CaseError: It would be absurdly large, or a single voxel along an axis: the file's spacing is in another
                unit.
        """
        target = target_geometry(native, affine, self.orientation, self.spacing_mm)
        shrunk = any(new == 1 < old for new, old in zip(target.target_shape, target.oriented, strict=True))
        if target.resampled and (shrunk or math.prod(target.target_shape) > MOST_VOXELS):
            x, y, z = (f"{size:g}" for size in np.sqrt((affine[:3, :3] ** 2).sum(0)))
            raise CaseError(
                f"{case}: shape {native[::-1]} of {x} x {y} x {z} mm would become {target.target_shape[::-1]} by "
                f"spacing_mm {self.spacing_mm}, expected at least 2 voxels an axis and {MOST_VOXELS:.0e} at most; "
                f"fix the spacing in its header"
            )
        return target
