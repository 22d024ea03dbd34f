"""Tiny cases on disk for the tests of data/."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from segan_pl.data.case import Case
from segan_pl.data.io import write_volume

OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = Rotation.from_euler("zx", [12, 4], degrees=True).as_matrix() @ np.diag([0.9, 0.95, 1.5])
OBLIQUE[:3, 3] = -10, 20, 5


@pytest.fixture
def affine() -> NDArray[np.float64]:
    """Rotated and anisotropic."""
    return OBLIQUE.copy()


@pytest.fixture
def make_case(tmp_path: Path) -> Callable[..., Case]:
    """Write a case of random int16 images and a mask with labels 0, 1, 2, 4; arrays given replace them.

    On the oblique grid above, or axis-aligned with `spacing` mm.
    """

    def make(
        name: str = "case",
        shape: tuple[int, int, int] = (6, 8, 10),
        modalities: tuple[str, ...] = ("t1", "flair"),
        arrays: Mapping[str, NDArray] | None = None,
        masked: bool = True,
        spacing: float | None = None,
    ) -> Case:
        rng = np.random.default_rng(sum(map(ord, name)))
        folder = tmp_path / "sources" / name
        folder.mkdir(parents=True)
        contents = {m: rng.integers(0, 900, shape).astype(np.int16) for m in modalities}
        if masked:
            contents["seg"] = rng.choice(np.array([0, 1, 2, 4], np.uint8), shape, p=[0.7, 0.1, 0.1, 0.1])
        contents |= dict(arrays or {})
        grid = OBLIQUE if spacing is None else np.diag([spacing, spacing, spacing, 1.0])
        files = {part: folder / f"{name}_{part}.nii.gz" for part in contents}
        for part, path in files.items():
            write_volume(path, contents[part], grid, compresslevel=1)
        return Case(name, name, {m: files[m] for m in files if m != "seg"}, files.get("seg"))

    return make
