from math import log

import pytest
import torch

from segan_pl.losses.adversarial import check_adversarial_options, critic_loss, deceiving_loss, judged

# verdicts 0.8 and 0.1 on a prediction, 0.9 and 0.5 on a reference
FAKE = torch.tensor([0.8, 0.1], dtype=torch.float64).logit().reshape(1, 1, 1, 1, 2)
REAL = torch.tensor([0.9, 0.5], dtype=torch.float64).logit().reshape(1, 1, 1, 1, 2)
FAKE_AS_FAKE = -(log(0.2) + log(0.9)) / 2  # 0.857
FAKE_AS_REAL = -(log(0.8) + log(0.1)) / 2  # 1.263
REAL_AS_REAL = -(log(0.9) + log(0.5)) / 2  # 0.399


def test_worked_example_of_each_loss():
    assert judged(FAKE, 0.0).item() == pytest.approx(FAKE_AS_FAKE)
    assert judged(FAKE, 1.0).item() == pytest.approx(FAKE_AS_REAL)
    assert critic_loss(FAKE, REAL).item() == pytest.approx((FAKE_AS_FAKE + REAL_AS_REAL) / 2)
    assert deceiving_loss(FAKE, form="ours").item() == pytest.approx(FAKE_AS_REAL)
    assert deceiving_loss(FAKE, form="paper").item() == pytest.approx(-FAKE_AS_FAKE)
    assert deceiving_loss(FAKE, REAL, form="code").item() == pytest.approx((FAKE_AS_FAKE + REAL_AS_REAL) / 2)


def test_smoothing_moves_the_truth_of_the_reference_only():
    smoothed = -(0.9 * log(0.9) + 0.1 * log(0.1) + 0.9 * log(0.5) + 0.1 * log(0.5)) / 2
    assert critic_loss(FAKE, REAL, smoothing=0.1).item() == pytest.approx((FAKE_AS_FAKE + smoothed) / 2)


def test_an_undecided_critic_costs_ln_2_everywhere():
    zeros = torch.zeros(2, 3, 4, 4, 4)
    for loss in (critic_loss(zeros, zeros), deceiving_loss(zeros), -deceiving_loss(zeros, form="paper")):
        assert loss.item() == pytest.approx(log(2))


@pytest.mark.parametrize(("form", "sign"), [("ours", -1), ("paper", -1), ("code", 1)])
def test_the_segmentor_is_pushed_to_look_real_but_by_the_released_code_to_look_fake(form, sign):
    fake = FAKE.clone().requires_grad_()
    deceiving_loss(fake, REAL, form=form).backward()
    assert (sign * fake.grad > 0).all()  # of the verdict "real"


@pytest.mark.parametrize(("form", "gradient"), [("ours", -1.0), ("paper", -4.54e-5)])
def test_against_a_critic_that_is_sure_only_our_form_keeps_its_gradient(form, gradient):
    fake = torch.full((1, 1, 1, 1, 1), -10.0, requires_grad=True)
    deceiving_loss(fake, form=form).backward()
    assert fake.grad.item() == pytest.approx(gradient, rel=1e-3)


def test_the_critic_lowers_its_loss_by_telling_the_two_apart():
    fake, real = FAKE.clone().requires_grad_(), REAL.clone().requires_grad_()
    critic_loss(fake, real).backward()
    assert (fake.grad > 0).all()
    assert (real.grad < 0).all()


def test_maps_of_any_size_are_means_and_certainty_stays_finite():
    fake, real = torch.full((2, 1, 4, 4, 4), 500.0), torch.full((2, 3, 8, 8, 8), -500.0)
    assert critic_loss(fake, real).item() == pytest.approx(500.0)
    assert judged(-fake, 0.0).item() == 0.0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_reductions_are_float32_under_low_precision(dtype):
    fake = torch.full((1, 1, 64, 64, 64), 2.0, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16):
        losses = [critic_loss(fake, fake), *(deceiving_loss(fake, fake, form=form) for form in ("ours", "paper"))]
    assert {loss.dtype for loss in losses} == {torch.float32}
    assert losses[1].item() == pytest.approx(log(1 + torch.e**-2), rel=1e-6)


def test_an_empty_batch_costs_nothing():
    empty = torch.zeros(0, 1, 4, 4, 4, requires_grad=True)
    assert critic_loss(empty, empty).item() == 0.0
    assert deceiving_loss(empty).item() == 0.0


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="'paper', 'code', 'ours'"):
        deceiving_loss(FAKE, form="hinge")
    with pytest.raises(ValueError, match="the reference too"):
        deceiving_loss(FAKE, form="code")
    with pytest.raises(ValueError, match=r"smoothing is 0\.5"):
        check_adversarial_options("ours", 0.5)
