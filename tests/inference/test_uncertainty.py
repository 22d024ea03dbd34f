"""The variance between members against NumPy's over all of them at once."""

from __future__ import annotations

import csv
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from segan_pl.__main__ import main
from segan_pl.data.io import read_volume
from segan_pl.data.labels import label_scheme
from segan_pl.data.layouts import find_cases
from segan_pl.data.prepare.case import prepare
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.errors import UsageError
from segan_pl.inference.prediction import Settings
from segan_pl.inference.predictor import Predictor
from segan_pl.inference.trained import TrainedSegmentor, probabilities
from segan_pl.inference.uncertainty import Spread
from tests.cohort import QUIET
from tests.inference.segmentors import segmentor
from tests.inference.test_predictor import train

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = QUIET


@pytest.mark.parametrize("labels", ["whole_tumour", "regions", "labels"])
def test_the_spread_is_numpys_weighted_variance(labels: str) -> None:
    scheme, generator = label_scheme(labels), torch.Generator().manual_seed(0)
    members = torch.rand(5, len(scheme.channels), 3, 4, 5, generator=generator)
    members = members.softmax(1) if labels == "labels" else members * 0.8
    weights, spread = [0.5, 2.0, 1.0, 1.0, 0.25], Spread(scheme)
    for member, weight in zip(members, weights, strict=True):
        spread.add(member, weight)
    p = members.double().numpy()
    mean = np.average(p, axis=0, weights=weights)
    expected = np.average((p - mean) ** 2, axis=0, weights=weights).sum(0)
    np.testing.assert_allclose(spread.variance(), expected, rtol=1e-4, atol=1e-7)
    decided = p.argmax(1) > 0 if labels == "labels" else (p > 0.5).any(1)
    assert spread.number() == pytest.approx(expected[decided.any(0)].mean(), rel=1e-4)


def test_members_that_agree_have_no_variance_and_nothing_found_is_certain() -> None:
    spread = Spread(label_scheme("whole_tumour"))
    for _ in range(3):
        spread.add(torch.full((1, 2, 2, 2), 0.3), 1.0)
    assert not spread.variance().any()
    assert spread.number() == 0


def pair(preparation: Preparation) -> list[TrainedSegmentor]:
    """Two that disagree, the second also with its own mirror image."""
    first = segmentor("flair", preparation=preparation, digest="one")
    slope = torch.linspace(-1, 1, 64)
    second = segmentor(
        "flair", preparation=preparation, digest="two", logits=lambda image: image + slope[: image.shape[-1]]
    )
    return [first, second]


@pytest.mark.parametrize("spacing", [None, (2.0, 2.0, 1.0)])
def test_members_are_checkpoints_times_mirror_images_on_the_files_grid(
    cohort: Path, spacing: tuple[float, float, float] | None
) -> None:
    case, wanted = find_cases(cohort)[0], Preparation(crop=(6, 20, 24), spacing_mm=spacing)
    models, mirror, weights = pair(wanted), (1, 2), (1.0, 3.0)
    plain = Predictor(models, Settings(mirror=mirror, weights=weights))(case, probability=True)
    found = Predictor(models, Settings(mirror=mirror, weights=weights, uncertainty=True))(case, probability=True)
    one = prepare(case.__class__(case.name, case.patient, {"flair": case.images["flair"]}), wanted)
    image, members, shares = torch.from_numpy(one.image), [], []
    for model, weight in zip(models, weights, strict=True):
        for flips in [axes for size in range(3) for axes in combinations((2, 3), size)]:
            part = probabilities(model, image.flip(flips)).flip(flips)
            members.append(one.geometry.restore(part.numpy()))
            shares.append(weight)
    p = np.stack(members).astype(np.float64)
    mean = np.average(p, axis=0, weights=shares)
    expected = np.average((p - mean) ** 2, axis=0, weights=shares).sum(0)
    assert found.variance is not None
    np.testing.assert_allclose(found.variance, expected, atol=1e-7)
    assert expected.max() > 1e-3
    assert found.uncertainty == pytest.approx(expected[(p > 0.5).any((0, 1))].mean(), rel=1e-4)
    np.testing.assert_array_equal(found.label, plain.label)  # asking changes nothing else
    np.testing.assert_allclose(found.probability, plain.probability, atol=1e-7)
    assert plain.variance is plain.uncertainty is None


def test_one_member_has_nothing_to_differ_from() -> None:
    with pytest.raises(UsageError, match="--uncertainty: one checkpoint without --mirror has nothing to differ from"):
        Predictor([segmentor("flair")], Settings(uncertainty=True))


def test_a_case_of_zeros_is_certain(tmp_path: Path) -> None:
    predictor = Predictor(pair(Preparation(crop=None)), Settings(uncertainty=True))
    found = predictor({"flair": np.zeros((4, 8, 8), np.int16)}, spacing_mm=(1, 1, 1))
    assert found.variance is not None
    assert not found.variance.any()
    assert found.uncertainty == 0


def test_predict_writes_the_map_and_one_number_a_case(cohort: Path, prepared: Path, tmp_path: Path) -> None:
    checkpoint = train(tmp_path, cohort, prepared, "wt")
    line = ["predict", "--ckpt_path", str(checkpoint), f"--root={cohort}", f"--output={tmp_path / 'out'}"]
    assert main([*line, "--mirror", "1", "2", "--uncertainty=true"]) == 0
    with (tmp_path / "out" / "predictions.csv").open() as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    predictor = Predictor.load(checkpoint, settings=Settings(mirror=(1, 2), uncertainty=True))
    for case in find_cases(cohort)[:2]:
        found = predictor(case)
        written = read_volume(tmp_path / "out" / f"{case.name}_variance.nii.gz")
        np.testing.assert_array_equal(written.array, found.variance)
        np.testing.assert_array_equal(written.affine, found.affine)
        assert float(rows[case.name]["uncertainty"]) == pytest.approx(found.uncertainty, rel=1e-5)
    assert main([*line, "--mirror", "1", "2"]) == 2  # other settings made the folder
