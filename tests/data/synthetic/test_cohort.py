"""The generated cohort: repeatable, in BraTS form, and as hard in each contrast as real scans are."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from segan_pl.data.case import MODALITIES
from segan_pl.data.io import read_volume
from segan_pl.data.synthetic.cohort import SCANNERS, SyntheticCase, make_case, make_cohort, make_cohort_once
from segan_pl.data.synthetic.phantom import FLUID, GREY, WHITE, draw_anatomy, draw_tumour, smooth_field

SHAPE = (24, 64, 64)


@pytest.fixture(scope="module")
def cases() -> list[SyntheticCase]:
    return [make_case(i, shape=SHAPE) for i in range(8)]


def contents(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in sorted(root.rglob("*.nii.gz"))}


def separability(value: NDArray, tumour: NDArray) -> float:
    """Area under the ROC of the best classifier that sees one voxel: the likelihood ratio, here by histogram."""
    edges = np.quantile(value, np.linspace(0, 1, 41))
    positive, negative = (np.histogram(value[part], edges)[0] for part in (tumour, ~tumour))
    order = np.argsort(-(positive + 1) / (negative + 1))
    hit, false = (np.r_[0, np.cumsum(n[order])] / n.sum() for n in (positive, negative))
    return float(np.trapezoid(hit, false))


def test_same_seed_gives_the_same_bytes_and_a_larger_cohort_begins_with_the_smaller(tmp_path: Path) -> None:
    for folder, cases in (("two", 2), ("again", 2), ("three", 3)):
        make_cohort(tmp_path / folder, cases=cases, shape=(16, 48, 48), seed=4)
    two, again, three = (contents(tmp_path / folder) for folder in ("two", "again", "three"))
    assert two == again
    assert len(two) == 10
    assert two.items() < three.items()


def test_another_seed_gives_another_brain_and_another_tumour() -> None:
    one, other = (make_case(0, shape=SHAPE, seed=seed) for seed in (0, 1))
    assert (one.label != other.label).any()
    assert (one.tissue != other.tissue).mean() > 0.05
    assert (one.images["t1"] != other.images["t1"]).any()


def test_a_modality_is_the_same_when_made_alone() -> None:
    whole, alone = make_case(3, shape=SHAPE), make_case(3, shape=SHAPE, modalities=["flair"])
    assert list(alone.images) == ["flair"]
    np.testing.assert_array_equal(alone.images["flair"], whole.images["flair"])
    np.testing.assert_array_equal(alone.label, whole.label)


def test_labels_are_native_and_lie_inside_the_brain(cases: list[SyntheticCase]) -> None:
    for case in cases:
        assert case.label.dtype == np.uint8
        assert set(np.unique(case.label)) <= {0, 1, 2, 4}
        assert not case.label[case.tissue == 0].any()


def test_tumours_take_between_1_and_12_percent_of_the_brain_and_differ_in_size(cases: list[SyntheticCase]) -> None:
    share = [(case.label > 0).sum() / (case.tissue > 0).sum() for case in cases]
    assert 0.009 < min(share) < 0.4 * max(share)
    assert max(share) < 0.121


def test_high_grade_has_a_ring_round_a_core_and_low_grade_hardly_enhances(cases: list[SyntheticCase]) -> None:
    def enhancing(grade: str) -> list[float]:
        return [(c.label == 4).sum() / (c.label > 0).sum() for c in cases if c.grade == grade]

    assert min(enhancing("HGG")) > 0.02
    assert max(enhancing("LGG")) < min(0.1, min(enhancing("HGG")))


def test_both_grades_and_all_institutions_occur(cases: list[SyntheticCase]) -> None:
    assert set(Counter(case.grade for case in cases)) == {"HGG", "LGG"}
    assert Counter(case.institution for case in cases) == {scanner.institution: 2 for scanner in SCANNERS}


@pytest.mark.parametrize("hgg", [0.0, 0.25, 1.0])
def test_share_of_high_grade_is_as_asked(hgg: float) -> None:
    grades = [make_case(i, shape=(8, 24, 24), hgg=hgg, modalities=[]).grade for i in range(40)]
    assert grades.count("HGG") / 40 == pytest.approx(hgg, abs=0.03)


def test_background_is_exactly_zero_and_the_brain_is_not(cases: list[SyntheticCase]) -> None:
    for case in cases:
        for image in case.images.values():
            assert image.dtype == np.int16
            np.testing.assert_array_equal(image > 0, case.tissue > 0)
        assert 0.15 < (case.tissue > 0).mean() < 0.4


@pytest.mark.parametrize(
    ("modality", "order"),
    [
        ("t1", (WHITE, GREY, FLUID)),
        ("t1ce", (WHITE, GREY, FLUID)),
        ("t2", (FLUID, GREY, WHITE)),
        ("flair", (GREY, WHITE, FLUID)),
    ],
)
def test_tissues_have_the_order_of_brightness_of_the_contrast(
    cases: list[SyntheticCase], modality: str, order: tuple[int, ...]
) -> None:
    for case in cases:
        healthy = case.label == 0
        medians = [np.median(case.images[modality][healthy & (case.tissue == tissue)]) for tissue in order]
        assert medians == sorted(medians, reverse=True), case.name


def test_contrast_agent_shows_in_t1ce_alone(cases: list[SyntheticCase]) -> None:
    for case in (c for c in cases if c.grade == "HGG"):
        rim, white = case.label == 4, (case.tissue == WHITE) & (case.label == 0)
        plain, enhanced = (np.median(case.images[m][rim]) / np.median(case.images[m][white]) for m in ("t1", "t1ce"))
        assert plain < 1
        assert enhanced > 1.15 * plain


def test_a_voxel_tells_most_in_flair_and_least_in_t1(cases: list[SyntheticCase]) -> None:
    score = {
        modality: np.mean([separability(c.images[modality][c.tissue > 0], c.label[c.tissue > 0] > 0) for c in cases])
        for modality in MODALITIES
    }
    assert score["flair"] > score["t2"] > score["t1ce"] > score["t1"]
    assert score["flair"] - score["t1"] > 0.1
    assert score["flair"] < 0.99  # age-related change, noise and bias leave work for a network


def test_files_are_named_as_in_brats_2019_and_carry_its_affine(tmp_path: Path) -> None:
    names = make_cohort(tmp_path, cases=3, shape=(8, 32, 24))
    assert names == ["BraTS19_CBICA_000_1", "BraTS19_TCIA01_001_1", "BraTS19_TCIA02_002_1"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["HGG", "LGG"]
    case = make_case(2, shape=(8, 32, 24))
    folder = tmp_path / "LGG" / names[2]
    assert {p.name for p in folder.iterdir()} == {f"{names[2]}_{m}.nii.gz" for m in (*MODALITIES, "seg")}
    for kind, array in {**case.images, "seg": case.label}.items():
        volume = read_volume(folder / f"{names[2]}_{kind}.nii.gz")
        np.testing.assert_array_equal(volume.array, array)
        np.testing.assert_array_equal(volume.affine, [[-1, 0, 0, 0], [0, -1, 0, 31], [0, 0, 1, 0], [0, 0, 0, 1]])


def test_a_killed_generation_leaves_no_cohort_and_the_next_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(index: int, **settings: Any) -> SyntheticCase:
        if index == 1:
            raise KeyboardInterrupt
        return make_case(index, **settings)

    root = tmp_path / "deep" / "cohort"
    monkeypatch.setattr("segan_pl.data.synthetic.cohort.make_case", killed)
    with pytest.raises(KeyboardInterrupt):
        make_cohort_once(root, cases=2, shape=(16, 48, 48), seed=4)
    assert not root.exists()
    monkeypatch.undo()
    make_cohort_once(root, cases=1, shape=(16, 48, 48), seed=4)
    assert len(contents(root)) == 5
    assert [path.name for path in root.parent.iterdir()] == ["cohort"]
    make_cohort_once(root, cases=2, shape=(16, 48, 48), seed=4)
    assert len(contents(root)) == 5


def test_tumour_has_exactly_the_share_asked_for() -> None:
    rng = np.random.default_rng(0)
    anatomy = draw_anatomy(rng, SHAPE)
    tumour = draw_tumour(rng, anatomy, "HGG", share=0.05)
    assert (tumour.label > 0).sum() == round(0.05 * (anatomy.tissue > 0).sum())


@pytest.mark.parametrize("share", [0.0, 0.7])
def test_impossible_tumour_is_refused_with_the_remedy(share: float) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"take a share below 0\.5 or a larger shape"):
        draw_tumour(rng, draw_anatomy(rng, (8, 24, 24)), "LGG", share=share)


def test_smooth_field_is_standard_normal_at_every_voxel() -> None:
    rng = np.random.default_rng(0)
    fields = np.stack([smooth_field(rng, (2, 3, 7), (1, 2, 3)) for _ in range(4000)])
    np.testing.assert_allclose(fields.mean(0), 0, atol=0.08)
    np.testing.assert_allclose(fields.std(0), 1, atol=0.06)
