"""The Gaussian mixture against a maximiser that knows no expectation maximisation, and against numbers by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import norm

from segan_pl.inference.atlases.mixture import MixtureOptions, fit_gaussians, responsibilities, smoothed_prior

LONG = MixtureOptions(iterations=500, tolerance=1e-12)


def drawn(seed: int = 0, voxels: int = 3000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Intensities of three tissues, a prior that is right as often as it says, and the tissues."""
    random = np.random.default_rng(seed)
    prior = random.dirichlet([0.6, 1.0, 1.5], voxels).T
    tissue = (random.random(voxels) > np.cumsum(prior, 0)).sum(0)
    values = random.normal(np.array([20.0, 50.0, 80.0])[tissue], np.array([8.0, 10.0, 5.0])[tissue])
    return values, prior, tissue


def mean_log_likelihood(values: np.ndarray, prior: np.ndarray, means: np.ndarray, sds: np.ndarray) -> float:
    return float(np.log((prior * norm.pdf(values, means[:, None], sds[:, None])).sum(0)).mean())


def test_the_fit_is_the_largest_likelihood_that_a_general_maximiser_finds() -> None:
    values, prior, _ = drawn()

    def loss(parameters: np.ndarray) -> float:
        return -mean_log_likelihood(values, prior, parameters[:3], np.exp(parameters[3:]))

    best = minimize(loss, [30.0, 50.0, 70.0, 2.0, 2.0, 2.0], method="BFGS", options={"gtol": 1e-7})
    found = fit_gaussians(values, prior, LONG)
    np.testing.assert_allclose(found.means, best.x[:3], rtol=1e-3)
    np.testing.assert_allclose(np.sqrt(found.variances), np.exp(best.x[3:]), rtol=1e-3)
    assert found.log_likelihoods[-1] == pytest.approx(-best.fun, abs=1e-7)


def test_the_likelihood_never_falls_and_the_fit_ends() -> None:
    values, prior, _ = drawn(1)
    rising = fit_gaussians(values, prior, MixtureOptions()).log_likelihoods
    assert 2 < len(rising) < 100
    assert (np.diff(rising) >= -1e-12).all()


def test_a_prior_without_doubt_gives_each_tissues_own_mean_and_variance() -> None:
    values = np.array([1.0, 3.0, 10.0, 12.0, 17.0])
    prior = np.array([[1, 1, 0, 0, 0], [0, 0, 1, 1, 1]], np.float32)
    found = fit_gaussians(values, prior, LONG)
    np.testing.assert_allclose(found.means, [2, 13])
    np.testing.assert_allclose(found.variances, [1, 26 / 3])


def test_responsibilities_are_bayes_rule() -> None:
    values, means, variances = np.array([0.0, 1.0]), np.array([0.0, 2.0]), np.array([1.0, 4.0])
    prior = np.array([[0.5, 0.2], [0.5, 0.8]])
    share, likelihood = responsibilities(values, prior, means, variances)
    joint = prior * norm.pdf(values, means[:, None], np.sqrt(variances)[:, None])
    np.testing.assert_allclose(share, joint / joint.sum(0))
    assert likelihood == pytest.approx(np.log(joint.sum(0)).mean())


def test_intensities_tell_more_than_the_prior_alone() -> None:
    values, prior, tissue = drawn(2)
    found = fit_gaussians(values, prior, MixtureOptions())
    share, _ = responsibilities(values, prior, found.means, found.variances)
    assert (share.argmax(0) == tissue).mean() > (prior.argmax(0) == tissue).mean() + 0.1


def test_a_tissue_that_no_atlas_has_is_found_nowhere() -> None:
    values, prior, _ = drawn()
    prior = np.concatenate([prior, np.zeros((1, len(values)))])
    found = fit_gaussians(values, prior, MixtureOptions())
    share, _ = responsibilities(values, prior, found.means, found.variances)
    assert np.isnan(found.means[3])
    assert not share[3].any()
    np.testing.assert_allclose(share.sum(0), 1)


@pytest.mark.parametrize("values", [np.zeros(0), np.full(50, 7.0)])
def test_no_voxel_and_one_value_give_numbers(values: np.ndarray) -> None:
    prior = np.full((2, len(values)), 0.5)
    found = fit_gaussians(values, prior, MixtureOptions())
    share, likelihood = responsibilities(values, prior, found.means, found.variances)
    assert share.shape == prior.shape
    assert np.isfinite(share).all()
    assert np.isfinite(likelihood)


def test_the_prior_is_the_mean_of_the_atlases() -> None:
    one, other = np.zeros((2, 3, 4, 5), np.uint8), np.zeros((2, 3, 4, 5), np.uint8)
    one[0], other[1] = 255, 255
    other[:, 0, 0, 0] = 0  # not judged by that atlas
    one[:, 1, 1, 1] = other[:, 1, 1, 1] = 0  # by none
    prior = smoothed_prior([one, other], (1, 1, 1), 0)
    np.testing.assert_array_equal(prior[:, 2, 2, 2], [0.5, 0.5])
    np.testing.assert_array_equal(prior[:, 0, 0, 0], [1, 0])
    np.testing.assert_array_equal(prior[:, 1, 1, 1], [1, 0])


def test_the_prior_is_smoothed_in_millimetres_and_sums_to_one() -> None:
    share = np.zeros((2, 21, 21, 21), np.uint8)
    share[1, 10, 10, 10] = 255
    share[0] = 255 - share[1]
    prior = smoothed_prior([share], (4, 1, 1), 2.0)
    np.testing.assert_allclose(prior.sum(0), 1, rtol=1e-5)
    assert prior[1, 10, 10, 12] > 10 * prior[1, 12, 10, 10]  # 2 mm against 8 mm away
    # a Gaussian's density at 2 mm is exp(-1/2) of that at its middle
    assert prior[1, 10, 10, 12] / prior[1, 10, 10, 10] == pytest.approx(np.exp(-0.5), rel=0.02)


@pytest.mark.parametrize(("name", "value"), [("smoothing_mm", -1.0), ("iterations", 0), ("tolerance", 0.0)])
def test_impossible_options_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"^mixture.{name} is {value}, expected [^,\n]+$"):
        MixtureOptions(**{name: value})  # type: ignore[arg-type]
