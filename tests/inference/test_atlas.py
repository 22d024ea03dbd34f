"""From registered labels to a segmentation; the registration itself is replaced where its result does not matter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from segan_pl.data.case import Case, CaseError
from segan_pl.data.io import write_volume
from segan_pl.data.labels import label_scheme
from segan_pl.data.synthetic.healthy import healthy_case
from segan_pl.inference.atlases import atlas
from segan_pl.inference.atlases.atlas import MARGIN, MultiAtlas, inside, read_subject
from segan_pl.inference.atlases.mixture import MixtureOptions
from segan_pl.inference.atlases.registration import IGNORED, WHOLE, Registration
from segan_pl.inference.input_case import EMPTY

SCHEME = label_scheme("labels", "{csf: [5, 6], gm: 1, wm: 3, ignore: 9}")  # channels background, csf, gm, wm
SHAPE = (20, 30, 28)
AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])


def write(folder: Path, name: str, image: np.ndarray, label: np.ndarray | None = None, **more: str) -> Case:
    """A case of one image, whose mask is no image where there is no label."""
    write_volume(folder / f"{name}_t1.nii.gz", image, AFFINE)
    mask = folder / f"{name}_seg.nii.gz"
    if label is None:
        mask.write_bytes(b"no mask")
    else:
        write_volume(mask, label.astype(np.uint8), AFFINE)
    return Case(name, more.get("patient", name), {"t1": folder / f"{name}_t1.nii.gz"}, mask)


def cube(value: int = 100) -> np.ndarray:
    """(D, H, W) with a block of 6 x 8 x 8 in it."""
    image = np.zeros(SHAPE, np.int16)
    image[8:14, 10:18, 10:18] = value
    return image


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Instead of a registration the atlas's own labels, on a target of its own grid; the digests of those asked for."""
    calls: list[str] = []

    def same_place(target, image, channel, channels, settings):
        calls.append(image.digest)
        return np.stack([(channel == k) * WHOLE for k in range(channels)]).astype(np.uint8)

    monkeypatch.setattr(atlas, "warped", same_place)
    return calls


def atlases(folder: Path, *labels: np.ndarray) -> list[atlas.Subject]:
    cases = [write(folder, f"a{number}", cube(90 + number), label) for number, label in enumerate(labels)]
    return [read_subject(case, "t1", SCHEME) for case in cases]


def test_a_subject_is_cut_to_what_is_not_zero_with_its_labels_as_channels(tmp_path: Path) -> None:
    label = np.where(cube() > 0, 6, 0)
    label[8, 10, 10], label[8, 10, 11], label[8, 10, 12] = 1, 3, 9
    subject = read_subject(write(tmp_path, "a", cube(), label), "t1", SCHEME)
    assert subject.channel is not None
    assert subject.image.shape == subject.channel.shape == (6 + 2 * MARGIN, 8 + 2 * MARGIN, 8 + 2 * MARGIN)
    corner = subject.channel[MARGIN, MARGIN, MARGIN : MARGIN + 4]
    assert corner.tolist() == [2, 3, IGNORED, 1]
    np.testing.assert_allclose(subject.image.affine[:3, 3], [-4, -4, 4])  # of voxel (x, y, z) = (4, 4, 2)
    np.testing.assert_array_equal(subject.geometry.restore(subject.image.array), cube())


def test_a_target_s_mask_is_not_opened_and_an_atlas_s_is(tmp_path: Path) -> None:
    case = write(tmp_path, "a", cube())
    assert read_subject(case, "t1").channel is None
    with pytest.raises(CaseError, match=r"a_seg\.nii\.gz"):
        read_subject(case, "t1", SCHEME)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"images": {"flair": Path("f")}}, r"a: no t1, it has flair; choose another --modalities"),
        ({"mask": None}, r"a: no mask, expected one of a labelled case"),
    ],
)
def test_what_an_atlas_lacks_is_said(tmp_path: Path, change, why) -> None:
    with pytest.raises(CaseError, match=why):
        read_subject(replace(write(tmp_path, "a", cube()), **change), "t1", SCHEME)


def test_an_empty_image_and_an_unknown_label_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="every voxel of t1 is 0"):
        read_subject(write(tmp_path, "a", cube(0)), "t1")
    with pytest.raises(CaseError, match=r"a: the mask holds label \[2\]"):
        read_subject(write(tmp_path, "a", cube(), np.where(cube() > 0, 2, 0)), "t1", SCHEME)


def test_the_majority_of_the_atlases_decides(tmp_path: Path, made) -> None:
    full = np.where(cube() > 0, 3, 0)
    first, second, third = (full.copy() for _ in range(3))
    first[8, 10, 10:13], second[8, 10, 10:13], third[8, 10, 10:13] = [1, 1, 6], [1, 3, 0], [3, 5, 0]
    multi = MultiAtlas(atlases(tmp_path, first, second, third), "t1", SCHEME, "vote")
    label, notes, _ = multi.segment(write(tmp_path, "target", cube()))
    # Two of three for 1; one each for 1, 3 and 5, of which the first channel is csf, written as 5; two for background.
    assert label[8, 10, 10:14].tolist() == [1, 5, 0, 3]
    assert label.shape == SHAPE
    assert notes == ()


def test_there_are_labels_only_where_the_image_is_not_zero_with_its_holes(tmp_path: Path, made) -> None:
    image = cube()
    image[10, 14, 14] = 0
    everywhere = np.full(SHAPE, 3)
    label, *_ = MultiAtlas(atlases(tmp_path, everywhere), "t1", SCHEME, "vote").segment(
        write(tmp_path, "target", image)
    )
    np.testing.assert_array_equal(label, np.where(cube() > 0, 3, 0))
    assert inside(image.astype(np.float32))[10, 14, 14]


def test_where_the_prior_is_in_doubt_the_intensity_decides(tmp_path: Path, made) -> None:
    first, second = (np.where(cube() > 0, 1, 0) for _ in range(2))
    first[:, 14:][first[:, 14:] > 0] = 3
    second[:, 13:][second[:, 13:] > 0] = 3
    random = np.random.default_rng(0)
    image = np.where(cube() > 0, np.where(np.arange(SHAPE[1])[:, None] < 13, 60, 100), 0)
    image = np.where(image > 0, image + random.integers(-5, 6, SHAPE), 0).astype(np.int16)
    sharp = MixtureOptions(smoothing_mm=0)
    multi = MultiAtlas(atlases(tmp_path, first, second), "t1", SCHEME, "mixture", mixture=sharp)
    label, *_ = multi.segment(write(tmp_path, "target", image))
    assert (label[8:14, 10:13, 10:18] == 1).all()
    assert (label[8:14, 13:18, 10:18] == 3).all()  # row 13 by its values: the atlases say either
    assert not label[image == 0].any()


def test_a_patient_is_never_labelled_by_an_own_scan(tmp_path: Path, made) -> None:
    own, other = np.where(cube() > 0, 1, 0), np.where(cube() > 0, 3, 0)
    multi = MultiAtlas(atlases(tmp_path, own, other), "t1", SCHEME, "vote")
    label, notes, _ = multi.segment(write(tmp_path, "again", cube(), patient="a0"))
    assert set(np.unique(label)) == {0, 3}
    assert notes == ("labelled by 1 of 2 cases, those of other patients",)
    with pytest.raises(CaseError, match="again: the only labelled cases are of the same patient"):
        replace(multi, atlases=multi.atlases[:1]).segment(write(tmp_path, "again", cube(), patient="a0"))


def test_nothing_found_is_noted(tmp_path: Path, made) -> None:
    for method in ("vote", "mixture"):
        multi = MultiAtlas(atlases(tmp_path, np.zeros(SHAPE)), "t1", SCHEME, method)
        label, notes, _ = multi.segment(write(tmp_path, "target", cube()))
        assert not label.any()
        assert notes == (EMPTY,)


def test_a_kept_registration_is_not_made_again_unless_something_differs(
    tmp_path: Path, made, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = atlases(tmp_path, np.where(cube() > 0, 1, 0))
    target = write(tmp_path, "target", cube())
    multi = MultiAtlas(one, "t1", SCHEME, "vote", kept=tmp_path / "kept")
    monkeypatch.setattr(
        "segan_pl.inference.atlases.atlas.time.monotonic", iter([10.0, 22.5, *range(100, 120)]).__next__
    )
    new, notes, kept = multi.segment(target)
    assert (notes, kept) == ((), 0)
    again, notes, kept = multi.segment(target)
    said = "1 of 1 registrations were kept, and not made again; the seconds count the 12.5 that they took"
    assert (notes, kept) == ((said,), 12.5)
    replace(multi, method="mixture").segment(target)
    np.testing.assert_array_equal(new, again)
    assert len(made) == 1
    replace(multi, registration=Registration(smoothing=2)).segment(target)
    replace(multi, scheme=label_scheme("labels", "{csf: [5, 6], gm: 1, wm: 3}")).segment(target)
    multi.segment(write(tmp_path, "other", cube(70)))
    assert len(made) == 4
    assert len(list((tmp_path / "kept").iterdir())) == 4


def test_a_damaged_kept_registration_is_named(tmp_path: Path, made) -> None:
    one = atlases(tmp_path, np.where(cube() > 0, 1, 0))
    target = write(tmp_path, "target", cube())
    multi = MultiAtlas(one, "t1", SCHEME, "vote", kept=tmp_path / "kept")
    multi.segment(target)
    file = next((tmp_path / "kept").iterdir())
    content = file.read_bytes()
    for damaged in (content[:-30], b"", b"text", content[:90] + bytes(20) + content[110:]):
        file.write_bytes(damaged)
        with pytest.raises(CaseError, match=f"{file.name}: a damaged registration of a0; remove the file"):
            multi.segment(target)


def test_an_image_that_cannot_be_registered_is_named_with_the_atlas(tmp_path: Path) -> None:
    image = np.full(SHAPE, 7, np.int16)
    one = atlases(tmp_path, np.where(cube() > 0, 1, 0))
    with pytest.raises(CaseError, match=r"target: a0 cannot be registered to it \(.+\); drop one"):
        MultiAtlas(one, "t1", SCHEME, "vote").segment(write(tmp_path, "target", image))


def test_registered_brains_are_labelled_better_by_intensities_too(tmp_path: Path) -> None:
    """The whole way, with one atlas of another generated brain."""
    brains = []
    for index in (0, 3):  # one scanner
        images, anatomy = healthy_case(index, shape=(20, 40, 36), modalities=("t1",))
        brains.append((images["t1"], np.choose(anatomy.tissue, [0, 5, 1, 3])))
    one, target = (
        [read_subject(write(tmp_path, "a", *brains[0]), "t1", SCHEME)],
        write(tmp_path, "target", brains[1][0]),
    )
    labels = [MultiAtlas(one, "t1", SCHEME, method).segment(target)[0] for method in ("vote", "mixture")]
    vote, mixture = (np.mean([dice(label == k, brains[1][1] == k) for k in (1, 3)]) for label in labels)
    assert 0.6 < vote < mixture


def dice(found: np.ndarray, truth: np.ndarray) -> float:
    return 2 * float((found & truth).sum()) / float(found.sum() + truth.sum())
