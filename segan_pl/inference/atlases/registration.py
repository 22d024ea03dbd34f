"""The labels of one subject on the grid of another one, by registering their images (SimpleITK); no network.

An affine transform by mutual information (Mattes et al. 2003), then demons with symmetric forces (Vercauteren et al.
2009) from coarse to fine, on images whose histograms were matched (Nyul et al. 2000). The parts are the field's usual
ones; the numbers are ours, and docs/atlas.md says how they were chosen.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.case import CaseError
from segan_pl.data.geometry import nearest_rotation
from segan_pl.data.io import Volume
from segan_pl.errors import UsageError

# Certain. Shares are bytes, so that a registration that was kept gives the same bits as a new one.
WHOLE = 255
# In place of a channel: the voxel is not judged.
IGNORED = 255
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
LEVELS_MATCHED = 256


@dataclass(frozen=True)
class Registration:
    """How each labelled case is registered to another one: affine, then demons.

    The defaults were chosen by leave-one-out among four subjects of IBSR18 (IBSR_01, 03, 04 and 07; docs/atlas.md).

    Attributes:
        affine_shrink: Of the affine levels, voxels joined to one along each axis, coarse to fine.
        affine_iterations: At most so many at each level.
        bins: Of the joint histogram of mutual information.
        sampled: Share of the voxels that mutual information is computed from, drawn with `seed`.
        seed: Of that draw.
        matched_points: Quantiles at which the histograms are matched, of 256 levels; only voxels above the mean count.
        forces: Of the demons: "symmetric" (fast symmetric forces) or "diffeomorphic".
        shrink: Of the demons' levels, as `affine_shrink`.
        iterations: Of the demons, one number for each level.
        smoothing: Standard deviation of the displacement field's smoothing after each iteration, in voxels of the
            level; 0 for none.
    """

    affine_shrink: tuple[int, ...] = (4, 2)
    affine_iterations: int = 100
    bins: int = 32
    sampled: float = 0.05
    seed: int = 1
    matched_points: int = 15
    forces: Literal["symmetric", "diffeomorphic"] = "symmetric"
    shrink: tuple[int, ...] = (4, 2, 1)
    iterations: tuple[int, ...] = (60, 40, 10)
    smoothing: float = 0.6

    def __post_init__(self) -> None:
        for name, least in (("affine_iterations", 1), ("bins", 5), ("matched_points", 1)):
            if (found := getattr(self, name)) < least:
                raise ValueError(f"registration.{name} is {found}, expected {least} or more")
        for name in ("affine_shrink", "shrink", "iterations"):
            if not (levels := getattr(self, name)) or min(levels) < 1:
                raise ValueError(f"registration.{name} is {[*levels]}, expected a number of 1 or more for each level")
        if len(self.shrink) != len(self.iterations):
            raise ValueError(
                f"registration.iterations is {[*self.iterations]}, expected one number for each level of "
                f"registration.shrink {[*self.shrink]}"
            )
        if not 0 < self.sampled <= 1:
            raise ValueError(f"registration.sampled is {self.sampled}, expected a share above 0, at most 1")
        if not 0 <= self.smoothing < np.inf:
            raise ValueError(f"registration.smoothing is {self.smoothing}, expected 0 or more")


def simple_itk(extra: str = "atlas") -> Any:
    """SimpleITK, which the extra of a command ("atlas", "clinical") installs.

    Raises:
        UsageError: It is not installed.
    """
    try:
        return importlib.import_module("SimpleITK")
    except ImportError as error:
        raise UsageError(
            f"segan_pl {extra} registers with SimpleITK, which cannot be imported ({error}); pip install "
            f"'segan_pl[{extra}]'"
        ) from error


def warped(
    target: Volume, atlas: Volume, channel: NDArray[np.uint8], channels: int, settings: Registration
) -> NDArray[np.uint8]:
    """The labels of an atlas on the grid of another subject.

    Both transforms are applied at once, by one linear interpolation of each label. One thread does it all, since the
    last bits of mutual information would follow from the number of threads that add it up.

    Args:
        target: The image that the atlas is registered to.
        atlas: The image of the labelled subject; other shape, spacing and axes are fine.
        channel: (D, H, W) on the grid of `atlas`, the channel that each voxel is in, or `IGNORED`.
        channels: K; the first is the background.
        settings: Of the registration.

    Returns:
        (K, D, H, W): how much of each voxel is in each channel, 0 to `WHOLE`, which is the sum but for rounding and
        where voxels of the atlas are not judged. Beyond the atlas's image is background.

    Raises:
        CaseError: The images cannot be registered, as those of one value.
        UsageError: SimpleITK is not installed.
    """
    sitk = simple_itk()
    with one_thread(sitk):
        fixed, moving = as_image(sitk, target.array, target.affine), as_image(sitk, atlas.array, atlas.affine)
        try:
            transform = _registered(sitk, fixed, moving, settings)
        except RuntimeError as error:
            raise CaseError(" ".join(str(error).split()).rpartition("ITK ERROR: ")[2]) from error
        shares = np.zeros((channels, *target.shape), np.float32)
        shares[0] = 1
        for number in (*range(1, channels), IGNORED):
            if (inside := channel == number).any():
                part = sitk.Resample(as_image(sitk, inside, atlas.affine), fixed, transform, sitk.sitkLinear, 0.0)
                share: NDArray[np.float32] = sitk.GetArrayFromImage(part)
                shares[0] -= share
                if number != IGNORED:
                    shares[number] = share
    return np.rint(shares.clip(0, 1) * WHOLE).astype(np.uint8)


def as_image(sitk: Any, array: NDArray, affine: NDArray[np.float64]) -> Any:
    """(D, H, W) voxels as SimpleITK has them: float32, LPS, and axes at right angles, which a sheared file's become."""
    lps = RAS_TO_LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array, np.float32))
    image.SetSpacing(spacing.tolist())
    image.SetDirection(nearest_rotation(lps).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


@contextmanager
def one_thread(sitk: Any) -> Iterator[None]:
    """SimpleITK's filters by one thread, as they were before at the end."""
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def _registered(sitk: Any, fixed: Any, moving: Any, settings: Registration) -> Any:
    """The transform from the fixed image's places to those of the moving one."""
    # the affine transform of the largest mutual information, from centres of mass laid on each other
    affine = sitk.CenteredTransformInitializer(
        fixed, moving, sitk.AffineTransform(3), sitk.CenteredTransformInitializerFilter.MOMENTS
    )
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(settings.bins)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(settings.sampled, settings.seed)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel(list(settings.affine_shrink))
    method.SetSmoothingSigmasPerLevel([factor / 2 for factor in settings.affine_shrink])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, settings.affine_iterations, 0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(affine, inPlace=True)
    method.Execute(fixed, moving)
    nearer = sitk.Resample(moving, fixed, affine, sitk.sitkLinear, 0.0)
    nearer = sitk.HistogramMatching(nearer, fixed, LEVELS_MATCHED, settings.matched_points, True)
    field = _demons(sitk, fixed, nearer, settings)
    # the last one that is added is the first one that is applied
    transform = sitk.CompositeTransform(3)
    transform.AddTransform(affine)
    transform.AddTransform(sitk.DisplacementFieldTransform(field))
    return transform


def _demons(sitk: Any, fixed: Any, moving: Any, settings: Registration) -> Any:
    """The displacement field (mm) between two images on one grid, each level starting from the coarser one's."""
    kinds = {
        "symmetric": sitk.FastSymmetricForcesDemonsRegistrationFilter,
        "diffeomorphic": sitk.DiffeomorphicDemonsRegistrationFilter,
    }
    field: Any = None
    for factor, iterations in zip(settings.shrink, settings.iterations, strict=True):
        here, there = (_coarser(sitk, image, factor) for image in (fixed, moving))
        method = kinds[settings.forces]()
        method.SetNumberOfIterations(iterations)
        method.SetSmoothDisplacementField(settings.smoothing > 0)
        method.SetStandardDeviations(settings.smoothing or 1.0)
        if field is None:
            field = method.Execute(here, there)
        else:
            start = sitk.Resample(field, here, sitk.Transform(), sitk.sitkLinear, 0.0, field.GetPixelID())
            field = method.Execute(here, there, start)
    return sitk.Resample(field, fixed, sitk.Transform(), sitk.sitkLinear, 0.0, field.GetPixelID())


def _coarser(sitk: Any, image: Any, factor: int) -> Any:
    """An image of every `factor`-th voxel, smoothed first."""
    if factor == 1:
        return image
    smooth = sitk.SmoothingRecursiveGaussian(image, [factor / 2 * mm for mm in image.GetSpacing()])
    return sitk.Shrink(smooth, [factor] * image.GetDimension())
