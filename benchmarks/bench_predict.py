"""`segan_pl predict` on one whole case, files to file, against the bare network over the same prepared slices.

Both in this process, alternating, same precision, threads and shapes; interpreter start, imports and loading of the
checkpoint are not counted. Weights are random: they cost the same. --root takes the first case of a data set.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from segan_pl.data.case import Case
from segan_pl.data.labels import label_scheme
from segan_pl.data.layouts import find_cases
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.data.synthetic.cohort import make_cohort
from segan_pl.inference.inferer import pad_to_multiple
from segan_pl.inference.predictor import Predictor
from segan_pl.inference.trained import TrainedSegmentor
from segan_pl.nets.segan import Segmentor

MODALITIES = ("t1", "t1ce", "t2", "flair")
PRECISIONS = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def segmentor(precision: torch.dtype, width: int, slices: int) -> TrainedSegmentor:
    torch.manual_seed(0)
    network = Segmentor(4, 1, width=width).eval().requires_grad_(False).to(memory_format=torch.channels_last)
    return TrainedSegmentor(
        network, MODALITIES, label_scheme("whole_tumour"), Preparation(), (160, 160), slices, True, precision,
        Path("random.ckpt"), "",
    )  # fmt: skip


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--root", type=Path, help="a data set, its first case; default a generated one, 240 x 240 x 155"
    )
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--slices", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", choices=sorted(PRECISIONS), nargs="*", default=sorted(PRECISIONS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.root is None:
            make_cohort(Path(folder) / "cohort", cases=1, shape=(155, 240, 240))
        case = find_cases(options.root or Path(folder) / "cohort")[0]
        for name in options.precision:
            measure(case, segmentor(PRECISIONS[name], options.width, options.slices), options.rounds, Path(folder))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"largest memory {memory:.2f} GB, {torch.get_num_threads()} threads")


def measure(case: Case, trained: TrainedSegmentor, rounds: int, folder: Path) -> None:
    predictor = Predictor([trained])
    (prepared,) = predictor.read(case)
    low = trained.precision != torch.float32
    memory = torch.channels_last
    image = torch.from_numpy(prepared.image)
    slices = pad_to_multiple(image.movedim(1, 0), trained.divisor).to(trained.precision, memory_format=memory)

    def bare() -> None:
        with torch.inference_mode(), torch.autocast("cpu", trained.precision, enabled=low):
            for part in slices.split(trained.slices):
                trained.network(part)

    def whole() -> None:
        prediction = predictor(case)
        prediction.save(folder / "seg.nii.gz", like=case.images["t1"])

    bare()
    whole()
    pairs = [(seconds(bare), seconds(whole)) for _ in range(rounds)]
    ratios = [b / a for a, b in pairs]
    print(
        f"{trained.precision}: bare network {statistics.median(a for a, _ in pairs):.2f} s, files to file "
        f"{statistics.median(b for _, b in pairs):.2f} s, ratio {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}), {tuple(slices.shape)} slices"
    )
    prediction = predictor.segment([prepared])
    reading = seconds(lambda: predictor.read(case))
    writing = seconds(lambda: prediction.save(folder / "seg.nii.gz", like=case.images["t1"]))
    print(f"  of it reading and preparing {reading:.2f} s, writing {writing:.2f} s")


if __name__ == "__main__":
    main()
