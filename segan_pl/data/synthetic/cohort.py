"""A generated cohort in BraTS 2019's form: to learn the package with, to test it and to measure it, without a patient.

Case i is a function of (seed, i, shape) alone, so a cohort of 10 is the beginning of a cohort of 300.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segan_pl.data.case import MODALITIES, Shape
from segan_pl.data.io import write_volume
from segan_pl.data.synthetic.phantom import Anatomy, Grade, Tumour, draw_anatomy, draw_tumour, smooth_field


@dataclass(frozen=True)
class Scanner:
    """What an institution's machine does to an image; all four below are made up.

    Attributes:
        institution: As in the case name, e.g. "CBICA".
        bias: Standard deviation of the logarithm of the bias field.
        noise: Standard deviation of the Rician noise, in units of white matter in T1.
        through_plane: Standard deviation of the blur along z, voxels: thick slices resampled to 1 mm.
        gain: Intensity of white matter in T1, in the file's units.
    """

    institution: str
    bias: float
    noise: float
    through_plane: float
    gain: float


SCANNERS = (
    Scanner("CBICA", bias=0.10, noise=0.05, through_plane=0.4, gain=600),
    Scanner("TCIA01", bias=0.16, noise=0.08, through_plane=0.8, gain=280),
    Scanner("TCIA02", bias=0.20, noise=0.07, through_plane=1.2, gain=1100),
    Scanner("2013", bias=0.13, noise=0.10, through_plane=0.6, gain=420),
)


@dataclass(frozen=True)
class Contrast:
    """Signal of each tissue in one modality; white matter in T1 is 1.

    Attributes:
        fluid: Ventricles and sulci.
        grey: Cortex and nuclei.
        white: White matter.
        bright: Age-related change in white matter.
        oedema: Oedema, where it hides the tissue wholly.
        core: Necrosis and solid tumour without enhancement, likewise.
        rim: Enhancing tumour.
        cover: How far oedema and core hide the tissue below, in [0, 1].
    """

    fluid: float
    grey: float
    white: float
    bright: float
    oedema: float
    core: float
    rim: float
    cover: float


CONTRASTS: Mapping[str, Contrast] = {
    "t1": Contrast(fluid=0.40, grey=0.76, white=1.00, bright=0.92, oedema=0.78, core=0.66, rim=0.84, cover=0.4),
    "t1ce": Contrast(fluid=0.40, grey=0.76, white=1.00, bright=0.92, oedema=0.70, core=0.52, rim=1.65, cover=0.8),
    "t2": Contrast(fluid=2.00, grey=0.98, white=0.66, bright=1.10, oedema=1.29, core=1.60, rim=1.20, cover=0.85),
    "flair": Contrast(fluid=0.25, grey=0.98, white=0.76, bright=1.34, oedema=1.39, core=1.39, rim=1.36, cover=1.0),
    "t1_ir": Contrast(fluid=0.10, grey=0.45, white=1.15, bright=0.80, oedema=0.60, core=0.40, rim=0.60, cover=0.6),
}


@dataclass(frozen=True)
class SyntheticCase:
    """One generated scan.

    Attributes:
        name: As in BraTS 2019, e.g. "BraTS19_CBICA_003_1".
        grade: "HGG" or "LGG".
        institution: Of the scanner.
        images: Modality to (D, H, W) int16; the background is 0, the brain at least 1.
        label: (D, H, W) uint8, native labels 0, 1, 2, 4.
        tissue: (D, H, W) uint8, what lay there before the tumour: OUTSIDE, FLUID, GREY, WHITE of `phantom`.
    """

    name: str
    grade: Grade
    institution: str
    images: Mapping[str, NDArray[np.int16]]
    label: NDArray[np.uint8]
    tissue: NDArray[np.uint8]


def make_case(
    index: int,
    *,
    shape: Shape = (64, 128, 128),
    seed: int = 0,
    hgg: float = 0.7,
    scanners: Sequence[Scanner] = SCANNERS,
    modalities: Sequence[str] = MODALITIES,
) -> SyntheticCase:
    """Case `index` of the cohort that `seed` names; grade and scanner go round with the index, all else is drawn.

    Args:
        index: Place in the cohort, from 0.
        shape: (D, H, W); below about (16, 48, 48) a cortex no longer has folds.
        seed: Of the cohort.
        hgg: Share of high-grade cases.
        scanners: One after another.
        modalities: Which images to make; the others are not computed, and these are the same without them.
    """
    grade: Grade = "HGG" if (0.5 + 0.618034 * index) % 1 < hgg else "LGG"
    scanner = scanners[index % len(scanners)]
    streams = np.random.SeedSequence([seed, index]).spawn(
        1 + len(CONTRASTS)
    )  # one each, so that an image does not hang on the others
    rng = np.random.default_rng(streams[0])
    anatomy = draw_anatomy(rng, shape)
    tumour = draw_tumour(rng, anatomy, grade, share=float(np.exp(rng.uniform(np.log(0.01), np.log(0.12)))))
    places = {modality: 1 + place for place, modality in enumerate(CONTRASTS)}
    images = {
        m: scan(np.random.default_rng(streams[places[m]]), anatomy, tumour, CONTRASTS[m], scanner) for m in modalities
    }
    name = f"BraTS19_{scanner.institution}_{index:03d}_1"
    return SyntheticCase(name, grade, scanner.institution, images, tumour.label, anatomy.tissue)


def scan(
    rng: np.random.Generator, anatomy: Anatomy, tumour: Tumour, contrast: Contrast, scanner: Scanner
) -> NDArray[np.int16]:
    """One modality as the scanner's file holds it, skull-stripped: (D, H, W) int16."""
    brain = anatomy.tissue > 0
    jitter = rng.uniform(0.94, 1.06, 7).astype(np.float32)
    c = contrast
    levels = np.array([0.6 * c.grey, c.fluid, c.grey, c.white], np.float32) * np.r_[1, jitter[:3]]
    signal = levels.astype(np.float32)[anatomy.tissue]
    change = smooth_field(rng, anatomy.tissue.shape, (10, 14, 14))
    signal *= 1 + 0.04 * smooth_field(rng, anatomy.tissue.shape, (7, 10, 10))
    parts = [  # where, level there, its texture
        (anatomy.bright, c.bright, 0.05),
        (c.cover * tumour.oedema, c.oedema, 0.08),
        (c.cover * tumour.core, c.core, 0.10),
        (tumour.rim, c.rim, 0.10),
    ]
    for (weight, level, texture), scale in zip(parts, jitter[3:], strict=True):
        where = np.nonzero(weight)
        signal[where] += weight[where] * (level * scale * (1 + texture * change[where]) - signal[where])
    signal *= np.exp(scanner.bias * smooth_field(rng, brain.shape, (2, 2, 2)))
    signal = ndimage.gaussian_filter(signal, (scanner.through_plane, 0.5, 0.5))
    noise = scanner.noise * rng.standard_normal((2, *brain.shape), dtype=np.float32)
    signal = np.hypot(signal + noise[0], noise[1])
    gain = scanner.gain * rng.uniform(0.7, 1.4)
    return np.where(brain, np.clip(np.rint(gain * signal), 1, 32767), 0).astype(np.int16)


def make_cohort(
    root: Path | str,
    *,
    cases: int = 24,
    shape: Shape = (64, 128, 128),
    seed: int = 0,
    hgg: float = 0.7,
    scanners: Sequence[Scanner] = SCANNERS,
) -> list[str]:
    """Write `cases` cases as `<root>/{HGG|LGG}/<name>/<name>_{t1,t1ce,t2,flair,seg}.nii.gz`; returns the names.

    The affine is BraTS's: 1 mm voxels, y at its far end at 0 mm; x runs to the patient's left, y to the back, z up.
    """
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[1, 3] = shape[1] - 1
    names = []
    for index in range(cases):
        case = make_case(index, shape=shape, seed=seed, hgg=hgg, scanners=scanners)
        folder = Path(root) / case.grade / case.name
        folder.mkdir(parents=True, exist_ok=True)
        for modality, image in case.images.items():
            write_volume(folder / f"{case.name}_{modality}.nii.gz", image, affine)
        write_volume(folder / f"{case.name}_seg.nii.gz", case.label, affine)
        names.append(case.name)
    return names


def make_cohort_once(root: Path, **settings: Any) -> None:
    """`make_cohort` unless `root` is there; it is whole or it is not there, even if this process is killed."""
    if root.exists():
        return
    partial = root.with_name(f"{root.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # a killed process left it
    make_cohort(partial, **settings)
    partial.rename(root)
