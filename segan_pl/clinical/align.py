"""Rigid registration of one sequence of a patient to another one, or to an atlas (SimpleITK).

Mutual information (Mattes et al. 2003), which suits images of different contrast, is maximised over three angles and
three shifts by Powell's method, from coarse to fine and from several starts. Powell's method, since the maximum is flat
along the angles of a nearly round head, where gradient descent with a regular step stopped far from it. One thread
does it all, so that the same input gives the same bits: the last bits of mutual information follow from the number of
threads that add it up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.case import CaseError
from segan_pl.data.io import Volume
from segan_pl.inference.atlases.registration import as_image, one_thread, simple_itk

BINS = 32
SEED = 1
# mm of an isotropic grid, samples drawn from it, Powell's iterations over all six parameters. All voxels count where so
# many are not there: at 8 mm the landscape is smooth, and a start costs a fraction of a second.
FIRST = (8.0, 30_000, 2)
SECOND = (4.0, 20_000, 3)
LAST = (1.5, 40_000, 2)
# Each start is tried with the head turned so far about each axis, too.
TURN_DEGREES = 12.0
# So many of the places that the first level found, far from one another, go to the second.
KEPT = 3
# Two starts that end nearer to each other than this found the same place.
AGREEMENT_MM = 5.0
# A place of at least this share of the best one's mutual information leaves a doubt.
RIVAL = 0.98
# Beyond these the motion of a patient between two sequences of a visit is implausible, and is warned of.
PLAUSIBLE_DEGREES, PLAUSIBLE_MM = 20.0, 40.0
# Beyond these, or below this overlap or metric, a registration failed.
MOST_DEGREES, MOST_MM, LEAST_OVERLAP, LEAST_INFORMATION = 50.0, 120.0, 0.7, 0.08
# Below this the metric is warned of: right registrations had 0.107 and more, wrong ones up to 0.098 (docs/clinical.md).
WEAK_INFORMATION = 0.1


@dataclass(frozen=True)
class Alignment:
    """Where a moving image lies on a fixed one.

    Attributes:
        motion: (4, 4), from the fixed image's places to the moving one's, mm, LPS.
        rotation_degrees: Angle of the motion.
        shift_mm: How far it moves the middle of the fixed head.
        start: Which start led here: "scanner", "moments" or "centres".
        information: Mutual information over the smaller entropy, 0 to 1, inside the fixed head, before and after.
        overlap: Share of the smaller head that lies inside the other, where both images were scanned.
        warnings: What a user should look at.
        fault: Why it cannot be used; empty where it can.
    """

    motion: NDArray[np.float64] = field(default_factory=lambda: np.eye(4))
    rotation_degrees: float = 0.0
    shift_mm: float = 0.0
    start: str = "itself"
    information: tuple[float, float] = (1.0, 1.0)
    overlap: float = 1.0
    warnings: tuple[str, ...] = ()
    fault: str = ""


def align(fixed: Volume, moving: Volume, *, same_frame: bool = True) -> Alignment:
    """The rigid motion between two images of one head.

    Args:
        fixed: The one that stays.
        moving: The other one, on any grid.
        same_frame: Whether both have the scanner's coordinates in common; then its place is the first start.

    Raises:
        CaseError: No start overlaps at all, as of images of one value.
    """
    sitk = simple_itk("clinical")
    with one_thread(sitk):
        # one order of the axes, so that the same head gives the same samples whatever its file's order is
        still, other = (sitk.DICOMOrient(as_image(sitk, one.array, one.affine), "LPS") for one in (fixed, moving))
        ends = _first_places(sitk, still, other, same_frame=same_frame)
        if not ends:
            raise CaseError("the images overlap from no start, or one has a single value; look at both")
        here, there = (_isotropic(sitk, image, SECOND[0]) for image in (still, other))
        middle = np.array(ends[0][2].GetCenter())
        ranked = sorted(
            ((_maximise(sitk, here, there, transform, *SECOND[1:]), name, transform) for _, name, transform in ends),
            key=lambda end: -end[0],
        )
        _, start, transform = ranked[0]
        # no other start came here, of those that did nearly as well
        best = _matrix(transform)
        rivals = [end for end in ranked[1:] if end[0] > RIVAL * ranked[0][0]]
        alone = any(_apart(_matrix(end[2]), best, middle) > 2 * AGREEMENT_MM for end in rivals)
        finer, its_finer = (_isotropic(sitk, image, LAST[0]) for image in (still, other))
        _maximise(sitk, finer, its_finer, transform, *LAST[1:])
        return _judged(sitk, here, there, _matrix(transform), middle, start, alone=alone, same_frame=same_frame)


def _first_places(sitk: Any, still: Any, other: Any, *, same_frame: bool) -> list[tuple[float, str, Any]]:
    """Mutual information, start and transform of the best places at the coarsest level, far from one another."""
    here, there = (_isotropic(sitk, image, FIRST[0]) for image in (still, other))
    middle = _centre_of_mass(sitk, here)
    shifts = {"scanner": np.zeros(3)} if same_frame else {}
    shifts |= {"moments": _centre_of_mass(sitk, there) - middle, "centres": _centre(other) - _centre(still)}
    turn = np.radians(TURN_DEGREES)
    turns = [
        (0.0, 0.0, 0.0),
        *(tuple(sign * turn * (axis == one) for one in range(3)) for axis in range(3) for sign in (1, -1)),
    ]
    ends: list[tuple[float, str, Any]] = []
    tried: list[NDArray[np.float64]] = []
    for name, shift in shifts.items():
        if any(np.linalg.norm(shift - former) < 2 for former in tried):
            continue
        tried.append(shift)
        for angles in turns:
            transform = sitk.Euler3DTransform()
            transform.SetCenter(middle.tolist())
            transform.SetRotation(*angles)
            transform.SetTranslation(shift.tolist())
            try:
                ends.append((_maximise(sitk, here, there, transform, *FIRST[1:]), name, transform))
            except RuntimeError:  # no sample lies inside the other image
                continue
    kept: list[tuple[float, str, Any]] = []
    for end in sorted(ends, key=lambda one: -one[0]):
        if all(_apart(_matrix(end[2]), _matrix(former[2]), middle) > AGREEMENT_MM for former in kept):
            kept.append(end)
    return kept[:KEPT]


def _judged(
    sitk: Any,
    fixed: Any,
    moving: Any,
    motion: NDArray[np.float64],
    middle: NDArray[np.float64],
    start: str,
    *,
    alone: bool,
    same_frame: bool,
) -> Alignment:
    """A motion with the numbers that say whether it may be trusted."""
    rotation = float(np.degrees(np.arccos(np.clip((np.trace(motion[:3, :3]) - 1) / 2, -1, 1))))
    shift = float(np.linalg.norm(motion[:3, :3] @ middle + motion[:3, 3] - middle))
    before = _information(sitk, fixed, moving, np.eye(4))
    after, overlap = _information(sitk, fixed, moving, motion), _overlap(sitk, fixed, moving, motion)
    warnings = []
    # two frames of reference may lie anywhere to each other
    far = shift if same_frame else 0.0
    if rotation > PLAUSIBLE_DEGREES or far > PLAUSIBLE_MM:
        warnings.append(f"an implausible motion was found: {rotation:.1f} degrees, {shift:.1f} mm")
    if alone:
        warnings.append("another place fits nearly as well")
    if after < WEAK_INFORMATION:
        warnings.append(f"a weak match: mutual information of {after:.3f}, usual are {WEAK_INFORMATION} and more")
    fault = ""
    if rotation > MOST_DEGREES or far > MOST_MM:
        fault = f"turned it by {rotation:.0f} degrees and moved it by {shift:.0f} mm, which no patient does"
    elif overlap < LEAST_OVERLAP:
        fault = f"left an overlap of the heads of {overlap:.2f}, expected at least {LEAST_OVERLAP}"
    elif after < LEAST_INFORMATION:
        fault = f"found a mutual information of {after:.3f}, expected at least {LEAST_INFORMATION}"
    return Alignment(motion, rotation, shift, start, (before, after), overlap, tuple(warnings), fault)


def _maximise(sitk: Any, fixed: Any, moving: Any, transform: Any, samples: int, iterations: int) -> float:
    """Move `transform` to a maximum of mutual information, which is returned."""
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    share = min(1.0, samples / fixed.GetNumberOfPixels())
    if share < 1:
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(share, SEED)
    method.SetInterpolator(sitk.sitkLinear)
    # steps of 1 mm at first, lines until 0.02 mm; valued to 1e-5 of some 0.8
    method.SetOptimizerAsPowell(iterations, 15, 1.0, 0.02, 1e-5)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(fixed, moving)
    return -float(method.GetMetricValue())


def _isotropic(sitk: Any, image: Any, spacing: float) -> Any:
    """An image on a grid of `spacing` mm, smoothed along the axes on which it is finer; thick slices stay thick."""
    smooth = image
    for axis, size in enumerate(image.GetSpacing()):
        if size < 0.75 * spacing:
            smooth = sitk.RecursiveGaussian(
                smooth, spacing / 2, False, sitk.RecursiveGaussianImageFilter.ZeroOrder, axis
            )
    sizes = zip(image.GetSize(), image.GetSpacing(), strict=True)
    size = [max(2, int(np.ceil(count * step / spacing))) for count, step in sizes]
    grid = sitk.Image(size, sitk.sitkFloat32)
    grid.SetSpacing([spacing] * 3)
    grid.SetDirection(image.GetDirection())
    half = np.array(image.GetDirection()).reshape(3, 3) @ ((np.array(size) - 1) / 2 * spacing)
    grid.SetOrigin((_centre(image) - half).tolist())
    return sitk.Resample(smooth, grid, sitk.Transform(), sitk.sitkLinear, 0.0)


def _centre(image: Any) -> NDArray[np.float64]:
    middle = [(count - 1) / 2 for count in image.GetSize()]
    return np.array(image.TransformContinuousIndexToPhysicalPoint(middle))


def _centre_of_mass(sitk: Any, image: Any) -> NDArray[np.float64]:
    """Centre of mass of the head, mm."""
    weights = _head(sitk, image).astype(np.float64)
    total = max(weights.sum(), 1.0)
    index = [
        float((weights.sum(tuple(other for other in range(3) if other != axis)) * np.arange(size)).sum() / total)
        for axis, size in enumerate(weights.shape)
    ]
    return np.array(image.TransformContinuousIndexToPhysicalPoint(index[::-1]))


def _head(sitk: Any, image: Any) -> NDArray[np.bool_]:
    """(D, H, W): what is brighter than the air by Otsu's threshold, without holes; the largest piece of it.

    Half of the threshold, since in a bright scalp's image Otsu parts the scalp from the brain.
    """
    values = sitk.GetArrayViewFromImage(image)
    threshold = sitk.OtsuThresholdImageFilter()
    threshold.Execute(image)
    low = float(values.min())
    bright = sitk.Cast(image > low + (threshold.GetThreshold() - low) / 2, sitk.sitkUInt8)
    pieces = sitk.RelabelComponent(sitk.ConnectedComponent(bright), sortByObjectSize=True)
    head: NDArray[np.bool_] = sitk.GetArrayFromImage(sitk.BinaryFillhole(sitk.Cast(pieces == 1, sitk.sitkUInt8))) > 0
    return head


def _information(sitk: Any, fixed: Any, moving: Any, motion: NDArray[np.float64]) -> float:
    """Mutual information over the smaller entropy inside the fixed head; 0 where the images do not meet."""
    head = _head(sitk, fixed)
    there = sitk.Resample(moving, fixed, as_transform(sitk, motion), sitk.sitkLinear, -1e9)
    inside = head & (sitk.GetArrayViewFromImage(there) > -1e8)
    if inside.sum() < 100:
        return 0.0
    one, other = sitk.GetArrayViewFromImage(fixed)[inside], sitk.GetArrayViewFromImage(there)[inside]
    joint, _, _ = np.histogram2d(_ranked(one), _ranked(other), bins=BINS)
    joint /= joint.sum()

    def entropy(shares: NDArray[np.float64]) -> float:
        return -float((shares[shares > 0] * np.log(shares[shares > 0])).sum())

    ends = entropy(joint.sum(0)), entropy(joint.sum(1))
    return (sum(ends) - entropy(joint)) / max(min(ends), 1e-9)


def _ranked(values: NDArray) -> NDArray[np.float64]:
    """Values between their 1st and 99th percentile, as shares."""
    low, high = np.percentile(values, (1, 99))
    return np.clip((values.astype(np.float64) - low) / max(high - low, 1e-9), 0, 1)


def _overlap(sitk: Any, fixed: Any, moving: Any, motion: NDArray[np.float64]) -> float:
    """Share of the smaller head inside the other one, of what both images show."""
    transform = as_transform(sitk, motion)
    its_head = sitk.GetImageFromArray(_head(sitk, moving).astype(np.uint8))
    its_head.CopyInformation(moving)
    # 2 is outside of the moving image
    found = sitk.GetArrayFromImage(sitk.Resample(its_head, fixed, transform, sitk.sitkNearestNeighbor, 2))
    head = _head(sitk, fixed) & (found != 2)
    least = min(int(head.sum()), int((found == 1).sum()))
    return float((head & (found == 1)).sum() / least) if least else 0.0


def as_transform(sitk: Any, motion: NDArray[np.float64]) -> Any:
    """A (4, 4) motion as SimpleITK has it."""
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(motion[:3, :3].ravel().tolist())
    transform.SetTranslation(motion[:3, 3].tolist())
    return transform


def _matrix(transform: Any) -> NDArray[np.float64]:
    motion = np.eye(4)
    motion[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
    motion[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
    return motion


def _apart(one: NDArray[np.float64], other: NDArray[np.float64], middle: NDArray[np.float64]) -> float:
    """How far two motions put points apart that lie 80 mm from the middle of the head; mm, the mean."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * 80 / np.sqrt(3) + middle
    gaps = [np.linalg.norm((one - other) @ np.append(corner, 1.0)) for corner in corners]
    return float(np.mean(gaps))
