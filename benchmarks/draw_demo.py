"""The picture in README.md: a validation case of `segan_pl demo`, its ground truth, and what the last weights predict.

segan_pl demo && python benchmarks/draw_demo.py demo docs/images/demo.png
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import segan_pl
from segan_pl.data.io import read_volume
from segan_pl.data.layouts import find_cases


def main(demo: Path, picture: Path) -> None:
    """Draw the slice with the most tumour of the first validation case."""
    name = json.loads((demo / "run" / "split.json").read_text())["val"][0]
    (case,) = (case for case in find_cases(demo / "cohort") if case.name == name)
    if case.mask is None:
        raise SystemExit(f"{name} has no mask; give a folder that `segan_pl demo` made")
    predicted = segan_pl.load(demo / "run" / "checkpoints" / "last.ckpt", device="cpu")(case).label > 0
    true = read_volume(case.mask).array > 0
    image = read_volume(case.images["flair"]).array
    place = int(np.argmax(true.sum((1, 2))))  # (D, H, W)
    figure, axes = plt.subplots(1, 3, figsize=(7.5, 2.7), layout="constrained")
    for axis, title, mask, colour in zip(
        axes, ("FLAIR", "ground truth", "prediction"), (None, true, predicted), ("", "#ff4d4d", "#4da6ff"), strict=True
    ):
        axis.imshow(image[place], cmap="gray")
        if mask is not None:
            axis.contour(mask[place], levels=[0.5], colors=[colour], linewidths=1.5)
        axis.set_title(title, fontsize=9)
        axis.axis("off")
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
