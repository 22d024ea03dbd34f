from importlib import import_module
from math import log

import numpy as np
import pytest
import torch
import yaml
from torch.nn.functional import binary_cross_entropy, kl_div, normalize

from segan_pl.experiments.shipped import find_config
from segan_pl.losses.overlap import SoftDice
from segan_pl.losses.vat import ReleasedVATLoss, VATLoss
from segan_pl.nets.albunet import AlbuNet
from segan_pl.nets.monai_nets import MonaiSegmentor
from segan_pl.nets.reciprocal import Critic, Segmentor
from segan_pl.nets.segan import Critic as SegANCritic
from segan_pl.nets.segan import Segmentor as SegANSegmentor
from segan_pl.objectives.base import StepContext
from segan_pl.objectives.reciprocal import Reciprocal
from segan_pl.objectives.segan import SegAN
from tests.contracts import ObjectiveContract, buffers_of, descent, differ, parameters_of, take_phase, tiny_batch

SIZE = (16, 16, 16)
PAPER = {"vat": VATLoss(reference="labels"), "adversarial": "paper"}
CODE = {"vat": ReleasedVATLoss(), "adversarial": "code"}
OURS = {"vat": VATLoss(reference="prediction"), "adversarial": "ours", "critic_input": "concat"}


def cast(objective, modalities=2, channels=1, *, dtype=torch.float32, **critic):
    """Networks by a fixed seed."""
    torch.manual_seed(0)
    return {
        "segmentor": Segmentor(modalities, channels, width=4).to(dtype),
        "critic": Critic(**objective.channels("critic", modalities, channels), width=4, **critic).to(dtype),
    }


class TestReciprocal(ObjectiveContract):
    size = SIZE
    options = (PAPER, OURS)

    def build(self, **options):
        return Reciprocal(**options)

    def networks(self, objective, modalities, channels):
        return {
            "segmentor": Segmentor(modalities, channels, width=4),
            "critic": Critic(**objective.channels("critic", modalities, channels), width=4, stride=2),
        }

    def cast(self, modalities=2, channels=1, **options):
        """Without options, the form that `test_tiny_case_is_overfitted` contexts."""
        return super().cast(modalities, channels, **(options or {"adversarial_weight": 0.1}))

    def test_one_segmentor_forward_serves_a_batch(self):
        """And two more find and price the changed image; one in the released form, none without the term."""
        expected = [
            (PAPER, 3),
            (OURS, 3),
            ({"vat": VATLoss(power_iterations=2)}, 4),
            (CODE, 2),
            ({"vat_weight": 0.0}, 1),
        ]
        for option, forwards in expected:
            objective, networks = self.cast(**option)
            calls = []
            networks["segmentor"].register_forward_hook(lambda *_, calls=calls: calls.append(1))
            context = StepContext(networks, tiny_batch(size=SIZE), "sigmoid")
            for phase in objective.phases():
                take_phase(phase, context, descent(networks))
            assert len(calls) == forwards, option


def test_critic_channels_and_what_the_critic_sees():
    image, mask = torch.rand(2, 4, *SIZE), torch.rand(2, 3, *SIZE)
    for view, expected in (("mask", mask), ("concat", torch.cat([image, mask], 1))):
        objective = Reciprocal(critic_input=view)
        assert torch.equal(objective.critic_view(image, mask), expected)
        assert objective.channels("critic", 4, 3)["in_channels"] == expected.shape[1]
        inputs = objective.inputs("critic", 4, 3)
        named = [mask[:, channel] if modality is None else image[:, modality] for modality, channel in inputs]
        assert torch.equal(torch.stack(named, 1), expected)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def test_segmentor_loss_is_the_weighted_sum_of_terms_worked_in_numpy():
    objective = Reciprocal(**{**PAPER, "vat": VATLoss(reference="labels", power_iterations=0)})
    networks = cast(objective, channels=2, dtype=torch.float64)
    batch = tiny_batch(channels=2, size=SIZE, dtype=torch.float64)
    seen = {"segmentor": [], "critic": []}
    for name, network in networks.items():
        network.register_forward_hook(lambda _, __, out, name=name: seen[name].append(out))
    total, parts = objective.segmentor_loss(StepContext(networks, batch, "sigmoid"))
    clean, moved = (sigmoid(out.detach().numpy()) for out in seen["segmentor"])
    fake = sigmoid(seen["critic"][0][-1].detach().numpy())
    y = batch.target.numpy()
    axes = (0, 2, 3, 4)
    dice = 1 - (2 * (clean * y).sum(axes) + 1) / ((clean**2).sum(axes) + (y**2).sum(axes) + 1)
    virtual = -(y * np.log(moved) + (1 - y) * np.log(1 - moved))
    adversarial = np.log(1 - fake)
    assert parts["dice"].item() == pytest.approx(dice.mean())
    assert parts["vat"].item() == pytest.approx(virtual.mean())
    assert parts["adversarial"].item() == pytest.approx(adversarial.mean())
    assert total.item() == pytest.approx(dice.mean() + 0.2 * virtual.mean() + 0.3 * adversarial.mean())


def test_our_form_references_the_clean_prediction_and_its_critic_the_truth():
    objective = Reciprocal(**{**OURS, "vat": VATLoss(power_iterations=0)})
    networks = cast(objective, dtype=torch.float64)
    batch = tiny_batch(size=SIZE, dtype=torch.float64)
    seen = {"segmentor": [], "critic": []}
    for name, network in networks.items():
        network.register_forward_hook(lambda _, __, out, name=name: seen[name].append(out))
    parts = objective.segmentor_loss(StepContext(networks, batch, "sigmoid")).parts
    q, p = (sigmoid(out.detach().numpy()) for out in seen["segmentor"])
    virtual = q * np.log(q / p) + (1 - q) * np.log((1 - q) / (1 - p))
    assert parts["vat"].item() == pytest.approx(virtual.mean())
    assert parts["adversarial"].item() == pytest.approx(-np.log(sigmoid(seen["critic"][0][-1].detach().numpy())).mean())


def test_critic_loss_is_the_cross_entropy_worked_in_numpy_with_its_verdicts():
    objective = Reciprocal(**OURS, smoothing=0.1)
    networks = cast(objective, dtype=torch.float64)
    seen = []
    networks["critic"].register_forward_hook(lambda _, __, out: seen.append(sigmoid(out[-1].detach().numpy())))
    context = StepContext(networks, tiny_batch(size=SIZE, dtype=torch.float64), "sigmoid")
    total, parts = objective.critic_loss(context)
    fake, real = seen
    expected = -np.log(1 - fake).mean() / 2 - (0.9 * np.log(real) + 0.1 * np.log(1 - real)).mean() / 2
    assert total.item() == pytest.approx(expected)
    assert parts["real"].item() == pytest.approx(real.mean())
    assert parts["fake"].item() == pytest.approx(fake.mean())


def shipped(system, part):
    """Class and arguments of a network, the objective or an optimiser as a shipped file names them."""
    model = yaml.safe_load(find_config(system).read_text())["model"]
    settings = {**model, **model["networks"], **{f"optimizers.{k}": v for k, v in model["optimizers"].items()}}[part]
    options = {key: made(value) for key, value in settings["init_args"].items()}
    module, _, name = settings["class_path"].rpartition(".")
    return getattr(import_module(module), name), options


def made(value):
    """A loss that a file names with its arguments, or a plain value."""
    if not isinstance(value, dict) and not str(value).startswith("segan_pl."):
        return value
    path, options = (value["class_path"], value["init_args"]) if isinstance(value, dict) else (value, {})
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)(**options)


SYSTEMS = {
    "reciprocal": (19_167_819, 75_827),
    "reciprocal_code": (8_520_755, 3_030),
    "reciprocal_ours": (19_167_819, 16 * 27 * 7 + 27 * (512 + 2048) + 2 * (16 + 32 + 64) + 64 * 27 + 1),
}


@pytest.mark.parametrize("system", SYSTEMS)
def test_shipped_systems_have_the_number_of_parameters_that_they_say(system):
    objective, options = shipped(system, "objective")
    channels = objective(**options).channels("critic", 4, 3)["in_channels"]
    networks = []
    with torch.device("meta"):
        for part, arguments in (("segmentor", (4, 3)), ("critic", (channels,))):
            network, options = shipped(system, part)
            networks.append(network(*arguments, **options))
    assert tuple(sum(p.numel() for p in network.parameters()) for network in networks) == SYSTEMS[system]


@pytest.mark.parametrize("system", ["reciprocal", "reciprocal_ours"])
def test_every_weight_of_every_network_moves_in_a_step_of_the_shipped_system(system):
    objective, options = shipped(system, "objective")
    objective = objective(**options)
    torch.manual_seed(0)
    networks = {}
    for part, arguments in (("segmentor", (2, 3)), ("critic", (objective.channels("critic", 2, 3)["in_channels"],))):
        network, options = shipped(system, part)
        networks[part] = network(*arguments, **{**options, "width": 4})
    before = {name: parameters_of(network) for name, network in networks.items()}
    context = StepContext(networks, tiny_batch(channels=3, size=SIZE), "sigmoid")
    rates = {}
    for part, network in networks.items():
        optimiser, options = shipped(system, f"optimizers.{part}")
        rates[part] = optimiser(network.parameters(), **options)
    for phase in objective.phases():
        take_phase(phase, context, rates)
    for name, network in networks.items():
        names = [key for key, _ in network.named_parameters()]
        for key, old, new in zip(names, before[name], parameters_of(network), strict=True):
            assert (old != new).any(), (name, key)


def gradients(objective, networks, batch, **weights):
    """The segmentor's gradients of one term alone."""
    torch.manual_seed(1)
    for network in networks.values():
        network.zero_grad()
    alone = Reciprocal(**{**objective, "vat_weight": 0.0, "adversarial_weight": 0.0, **weights})
    alone.segmentor_loss(StepContext(networks, batch, "sigmoid")).total.backward()
    return torch.cat([parameter.grad.flatten() for parameter in networks["segmentor"].parameters()])


@pytest.mark.parametrize(("options", "trains"), [(PAPER, True), (CODE, False), (OURS, True)])
def test_vat_term_trains_the_segmentor_but_not_in_the_released_form(options, trains):
    networks, batch = cast(Reciprocal(**options)), tiny_batch(size=SIZE)
    plain = gradients(options, networks, batch)
    virtual = gradients(options, networks, batch, vat_weight=0.2)
    assert torch.equal(plain, virtual) != trains


@pytest.mark.parametrize(("options", "sign"), [(PAPER, 1), (CODE, -1), (OURS, 1)])
def test_adversarial_term_makes_the_prediction_look_real_but_fake_in_the_released_form(options, sign):
    objective = Reciprocal(**{**options, "critic_input": "mask"}, vat_weight=0.0, dice_weight=1e-9)
    networks, batch = cast(objective), tiny_batch(size=SIZE)

    def verdict():
        with torch.no_grad():
            context = StepContext(networks, batch, "sigmoid")
            return networks["critic"](context.logits if options is CODE else context.probability)[-1].mean().item()

    before = verdict()
    context = StepContext(networks, batch, "sigmoid")
    take_phase(objective.phases()[0], context, descent(networks, rate=0.1))
    assert sign * (verdict() - before) > 1e-5


def test_released_form_leaves_the_critic_as_it_was_built():
    """Ten batches of the released game: only its running statistics move. Our game's critic learns meanwhile."""
    for options, learns in ((CODE, False), (OURS, True)):
        objective = Reciprocal(**options)
        networks = cast(objective, last="activated" if options is CODE else "bare")
        before, running = parameters_of(networks["critic"]), buffers_of(networks["critic"])
        rates = {
            "segmentor": torch.optim.Adam(networks["segmentor"].parameters(), 2e-4),
            "critic": torch.optim.RMSprop(networks["critic"].parameters(), 5e-5),
        }
        for _ in range(10):
            context = StepContext(networks, tiny_batch(size=SIZE), "sigmoid")
            for phase in objective.phases():
                take_phase(phase, context, rates)
        assert differ(before, parameters_of(networks["critic"])) == learns
        assert differ(running, buffers_of(networks["critic"]))


def released_step(networks, image, labels, rates):
    """One step of the released training script, in its order (fact sheet, sections 3 and 5); returns total and adv."""
    network, critic = networks["segmentor"], networks["critic"]
    logits = network(image)
    p = logits.sigmoid()
    dice = torch.stack(
        [
            1 - (2 * (p[:, c] * labels[:, c]).sum() + 1) / (p[:, c].square().sum() + labels[:, c].square().sum() + 1)
            for c in range(labels.shape[1])
        ]
    ).mean()
    noise = 2.5 * normalize(torch.randn_like(image), p=2, dim=1)
    vat = kl_div(network(image + noise).sigmoid(), labels, reduction="none").mean()
    vat = torch.autograd.Variable(vat.detach(), requires_grad=True)
    fake, real = critic(logits)[-1].sigmoid(), critic(labels)[-1].sigmoid()
    adv = 0.5 * (binary_cross_entropy(fake, torch.zeros_like(fake)) + binary_cross_entropy(real, torch.ones_like(real)))
    total = dice + 0.2 * vat.abs() + 0.3 * adv
    rates["segmentor"].zero_grad()
    total.backward()
    rates["segmentor"].step()
    rates["critic"].zero_grad()
    torch.autograd.Variable(adv.detach(), requires_grad=True).backward()
    rates["critic"].step()
    return total.item(), adv.item()


def test_code_form_is_the_released_script_step_by_step():
    """Same losses and same weights, three steps long, although ours has neither its first forward nor its void step."""
    objective, batch = Reciprocal(**CODE), tiny_batch(channels=3, size=SIZE, dtype=torch.float64)
    casts = [cast(objective, channels=3, dtype=torch.float64, kernel=1, last="activated") for _ in range(2)]
    rates = [
        {
            "segmentor": torch.optim.Adam(networks["segmentor"].parameters(), 2e-4),
            "critic": torch.optim.RMSprop(networks["critic"].parameters(), 5e-5),
        }
        for networks in casts
    ]
    for step in range(3):
        torch.manual_seed(step)
        expected = released_step(casts[0], batch.image, batch.target, rates[0])
        torch.manual_seed(step)
        context = StepContext(casts[1], batch, "sigmoid")
        (phase,) = objective.phases()
        found = take_phase(phase, context, rates[1])
        assert (found["total"].item(), found["adversarial"].item()) == pytest.approx(expected, rel=1e-12)
    for name in ("segmentor", "critic"):
        for first, second in zip(casts[0][name].parameters(), casts[1][name].parameters(), strict=True):
            torch.testing.assert_close(first, second, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("iterations", [0, 1])
def test_a_missing_modality_stays_missing_in_the_changed_image(iterations):
    objective = Reciprocal(**{**PAPER, "vat": VATLoss(reference="labels", power_iterations=iterations)})
    networks = cast(objective)
    batch = tiny_batch(size=SIZE)
    batch.modality_mask[0, 1] = False
    batch.image[0, 1] = 0
    seen = []
    context = StepContext(networks, batch, "sigmoid")
    assert context.logits.isfinite().all()  # the clean pass, before anything is noted
    networks["segmentor"].register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    objective.vat_loss(context)
    assert len(seen) == iterations + 1
    for image in seen:
        assert not image[0, 1].any()
        assert (image != batch.image).flatten(2).any(2).tolist() == [[True, False], [True, True]]
    change = (seen[-1] - batch.image).square().flatten(2).mean(2)
    assert change[0, 0] == pytest.approx(0.1**2, rel=1e-3)  # as long at what is there as of a complete sample
    assert change[1].mean() == pytest.approx(0.1**2, rel=1e-3)


@pytest.mark.parametrize("options", [PAPER, OURS, CODE], ids=["paper", "ours", "code"])
def test_a_changed_image_comes_with_the_samples_own_mask_channels_and_the_critic_sees_none(options):
    objective = Reciprocal(**{**options, "critic_input": "concat"})
    networks = {**cast(objective), "segmentor": Segmentor(4, 1, width=4)}
    mask_channels, seen = [], []
    networks["segmentor"].register_forward_pre_hook(lambda _, args: mask_channels.append(args[0][:, 2:].detach()))
    networks["critic"].register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    batch = tiny_batch(size=SIZE)
    batch.modality_mask[0, 1] = False
    batch.image[0, 1] = 0
    context = StepContext(networks, batch, "sigmoid", "channels")
    for phase in objective.phases():
        phase.loss(context)
    assert len(mask_channels) > 1
    for plane in mask_channels:
        assert torch.equal(plane, batch.modality_mask[:, :, None, None, None].float().expand_as(plane))
    for shown in seen:
        assert shown.shape == (2, 3, *SIZE)
        assert torch.equal(shown[:, :2], batch.image)


NORMED = {
    "AlbuNet": lambda: AlbuNet(2, 1, width=8, filters=2),
    "MONAI's U-Net": lambda: MonaiSegmentor(2, 1, width=4, levels=3, norm="batch"),
}


@pytest.mark.parametrize("build", NORMED.values(), ids=NORMED)
def test_changed_images_leave_no_trace_in_batch_norms_running_statistics(build):
    batch, found = tiny_batch(size=(16, 32, 32)), []
    for weight in (0.2, 0.0):
        torch.manual_seed(0)
        segmentor = build()
        objective = Reciprocal(vat_weight=weight, adversarial_weight=0.0, vat=VATLoss(power_iterations=2))
        before = buffers_of(segmentor)
        total = objective.segmentor_loss(StepContext({"segmentor": segmentor}, batch, "sigmoid")).total
        total.backward()
        found.append((buffers_of(segmentor), [parameter.grad for parameter in segmentor.parameters()]))
        assert differ(before, found[-1][0])  # the clean image moves them
    (changed, with_term), (clean, without) = found
    assert not differ(changed, clean)
    assert differ(with_term, without)  # the term was there


def test_batch_norm_normalises_a_changed_image_by_its_own_statistics():
    """A network of one batch norm: logits of a changed batch have mean 0, whatever the running mean says."""
    network, seen = torch.nn.Sequential(torch.nn.BatchNorm3d(1)), []
    network[0].running_mean.fill_(5.0)
    batch = tiny_batch(1, size=SIZE)
    context = StepContext({"segmentor": network}, batch, "sigmoid")
    assert context.logits.isfinite().all()  # the clean pass, before anything is noted
    network.register_forward_hook(lambda *given: seen.append(given[-1].mean().item()))
    Reciprocal(**PAPER).vat_loss(context)
    assert seen == pytest.approx([0, 0], abs=1e-4)
    assert network[0].track_running_stats
    network.eval()
    still = buffers_of(network)
    Reciprocal(**PAPER).vat_loss(
        StepContext({"segmentor": network}, batch, "sigmoid")
    )  # one that is frozen stays frozen
    assert max(seen[-2:]) < -4
    assert not differ(still, buffers_of(network))


@pytest.mark.slow
@pytest.mark.parametrize("options", [PAPER, CODE], ids=["paper", "code"])
def test_tiny_case_is_overfitted_in_the_other_forms(options):
    contract = TestReciprocal()
    contract.cast = lambda: super(TestReciprocal, contract).cast(**options)
    contract.test_tiny_case_is_overfitted()


def test_weight_zero_leaves_out_a_term_its_forwards_and_the_critics_phase():
    objective = Reciprocal(vat_weight=0.0, adversarial_weight=0.0)
    networks = cast(objective)
    networks["critic"].register_forward_hook(lambda *_: pytest.fail("the critic was asked"))
    (phase,) = objective.phases()
    state = torch.get_rng_state()
    terms = take_phase(phase, StepContext(networks, tiny_batch(size=SIZE), "sigmoid"), descent(networks))
    assert set(terms) == {"total", "dice"}
    assert torch.equal(torch.get_rng_state(), state)


def test_critic_learns_to_tell_a_poor_prediction_from_the_truth():
    """Alone for 30 steps against an untrained segmentor; in the paper's form as in ours."""
    for options, critic in ((PAPER, {}), (OURS, {"stride": 2, "maps": 1})):
        objective = Reciprocal(**options)
        networks = cast(objective, **critic)
        optimiser = torch.optim.RMSprop(networks["critic"].parameters(), 1e-3)
        context = StepContext(networks, tiny_batch(size=SIZE), "sigmoid")
        for _ in range(30):
            terms = objective.critic_loss(context)
            optimiser.zero_grad()
            terms.total.backward()
            optimiser.step()
        assert terms.total.item() < 0.5 * log(2), options
        assert terms.parts["real"] > terms.parts["fake"] + 0.3


def test_losses_are_float32_under_autocast():
    for options in (PAPER, CODE, OURS):
        objective = Reciprocal(**options)
        networks = cast(objective)
        with torch.autocast("cpu", torch.bfloat16):
            context = StepContext(networks, tiny_batch(size=SIZE), "sigmoid")
            losses = [objective.segmentor_loss(context), objective.critic_loss(context)]
        assert context.logits.dtype == torch.bfloat16
        for total, parts in losses:
            assert {total.dtype, *(part.dtype for part in parts.values())} == {torch.float32}


def test_dice_as_printed_cannot_fall_below_a_half():
    objective = Reciprocal(
        vat_weight=0.0, adversarial_weight=0.0, dice=SoftDice(reduction="batch", epsilon=1.0, form="printed")
    )
    target = tiny_batch(size=SIZE).target
    perfect = objective.dice(target, target).item()
    voxels = target.sum().item()
    assert perfect == pytest.approx(1 - (voxels + 1) / (2 * voxels + 1))
    assert 0.499 < perfect < 0.5
    p, g = torch.tensor([[0.9, 0.2], [0.1, 0.8]])[None, None], torch.eye(2)[None, None]
    assert objective.dice(p, g).item() == pytest.approx(1 - (1.7 + 1) / (2.0 + 2 + 1))
    assert Reciprocal().dice(target, target).item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("objective", "size", "segmentor", "critic"),
    [
        (Reciprocal(), (32, 32), lambda m, c: SegANSegmentor(m, c, width=4), lambda c: SegANCritic(c, width=4)),
        (SegAN(), SIZE, lambda m, c: Segmentor(m, c, width=4), lambda c: Critic(c, width=4, stride=2)),
    ],
    ids=["SegAN's networks in Reciprocal's game", "Reciprocal's networks in SegAN's game"],
)
def test_networks_of_another_system_train_too(objective, size, segmentor, critic):
    torch.manual_seed(0)
    networks = {"segmentor": segmentor(2, 1), "critic": critic(objective.channels("critic", 2, 1)["in_channels"])}
    before = {name: parameters_of(network) for name, network in networks.items()}
    context = StepContext(networks, tiny_batch(size=size), "sigmoid")
    for phase in objective.phases():
        take_phase(phase, context, descent(networks))
    assert all(differ(before[name], parameters_of(network)) for name, network in networks.items())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"adversarial": "hinge"}, "adversarial is 'hinge'"),
        ({"critic_input": "mix"}, "critic_input"),
        ({"smoothing": 0.7}, "smoothing"),
        ({**CODE, "smoothing": 0.1}, "^smoothing 0.1 does nothing with adversarial 'code', whose critic never learns"),
        ({"dice_weight": 0.0}, "dice_weight above 0"),
        ({"vat_weight": -0.1}, "at least 0"),
        ({"adversarial_weight": float("inf")}, "at least 0"),
    ],
)
def test_arguments_out_of_range_are_refused(options, text):
    with pytest.raises(ValueError, match=text):
        Reciprocal(**options)


def test_a_weight_of_zero_is_legal_with_every_option():
    """So a sweep may switch a term off next to whatever else it varies."""
    Reciprocal(**CODE, adversarial_weight=0.0, smoothing=0.1)
    Reciprocal(vat=ReleasedVATLoss(), smoothing=0.1)  # the other term's option
    Reciprocal(adversarial="code", vat=VATLoss(epsilon=0.5))
