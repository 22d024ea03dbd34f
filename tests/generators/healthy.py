"""A generated cohort of healthy brains in MRBrainS13's form: T1, T1_IR and T2_FLAIR with three tissues, no tumour.

Case i is a function of (seed, i, shape) alone, as in `synthetic`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.case import Shape
from segan_pl.data.io import write_volume
from segan_pl.data.synthetic.cohort import CONTRASTS, SCANNERS, scan
from segan_pl.data.synthetic.phantom import FLUID, GREY, WHITE, Anatomy, Tumour, draw_anatomy
from segan_pl.files import csv_text

FILES = {"t1": "T1", "t1_ir": "T1_IR", "flair": "T2_FLAIR", "t2": "T2"}  # as MRBrainS13 calls them; it has no T2
MASKS = {"mrbrains13": "LabelsForTesting", "mrbrains13_training": "LabelsForTraining"}  # by convention


def healthy_case(
    index: int, *, shape: Shape = (32, 64, 64), seed: int = 0, modalities: Sequence[str] = ("t1", "t1_ir", "flair")
) -> tuple[dict[str, NDArray[np.int16]], Anatomy]:
    """Images (D, H, W) int16 by modality, and the brain that they show.

    Args:
        index: Place in the cohort, from 0; scanners go round with it.
        shape: (D, H, W).
        seed: Of the cohort.
        modalities: Keys of `FILES`; an image is the same whichever others are made.
    """
    streams = np.random.SeedSequence([seed, index]).spawn(1 + len(CONTRASTS))
    anatomy = draw_anatomy(np.random.default_rng(streams[0]), shape)
    nothing = np.zeros(shape, np.float32)
    tumour = Tumour(np.zeros(shape, np.uint8), nothing, nothing, nothing)
    scanner = SCANNERS[index % len(SCANNERS)]
    places = {modality: 1 + place for place, modality in enumerate(CONTRASTS)}
    images = {
        one: scan(np.random.default_rng(streams[places[one]]), anatomy, tumour, CONTRASTS[one], scanner)
        for one in modalities
    }
    return images, anatomy


def healthy_labels(anatomy: Anatomy, native_labels: str) -> NDArray[np.uint8]:
    """The brain's mask in the labels of a convention of `MASKS`, (D, H, W).

    Of the training labels, the cerebellum (7) and the brainstem (8) are drawn where they lie, at the back and in the
    middle of the lowest part, without a border of their own in the images: nobody judges them.
    """
    tissue = anatomy.tissue
    if native_labels == "mrbrains13":
        return np.choose(tissue, [0, 1, 2, 3]).astype(np.uint8)  # outside, fluid, grey, white
    inner = anatomy.depth > 0.35
    label = np.select(
        [tissue == FLUID, tissue == GREY, tissue == WHITE],
        [np.where(inner, 6, 5), np.where(inner, 2, 1), np.where(anatomy.bright > 0.5, 4, 3)],
    ).astype(np.uint8)
    z, y, x = anatomy.grid
    low = (z < -0.45) & (tissue > 0)
    label[low & (y > 0.1) & (np.abs(x) > 0.12)] = 7
    label[low & (np.abs(y) < 0.3) & (np.abs(x) <= 0.12)] = 8
    return label


def write_healthy_cohort(
    root: Path | str,
    *,
    cases: int = 6,
    shape: Shape = (32, 64, 64),
    seed: int = 0,
    modalities: Sequence[str] = ("t1", "t1_ir", "flair"),
    native_labels: str = "mrbrains13",
) -> list[str]:
    """Write `cases` cases as `<root>/TrainingData/<i>/{T1,T1_IR,T2_FLAIR,LabelsFor...}.nii.gz` and manifest.csv.

    Args:
        root: The data set's folder.
        cases: How many.
        shape: (D, H, W), voxels of 1 mm.
        seed: Of the images.
        modalities: Keys of `FILES`.
        native_labels: A key of `MASKS`.

    Returns:
        The names of the cases, "1" to "<cases>".
    """
    root = Path(root)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[1, 3] = shape[1] - 1
    rows = []
    for index in range(cases):
        images, anatomy = healthy_case(index, shape=shape, seed=seed, modalities=modalities)
        folder = Path("TrainingData", str(index + 1))
        (root / folder).mkdir(parents=True, exist_ok=True)
        files = {modality: folder / f"{FILES[modality]}.nii.gz" for modality in images}
        for modality, image in images.items():
            write_volume(root / files[modality], image, affine)
        files["mask"] = folder / f"{MASKS[native_labels]}.nii.gz"
        write_volume(root / files["mask"], healthy_labels(anatomy, native_labels), affine)
        named = {part: str(file) for part, file in files.items()}
        rows.append({"case": str(index + 1), **named, "native_labels": native_labels})
    (root / "manifest.csv").write_text(csv_text(rows), encoding="utf-8")
    return [row["case"] for row in rows]
