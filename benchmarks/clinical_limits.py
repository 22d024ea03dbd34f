"""When a registration of `segan_pl clinical` counts as failed: its numbers where it should, and where it should not.

python -m benchmarks.clinical_limits generated
python -m benchmarks.clinical_limits real --root data      # the folder with tcga_fg_6692 and lgg

One line each: registrations to t1ce of what belongs to it, and of what does not (another head, a volume upside down,
noise, half a volume); then the metric where t2 lies off its place by so much, without registration.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from segan_pl.clinical import align
from segan_pl.data.io import Volume, held_volume, read_volume
from segan_pl.data.synthetic.cohort import make_case
from segan_pl.inference.atlases.registration import as_image, one_thread, simple_itk
from tests.generators.dicom import centred, rigid, scanned

MOTION = rigid((5.0, -7.0, 4.0), (6.0, -8.0, 5.0))
OFF = ((5.0, 0.0), (10.0, 0.0), (20.0, 0.0), (0.0, 5.0), (0.0, 10.0), (0.0, 20.0), (0.0, 40.0))


def generated() -> tuple[Volume, dict[str, Volume], Volume]:
    """Thick slices of a moved head, its t1ce of 1 mm, and another head."""
    case, other = (make_case(number, shape=(155, 240, 240)).images for number in (0, 1))
    moved = {name: scanned(centred(case[name]), MOTION) for name in ("t1", "t2", "flair")}
    return centred(case["t1ce"]), moved, scanned(centred(other["t2"]), MOTION)


def real(root: Path) -> tuple[Volume, dict[str, Volume], Volume]:
    """The patient of TCGA-FG-6692 as scanned, and the FLAIR of another one of TCGA-LGG, which states no spacing."""
    place = root / "tcga_fg_6692" / "native_raw"
    scans = {name: read_volume(place / f"TCGA-FG-6692_{name}.nii.gz") for name in ("t1c", "t1", "t2", "flair")}
    fixed = scans.pop("t1c")
    file = min((root / "lgg").rglob("*_flair.nii.gz"))
    held = read_volume(file)
    # a field of 240 mm and a head of 150 mm
    affine = np.diag([-240 / held.shape[2], -240 / held.shape[1], 150 / held.shape[0], 1.0])
    return fixed, scans, held_volume(held.array.astype(np.float32), affine)


def foreign(right: Volume, other: Volume) -> dict[str, Volume]:
    """What does not belong to the fixed head, or not as a whole."""
    array, noise = right.array.astype(np.float32), np.random.default_rng(0)
    half = array.copy()
    half[: len(half) // 2] = 0
    return {
        "another patient's head": other,
        "t2 upside down (slices in reverse)": replace(right, array=np.ascontiguousarray(array[::-1])),
        "noise": replace(right, array=noise.gamma(2, 50, array.shape).astype(np.float32)),
        "noise in the shape of the head": replace(
            right, array=np.where(array > array.mean(), noise.gamma(2, 50, array.shape), 0).astype(np.float32)
        ),
        "t2, its lower half zeros": replace(right, array=half),
        "t2, the upper half of its slices": held_volume(array[len(array) // 2 :], _upper(right)),
    }


def _upper(volume: Volume) -> np.ndarray:
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, 2] * (volume.shape[0] // 2)
    return affine


def show(what: str, found: align.Alignment) -> None:
    before, after = found.information
    print(
        f"| {what} | {before:.3f} | {after:.3f} | {found.overlap:.3f} | {found.rotation_degrees:.1f} | "
        f"{found.shift_mm:.1f} | {found.fault or 'used'} | {'; '.join(found.warnings)} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("generated", "real"))
    parser.add_argument("--root", type=Path)
    options = parser.parse_args()
    fixed, scans, other = generated() if options.what == "generated" else real(options.root)
    print("| moving | information before | after | overlap | degrees | mm | verdict | warnings |")
    print("|---|---|---|---|---|---|---|---|")
    right = align.align(fixed, scans["t2"])
    show("t2", right)
    sitk = simple_itk("clinical")
    with one_thread(sitk):
        still, moving = (sitk.DICOMOrient(as_image(sitk, one.array, one.affine), "LPS") for one in (fixed, scans["t2"]))
        here, there = (align._isotropic(sitk, image, align.SECOND[0]) for image in (still, moving))
        middle = align._centre_of_mass(sitk, here)
        around, back = np.eye(4), np.eye(4)
        around[:3, 3], back[:3, 3] = middle, -middle
        for degrees, shift in OFF:
            off = around @ rigid((degrees, 0.0, 0.0), (0.0, 0.0, shift)) @ back @ right.motion
            information, overlap = align._information(sitk, here, there, off), align._overlap(sitk, here, there, off)
            print(f"| t2, off by {degrees:g} degrees and {shift:g} mm | | {information:.3f} | {overlap:.3f} | | | | |")
    for name in ("t1", "flair"):
        show(name, align.align(fixed, scans[name]))
    for name, volume in foreign(scans["t2"], other).items():
        show(name, align.align(fixed, volume))


if __name__ == "__main__":
    main()
