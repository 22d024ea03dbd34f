"""`segan_pl clinical`: error and time of its registration against planted motion, and the real patient of TCGA.

python -m benchmarks.bench_clinical planted --cases 3      # generated heads, 1 x 1 x 5 mm slices
python -m benchmarks.bench_clinical tcga --root tcga_fg_6692
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from segan_pl.__main__ import main as segan_pl
from segan_pl.clinical.align import align
from segan_pl.clinical.space import Space, resampled
from segan_pl.data.io import held_volume, read_volume
from segan_pl.data.synthetic.cohort import make_case
from tests.generators.dicom import centred, rigid, scanned

MODALITIES = ("t1", "t2", "flair")
RAW_BET = {"t1": "t1", "t1ce": "t1c", "t2": "t2", "flair": "fla"}


def planted(cases: int, degrees: float, shift_mm: float) -> None:
    """Registration of thick slices of a moved head to its t1ce of 1 mm: error at 60 to 115 mm from the middle."""
    corners = np.array([[x, y, z, 1] for x in (-60, 60) for y in (-75, 75) for z in (-55, 55)]).T
    for number in range(cases):
        case, rng = make_case(number, shape=(155, 240, 240)), np.random.default_rng(number)
        fixed = centred(case.images["t1ce"])
        for modality in MODALITIES:
            axis, way = (vector / np.linalg.norm(vector) for vector in rng.normal(size=(2, 3)))
            motion = rigid(tuple(axis * degrees * rng.uniform(0.6, 1)), tuple(way * shift_mm * rng.uniform(0.6, 1)))
            moving = scanned(centred(case.images[modality]), motion)
            start, cpu = time.perf_counter(), time.process_time()
            found = align(fixed, moving)
            wall, cpu = time.perf_counter() - start, time.process_time() - cpu
            error = np.linalg.norm(((found.motion - motion) @ corners)[:3], axis=0)
            turn = np.degrees(np.arccos(min(1.0, (np.trace(found.motion[:3, :3].T @ motion[:3, :3]) - 1) / 2)))
            print(
                f"case {number} {modality}: {error.mean():.2f} mm (at most {error.max():.2f}), {turn:.2f} degrees, "
                f"{cpu:.1f} CPU s, {wall:.1f} s; {' '.join((*found.warnings, found.fault)) or 'no warning'}",
                flush=True,
            )


def tcga(root: Path, brain: str) -> None:
    """The whole command on native_raw, and its brain against raw_bet's after rigid registration of the two."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out"
        start = time.perf_counter()
        line = ["clinical", f"--root={root / 'native_raw'}", f"--output={output}", f"--brain={brain}", "--workers=1"]
        code = segan_pl(line)
        print(f"exit code {code}, {time.perf_counter() - start:.1f} s")
        record = json.loads((output / "records" / "P001_v1.json").read_text(encoding="utf-8"))
        for name, one in record["modalities"].items():
            print(f"{name}: {one['rotation_degrees']:.1f} degrees, {one['shift_mm']:.1f} mm, {one['information']}")
        ours = read_volume(output / "brain" / "P001_v1.nii.gz")
        for name, theirs in RAW_BET.items():
            reference = read_volume(root / "raw_bet" / f"OtherEXampleFromTCIA_{theirs}_bet.nii.gz")
            image = read_volume(output / "cases" / "P001_v1" / f"P001_v1_{name}.nii.gz")
            motion = align(reference, image, same_frame=False).motion
            float_mask = held_volume(ours.array.astype(np.float32), ours.affine)
            space = Space(reference.shape, reference.affine)
            mask, wanted = resampled(float_mask, motion, space, "nearest") > 0.5, reference.array != 0
            print(f"brain against raw_bet's {name}: Dice {2 * (mask & wanted).sum() / (mask.sum() + wanted.sum()):.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("planted", "tcga"))
    parser.add_argument("--cases", type=int, default=3)
    parser.add_argument("--degrees", type=float, default=15.0)
    parser.add_argument("--shift_mm", type=float, default=20.0)
    parser.add_argument("--root", type=Path, help="of tcga: the folder with native_raw and raw_bet")
    parser.add_argument("--brain", default="deepbet")
    options = parser.parse_args()
    if options.what == "planted":
        planted(options.cases, options.degrees, options.shift_mm)
    else:
        tcga(options.root, options.brain)


if __name__ == "__main__":
    main()
