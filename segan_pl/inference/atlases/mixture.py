"""A Gaussian mixture of intensities whose weights differ from voxel to voxel: expectation maximisation with an atlas.

As in Van Leemput et al. 1999 and Ashburner and Friston 2005, without their bias field: the probability of a tissue in a
voxel before its intensity is looked at comes from registered labels, and each tissue's intensities are one Gaussian.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# A tissue's variance is at least this share of the variance of all values, so that none shrinks to a single value.
LEAST_VARIANCE = 1e-4
# Tissues with less, in voxels, have no intensities to be told by.
LEAST_VOXELS = 1.0


@dataclass(frozen=True)
class MixtureOptions:
    """How the mixture is fitted, with the method of that name.

    Attributes:
        smoothing_mm: Standard deviation of the Gaussian that the averaged labels are smoothed with.
        iterations: At most so many.
        tolerance: The fit ends where the mean log-likelihood of a voxel rises by less.
    """

    smoothing_mm: float = 1.0
    iterations: int = 100
    tolerance: float = 1e-5

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing_mm < np.inf:
            raise ValueError(f"mixture.smoothing_mm is {self.smoothing_mm}, expected 0 or more")
        if self.iterations < 1:
            raise ValueError(f"mixture.iterations is {self.iterations}, expected 1 or more")
        if not self.tolerance > 0:
            raise ValueError(f"mixture.tolerance is {self.tolerance}, expected a number above 0")


class Gaussians(NamedTuple):
    """What a fit found.

    Attributes:
        means: (K,) float64, NaN for a tissue that is not there.
        variances: (K,) float64, the same.
        log_likelihoods: Mean over the voxels, before each iteration's step; they never fall.
    """

    means: NDArray[np.float64]
    variances: NDArray[np.float64]
    log_likelihoods: tuple[float, ...]


def smoothed_prior(
    shares: Sequence[NDArray[np.uint8]], spacing_mm: Sequence[float], smoothing_mm: float
) -> NDArray[np.float32]:
    """The probability of each channel in each voxel by the mean of registered labels, smoothed.

    Args:
        shares: Of each atlas (K, D, H, W), how much of each voxel is in each channel; the scale does not matter.
        spacing_mm: (z, y, x).
        smoothing_mm: Standard deviation of the Gaussian; beyond the border, the border's value.

    Returns:
        (K, D, H, W) float32, 1 in all; background (the first channel) where no atlas says anything.
    """
    from scipy import ndimage  # half a second, which only those should pay who smooth

    sigma = [smoothing_mm / mm for mm in spacing_mm]
    total = np.zeros(shares[0].shape, np.float32)
    for one in shares:
        total += one
    for channel in total:
        ndimage.gaussian_filter(channel, sigma, output=channel, mode="nearest")
    whole = total.sum(0)
    silent = whole <= 0
    total[0][silent] = whole[silent] = 1
    total /= whole
    return total


def fit_gaussians(values: NDArray, prior: NDArray, options: MixtureOptions) -> Gaussians:
    """Means and variances of the largest likelihood, by expectation maximisation.

    The likelihood of a voxel of value x is the sum over k of prior[k] N(x; mean[k], variance[k]); the prior stays as it
    is. The first step takes the prior for the responsibilities, so nothing is drawn.

    Args:
        values: (N,) intensities.
        prior: (K, N), 1 in all for each voxel.
        options: When to end.
    """
    x = np.asarray(values, np.float64)
    there = prior.sum(1) >= LEAST_VOXELS
    means, variances = np.full(len(prior), np.nan), np.full(len(prior), np.nan)
    least = max(LEAST_VARIANCE * float(x.var()), np.finfo(np.float64).tiny) if x.size else 1.0
    found: list[float] = []
    share = np.asarray(prior, np.float64)
    for _ in range(options.iterations):
        weight = share[there].sum(1)
        # a tissue that lost all of its voxels keeps its place, and a weight of nearly 0
        weight = np.maximum(weight, np.finfo(np.float64).tiny)
        # sums and no products of matrices, whose last bits follow from the number of threads
        means[there] = (share[there] * x).sum(1) / weight
        spread = (share[there] * (x - means[there][:, None]) ** 2).sum(1) / weight
        variances[there] = np.maximum(spread, least)
        share, likelihood = responsibilities(x, prior, means, variances)
        found.append(likelihood)
        if len(found) > 1 and found[-1] - found[-2] < options.tolerance:
            break
    return Gaussians(means, variances, tuple(found))


def responsibilities(
    values: NDArray, prior: NDArray, means: NDArray[np.float64], variances: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """The probability of each tissue in each voxel, given its value, and the mean log-likelihood of a voxel.

    Args:
        values: (N,) intensities.
        prior: (K, N), 1 in all for each voxel.
        means: (K,), NaN for a tissue that is not there; its probability is 0.
        variances: (K,).

    Returns:
        (K, N) float64, 1 in all where any tissue that is there is possible, else 0; and the mean over those.
    """
    x = np.asarray(values, np.float64)
    logs = np.full(prior.shape, -np.inf)
    with np.errstate(divide="ignore"):  # the log of a prior of 0
        for k in np.flatnonzero(np.isfinite(means)):
            logs[k] = np.log(prior[k]) - 0.5 * ((x - means[k]) ** 2 / variances[k] + np.log(2 * np.pi * variances[k]))
    most = logs.max(0)
    possible = np.isfinite(most)
    share = np.exp(logs - np.where(possible, most, 0))
    whole = share.sum(0)
    share /= np.where(possible, whole, 1)
    evidence = most[possible] + np.log(whole[possible])
    return share, float(evidence.mean()) if evidence.size else 0.0
