from __future__ import annotations

from collections.abc import Callable
from math import log

import pytest
import torch
from torch import Tensor

from segan_pl.losses.gan import evidence, fake_loss, feature_matching, noise_nll, real_loss, verdict

LOGITS = torch.randn(2, 4, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def z(logits: Tensor) -> Tensor:
    """Eq. 6 to the letter."""
    return logits.exp().sum(1)


def test_the_losses_are_the_logarithms_of_the_equations() -> None:
    total = z(LOGITS)
    torch.testing.assert_close(evidence(LOGITS).squeeze(1), total.log())
    torch.testing.assert_close(real_loss(LOGITS), -(total / (total + 1)).log().mean())
    torch.testing.assert_close(fake_loss(LOGITS), -(1 / (total + 1)).log().mean())
    torch.testing.assert_close(verdict(LOGITS), (total / (total + 1)).mean())


def test_they_are_a_softmax_over_k_and_a_last_class_of_logit_zero() -> None:
    last = torch.cat([LOGITS, torch.zeros_like(LOGITS[:, :1])], 1).softmax(1)[:, -1]
    torch.testing.assert_close(fake_loss(LOGITS), -last.log().mean())
    torch.testing.assert_close(real_loss(LOGITS), -(1 - last).log().mean())


def test_logits_of_any_size_stay_finite() -> None:
    """The literal logarithms of these are infinite in float32."""
    for size in (1e4, -1e4):
        logits = (LOGITS.float() + size).requires_grad_()
        for loss in (real_loss(logits), fake_loss(logits)):
            assert loss.isfinite()
            (slope,) = torch.autograd.grad(loss, logits)
            assert slope.isfinite().all()


@pytest.mark.parametrize(("loss", "sign"), [(real_loss, -1), (fake_loss, 1)])
def test_every_logit_is_pushed_up_on_real_images_and_down_on_fake_ones(
    loss: Callable[[Tensor], Tensor], sign: int
) -> None:
    """Eq. 4 as printed has no gradient at all."""
    logits = LOGITS.clone().requires_grad_()
    loss(logits).backward()
    assert logits.grad is not None
    assert (sign * logits.grad > 0).all()
    printed = LOGITS.clone().requires_grad_()
    (z(printed) / z(printed) + 1).log().mean().backward()
    assert printed.grad is not None
    assert printed.grad.abs().max() < 1e-12


def test_at_chance_each_costs_ln_2() -> None:
    logits = torch.full((1, 4, 2, 2), -log(4))
    assert real_loss(logits).item() == pytest.approx(log(2))
    assert fake_loss(logits).item() == pytest.approx(log(2))
    assert verdict(logits).item() == pytest.approx(0.5)


@pytest.mark.parametrize(("real", "fake"), [(1.0, 2.0), (0.5, 0.5), (1.0, 1.0)])
def test_where_real_and_fake_cannot_be_told_apart_the_verdict_is_their_weights_share(real: float, fake: float) -> None:
    """1/3 for the paper's weights."""
    logit = torch.zeros(1, 1, 1, 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logit], max_iter=50, line_search_fn="strong_wolfe")

    def step() -> Tensor:
        optimizer.zero_grad()
        loss = real * real_loss(logit) + fake * fake_loss(logit)
        loss.backward()
        return loss

    optimizer.step(step)  # type: ignore[arg-type]
    assert verdict(logit).item() == pytest.approx(real / (real + fake), abs=1e-6)


def layers(seed: int, samples: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(3, 4, 4), (5, 2, 2), (1, 1, 1)]
    return [torch.randn(samples, *shape, dtype=torch.float64, generator=generator) for shape in shapes]


def test_feature_matching_is_the_gap_of_batch_means() -> None:
    fake, real = layers(0, 2), layers(1, 3)
    gaps = [(f.mean(0) - r.mean(0)).abs().mean() for f, r in zip(fake, real, strict=True)]
    torch.testing.assert_close(feature_matching(fake[:1], real[:1]), gaps[0])
    torch.testing.assert_close(feature_matching(fake, real), torch.stack(gaps).mean())
    gap = torch.stack(gaps)
    weights = (-(gap / gap.sum()).log()).softmax(0)  # Mondal's code
    torch.testing.assert_close(feature_matching(fake, real, average="harmonic", epsilon=0), (gap * weights).sum())


def test_a_layer_without_a_gap_makes_the_weighted_form_no_nan() -> None:
    fake = [layer.requires_grad_() for layer in layers(0, 2)]
    real = [fake[0].detach().clone(), *layers(1, 2)[1:]]
    loss = feature_matching(fake, real, average="harmonic")
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert all(layer.grad is not None and layer.grad.isfinite().all() for layer in fake)


@pytest.mark.parametrize(
    ("fake", "real", "average"),
    [([], [], "arithmetic"), (layers(0, 2), layers(0, 2)[1:], "arithmetic"), (layers(0, 2), layers(0, 2), "median")],
)
def test_layers_that_differ_and_unknown_averages_are_refused(
    fake: list[Tensor], real: list[Tensor], average: str
) -> None:
    with pytest.raises(ValueError, match="expected"):
        feature_matching(fake, real, average=average)  # type: ignore[arg-type]


def test_the_noise_is_likeliest_under_its_own_distribution() -> None:
    noise = torch.tensor([[1.0, -2.0], [0.5, 0.0]], dtype=torch.float64)
    mean, log_sigma = torch.zeros_like(noise), torch.full_like(noise, log(2))
    expected = -torch.distributions.Normal(mean, log_sigma.exp()).log_prob(noise).sum(1).mean()
    constant = log(2 * torch.pi) / 2 * 2
    assert noise_nll(mean, log_sigma, noise).item() == pytest.approx(expected.item() - constant, rel=1e-6)
    assert noise_nll(noise, log_sigma, noise) < noise_nll(mean, log_sigma, noise)


def test_the_losses_are_float32_under_autocast() -> None:
    logits = LOGITS.to(torch.bfloat16)
    features = [layer.to(torch.bfloat16) for layer in layers(0, 2)]
    with torch.autocast("cpu", torch.bfloat16):
        found = [
            *(real_loss(logits), fake_loss(logits), verdict(logits)),
            feature_matching(features, features[:]),
            noise_nll(logits[:, :, 0, 0, 0], logits[:, :, 0, 0, 1], logits[:, :, 0, 0, 2]),
        ]
    assert {loss.dtype for loss in found} == {torch.float32}
    torch.testing.assert_close(found[0], real_loss(logits.float()))
