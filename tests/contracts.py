"""What every segmentor, critic and objective must keep; a test class inherits it and says how to build its subject."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segan_pl.batch import Batch
from segan_pl.losses.activation import Activation
from segan_pl.objectives.base import Objective, Phase, StepContext

Networks = Mapping[str, nn.Module]
Optimisers = Mapping[str, torch.optim.Optimizer]


def tiny_batch(
    modalities: int = 2,
    channels: int = 1,
    *,
    size: Sequence[int] = (32, 32),
    items: int = 2,
    activation: Activation = "sigmoid",
    dtype: torch.dtype = torch.float32,
) -> Batch:
    """Noise, with a brighter box a channel that the target marks; with softmax, channel 0 is what no box covers."""
    generator = torch.Generator().manual_seed(0)
    image = 0.3 * torch.rand(items, modalities, *size, generator=generator, dtype=dtype)
    target = torch.zeros(items, channels, *size, dtype=dtype)
    for item in range(items):
        for channel in range(channels):
            start = 2 + 3 * channel + 2 * item
            box = (item, slice(None), *[slice(start, start + side // 2) for side in size])
            image[box] += 0.3
            target[(item, channel, *box[2:])] = 1
    if activation == "softmax":
        for channel in range(1, channels):
            target[:, channel] *= 1 - target[:, channel + 1 :].sum(1).clamp(max=1)
        target[:, 0] = 1 - target[:, 1:].sum(1)
    labelled = torch.ones(items, dtype=torch.bool)
    mask = torch.ones(items, modalities, dtype=torch.bool)
    rows = torch.arange(items)
    return Batch(image, target, labelled, mask, rows, torch.zeros(items, 3, dtype=torch.int64), rows)


def with_unlabelled(batch: Batch, samples: int) -> Batch:
    """The batch with so many unlabelled samples behind it, of NaN: whatever they reach is NaN too."""
    more = Batch(*(field.new_zeros(samples, *field.shape[1:]) for field in batch))
    mask = torch.ones_like(more.modality_mask)
    more = more._replace(image=more.image + torch.nan, target=more.target + torch.nan, modality_mask=mask)
    return Batch(*(torch.cat(pair) for pair in zip(batch, more, strict=True)))


def parameters_of(network: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


def buffers_of(network: nn.Module) -> list[Tensor]:
    return [buffer.detach().clone() for buffer in network.buffers()]


def differ(before: Sequence[Tensor], after: Sequence[Tensor]) -> bool:
    return any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))


def take_phase(phase: Phase, context: StepContext, optimisers: Optimisers) -> dict[str, Any]:
    """One phase as the system runs it: only its networks move, `ascending` ones ascend, `after` comes last."""
    movers = (phase.network, *phase.ascending)
    for name in movers:
        optimisers[name].zero_grad()
    with context.only(movers):
        terms = phase.loss(context)
        terms.total.backward()
    for name in phase.ascending:
        for parameter in context.networks[name].parameters():
            if parameter.grad is not None:
                parameter.grad.neg_()
    for name in movers:
        optimisers[name].step()
    if phase.after is not None:
        phase.after(context)
    return {"total": terms.total.detach(), **terms.parts}


def descent(networks: Networks, rate: float = 1e-2) -> dict[str, torch.optim.Optimizer]:
    """Plain SGD for each network."""
    return {name: torch.optim.SGD(network.parameters(), rate) for name, network in networks.items()}


class SegmentorContract:
    """Inherit, set `size` to the smallest sensible (H, W) or (D, H, W) and define `build`."""

    size: tuple[int, ...]

    def build(self, in_channels: int, out_channels: int) -> nn.Module:
        raise NotImplementedError

    def image(self, channels: int, items: int = 2) -> Tensor:
        return torch.randn(items, channels, *self.size, generator=torch.Generator().manual_seed(1))

    @pytest.mark.parametrize(("modalities", "channels"), [(1, 1), (4, 1), (2, 3), (4, 4)])
    def test_logits_have_the_shape_of_the_image_and_a_channel_a_label(self, modalities: int, channels: int) -> None:
        logits = self.build(modalities, channels)(self.image(modalities))
        assert logits.shape == (2, channels, *self.size)

    def test_size_off_the_divisor_is_refused_with_the_remedy(self) -> None:
        network = self.build(1, 1)
        odd = torch.zeros(2, 1, *self.size[:-1], self.size[-1] + 1)
        with pytest.raises(ValueError, match=rf"divisible by {network.divisor}.*crop or pad"):
            network(odd)

    def test_size_of_one_more_divisor_is_accepted(self) -> None:
        network = self.build(1, 1)
        larger = torch.zeros(2, 1, *self.size[:-1], self.size[-1] + network.divisor)
        assert network(larger).shape == larger.shape

    def test_same_seed_gives_the_same_network(self) -> None:
        assert_same_by_seed(lambda: self.build(2, 1))

    def test_saved_and_loaded_network_gives_the_same_output(self) -> None:
        assert_state_round_trip(lambda: self.build(2, 1), self.image(2))

    def test_every_parameter_gets_a_finite_gradient(self) -> None:
        network = self.build(2, 2)
        network(self.image(2)).square().mean().backward()
        assert_finite_gradients(network)


class CriticContract:
    """Inherit, set `size` and `layers` (the input counted) and define `build`."""

    size: tuple[int, ...]
    layers: int

    def build(self, in_channels: int) -> nn.Module:
        raise NotImplementedError

    def view(self, channels: int, items: int = 2) -> Tensor:
        return torch.randn(items, channels, *self.size, generator=torch.Generator().manual_seed(1))

    def test_pyramid_starts_with_the_input_and_coarsens(self) -> None:
        view = self.view(3)
        pyramid = self.build(3)(view)
        assert len(pyramid) == self.layers
        assert pyramid[0] is view
        sizes = [layer.shape[2:].numel() for layer in pyramid]
        assert sizes == sorted(sizes, reverse=True)
        assert len(set(sizes)) == self.layers

    def test_size_off_the_divisor_is_refused_with_the_remedy(self) -> None:
        network = self.build(1)
        with pytest.raises(ValueError, match=rf"divisible by {network.divisor}.*crop or pad"):
            network(torch.zeros(2, 1, *self.size[:-1], self.size[-1] + 1))

    def test_same_seed_gives_the_same_network(self) -> None:
        assert_same_by_seed(lambda: self.build(2))

    def test_saved_and_loaded_network_gives_the_same_output(self) -> None:
        assert_state_round_trip(lambda: self.build(2), self.view(2))

    def test_every_parameter_gets_a_finite_gradient(self) -> None:
        network = self.build(2)
        torch.stack([layer.square().mean() for layer in network(self.view(2))]).sum().backward()
        assert_finite_gradients(network)


class ObjectiveContract:
    """Inherit, define `build` and `networks`; `options` are the constructor arguments under test.

    `networks` holds small networks for a 32 x 32 image, or for `size`.
    """

    size: tuple[int, ...] = (32, 32)
    options: Sequence[Mapping[str, Any]] = ({},)

    def build(self, **options: Any) -> Objective:
        raise NotImplementedError

    def networks(self, objective: Objective, modalities: int, channels: int) -> dict[str, nn.Module]:
        raise NotImplementedError

    def cast(self, modalities: int = 2, channels: int = 1, **options: Any) -> tuple[Objective, dict[str, nn.Module]]:
        """Objective and networks, initialised by a fixed seed."""
        torch.manual_seed(0)
        objective = self.build(**options)
        return objective, self.networks(objective, modalities, channels)

    def context(
        self, networks: Networks, modalities: int = 2, channels: int = 1, activation: Activation = "sigmoid"
    ) -> StepContext:
        """A step on a tiny batch; an objective that needs another one overrides this."""
        batch = tiny_batch(modalities, channels, size=self.size, activation=activation)
        return StepContext(networks, batch, activation)

    def test_networks_are_those_that_move(self) -> None:
        for option in self.options:
            objective = self.build(**option)
            movers = {name for phase in objective.phases() for name in (phase.network, *phase.ascending)}
            assert movers == set(objective.networks) - set(objective.teachers)

    def test_each_network_moves_in_its_own_phase_and_only_then(self) -> None:
        for option in self.options:
            objective, networks = self.cast(**option)
            context = self.context(networks)
            optimisers = descent(networks)
            for phase in objective.phases():
                before = {name: parameters_of(network) for name, network in networks.items()}
                take_phase(phase, context, optimisers)
                moved = {name for name, network in networks.items() if differ(before[name], parameters_of(network))}
                # What follows a phase moves teachers.
                assert moved - set(objective.teachers) == {phase.network, *phase.ascending}, option

    def test_turns_leave_no_gradient_with_the_bystanders(self) -> None:
        for option in self.options:
            objective, networks = self.cast(**option)
            context = self.context(networks)
            for phase in objective.phases():
                for network in networks.values():
                    network.zero_grad()
                take_phase(phase, context, descent(networks))
                movers = {phase.network, *phase.ascending}
                for name in set(networks) - movers:
                    assert all(parameter.grad is None for parameter in networks[name].parameters()), option

    def test_one_segmentor_forward_serves_a_batch(self) -> None:
        for option in self.options:
            objective, networks = self.cast(**option)
            calls: list[int] = []
            networks["segmentor"].register_forward_hook(lambda *_, calls=calls: calls.append(1))
            context = StepContext(networks, tiny_batch(size=self.size), "sigmoid")
            for phase in objective.phases():
                take_phase(phase, context, descent(networks))
            assert len(calls) == 1, option

    def test_unlabelled_samples_change_nothing(self) -> None:
        """Neither gradients nor statistics; an objective that learns from them overrides this with what it does."""
        for option in self.options:
            found = []
            for unlabelled in (0, 2):
                objective, networks = self.cast(**option)
                context = StepContext(networks, with_unlabelled(tiny_batch(size=self.size), unlabelled), "sigmoid")
                torch.manual_seed(5)
                for phase in objective.phases():
                    take_phase(phase, context, descent(networks))
                found.append(
                    [tensor for one in networks.values() for tensor in (*parameters_of(one), *buffers_of(one))]
                )
            assert not differ(*found), option

    @pytest.mark.parametrize(("channels", "activation"), [(1, "sigmoid"), (3, "sigmoid"), (4, "softmax")])
    def test_regions_and_labels_are_trained(self, channels: int, activation: Activation) -> None:
        for option in self.options:
            objective, networks = self.cast(4, channels, **option)
            context = self.context(networks, 4, channels, activation)
            for phase in objective.phases():
                terms = take_phase(phase, context, descent(networks))
                assert all(value.ndim == 0 and value.isfinite() and not value.requires_grad for value in terms.values())

    def test_tiny_case_is_overfitted(self) -> None:
        objective, networks = self.cast()
        optimisers = {name: torch.optim.RMSprop(network.parameters(), 1e-3, 0.9) for name, network in networks.items()}
        for _ in range(60):
            context = self.context(networks)
            for phase in objective.phases():
                take_phase(phase, context, optimisers)
        labelled = context.labelled
        assert labelled is not None
        found, target = labelled.probability > 0.5, labelled.batch.target
        overlap = (found & (target > 0)).sum()
        assert 2 * overlap / (found.sum() + target.sum()) > 0.9


def assert_same_by_seed(build: Any) -> None:
    networks = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        networks.append(parameters_of(build()))
    assert not differ(networks[0], networks[1])
    assert differ(networks[0], networks[2])


def assert_state_round_trip(build: Any, image: Tensor) -> None:
    torch.manual_seed(1)
    source = build()
    source(image)  # moves the running statistics away from their start
    file = io.BytesIO()
    torch.save(source.state_dict(), file)
    file.seek(0)
    copy = build()
    copy.load_state_dict(torch.load(file, weights_only=True))
    with torch.no_grad():
        outputs = [network.eval()(image) for network in (source, copy)]
    pairs = zip(*outputs, strict=True) if isinstance(outputs[0], list) else [outputs]
    assert all(torch.equal(first, second) for first, second in pairs)


def assert_finite_gradients(network: nn.Module) -> None:
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
