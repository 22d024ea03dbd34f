"""`segan_pl clinical`: error and time of its registration against planted motion, and the real patient of TCGA.

python -m benchmarks.bench_clinical planted --cases 3      # generated heads, 1 x 1 x 5 mm slices
python -m benchmarks.bench_clinical tcga --root tcga_fg_6692
python -m benchmarks.bench_clinical visits --root tcga_fg_6692 --output V    # given masks; a second, moved visit
python -m benchmarks.bench_clinical brain --output V --brain deepbet               # after it; or hd_bet
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
from segan_pl.clinical.brain_mask import find_brain
from segan_pl.clinical.space import Space, resampled, resampled_label
from segan_pl.data.io import held_volume, read_volume, write_volume
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
            said = " ".join((*found.warnings, found.fault)) or "no warning"
            print(
                f"case {number} {modality}: {error.mean():.2f} mm (at most {error.max():.2f}), {turn:.2f} degrees, "
                f"{cpu:.1f} CPU s, {wall:.1f} s; information {found.information[1]:.3f}, overlap {found.overlap:.3f}, "
                f"{said}",
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


def visits(root: Path, output: Path) -> None:
    """`--brain given` with raw_bet's mask on two visits: the patient as scanned, and moved (t2 by itself once more).

    What is found in the second visit follows from what is found in the first and from the planted motions.
    """
    files = {name: root / "native_raw" / f"TCGA-FG-6692_{name}.nii.gz" for name in ("t1", "t1c", "t2", "flair")}
    scans = {name: read_volume(path) for name, path in files.items()}
    stripped = read_volume(root / "raw_bet" / "OtherEXampleFromTCIA_t1c_bet.nii.gz")
    still = Space(scans["t1c"].shape, scans["t1c"].affine)
    to_bet = align(scans["t1c"], stripped, same_frame=False).motion
    brain = resampled_label((stripped.array != 0).astype(np.uint8), stripped.affine, to_bet, still)
    all_of_it, once_more = rigid((3.0, -5.0, 6.0), (5.0, -4.0, 6.0)), rigid((2.0, 4.0, -2.0), (-3.0, 2.0, 4.0))
    planted_motion = {name: once_more @ all_of_it if name == "t2" else all_of_it for name in scans}
    given = output / "in"
    for name, scan in scans.items():
        write_volume(given / "patient" / "1" / f"{name}.nii.gz", scan.array, scan.affine)
        space = Space(scan.shape, scan.affine)
        moved = resampled(scan, np.linalg.inv(planted_motion[name]), space, "linear")
        write_volume(given / "patient" / "2" / f"{name}.nii.gz", moved, scan.affine)
    moved_brain = resampled_label(brain, still.affine, np.linalg.inv(all_of_it), still)
    for number, mask in enumerate((brain, moved_brain), 1):
        write_volume(output / "masks" / f"P001_v{number}.nii.gz", mask, still.affine)
    line = ["clinical", f"--root={given}", f"--output={output / 'out'}", "--brain=given", "--masks_on=t1ce"]
    start, cpu = time.perf_counter(), time.process_time()
    code = segan_pl([*line, f"--masks={output / 'masks'}", "--workers=1"])
    print(
        f"exit code {code}, {time.perf_counter() - start:.0f} s, {time.process_time() - cpu:.0f} CPU s in this process"
    )
    found = [json.loads((output / "out" / "records" / f"P001_v{n}.json").read_text(encoding="utf-8")) for n in (1, 2)]
    corners = np.array([[x, y, z, 1] for x in (-60, 60) for y in (-75, 75) for z in (-55, 55)], float).T
    corners[:3] += still.affine[:3, :3] @ np.array(still.shape[::-1])[:, None] / 2 + still.affine[:3, 3:]
    corners[:2] *= -1  # LPS
    for name in ("t1", "t2", "flair"):
        one, two = (np.array(record["modalities"][name]["motion"]) for record in found)
        wanted = planted_motion[name] @ one @ np.linalg.inv(all_of_it)
        error = np.linalg.norm(((two - wanted) @ corners)[:3], axis=0)
        print(f"{name}: second visit as the first moved to {error.mean():.2f} mm (at most {error.max():.2f})")


def brain_alone(output: Path, method: str) -> None:
    """A network's brain in the first visit of `visits`, against the given one, on the same grid."""
    record = json.loads((output / "out" / "records" / "P001_v1.json").read_text(encoding="utf-8"))
    space, one = Space.from_dict(record["space"]), record["modalities"]["t1"]
    image = resampled(read_volume(output / "in" / "patient" / "1" / "t1.nii.gz"), one["motion"], space, "linear")
    start, cpu = time.perf_counter(), time.process_time()
    mask, _ = find_brain({"t1": image}, space, "hd_bet" if method == "hd_bet" else "deepbet")
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    wanted = read_volume(output / "out" / "brain" / "P001_v1.nii.gz").array > 0
    dice = 2 * (mask & wanted).sum() / (mask.sum() + wanted.sum())
    volumes = f"{mask.sum() / 1000:.0f} ml, the given one {wanted.sum() / 1000:.0f} ml"
    print(f"{method}: Dice {dice:.4f}, {cpu:.0f} CPU s, {wall:.0f} s; {volumes}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("planted", "tcga", "visits", "brain"))
    parser.add_argument("--cases", type=int, default=3)
    parser.add_argument("--degrees", type=float, default=15.0)
    parser.add_argument("--shift_mm", type=float, default=20.0)
    parser.add_argument("--root", type=Path, help="of tcga and visits: the folder with native_raw and raw_bet")
    parser.add_argument("--output", type=Path, help="of visits: a new folder; of brain: that one")
    parser.add_argument("--brain", default="deepbet")
    options = parser.parse_args()
    if options.what == "planted":
        planted(options.cases, options.degrees, options.shift_mm)
    elif options.what == "brain":
        brain_alone(options.output, options.brain)
    elif options.what == "visits":
        visits(options.root, options.output)
    else:
        tcga(options.root, options.brain)


if __name__ == "__main__":
    main()
