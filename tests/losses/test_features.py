import numpy as np
import pytest
import torch

from segan_pl.losses.features import multiscale_l1


def worked() -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """|difference| of one sample: [0, .5, 1, 0], [.4, .4], [.4]."""
    real = [torch.tensor([[[1.0, 2.0, -1.0, 0.3]]]), torch.tensor([[[0.2, -0.2]]]), torch.tensor([[[1.0]]])]
    gap = [torch.tensor([0.0, -0.5, 1.0, 0.0]), torch.tensor([0.4, -0.4]), torch.tensor([-0.4])]
    return [layer + delta for layer, delta in zip(real, gap, strict=True)], real


def pyramid(items: int = 3, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    return [torch.randn(items, *shape).to(dtype) for shape in ((2, 8, 8), (4, 4, 4), (8, 2, 2))]


@pytest.mark.parametrize(
    ("reduction", "weights", "expected"),
    [
        ("global_mean", None, 0.385714),
        ("layer_mean", None, 0.391667),
        ("equation", None, 0.9),
        ("global_mean", [1.0, 2.0, 4.0], 0.671429),
    ],
)
def test_worked_example(reduction, weights, expected):
    fake, real = worked()
    loss = multiscale_l1(fake, real, layer_weights=weights, reduction=reduction)
    assert loss.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("reduction", ["global_mean", "layer_mean", "equation"])
def test_copies_of_a_sample_cost_what_the_sample_costs(reduction):
    fake, real = worked()
    copies = [[layer.repeat(5, 1, 1) for layer in side] for side in (fake, real)]
    single = multiscale_l1(fake, real, reduction=reduction)
    torch.testing.assert_close(multiscale_l1(*copies, reduction=reduction), single)


def test_loss_agrees_with_plain_numpy():
    fake, real, weights = pyramid(), pyramid(), [1.0, 2.0, 4.0]
    delta = [np.abs(f.double().numpy() - r.double().numpy()) for f, r in zip(fake, real, strict=True)]
    flat = np.concatenate([layer.reshape(3, -1) for layer in delta], axis=1)
    assert multiscale_l1(fake, real).item() == pytest.approx(flat.mean(), rel=1e-6)
    weighted = np.concatenate([w * layer.reshape(3, -1) for w, layer in zip(weights, delta, strict=True)], axis=1)
    assert multiscale_l1(fake, real, layer_weights=weights).item() == pytest.approx(weighted.mean(), rel=1e-6)
    layers = np.mean([layer.mean() for layer in delta])
    assert multiscale_l1(fake, real, reduction="layer_mean").item() == pytest.approx(layers, rel=1e-6)
    equation = np.mean([sum(layer[b].sum() for layer in delta) / 3 for b in range(3)])
    assert multiscale_l1(fake, real, reduction="equation").item() == pytest.approx(equation, rel=1e-6)


def test_gradient_is_the_sign_over_the_number_of_elements():
    fake, real = [layer.requires_grad_() for layer in pyramid()], pyramid()
    multiscale_l1(fake, real).backward()
    elements = sum(layer.numel() for layer in fake)
    for layer, reference in zip(fake, real, strict=True):
        torch.testing.assert_close(layer.grad, (layer - reference).sign() / elements)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradient_keeps_the_memory_format(dtype):
    fake = torch.randn(2, 4, 8, 8).to(dtype).contiguous(memory_format=torch.channels_last)
    seen = []
    fake.requires_grad_().register_hook(lambda gradient: seen.append(gradient))
    multiscale_l1([fake], [torch.zeros_like(fake)]).backward()
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert seen[0].dtype == dtype


@pytest.mark.parametrize("reduction", ["global_mean", "layer_mean", "equation"])
def test_gradient_agrees_with_finite_differences(reduction):
    fake, real = ([torch.randn(2, 3, 3, dtype=torch.float64), torch.randn(2, 2, dtype=torch.float64)] for _ in range(2))
    inputs = [layer.requires_grad_() for layer in (*fake, *real)]
    assert torch.autograd.gradcheck(lambda *x: multiscale_l1(x[:2], x[2:], reduction=reduction), inputs)


@pytest.mark.parametrize("reduction", ["global_mean", "layer_mean", "equation"])
def test_an_empty_batch_costs_nothing_and_keeps_the_graph(reduction):
    fake = [layer.requires_grad_() for layer in pyramid(items=0)]
    loss = multiscale_l1(fake, pyramid(items=0), reduction=reduction)
    loss.backward()
    assert loss.item() == 0
    assert all(layer.grad.shape == layer.shape for layer in fake)


@pytest.mark.parametrize("reduction", ["global_mean", "layer_mean", "equation"])
def test_float16_does_not_overflow(reduction):
    fake = [torch.full((1, 1, 300, 300), 60_000.0, dtype=torch.float16)]
    real = [-layer for layer in fake]
    loss = multiscale_l1(fake, real, reduction=reduction)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(120_000.0 * (90_000 if reduction == "equation" else 1), rel=1e-3)


def test_bfloat16_costs_less_than_a_hundred_thousandth_of_the_value():
    torch.manual_seed(0)
    fake, real = ([torch.randn(4, 64, 64, 64).bfloat16()] for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16):
        loss = multiscale_l1(fake, real)
    assert loss.dtype == torch.float32
    exact = (fake[0].double() - real[0].double()).abs().mean().item()
    assert loss.item() == pytest.approx(exact, rel=1e-5)


def test_float32_is_accumulated_to_its_own_precision():
    torch.manual_seed(0)
    fake, real = ([torch.randn(4, 64, 64, 64)] for _ in range(2))
    exact = (fake[0].double() - real[0].double()).abs().mean().item()
    assert multiscale_l1(fake, real).item() == pytest.approx(exact, rel=1e-6)


def test_float64_stays():
    assert multiscale_l1(pyramid(dtype=torch.float64), pyramid(dtype=torch.float64)).dtype == torch.float64


def test_pyramids_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="3 and 2 layers"):
        multiscale_l1(pyramid(), pyramid()[:2])
    with pytest.raises(ValueError, match=r"layer 0 has shape \(3, 2, 8, 8\) .* \(2, 2, 8, 8\)"):
        multiscale_l1(pyramid(3), pyramid(2))
    with pytest.raises(ValueError, match="2 numbers, the critic returns 3"):
        multiscale_l1(pyramid(), pyramid(), layer_weights=[1.0, 2.0])
    with pytest.raises(ValueError, match="expected one of"):
        multiscale_l1(pyramid(), pyramid(), reduction="mean")
    with pytest.raises(ValueError, match="at least 0"):
        multiscale_l1(pyramid(), pyramid(), layer_weights=[1.0, -2.0, 1.0])
