"""Surface distances against MONAI, SciPy's distance transform and numbers worked by hand."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from segan_pl.evaluation import surface
from segan_pl.evaluation.metrics import MaskPair
from segan_pl.evaluation.metrics.measured import HD95, MeanSurfaceDistance, SurfaceDice, SurfaceDiceArea
from segan_pl.evaluation.surface import (
    Surface,
    areas_mm2,
    boundary,
    box_of,
    by_transform,
    by_tree,
    directed_mm,
    elements,
    nearest_mm,
    weighted_hd95_mm,
)

SPACINGS = [(1.0, 1.0, 1.0), (3.0, 0.7, 1.3)]
QUIET = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
Mask = NDArray[np.bool_]


def blob(seed: int, shape: tuple[int, int, int] = (14, 18, 16), share: float = 0.3) -> Mask:
    """A ragged mask of several parts that touches the border."""
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5)
    return smooth > np.quantile(smooth, 1 - share)


def one_voxel(*place: int, shape: tuple[int, int, int] = (9, 9, 9)) -> Mask:
    mask = np.zeros(shape, bool)
    mask[place] = True
    return mask


class SurfaceScores(NamedTuple):
    hd95_mm: float
    mean_mm: float
    dice: float
    dice_area: float = math.nan


def surface_scores(
    prediction: Mask,
    reference: Mask,
    spacing: tuple[float, float, float],
    *,
    tolerance_mm: float = 1.0,
    definition: surface.Definition = "monai",
    areas: bool = False,
) -> SurfaceScores:
    """What the metrics find, each by itself."""
    pair = MaskPair(prediction, reference, spacing)
    by_area = SurfaceDiceArea(tolerance_mm).compute(pair) if areas else math.nan
    found = (HD95(definition), MeanSurfaceDistance(), SurfaceDice(tolerance_mm))
    return SurfaceScores(*(metric.compute(pair) for metric in found), by_area)


def tensor(mask: Mask) -> torch.Tensor:
    return torch.from_numpy(mask)[None, None].float()


@QUIET
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("seed", range(3))
def test_distances_and_surface_dice_are_monais(seed: int, spacing: tuple[float, float, float]) -> None:
    from monai.metrics import (
        compute_average_surface_distance,
        compute_hausdorff_distance,
        compute_surface_dice,
    )

    prediction, reference = blob(seed), blob(seed + 10, share=0.2)
    found = surface_scores(prediction, reference, spacing, tolerance_mm=1.5)
    pair = (tensor(prediction), tensor(reference))
    common = {"include_background": True, "spacing": list(spacing)}
    hd95 = compute_hausdorff_distance(*pair, percentile=95, **common)
    mean = compute_average_surface_distance(*pair, symmetric=True, **common)
    dice = compute_surface_dice(*pair, [1.5], **common)
    assert found[:3] == pytest.approx((float(hd95), float(mean), float(dice)), rel=1e-5)
    assert np.isnan(found.dice_area)  # nobody asked


@QUIET
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("seed", range(3))
def test_the_surface_dice_by_area_is_monais_over_subvoxels(seed: int, spacing: tuple[float, float, float]) -> None:
    from monai.metrics import compute_surface_dice

    prediction, reference = blob(seed), blob(seed + 10, share=0.2)
    padded = [tensor(np.pad(mask, 2)) for mask in (prediction, reference)]
    common = {"include_background": True, "spacing": list(spacing), "use_subvoxels": True}
    theirs = compute_surface_dice(*padded, [1.2], **common)
    found = surface_scores(prediction, reference, spacing, tolerance_mm=1.2, areas=True)
    assert found.dice_area == pytest.approx(float(theirs), rel=1e-5)
    assert abs(found.dice_area - found.dice) > 1e-3  # the two forms are two numbers


@pytest.mark.parametrize(
    ("spacing", "tolerance", "area", "voxels"),
    [
        # a bar of two voxels along x against its first one. Of the bar's 12 cubes 8 cut off a corner (a triangle of
        # sqrt(3)/8 mm2) and 4 in the middle an edge (a rectangle of 1/sqrt(2) mm2); of the voxel's 8 each a corner.
        # At 0 mm all are near but the 4 cubes of the bar's far end.
        ((1.0, 1.0, 1.0), 0.0, 1 - 4 * 3**0.5 / 8 / (16 * 3**0.5 / 8 + 4 / 2**0.5), 2 / 3),
        ((1.0, 1.0, 1.0), 1.0, 1.0, 1.0),
        # x is 3 mm: a corner is |(3, 3, 1)| / 8, an edge along x 3 / sqrt(2)
        ((1.0, 1.0, 3.0), 1.0, 1 - 4 * 19**0.5 / 8 / (16 * 19**0.5 / 8 + 4 * 3 / 2**0.5), 2 / 3),
    ],
)
def test_both_forms_of_the_surface_dice_worked_by_hand(
    spacing: tuple[float, float, float], tolerance: float, area: float, voxels: float
) -> None:
    voxel = one_voxel(4, 4, 4)
    found = surface_scores(voxel | one_voxel(4, 4, 5), voxel, spacing, tolerance_mm=tolerance, areas=True)
    assert found.dice_area == pytest.approx(area)
    assert found.dice == pytest.approx(voxels)


@QUIET
@pytest.mark.parametrize("spacing", SPACINGS)
def test_areas_are_deepminds_for_all_256_cubes(spacing: tuple[float, float, float]) -> None:
    from monai.metrics.utils import create_table_neighbour_code_to_surface_area

    theirs = create_table_neighbour_code_to_surface_area(spacing)[0].numpy()
    mirrored = [int(f"{code:08b}"[::-1], 2) for code in range(256)]  # their first corner is the highest bit
    np.testing.assert_allclose(areas_mm2(spacing), theirs[mirrored], rtol=1e-5)


def test_areas_of_a_corner_an_edge_and_a_face_worked_by_hand() -> None:
    area = areas_mm2((2.0, 3.0, 4.0))
    corner = 0.5 * np.linalg.norm(np.cross([1, 1.5, 0], [1, 0, 2]) * [1, -1, 1])  # a triangle through 3 edge middles
    assert area[0b00000001] == pytest.approx(corner)
    assert area[0b00010001] == pytest.approx(2.0 * np.hypot(1.5, 2.0))  # an edge along z: a rectangle 2 mm high
    assert area[0b00001111] == pytest.approx(12.0)  # the lower face: 3 mm x 4 mm
    assert area[0] == area[255] == 0


@pytest.mark.parametrize("spacing", SPACINGS)
def test_the_surface_of_a_box_has_its_flat_parts_area(spacing: tuple[float, float, float]) -> None:
    mask = np.zeros((12, 12, 12), bool)
    mask[2:10, 2:10, 2:10] = True
    z, y, x = spacing
    flat = 2 * 7 * 7 * (z * y + y * x + z * x)  # 7 whole faces between 8 voxel centres
    edges = 4 * 7 * (z * np.hypot(y, x) + y * np.hypot(z, x) + x * np.hypot(z, y)) / 2
    corners = 8 * areas_mm2(spacing)[1]
    assert elements(mask, spacing).weight.sum() == pytest.approx(flat + edges + corners)


@QUIET
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("seed", range(3))
def test_the_weighted_percentile_is_deepminds(seed: int, spacing: tuple[float, float, float]) -> None:
    """Their elements as MONAI ships them, distances by SciPy, the percentile as their source reads."""
    from monai.metrics.utils import get_mask_edges

    prediction, reference = blob(seed), blob(seed + 10, share=0.2)
    padded = [torch.from_numpy(np.pad(mask, 1)) for mask in (prediction, reference)]
    edges = get_mask_edges(*padded, crop=False, spacing=spacing, always_return_as_numpy=True)
    there, areas = [edge.astype(bool) for edge in edges[:2]], edges[2:]
    directed = []
    for own, other, area in ((0, 1, areas[0]), (1, 0, areas[1])):
        distance = ndimage.distance_transform_edt(~there[other], sampling=spacing)[there[own]]
        order = np.argsort(distance, kind="stable")
        share = np.cumsum(area[there[own]][order]) / area[there[own]].sum()
        directed.append(distance[order][np.searchsorted(share, 0.95)])
    found = surface_scores(prediction, reference, spacing, definition="deepmind")
    assert found.hd95_mm == pytest.approx(max(directed))


def test_a_small_share_of_area_does_not_move_the_weighted_percentile() -> None:
    """96 % of the area lies on the other surface; by count a third of the elements is 5 mm away."""
    near, far = np.array([[0, 0, 0], [0, 0, 1]]), np.array([[0, 0, 6]])
    a = Surface(np.concatenate([near, far]), np.array([48.0, 48.0, 4.0]))
    assert weighted_hd95_mm(a, Surface(near, np.ones(2)), (1, 1, 1)) == 0
    a = Surface(np.concatenate([near, far]), np.array([47.0, 47.0, 6.0]))
    assert weighted_hd95_mm(a, Surface(near, np.ones(2)), (1, 1, 1)) == 5


def test_two_voxels_worked_by_hand() -> None:
    spacing = (3.0, 1.0, 2.0)
    a, b = one_voxel(1, 2, 3), one_voxel(3, 2, 7)
    distance = np.hypot(6, 8)
    for definition in ("monai", "medpy"):
        assert surface_scores(a, b, spacing, definition=definition)[:3] == pytest.approx((distance, distance, 0))
    assert surface_scores(a, b, spacing, tolerance_mm=10).dice == 1
    assert surface_scores(a, a, spacing, areas=True) == (0, 0, 1, 1)


def test_the_definitions_differ_as_stated_on_a_line_worked_by_hand() -> None:
    """From 21 voxels in a row to the first: 0, 1, ..., 20 mm; back: 0."""
    row = np.zeros((1, 1, 30), bool)
    row[..., :21] = True
    first = one_voxel(0, 0, 0, shape=(1, 1, 30))
    assert surface_scores(row, first, (1, 1, 1)).hd95_mm == pytest.approx(19)  # the 95th percentile of 0 ... 20
    both = surface_scores(row, first, (1, 1, 1), definition="medpy")
    assert both.hd95_mm == pytest.approx(np.percentile([0, *range(21)], 95))
    assert both.mean_mm == pytest.approx(210 / 22)
    assert both.dice == pytest.approx(3 / 22)


@pytest.mark.parametrize("definition", ["monai", "medpy", "deepmind"])
def test_scores_do_not_tell_prediction_from_reference(definition: surface.Definition) -> None:
    a, b = blob(1), blob(2)
    forth, back = (surface_scores(*pair, (2, 1, 1), definition=definition, areas=True) for pair in ((a, b), (b, a)))
    assert forth == pytest.approx(back)


@pytest.mark.parametrize("definition", ["monai", "medpy", "deepmind"])
def test_voxels_of_twice_the_size_double_the_distances(definition: surface.Definition) -> None:
    a, b = blob(3), blob(4)
    small = surface_scores(a, b, (1, 0.5, 2), tolerance_mm=1, definition=definition, areas=True)
    large = surface_scores(a, b, (2, 1, 4), tolerance_mm=2, definition=definition, areas=True)
    assert large == pytest.approx((2 * small.hd95_mm, 2 * small.mean_mm, small.dice, small.dice_area))


def test_the_border_of_the_volume_is_a_surface() -> None:
    full = np.ones((4, 5, 6), bool)
    assert len(boundary(full).places) == 4 * 5 * 6 - 2 * 3 * 4
    padded = np.pad(full, 3)
    assert len(boundary(padded).places) == len(boundary(full).places)
    assert elements(padded, (1, 2, 3)).weight.sum() == pytest.approx(elements(full, (1, 2, 3)).weight.sum())


def test_a_tolerance_holds_for_a_spacing_that_single_precision_rounded_up() -> None:
    a, b = one_voxel(0, 0, 0), one_voxel(0, 0, 1)
    assert surface_scores(a, b, (1, 1, 1.0000001)).dice == 1
    assert surface_scores(a, b, (1, 1, 1.01)).dice == 0


@pytest.mark.parametrize("spacing", SPACINGS)
def test_tree_and_transform_find_the_same_distances(spacing: tuple[float, float, float]) -> None:
    a, b = boundary(blob(5)).places, boundary(blob(6, share=0.1)).places
    by = by_transform(a, b, np.array([14, 18, 16]), spacing)
    np.testing.assert_allclose(by_tree(a, b, spacing), by)
    np.testing.assert_allclose(nearest_mm(a, b, spacing), by)


@pytest.mark.parametrize(("dense", "sparse"), [(1e-9, 1e-9), (1e-9, 1e9), (1e9, 1)])
def test_every_way_to_search_finds_the_far_ones_too(dense: float, sparse: float, monkeypatch) -> None:
    monkeypatch.setattr(surface, "DENSE", dense)
    monkeypatch.setattr(surface, "SPARSE", sparse)
    a, b = one_voxel(0, 0, 0, shape=(3, 3, 60)), one_voxel(2, 2, 59, shape=(3, 3, 60))
    b[0, 0, 4] = True
    there, back = directed_mm(boundary(a), boundary(b), (1, 1, 1))
    np.testing.assert_allclose(there, [4])
    np.testing.assert_allclose(back, [4, np.sqrt(4 + 4 + 59**2)])


def test_an_empty_mask_has_no_distance() -> None:
    empty = np.zeros((9, 9, 9), bool)
    with pytest.raises(ValueError, match="an empty mask has no surface"):
        surface_scores(empty, one_voxel(1, 1, 1), (1, 1, 1))


def test_the_box_holds_the_mask_and_no_more() -> None:
    mask = np.zeros((5, 6, 7), bool)
    assert box_of(mask) == (slice(0, 1),) * 3
    mask[1, 2, 3] = mask[4, 2, 5] = True
    assert box_of(mask) == (slice(1, 5), slice(2, 3), slice(3, 6))
