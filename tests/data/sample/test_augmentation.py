"""What is drawn for each sample: options that do not shift one another, ranges, and the authors' distributions."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from segan_pl.data.sample.changes import Changes, draw_changes
from segan_pl.data.sample.intensities import with_intensities
from segan_pl.data.sample.options import Augmentation
from segan_pl.errors import UsageError

ALL: dict[str, object] = {
    **{"elastic": 0.5, "rotation": 0.5, "scaling": 0.5, "mirror": (0.5, 0.5, 0.5), "brightness": 0.5, "gamma": 0.5},
    **{"inverted_gamma": 0.5, "noise": 0.5, "blur": 0.5, "contrast": 0.5, "low_resolution": 0.5},
}
ALBUNET = Augmentation(
    **{"elastic": 0.1, "rotation": 0.1, "scaling": 0.1, "mirror": (0.5, 0.5, 0.5), "brightness": 0.15, "gamma": 0.15},
    **{"inverted_gamma": 0.15, "keep_background": False, "noise": 0.15, "blur": 0.15},
)


def draw(size: int = 50, modalities: int = 3, **options: object) -> Changes:
    return draw_changes(torch.arange(size), Augmentation(**options), modalities)  # type: ignore[arg-type]


def test_the_default_changes_nothing() -> None:
    made = draw()
    assert not made.moved.any()
    assert not made.mirror.any()
    for name in ("brightness", "contrast", "gamma", "inverted_gamma", "low_resolution"):
        assert (getattr(made, name) == 1).all()
    assert not made.noise.any()
    assert not made.blur.any()
    assert not Augmentation(modality_dropout=0.5).varies


@pytest.mark.parametrize("name", sorted(ALL))
def test_an_option_does_not_shift_the_draws_of_the_others(name: str) -> None:
    every, without = draw(**ALL), draw(**{**ALL, name: (0.0, 0.0, 0.0) if name == "mirror" else 0.0})
    field = {"elastic": "share", "rotation": "angles", "scaling": "scale"}.get(name, name)
    assert not torch.equal(getattr(every, field), getattr(without, field))
    for other in set(Changes._fields) - {field}:
        assert torch.equal(getattr(every, other), getattr(without, other))


def test_a_modality_more_does_not_shift_the_draws_of_the_others_and_a_sample_knows_no_other() -> None:
    three, four = draw(modalities=3, **ALL), draw(modalities=4, **ALL)
    assert torch.equal(three.gamma, four.gamma[:, :3])
    assert torch.equal(three.blur, four.blur[:, :3])
    assert torch.equal(three.low_resolution, four.low_resolution[:, :3])
    some = draw_changes(torch.tensor([7, 3]), Augmentation(**ALL), 3)  # type: ignore[arg-type]
    for field, whole in zip(some, three, strict=True):
        assert torch.equal(field, whole[[7, 3]])


# -- the former distributions ------------------------------------------------------------------------------------------


def around_one(rng: np.random.Generator, low: float, high: float, size: int) -> np.ndarray:
    """The authors': a coin says whether below or above 1."""
    return np.where(rng.random(size) < 0.5, rng.uniform(low, 1, size), rng.uniform(1, high, size))


def formerly(size: int) -> dict[str, np.ndarray]:
    """The formulas for AlbuNet's values, as they stood in the code that drew one sample at a time."""
    rng = np.random.default_rng(1)
    happens = {name: rng.random(size) < 0.1 for name in ("share", "angles", "scale")}
    happens |= {name: rng.random(size) < 0.15 for name in ("brightness", "gamma", "inverted_gamma", "noise", "blur")}
    return {
        "share": happens["share"] * rng.uniform(0, 0.25, size),
        "strength": rng.uniform(1 / 8, 1 / 2, size),
        "angles": happens["angles"] * np.deg2rad(rng.uniform(-15, 15, size)),
        "scale": np.where(happens["scale"], around_one(rng, 0.75, 1.25, size), 1),
        "mirror": (rng.random(size) < 0.5).astype(float),
        "brightness": np.where(happens["brightness"], rng.uniform(0.7, 1.5, size), 1),
        "gamma": np.where(happens["gamma"], around_one(rng, 0.5, 2, size), 1),
        "inverted_gamma": np.where(happens["inverted_gamma"], around_one(rng, 0.5, 2, size), 1),
        "noise": happens["noise"] * rng.uniform(0, 0.05, size),
        "blur": (happens["blur"] & (rng.random(size) < 0.5)) * rng.uniform(0.5, 1.5, size),
    }


def test_parameters_have_the_distribution_of_the_former_formulas() -> None:
    size = 40_000
    made, former = draw_changes(torch.arange(size), ALBUNET, 3), formerly(size)
    for name, expected in former.items():
        columns = getattr(made, name).double().reshape(size, -1).numpy().T
        for column in columns:
            assert stats.ks_2samp(column, expected).pvalue > 1e-4, name
            assert column.mean() == pytest.approx(expected.mean(), abs=6 * expected.std() / math.sqrt(size)), name
        for one, other in pairwise(columns):  # axes and modalities: numbers of their own
            happens = (one != other.mean()) & (one != 0) & (one != 1)
            if happens.sum() > 500 and name != "mirror":
                assert abs(np.corrcoef(one[happens], other[happens])[0, 1]) < 0.1, name


def test_options_of_one_sample_are_drawn_independently() -> None:
    made = draw_changes(torch.arange(40_000), Augmentation(**ALL), 3)  # type: ignore[arg-type]
    space = [made.share > 0, made.angles[:, 0] != 0, made.scale != 1, *made.mirror.T]
    values = [made.brightness[:, 0] != 1, made.gamma[:, 0] != 1, made.inverted_gamma[:, 0] != 1]
    values += [made.contrast[:, 0] != 1, (made.low_resolution < 1).any(1)]
    happens = torch.stack([*space, *values, made.noise > 0, (made.blur > 0).any(1)]).double()
    assert float(torch.corrcoef(happens).sub(torch.eye(len(happens))).abs().max()) < 0.025


def test_a_seed_draws_what_it_drew_before_there_were_contrast_and_low_resolution() -> None:
    made = draw_changes(torch.tensor([2]), Augmentation(**{**ALL, "brightness": 1, "gamma": 1, "blur": 1}), 2)  # type: ignore[arg-type]
    expected = {"strength": [0.450767, 0.39603, 0.370976], "share": [0.235193], "noise": [0.048636]}
    expected |= {"brightness": [1.139982, 1.124047], "gamma": [0.766176, 1.701815], "blur": [1.031949, 0.0]}
    for name, numbers in expected.items():
        assert getattr(made, name).flatten().tolist() == pytest.approx(numbers, abs=1e-6), name


def test_contrast_and_low_resolution_are_uniform_in_their_ranges() -> None:
    size = 40_000
    made = draw(size, 2, contrast=0.3, low_resolution=0.25, low_resolution_range=(0.6, 0.9))
    for field, chance, low, high in ((made.contrast, 0.3, 0.75, 1.25), (made.low_resolution, 0.125, 0.6, 0.9)):
        for column in field.T:
            drawn = column[column != 1]
            assert len(drawn) / size == pytest.approx(chance, abs=0.01)
            assert stats.kstest(drawn.numpy(), stats.uniform(low, high - low).cdf).pvalue > 1e-4
        both = (field != 1).all(1)
        assert abs(np.corrcoef(field[both].T)[0, 1]) < 0.05


def formerly_changed(volume: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """AlbuNet's intensities on (M, D, H, W), one sample at a time, as the former code had them."""
    happens = rng.random(5) < 0.15
    if happens[0]:
        volume = volume * rng.uniform(0.7, 1.5, (len(volume), 1, 1, 1))
    for number in (1, 2):
        if happens[number]:
            sign = 1 if number == 1 else -1
            exponents = around_one(rng, 0.5, 2, len(volume))
            bent = []
            for one, exponent in zip(sign * volume, exponents, strict=True):
                low, high = one.min(), one.max()
                bent.append(sign * (((one - low) / (high - low + 1e-7)) ** exponent * (high - low) + low))
            volume = np.stack(bent)
    if happens[3]:
        volume = volume + rng.uniform(0, 0.05) * rng.standard_normal(volume.shape)
    if happens[4]:
        volume = np.stack(
            [
                ndimage.gaussian_filter(one, rng.uniform(0.5, 1.5), mode="reflect") if rng.random() < 0.5 else one
                for one in volume
            ]
        )
    return volume


def test_voxels_have_the_distribution_of_the_former_formulas() -> None:
    size = 1500
    rng = np.random.default_rng(0)
    volume = ndimage.gaussian_filter(rng.standard_normal((2, 6, 10, 10)), (0, 1, 1, 1)) * 4
    former = np.stack([formerly_changed(volume, np.random.default_rng([7, n])) for n in range(size)])
    image = torch.from_numpy(volume).float().repeat(size, 1, 1, 1, 1)
    seed = torch.arange(size)
    shown = torch.ones(size, 2, dtype=torch.bool)
    found = with_intensities(image, draw_changes(seed, ALBUNET, 2), seed, shown).double().numpy()
    for statistic in (np.mean, np.std, np.min, np.max, np.median):
        one, other = (statistic(voxels.reshape(size * 2, -1), axis=1).round(3) for voxels in (found, former))
        plain = statistic(volume.reshape(2, -1), axis=1)
        assert stats.ks_2samp(one, other).pvalue > 1e-3, statistic.__name__
        assert np.isclose(one, np.tile(plain, size), atol=1e-3).mean() == pytest.approx(
            np.isclose(other, np.tile(plain, size), atol=1e-3).mean(), abs=0.05
        )
    for quantile in (0.01, 0.1, 0.5, 0.9, 0.99):
        assert np.quantile(found, quantile) == pytest.approx(np.quantile(former, quantile), abs=0.05)


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"noise": 1.5}, r"noise 1.5: expected a chance from 0 to 1$"),
        ({"blur_modality": math.nan}, r"blur_modality nan: expected a chance"),
        ({"mirror": (0.5, 0.5, -1)}, r"mirror \[0.5, 0.5, -1\]: expected three chances from 0 to 1 \(z, y, x\)$"),
        ({"mirror": 0.5}, "mirror 0.5: expected three chances"),
        ({"rotation_deg": -15.0}, "rotation_deg -15.0: expected degrees, at least 0$"),
        ({"rotation_deg": math.inf}, "rotation_deg inf: expected degrees"),
        ({"noise_range": (0.2, 0.1)}, r"noise_range \[0.2, 0.1\]: expected two numbers from 0 on, the smaller first$"),
        ({"noise_range": (0.0, 0.1, 9.0)}, r"noise_range .* expected two numbers"),
        ({"brightness_range": (0.7, math.inf)}, "brightness_range .* expected two numbers"),
        ({"elastic_scale": (-0.1, 0.2)}, "elastic_scale .* expected two numbers from 0 on"),
        ({"blur_range": (0.0, 1.0)}, r"blur_range \[0.0, 1.0\]: expected voxels above 0$"),
        ({"blur_range": (-1.0, 1.0)}, "blur_range .* expected two numbers from 0 on"),
        ({"scale_range": (1.1, 1.3)}, r"scale_range \[1.1, 1.3\]: expected a range around 1, above 0$"),
        ({"gamma_range": (0.0, 1.3)}, "gamma_range .* expected a range around 1, above 0$"),
        ({"contrast": 2.0}, r"contrast 2.0: expected a chance from 0 to 1$"),
        ({"contrast_range": (1.2, 0.8)}, r"contrast_range .* expected two numbers from 0 on, the smaller first$"),
        ({"low_resolution": -0.1}, "low_resolution -0.1: expected a chance from 0 to 1$"),
        ({"low_resolution_modality": 1.5}, "low_resolution_modality 1.5: expected a chance from 0 to 1$"),
        ({"low_resolution_range": (0.0, 1.0)}, r"low_resolution_range \[0.0, 1.0\]: expected shares of a side above 0"),
        ({"low_resolution_range": (0.5, 2.0)}, r"low_resolution_range .* above 0 and at most 1$"),
        ({"modality_dropout": 1.0}, r"modality_dropout 1.0: expected a chance from 0 to below 1$"),
    ],
)
def test_senseless_settings_are_refused_by_their_option(wrong: dict[str, object], error: str) -> None:
    with pytest.raises(UsageError, match=f"^--data.augmentation.{error}"):
        Augmentation(**wrong)  # type: ignore[arg-type]


def test_moments_that_no_gamma_would_move_are_refused() -> None:
    for options in ({"gamma": 0.1}, {"inverted_gamma": 0.1}):
        Augmentation(gamma_keeps_moments=True, **options).require_sense((8, 8), ["t1"])
    with pytest.raises(UsageError, match="gamma_keeps_moments true: neither gamma nor inverted_gamma"):
        Augmentation(gamma_keeps_moments=True, noise=0.1).require_sense((8, 8), ["t1"])
