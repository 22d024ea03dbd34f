"""Cases segmented by labelled ones ("atlases") that are registered to them: their vote, or a prior for intensities."""

from __future__ import annotations

import hashlib
import io
import json
import time
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from segan_pl.data.case import Case, CaseError, Geometry, Nonfinite
from segan_pl.data.case_files import MASK, labels_of, read_case
from segan_pl.data.check.voxels import label_counts
from segan_pl.data.io import Volume
from segan_pl.data.labels import LabelScheme
from segan_pl.data.prepare.case import bounding_box
from segan_pl.files import write_whole
from segan_pl.inference.atlases.mixture import MixtureOptions, fit_gaussians, responsibilities, smoothed_prior
from segan_pl.inference.atlases.registration import IGNORED, WHOLE, Registration, simple_itk, warped
from segan_pl.inference.input_case import EMPTY
from segan_pl.inference.native_labels import vote

Method = Literal["vote", "mixture"]
# Voxels kept around what is not 0, so that a displacement may lead out of the brain.
MARGIN = 6
# Intensities count where the prior gives any tissue as much as this.
LEAST_PRIOR = 0.01
# Of kept registrations; another number where what is computed changes.
FORMAT = 2


class Labelled(NamedTuple):
    """A case as the atlases segment it.

    Attributes:
        label: (D, H, W) native labels on the grid of the case's files.
        notes: What a user should know.
        kept_seconds: What the registrations took that were kept and not made again.
    """

    label: NDArray[np.uint8]
    notes: tuple[str, ...]
    kept_seconds: float


@dataclass(frozen=True)
class Subject:
    """One image of a case, cut to what is not 0 and a margin; of an atlas its labels too.

    Attributes:
        case: Its name.
        patient: Whose it is.
        image: Float32 (D, H, W), the file's own values, and where it lies; its digest is the file's.
        geometry: Way back to the grid of the case's files.
        channel: (D, H, W) uint8, the channel of the label scheme that each voxel is in, `IGNORED` where it is not
            judged; None without labels.
        mask_digest: Of the file of the labels.
    """

    case: str
    patient: str
    image: Volume
    geometry: Geometry
    channel: NDArray[np.uint8] | None = None
    mask_digest: str = ""


def read_subject(
    case: Case, modality: str, scheme: LabelScheme | None = None, *, nonfinite: Nonfinite = "refuse"
) -> Subject:
    """One image of a case, and its labels where a scheme says what they become; without one no mask is opened.

    Args:
        case: Its files.
        modality: Which of its images.
        scheme: Of the target "labels"; makes an atlas of the case.
        nonfinite: NaN and Inf voxels: "refuse", or "zero".

    Raises:
        CaseError: The case lacks the modality or, where a scheme is given, the mask; a file cannot be used; every
            voxel is 0; or the mask holds a label that the scheme does not know.
    """
    if modality not in case.images:
        there = ", ".join(case.images) or "none"
        raise CaseError(
            f"{case.name}: no {modality}, it has {there}; choose another --modalities, or complete the case"
        )
    if scheme is not None and case.mask is None:
        raise CaseError(f"{case.name}: no mask, expected one of a labelled case; correct the split")
    needed = replace(case, images={modality: case.images[modality]}, mask=case.mask if scheme else None)
    parts = dict(read_case(needed, nonfinite=nonfinite))
    volume, mask = parts[modality], parts.get(MASK)
    if not volume.array.any():
        raise CaseError(f"{case.name}: every voxel of {modality} is 0, so nothing can be registered; drop the case")
    start, shape = bounding_box(volume.array != 0, (MARGIN, MARGIN))
    geometry = Geometry(volume.shape, start, shape, tuple(tuple(map(float, row)) for row in volume.affine))
    image = np.ascontiguousarray(geometry.crop(volume.array), np.float32)
    return Subject(
        case=case.name,
        patient=case.patient,
        image=replace(volume, array=image, affine=geometry.affine_prepared),
        geometry=geometry,
        channel=geometry.crop(_channels(mask, case.name, scheme)) if mask and scheme else None,
        mask_digest=mask.digest if mask else "",
    )


def _channels(mask: Volume, case: str, scheme: LabelScheme) -> NDArray[np.uint8]:
    """(D, H, W) channel of each voxel."""
    label = labels_of(mask, case)
    scheme.require_known(sorted(label_counts(label)), case)
    table = np.zeros(256, np.uint8)
    for channel, members in enumerate(scheme.members):
        table[list(members)] = channel
    table[list(scheme.ignore)] = IGNORED
    return table[label]


@dataclass(frozen=True)
class MultiAtlas:
    """Labelled subjects, and how they segment a case.

    Attributes:
        atlases: At least one, with labels.
        modality: Which image is registered.
        scheme: Of the target "labels", whose first channel is the background.
        method: "vote", the majority of the atlases' labels, or "mixture", the mean of them as a prior for a Gaussian
            mixture of the case's intensities.
        registration: Of each atlas to each case.
        mixture: Of the method of that name.
        nonfinite: NaN and Inf voxels: "refuse", or "zero".
        kept: Folder in which registered labels are kept, and looked for; None to keep none.
    """

    atlases: Sequence[Subject]
    modality: str
    scheme: LabelScheme
    method: Method
    registration: Registration = field(default_factory=Registration)
    mixture: MixtureOptions = field(default_factory=MixtureOptions)
    nonfinite: Nonfinite = "refuse"
    kept: Path | None = None

    def segment(self, case: Case) -> Labelled:
        """The native labels of a case on the grid of its files.

        A subject is never its own atlas, nor are other scans of the same patient. There are labels only inside the
        brain: where the image is not 0, holes filled.

        Raises:
            CaseError: The case cannot be read or registered, or no atlas is of another patient.
            UsageError: SimpleITK is not installed.
        """
        target = read_subject(case, self.modality, nonfinite=self.nonfinite)
        others = [atlas for atlas in self.atlases if atlas.patient != case.patient]
        if not others:
            raise CaseError(f"{case.name}: the only labelled cases are of the same patient; give more of them")
        found = [self.registered(target, atlas) for atlas in others]
        shares = [one for one, _ in found]
        kept = [seconds for _, seconds in found if seconds is not None]
        if self.method == "vote":  # an atlas gives its likeliest label one vote; ties as `native_labels.vote`
            proposals = [torch.from_numpy(one).float() / WHOLE for one in shares]
            mask: NDArray[np.bool_] = vote(proposals, [1.0] * len(proposals), "softmax").numpy()
        else:
            mask = self._by_intensity(target, shares)
        mask &= inside(target.image.array)
        label = target.geometry.restore(self.scheme.decode(mask))
        notes = [f"{self.modality}: {note}" for note in target.image.notes]
        if kept:
            notes.append(
                f"{len(kept)} of {len(others)} registrations were kept, and not made again; the seconds count the "
                f"{sum(kept):.1f} that they took"
            )
        if len(others) < len(self.atlases):
            notes.append(f"labelled by {len(others)} of {len(self.atlases)} cases, those of other patients")
        return Labelled(label, (*notes, *([] if label.any() else [EMPTY])), sum(kept))

    def registered(self, target: Subject, atlas: Subject) -> tuple[NDArray[np.uint8], float | None]:
        """(K, D, H, W) labels of an atlas on the target's grid, as `registration.warped`; kept ones are not made again.

        With them, of a kept registration, the seconds that it took; None of a new one.

        Raises:
            CaseError: As `registration.warped`, with both names; or a kept file is damaged.
        """
        assert atlas.channel is not None
        file = self._file(target, atlas)
        if file and file.exists():
            try:
                with np.load(io.BytesIO(file.read_bytes())) as content:
                    return content["shares"], float(content["seconds"])
            except (zipfile.BadZipFile, zlib.error, ValueError, KeyError, EOFError) as error:
                raise CaseError(f"{file}: a damaged registration of {atlas.case}; remove the file") from error
        start = time.monotonic()
        try:
            shares = warped(target.image, atlas.image, atlas.channel, len(self.scheme.channels), self.registration)
        except CaseError as error:
            raise CaseError(f"{target.case}: {atlas.case} cannot be registered to it ({error}); drop one") from error
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
            packed = io.BytesIO()
            np.savez_compressed(packed, shares=shares, seconds=time.monotonic() - start)
            write_whole(file, packed.getvalue())
        return shares, None

    def _file(self, target: Subject, atlas: Subject) -> Path | None:
        """Where registered labels are kept, named by all that they follow from; None where none are."""
        if self.kept is None:
            return None
        content = {
            "format": FORMAT,
            "files": [target.image.digest, atlas.image.digest, atlas.mask_digest],
            "nonfinite": self.nonfinite,
            "labels": [self.scheme.name, *self.scheme.channels],
            "registration": asdict(self.registration),
            "SimpleITK": simple_itk().Version_VersionString(),
        }
        return self.kept / f"{hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()}.npz"

    def _by_intensity(self, target: Subject, shares: Sequence[NDArray[np.uint8]]) -> NDArray[np.bool_]:
        """(K, D, H, W): the likeliest channel by the prior and the intensity, in a mixture of this case's own.

        What is background the prior alone says, since meninges and vessels are as bright as any tissue.
        """
        image = target.image
        prior = smoothed_prior(shares, image.spacing_mm[::-1], self.mixture.smoothing_mm)
        where = inside(image.array) & (prior[1:].sum(0) >= LEAST_PRIOR)
        values, weights = image.array[where], prior[:, where]
        means, variances, _ = fit_gaussians(values, weights, self.mixture)
        brain = weights[1:].sum(0)
        share, _ = responsibilities(values, weights[1:] / brain, means[1:], variances[1:])
        channel = np.concatenate([weights[:1], share * brain]).argmax(0)
        mask = np.zeros(prior.shape, bool)
        mask[:, where] = channel == np.arange(len(prior))[:, None]
        return mask


def inside(image: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where an image (D, H, W) is not 0, with the holes in it: fluid can be 0, and is inside all the same."""
    from scipy import ndimage  # half a second, which --help need not wait for

    filled: NDArray[np.bool_] = ndimage.binary_fill_holes(image != 0)
    return filled
