"""Windows of background alone skipped against all windows run, alternating in this process, on one image.

A MONAI UNet with random weights, which cost the same; reading and preparing are not counted. The image is taken whole,
and cropped to its brain. CPU seconds, so that other work on the machine counts little.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from segan_pl.data.case import Case
from segan_pl.data.labels import label_scheme
from segan_pl.data.prepare.case import prepare
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.inference.brain import brain_of
from segan_pl.inference.inferer import Windows
from segan_pl.inference.trained import TrainedSegmentor, probabilities
from segan_pl.nets.monai_nets import MonaiSegmentor


def segmentor(preparation: Preparation, options: argparse.Namespace) -> TrainedSegmentor:
    torch.manual_seed(0)
    scheme = label_scheme("labels", "iseg")
    network = MonaiSegmentor(1, len(scheme.channels), kind="UNet", spatial_dims=3, width=options.width, levels=4)
    return TrainedSegmentor(
        network.eval().requires_grad_(False), ("t1",), scheme, preparation, tuple(options.patch), 1, False,
        torch.float32, Path("random.ckpt"), "", windows=Windows(overlap=options.overlap),
    )  # fmt: skip


def timed(trained: TrainedSegmentor, image: Tensor, *, skip: bool) -> tuple[float, Tensor]:
    start = time.process_time()
    found = probabilities(trained, image, windows=replace(trained.windows, skip_empty=skip))
    return time.process_time() - start, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", type=Path, help="a stripped T1")
    parser.add_argument("--patch", type=int, nargs=3, default=[32, 32, 32])
    parser.add_argument("--overlap", type=float, default=0.5)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for name, preparation in (
        ("whole", Preparation(crop=None, scaling="zscore")),
        ("cropped", Preparation(crop="nonzero", scaling="zscore")),
    ):
        trained = segmentor(preparation, options)
        image = torch.from_numpy(prepare(Case("one", "one", {"t1": options.image}), preparation).image)
        inside = brain_of(image, preparation.background)
        times = []
        for _ in range(options.rounds):
            (every, whole), (some, skipped) = timed(trained, image, skip=False), timed(trained, image, skip=True)
            times.append((every, some))
        ratios = [some / every for every, some in times]
        print(
            f"{name} {tuple(image.shape[1:])}: all windows {statistics.median(a for a, _ in times):.2f} s, without "
            f"empty ones {statistics.median(b for _, b in times):.2f} s, ratio {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}); the brain is equal: "
            f"{torch.equal(whole[:, inside], skipped[:, inside])}"
        )


if __name__ == "__main__":
    main()
