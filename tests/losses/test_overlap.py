import math
import warnings

import pytest
import torch
from torch.nn.functional import one_hot

from segan_pl.losses.overlap import SoftDice, cross_entropy, soft_dice_loss

WORKED_P = torch.tensor([[0.9, 0.2], [0.1, 0.8]], dtype=torch.float64)[None, None]
WORKED_G = torch.eye(2, dtype=torch.float64)[None, None]


@pytest.mark.parametrize(
    ("form", "epsilon", "expected"),
    [
        ("differentiable", 0.0, 0.0285714286),
        ("smooth", 0.0, 0.0285714286),
        ("smooth", 1e-6, 0.0285714122),
        ("differentiable", 1e-6, 0.0285714204),
    ],
)
def test_worked_example(form, epsilon, expected):
    loss = soft_dice_loss(WORKED_P, WORKED_G, form=form, epsilon=epsilon)
    assert loss.item() == pytest.approx(expected, abs=5e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("p", "equation", "smooth", "differentiable", "gradient"),
    [
        (0.0, math.nan, 0.0, 0.0, 0.0),
        (1e-6, 1.0, 0.0126, 0.0250, 1.9),
        (1e-4, 1.0, 0.9922, 0.9961, 3.0e-3),
        (1e-2, 1.0, 1.0, 1.0, 3.1e-9),
        (0.5, 1.0, 1.0, 1.0, 2.4e-14),
    ],
)
def test_empty_mask_costs_a_constant_until_the_prediction_is_nearly_empty(
    p, equation, smooth, differentiable, gradient, dtype
):
    probability = torch.full((1, 1, 160, 160), p, dtype=dtype, requires_grad=True)
    empty = torch.zeros_like(probability)
    assert soft_dice_loss(probability, empty, epsilon=0.0).item() == pytest.approx(equation, nan_ok=True)
    assert soft_dice_loss(probability, empty, form="smooth").item() == pytest.approx(smooth, abs=1e-4)
    loss = soft_dice_loss(probability, empty)
    loss.backward()
    assert loss.item() == pytest.approx(differentiable, abs=1e-4)
    assert probability.grad[0, 0, 7, 7].item() == pytest.approx(gradient, rel=0.03)


def test_slice_reduction_is_the_mean_over_slices_and_channels():
    p, g = torch.rand(3, 2, 4, 5), (torch.rand(3, 2, 4, 5) > 0.5).float()
    each = [soft_dice_loss(p[b : b + 1, c : c + 1], g[b : b + 1, c : c + 1]) for b in range(3) for c in range(2)]
    torch.testing.assert_close(soft_dice_loss(p, g), torch.stack(each).mean())


def test_batch_reduction_is_one_dice_a_channel_over_the_pooled_batch():
    p, g = torch.rand(3, 2, 4, 5), (torch.rand(3, 2, 4, 5) > 0.5).float()
    pooled = [soft_dice_loss(p[:, c].reshape(1, 1, -1), g[:, c].reshape(1, 1, -1)) for c in range(2)]
    torch.testing.assert_close(soft_dice_loss(p, g, reduction="batch"), torch.stack(pooled).mean())


def test_empty_slice_keeps_its_gradient_in_the_batch_reduction():
    p = torch.full((2, 1, 8, 8), 0.5, requires_grad=True)
    g = torch.zeros(2, 1, 8, 8)
    g[0] = 1
    soft_dice_loss(p, g, reduction="batch").backward()
    assert p.grad[1].abs().min() > 1e-3
    p.grad = None
    soft_dice_loss(p, g, reduction="slice").backward()
    assert p.grad[1].abs().max() < 1e-6


@pytest.mark.parametrize(("first", "expected"), [(0, 1 - (3 / 4 + 4 / 5 + 0) / 3), (1, 1 - (4 / 5 + 0) / 2)])
def test_linear_dice_is_albunets_by_hand_with_and_without_the_background(first, expected):
    # four voxels, softmax of three labels: background in two voxels, label 1 in two, label 2 nowhere
    p = torch.tensor([[0.75, 0.75, 0.25, 0.25], [0.25, 0.0, 0.75, 0.75], [0.0, 0.25, 0.0, 0.0]], dtype=torch.float64)
    g = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]])
    # background: 2 * 1.5 / (2 + 2) = 3/4; label 1: 2 * 1.5 / (1.75 + 2) = 4/5; label 2: 0 / 0.25 = 0
    loss = soft_dice_loss(p[None, first:], g[None, first:], reduction="batch", epsilon=1e-15, form="linear")
    assert loss.item() == pytest.approx(expected)


@pytest.mark.parametrize("reduction", ["slice", "batch"])
@pytest.mark.parametrize("spatial", [(12, 10), (6, 5, 4)])
def test_linear_dice_agrees_with_monai(spatial, reduction):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai.losses import DiceLoss
    p, g = torch.rand(3, 4, *spatial).softmax(1), (torch.rand(3, 4, *spatial) > 0.7).float()
    oracle = DiceLoss(smooth_nr=0.0, smooth_dr=1e-3, batch=reduction == "batch")
    torch.testing.assert_close(soft_dice_loss(p, g, reduction=reduction, epsilon=1e-3, form="linear"), oracle(p, g))


def test_a_label_absent_from_the_batch_costs_1_without_gradient_in_linear_dice():
    for value in (0.5, 1e-6, 0.0):
        p = torch.full((2, 1, 4, 4), value, requires_grad=True)
        loss = soft_dice_loss(p, torch.zeros(2, 1, 4, 4), reduction="batch", epsilon=1e-15, form="linear")
        loss.backward()
        assert loss.item() == 1
        assert p.grad.abs().max() == 0


@pytest.mark.parametrize("spatial", [(12, 10), (6, 5, 4)])
@pytest.mark.parametrize("reduction", ["slice", "batch"])
@pytest.mark.parametrize(("form", "factor"), [("differentiable", 1), ("smooth", 2)])
@pytest.mark.parametrize("epsilon", [1e-6, 1.0])
def test_dice_agrees_with_monai(spatial, reduction, form, factor, epsilon):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai.losses import DiceLoss
    p, g = torch.rand(3, 2, *spatial), (torch.rand(3, 2, *spatial) > 0.7).float()
    g[1] = 0
    smooth = epsilon * factor
    oracle = DiceLoss(squared_pred=True, smooth_nr=smooth, smooth_dr=smooth, batch=reduction == "batch")
    torch.testing.assert_close(
        soft_dice_loss(p, g, reduction=reduction, epsilon=epsilon, form=form), oracle(p, g), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("reduction", ["slice", "batch"])
def test_an_empty_batch_costs_nothing_and_keeps_the_graph(reduction):
    p = torch.zeros(0, 2, 4, 4, requires_grad=True)
    for loss in (
        soft_dice_loss(p, torch.zeros(0, 2, 4, 4), reduction=reduction),
        cross_entropy(p, torch.zeros(0, 2, 4, 4), "sigmoid"),
        cross_entropy(p, torch.zeros(0, 2, 4, 4), "softmax"),
    ):
        loss.backward()
        assert loss.item() == 0
    assert p.grad.shape == p.shape


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("reduction", ["slice", "batch"])
def test_sums_over_a_patch_do_not_overflow_in_half_precision(dtype, reduction):
    p = torch.ones(1, 1, 300, 300, dtype=dtype)  # 90,000 > 65,504, the largest float16
    with torch.autocast("cpu", torch.bfloat16):
        loss = soft_dice_loss(p, torch.ones(1, 1, 300, 300, dtype=torch.uint8), reduction=reduction)
        entropy = cross_entropy(1000 * p, torch.ones_like(p), "sigmoid")
    assert loss.dtype == entropy.dtype == torch.float32
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert entropy.item() == 0


def test_cross_entropy_is_the_mean_of_minus_the_log_of_the_right_probability():
    logits = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    label = torch.randint(3, (2, 4, 4))
    target = one_hot(label, 3).movedim(-1, 1)
    right = logits.softmax(1).gather(1, label[:, None])
    torch.testing.assert_close(cross_entropy(logits, target, "softmax"), -right.log().mean())
    p = logits.sigmoid()
    expected = -(target * p.log() + (1 - target) * (1 - p).log()).mean()
    torch.testing.assert_close(cross_entropy(logits, target, "sigmoid"), expected)


def test_shapes_that_differ_are_refused():
    for loss in (soft_dice_loss, lambda p, g: cross_entropy(p, g, "sigmoid")):
        with pytest.raises(ValueError, match=r"\(1, 2, 4, 4\), the target \(1, 1, 4, 4\)"):
            loss(torch.zeros(1, 2, 4, 4), torch.zeros(1, 1, 4, 4))


@pytest.mark.parametrize(
    ("options", "text"),
    [({"reduction": "volume"}, "slice"), ({"form": "eq2"}, "differentiable"), ({"epsilon": -1.0}, "at least 0")],
)
def test_unknown_options_are_refused_with_the_choices(options, text):
    with pytest.raises(ValueError, match=text):
        soft_dice_loss(WORKED_P, WORKED_G, **options)


def test_dice_over_ranks_is_dice_per_batch_where_there_is_one_rank() -> None:
    probability, target = torch.rand(3, 2, 4, 4), (torch.rand(3, 2, 4, 4) > 0.5).float()
    for form in ("differentiable", "smooth", "linear", "printed"):
        own, joined = (
            soft_dice_loss(probability, target, reduction="batch", form=form, over_ranks=over) for over in (False, True)
        )
        assert torch.equal(own, joined)


def test_dice_over_ranks_of_each_slice_is_refused() -> None:
    with pytest.raises(
        ValueError, match="dice over_ranks changes nothing of a Dice for each slice; give reduction: batch"
    ):
        SoftDice(over_ranks=True)
