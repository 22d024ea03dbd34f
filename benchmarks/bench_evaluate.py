"""Seconds that one core takes to evaluate a case, files to scores: three regions, every metric, lesion by lesion too.

python benchmarks/bench_evaluate.py [--root FOLDER] [--rounds 3]

The predictions are the references shifted by two voxels along each axis, eroded by two, and with one voxel in 2,000
turned into enhancing tumour (thousands of false lesions all over the volume: what an untrained network may give).
Without --root: generated masks of 240 x 240 x 155 and, where SEGAN_PL_TEST_DATA names a folder, its brats2021 as well.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from segan_pl.data.case import Case
from segan_pl.data.io import read_volume, write_volume
from segan_pl.data.labels import label_scheme
from segan_pl.data.synthetic.cohort import make_case
from segan_pl.evaluation.lesions import RULES
from segan_pl.evaluation.metrics.named import evaluation_metrics
from segan_pl.evaluation.pairs import PREDICTION, Evaluation, evaluate_files
from segan_pl.evaluation.policies import POLICIES
from segan_pl.evaluation.references import find_references

CASES, SHAPE = 3, (155, 240, 240)  # BraTS's shape
LIMIT = 2.0
REGIONS = ("wt", "tc", "et")


def shifted(mask: np.ndarray) -> np.ndarray:
    return np.roll(mask, (2, 2, 2), (0, 1, 2))


def eroded(mask: np.ndarray) -> np.ndarray:
    return np.where(ndimage.binary_erosion(mask > 0, iterations=2), mask, 0).astype(mask.dtype)


def speckled(mask: np.ndarray) -> np.ndarray:
    return np.where(np.random.default_rng(0).random(mask.shape) < 1 / 2000, 4, mask).astype(mask.dtype)


def predicted(case: Case, change: Callable[[np.ndarray], np.ndarray], folder: Path) -> Case:
    reference = read_volume(case.mask or "")
    path = folder / f"{case.name}_{change.__name__}.nii.gz"
    write_volume(path, np.ascontiguousarray(change(reference.array)), reference.affine)
    return replace(case, images={PREDICTION: path})


def seconds(evaluation: Evaluation, case: Case) -> float:
    start = time.perf_counter()
    outcome = evaluate_files(evaluation, case)
    assert outcome.status == "scored", outcome.status
    return time.perf_counter() - start


def measure(root: Path, rounds: int) -> None:
    scheme = label_scheme("regions", "brats2017")
    everything, policy = evaluation_metrics(lesions=RULES["gli"], hd95="deepmind"), POLICIES["segan_cat"]
    evaluation = Evaluation(scheme, scheme, REGIONS, everything, policy)
    plain = Evaluation(scheme, scheme, REGIONS, evaluation_metrics(), policy)
    cases = find_references(root).cases
    print(f"{root.name}: {len(cases)} cases, median of {rounds} rounds")
    with tempfile.TemporaryDirectory() as folder:
        for change in (shifted, eroded, speckled):
            pairs = [predicted(case, change, Path(folder)) for case in cases]
            for name, what in (("without lesions", plain), ("everything", evaluation)):
                times = [statistics.median(seconds(what, pair) for _ in range(rounds)) for pair in pairs]
                print(f"  {change.__name__:9}{name:16} {np.mean(times):.2f} s a case, at most {max(times):.2f} s")
    print(f"  at most {LIMIT} s is wanted")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.root:
        measure(options.root, options.rounds)
        return
    with tempfile.TemporaryDirectory() as folder:
        generated = Path(folder) / "generated"
        for number in range(CASES):
            name = f"BraTS2021_{number:05d}"
            (generated / name).mkdir(parents=True)
            label = make_case(number, shape=SHAPE).label
            write_volume(generated / name / f"{name}_seg.nii.gz", label, np.diag([-1.0, -1, 1, 1]))
        measure(generated, options.rounds)
    if real := os.environ.get("SEGAN_PL_TEST_DATA"):
        measure(Path(real) / "brats2021", options.rounds)


if __name__ == "__main__":
    main()
