"""Generated cohorts of healthy brains in the forms of iSEG-2017, MRBrainS13, MRBrainS18 and IBSR18.

The anatomy is the phantom's, before a tumour grows in it. Subject i is a function of (seed, i, shape) alone, as in
`cohort`. Skulls are stripped in all forms; the real MRBrainS images have theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.case import Shape
from segan_pl.data.conventions import label_convention
from segan_pl.data.io import write_analyze, write_volume
from segan_pl.data.layouts.tissues import IBSR_SCANNERS, IBSR_SLICES_MM
from segan_pl.data.synthetic.cohort import CONTRASTS, SCANNERS, Scanner, scan
from segan_pl.data.synthetic.phantom import FLUID, GREY, WHITE, Anatomy, Tumour, draw_anatomy
from segan_pl.errors import UsageError, nearest

Images = Mapping[str, NDArray[np.int16]]
# Of the 30 subjects of MRBrainS18 those with public labels, in this order.
IDS_18 = ("1", "4", "5", "7", "14", "070", "148")
SPACING_13 = (0.958, 0.958, 3.0)  # (x, y, z), mm; of MRBrainS18 too


def healthy_case(
    index: int,
    *,
    shape: Shape = (32, 64, 64),
    seed: int = 0,
    modalities: Sequence[str] = ("t1", "t1_ir", "flair"),
    scanners: Sequence[Scanner] = SCANNERS,
) -> tuple[dict[str, NDArray[np.int16]], Anatomy]:
    """Images (D, H, W) int16 by modality, and the brain that they show.

    Args:
        index: Place in the cohort, from 0.
        shape: (D, H, W).
        seed: Of the cohort.
        modalities: Keys of `cohort.CONTRASTS`; an image is the same whichever others are made.
        scanners: One after another.
    """
    # One stream for each, so that an image does not hang on the others.
    streams = np.random.SeedSequence([seed, index]).spawn(1 + len(CONTRASTS))
    anatomy = draw_anatomy(np.random.default_rng(streams[0]), shape)
    nothing = np.zeros(shape, np.float32)
    tumour = Tumour(np.zeros(shape, np.uint8), nothing, nothing, nothing)
    places = {modality: 1 + place for place, modality in enumerate(CONTRASTS)}
    images = {
        one: scan(
            np.random.default_rng(streams[places[one]]),
            anatomy,
            tumour,
            CONTRASTS[one],
            scanners[index % len(scanners)],
        )
        for one in modalities
    }
    return images, anatomy


def healthy_labels(anatomy: Anatomy, native_labels: str) -> NDArray[np.uint8]:
    """The brain's mask in the labels of a data set, (D, H, W).

    Cerebellum (7) and brainstem (8) are drawn where they lie, at the back and in the middle of the lowest part, without
    a border of their own in the images: nobody judges them. LabelsForTesting ("mrbrains13") calls them background.

    Args:
        anatomy: Of `healthy_case`.
        native_labels: A convention of tissues, e.g. "iseg".
    """
    tissue, (z, y, x) = anatomy.tissue, anatomy.grid
    low = (z < -0.45) & (tissue > 0)
    cerebellum = low & (y > 0.1) & (np.abs(x) > 0.12)
    brainstem = low & (np.abs(y) < 0.3) & (np.abs(x) <= 0.12)
    convention = label_convention(native_labels)
    if not convention.ignore:
        numbers = convention.numbers
        label = np.array([0, *(numbers[name][0] for name in ("csf", "gm", "wm"))], np.uint8)[tissue]
        if native_labels == "mrbrains13":
            label[cerebellum | brainstem] = 0
        return label
    inner = anatomy.depth > 0.35
    label = np.select(
        [tissue == FLUID, tissue == GREY, tissue == WHITE],
        [np.where(inner, 6, 5), np.where(inner, 2, 1), np.where(anatomy.bright > 0.5, 4, 3)],
    ).astype(np.uint8)
    label[cerebellum] = 7
    label[brainstem] = 8
    if 9 in convention.ignore:  # an infarction, and on the other side something else
        for number, side in ((9, 0.4), (10, -0.4)):
            label[((z - 0.2) ** 2 + y**2 + (x - side) ** 2 < 0.15**2) & (tissue > 0)] = number
    return label


@dataclass(frozen=True)
class HealthyForm:
    """How a data set of tissues is named and stored.

    Attributes:
        modalities: What its subjects have.
        write: Puts one subject below a root: its number from 0, images, brain, and whether with labels; returns its
            name as the layout gives it.
        scanners: One after another.
        anew: Whether those without labels are numbered from 0 again.
    """

    modalities: tuple[str, ...]
    write: Callable[[Path, int, Images, Anatomy, bool], str]
    scanners: Sequence[Scanner] = SCANNERS
    anew: bool = False


def _write_iseg(root: Path, number: int, images: Images, anatomy: Anatomy, labelled: bool) -> str:
    """Analyze pairs of 1 mm with a trailing axis of 1, axes in RAS as readers take them."""
    name = f"subject-{number + 1}"
    folder = root / f"iSeg-2017-{'Training' if labelled else 'Testing'}"
    parts: dict[str, NDArray] = {modality.upper(): image for modality, image in images.items()}
    if labelled:
        parts["label"] = healthy_labels(anatomy, "iseg")
    for part, array in parts.items():
        write_analyze(folder / f"{name}-{part}.hdr", array[:, ::-1, ::-1], (1.0, 1.0, 1.0))
    return name


def _write_mrbrains13(root: Path, number: int, images: Images, anatomy: Anatomy, labelled: bool) -> str:
    """TrainingData with both masks, and TestData without any."""
    part = "Training" if labelled else "Test"
    folder = root / f"{part}Data" / str(number + 1)
    for modality, stem in {"t1": "T1", "t1_ir": "T1_IR", "flair": "T2_FLAIR"}.items():
        write_volume(folder / f"{stem}.nii", images[modality], _lps(SPACING_13, anatomy))
    for stem, convention in {"LabelsForTraining": "mrbrains13_training", "LabelsForTesting": "mrbrains13"}.items():
        if labelled:
            write_volume(folder / f"{stem}.nii", healthy_labels(anatomy, convention), _lps(SPACING_13, anatomy))
    return f"{part.lower()}_{number + 1}"


def _write_mrbrains18(root: Path, number: int, images: Images, anatomy: Anatomy, labelled: bool) -> str:
    name = IDS_18[number] if number < len(IDS_18) else str(200 + number)
    folder = root / ("training" if labelled else "test") / name
    for modality, stem in {"t1": "reg_T1", "t1_ir": "reg_IR", "flair": "FLAIR"}.items():
        write_volume(folder / "pre" / f"{stem}.nii.gz", images[modality], _lps(SPACING_13, anatomy), compresslevel=1)
    if labelled:
        mask = healthy_labels(anatomy, "mrbrains18")
        write_volume(folder / "segm.nii.gz", mask, _lps(SPACING_13, anatomy), compresslevel=1)
    return name


def _write_ibsr18(root: Path, number: int, images: Images, anatomy: Anatomy, labelled: bool) -> str:
    """NIfTI of int16 with a trailing axis of 1, axes in RAS and slices from back to front; the scanners in turn."""
    name = f"IBSR_{number + 1:02d}"
    in_plane = [*IBSR_SCANNERS.values()][number % len(IBSR_SCANNERS)]
    affine = np.diag([in_plane, IBSR_SLICES_MM, in_plane, 1.0])
    parts: dict[str, NDArray] = {name: images["t1"]}
    if labelled:
        parts[f"{name}_seg"] = healthy_labels(anatomy, "ibsr18")
    for stem, array in parts.items():
        file = root / name / f"{stem}.nii.gz"
        write_volume(file, array[None, :, ::-1, ::-1].astype(np.int16), affine, compresslevel=1)
    return name


def _lps(spacing: tuple[float, float, float], anatomy: Anatomy) -> NDArray[np.float64]:
    """The affine of voxels of that size whose x runs to the left, y to the back and z up; y at its far end at 0 mm."""
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    affine[1, 3] = spacing[1] * (anatomy.tissue.shape[1] - 1)
    return affine


HEALTHY_FORMS: Mapping[str, HealthyForm] = {
    "iseg": HealthyForm(("t1", "t2"), _write_iseg),
    "mrbrains13": HealthyForm(("t1", "t1_ir", "flair"), _write_mrbrains13, anew=True),
    "mrbrains18": HealthyForm(("t1", "t1_ir", "flair"), _write_mrbrains18),
    "ibsr18": HealthyForm(("t1",), _write_ibsr18, SCANNERS[: len(IBSR_SCANNERS)]),
}


def make_healthy_cohort(
    root: Path | str,
    *,
    form: str = "iseg",
    subjects: int = 10,
    unlabelled: int = 0,
    shape: Shape = (32, 64, 64),
    seed: int = 0,
) -> list[str]:
    """Write a cohort of healthy brains as the data set of a layout names, stores and labels its files.

    Args:
        root: The data set's folder.
        form: A key of HEALTHY_FORMS, which are names of layouts.
        subjects: How many have labels.
        unlabelled: How many more have none.
        shape: (D, H, W), voxels; below about (16, 48, 48) a cortex no longer has folds.
        seed: Of the cohort.

    Returns:
        The names that the layout gives them, the labelled ones first.

    Raises:
        UsageError: No such form.
    """
    if form not in HEALTHY_FORMS:
        raise UsageError(f"form {form!r}: {nearest(form, HEALTHY_FORMS)}")
    kind = HEALTHY_FORMS[form]
    names = []
    for index in range(subjects + unlabelled):
        images, anatomy = healthy_case(
            index, shape=shape, seed=seed, modalities=kind.modalities, scanners=kind.scanners
        )
        number = index - subjects if kind.anew and index >= subjects else index
        names.append(kind.write(Path(root), number, images, anatomy, index < subjects))
    return names
