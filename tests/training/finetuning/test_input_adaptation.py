"""The input layer under another number of modalities: hand-worked mixing, and outputs that must not change."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from segan_pl.errors import UsageError
from segan_pl.nets import few_shot
from segan_pl.nets.segan import Critic, Segmentor
from segan_pl.nets.spectral_norm import add_spectral_norm
from segan_pl.objectives.segan import SegAN
from segan_pl.objectives.supervised import Supervised
from segan_pl.training.finetuning.initialising import Source, _adapted
from segan_pl.training.finetuning.input_adaptation import (
    InputChannel,
    adapt_weights,
    convolutions,
    first_convolution,
    mixing,
    multiplied_out,
    segmentor_inputs,
    taken_apart,
)
from segan_pl.training.system import AdversarialSegmentation

ALL = ["t1", "t1ce", "t2", "flair"]


def images(count: int) -> list[InputChannel]:
    return [InputChannel(number) for number in range(count)]


def mixed(before: list[str], now: list[str], rule: Any) -> list[list[float]]:
    found = mixing(images(len(before)), images(len(now)), rule, source_names=before, target_names=now)
    return [[round(value, 9) for value in row] for row in found.tolist()]


@pytest.mark.parametrize(
    ("before", "now", "rule", "expected"),
    [
        (["flair"], ["t1", "t2"], "repeat", [[0.5], [0.5]]),
        (["flair"], ["t1", "t2"], "mean", [[0.5], [0.5]]),
        (["flair"], ["t1", "flair"], "zero", [[0.0], [1.0]]),
        (["t1", "t2"], ["a", "b", "c"], "repeat", [[2 / 3, 0], [0, 2 / 3], [2 / 3, 0]]),
        (["t1", "t2"], ["a", "b", "c"], "mean", [[1 / 3, 1 / 3]] * 3),
        (ALL, ["flair"], "repeat", [[4.0, 0, 0, 0]]),
        (ALL, ["flair"], "mean", [[1.0, 1.0, 1.0, 1.0]]),
        (ALL, ["flair"], "zero", [[0, 0, 0, 1.0]]),
        (["t2", "t1"], ["t1", "t2", "t1ce"], "zero", [[0, 1.0], [1.0, 0], [0, 0]]),
    ],
)
def test_how_much_of_each_channel_goes_where(
    before: list[str], now: list[str], rule: str, expected: list[list[float]]
) -> None:
    assert mixed(before, now, rule) == [[round(float(value), 9) for value in row] for row in expected]


def test_zero_without_a_name_in_common_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"--finetuning.adapt_input zero .* but t1, t2 has none of flair; use repeat or mean"
    ):
        mixed(["flair"], ["t1", "t2"], "zero")


def test_label_channels_stay_and_products_follow_their_modality() -> None:
    source = [InputChannel(0), InputChannel(None, 0), InputChannel(None, 1), InputChannel(0, 0), InputChannel(0, 1)]
    objective = SegAN(critic_input="mix")
    assert source == [InputChannel(*one) for one in objective.inputs("critic", 1, 2)]
    target = [InputChannel(*one) for one in objective.inputs("critic", 2, 2)]
    found = mixing(source, target, "zero", source_names=["flair"], target_names=["t1", "flair"])
    assert found.argmax(1)[found.any(1)].tolist() == [0, 1, 2, 3, 4]
    assert [bool(row.any()) for row in found] == [False, True, True, True, False, True, False, True]


@pytest.mark.parametrize("rule", ["repeat", "mean", "zero"])
def test_mask_channels_follow_the_rule_and_begin_at_zero_where_the_source_has_none(rule: Any) -> None:
    names: dict[str, list[str]] = {"source_names": ["t1"], "target_names": ["t1", "t2"]}
    masked, none, target = segmentor_inputs(1, 2), segmentor_inputs(1, 1), segmentor_inputs(2, 4)
    assert masked is not None
    assert none is not None
    assert target is not None
    share = [[1.0], [0.0]] if rule == "zero" else [[0.5], [0.5]]
    with_mask_channels = mixing(masked, target, rule, **names)
    assert with_mask_channels[:2, :1].tolist() == with_mask_channels[2:, 1:].tolist() == share
    assert not with_mask_channels[:2, 1:].any()
    assert not with_mask_channels[2:, :1].any()
    without = mixing(none, target, rule, **names)
    assert without.tolist() == [*share, [0.0], [0.0]]


def test_a_segmentor_reads_its_modalities_perhaps_with_mask_channels_and_nothing_else() -> None:
    assert segmentor_inputs(4, 5) is None
    assert segmentor_inputs(2, 4) == [
        InputChannel(0),
        InputChannel(1),
        InputChannel(0, mask=True),
        InputChannel(1, mask=True),
    ]


@pytest.mark.parametrize("critic_input", ["mask", "concat", "mix"])
@pytest.mark.parametrize(("modalities", "channels"), [(1, 1), (4, 1), (4, 3), (3, 2)])
def test_each_critic_channel_shows_what_the_objective_says(critic_input: Any, modalities: int, channels: int) -> None:
    objective = SegAN(critic_input=critic_input)
    image, mask = torch.rand(2, modalities, 3, 3), torch.rand(2, channels, 3, 3)
    view = objective.critic_view(image, mask)
    inputs = objective.inputs("critic", modalities, channels)
    assert len(inputs) == objective.channels("critic", modalities, channels)["in_channels"] == view.shape[1]
    for (modality, label), shown in zip(inputs, view.unbind(1), strict=True):
        expected = torch.ones(2, 3, 3)
        expected = expected * (image[:, modality] if modality is not None else 1)
        expected = expected * (mask[:, label] if label is not None else 1)
        assert torch.equal(shown, expected)


def test_an_objective_that_does_not_say_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"objective Supervised does not say .* inputs\(\)"):
        Supervised().inputs("critic", 1, 1)


def adapted(source: nn.Module, target: nn.Module, weights: torch.Tensor) -> nn.Module:
    target.load_state_dict(adapt_weights(target, source.state_dict(), weights))
    return target.eval()


@pytest.mark.parametrize(
    ("before", "now", "rule"), [(1, 4, "repeat"), (1, 4, "mean"), (2, 4, "repeat"), (4, 1, "mean"), (3, 2, "mean")]
)
def test_the_same_image_in_all_channels_gives_the_sources_output(before: int, now: int, rule: Any) -> None:
    source, target = Segmentor(before, 2, width=2).eval(), Segmentor(now, 2, width=2)
    names = {"source_names": ALL[:before], "target_names": ALL[:now]}
    adapted(source, target, mixing(images(before), images(now), rule, **names))
    image = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(
        target(image.expand(-1, now, -1, -1)), source(image.expand(-1, before, -1, -1)), rtol=1e-5, atol=1e-4
    )


def test_added_modalities_begin_without_influence_under_zero() -> None:
    source, target = Segmentor(2, 1, width=2).eval(), Segmentor(3, 1, width=2)
    names = {"source_names": ["t2", "t1"], "target_names": ["t1", "flair", "t2"]}
    adapted(source, target, mixing(images(2), images(3), "zero", **names))
    t1, t2, flair = torch.rand(3, 2, 1, 32, 32)
    assert torch.equal(target(torch.cat([t1, flair, t2], 1)), target(torch.cat([t1, 5 * flair, t2], 1)))
    torch.testing.assert_close(target(torch.cat([t1, flair, t2], 1)), source(torch.cat([t2, t1], 1)))


@pytest.mark.parametrize("critic_input", ["mask", "concat", "mix"])
@pytest.mark.parametrize("rule", ["repeat", "mean"])
def test_the_critic_sees_the_same_features_of_the_same_image_in_all_channels(critic_input: Any, rule: Any) -> None:
    objective = SegAN(critic_input=critic_input)
    source, target = (Critic(objective.channels("critic", m, 2)["in_channels"], width=2) for m in (1, 4))
    channels = [[InputChannel(*one) for one in objective.inputs("critic", m, 2)] for m in (1, 4)]
    adapted(source.eval(), target, mixing(*channels, rule, source_names=["flair"], target_names=ALL))
    image, mask = torch.rand(2, 1, 32, 32), torch.rand(2, 2, 32, 32)
    before = source(objective.critic_view(image, mask))[1:]
    now = target(objective.critic_view(image.expand(-1, 4, -1, -1), mask))[1:]
    for one, two in zip(before, now, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


def test_only_kernels_that_read_the_input_are_mixed() -> None:
    source, target = Segmentor(1, 1, width=2), Segmentor(4, 1, width=2)
    before = source.state_dict()
    all_in_one = mixing(images(1), images(4), "mean", source_names=["t1"], target_names=ALL)
    after = adapt_weights(target, before, all_in_one)
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] is not before[name]} == {"input.conv.weight"}
    assert after["input.conv.weight"].shape == (2, 4, 4, 4)


def test_a_layer_that_a_network_holds_twice_is_mixed_under_both_names() -> None:
    """As MONAI's DynUNet holds its input block; loading would else take the second name's weights."""

    def twice(channels: int) -> nn.ModuleDict:
        layer = nn.Conv2d(channels, 3, 1)
        return nn.ModuleDict({"input": layer, "again": layer})

    for before, now in ((1, 2), (2, 2)):
        source, target = twice(before), twice(now)
        mixed = torch.rand(now, before, dtype=torch.float64)
        target.load_state_dict(adapt_weights(target, source.state_dict(), mixed, "input"))
        expected = torch.einsum("ts,oshw->othw", mixed, source["input"].get_parameter("weight").double()).float()
        torch.testing.assert_close(target["input"].get_parameter("weight").data, expected.detach())


def test_the_layer_that_reads_the_input_is_the_first_convolution() -> None:
    assert first_convolution(Critic(2), "critic") == "input.conv"
    deep = nn.Sequential(nn.ConvTranspose2d(2, 2, 1), nn.Conv2d(4, 4, 1, groups=2), nn.Conv3d(4, 1, 1))
    assert first_convolution(deep, "critic") == "2"
    assert list(convolutions(deep)) == ["2"]
    with pytest.raises(UsageError, match="the critic Linear has no convolution"):
        first_convolution(nn.Linear(1, 1), "critic")


def trained(modalities: int) -> few_shot.Segmentor:
    """A segmentor with weight norm, whose lengths are not 1."""
    torch.manual_seed(modalities)
    network = few_shot.Segmentor(modalities, 3, width=2, spatial_dims=2)
    for parameter in network.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return network


def test_kernels_with_weight_norm_are_taken_apart_as_they_were() -> None:
    weights = trained(2).state_dict()
    again, network = taken_apart(multiplied_out(weights), weights), trained(2)
    assert again.keys() == weights.keys()
    image = torch.randn(1, 2, 16, 16)
    expected = network(image)
    network.load_state_dict(again)
    torch.testing.assert_close(network(image), expected)


@pytest.mark.parametrize(
    ("now", "rule", "order"), [(["t2", "t1", "t1ce"], "zero", [1, 0]), (["a", "b", "c", "d"], "repeat", [0, 1, 0, 1])]
)
def test_a_first_layer_with_weight_norm_is_adapted_like_any_other(now: list[str], rule: str, order: list[int]) -> None:
    source, target, before = trained(2), trained(len(now)), ["t1", "t2"]
    weights = source.state_dict()
    mix = mixing(images(2), images(len(now)), rule, source_names=before, target_names=now)  # type: ignore[arg-type]
    adapted = adapt_weights(target, multiplied_out(weights), mix, first_convolution(target, "segmentor"))
    target.load_state_dict(taken_apart(adapted, weights))
    image = torch.randn(1, 2, 16, 16)
    more = image[:, order] if rule == "repeat" else torch.cat([image[:, order], torch.randn(1, 1, 16, 16)], 1)
    torch.testing.assert_close(target(more), source(image), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("before", "now"), [(2, 4), (4, 2)])
def test_a_first_layer_with_spectral_norm_is_mixed_before_it_is_divided(before: int, now: int) -> None:
    def critic(modalities: int) -> nn.Sequential:
        torch.manual_seed(modalities)
        network = nn.Sequential(nn.Conv2d(modalities, 5, 3), nn.ReLU(), nn.Conv2d(5, 6, 3))
        assert add_spectral_norm(network) == 2
        return network.eval()

    source, target = critic(before), critic(now)
    weights = source.state_dict()
    names = ["t1", "t2", "t1ce", "flair"]
    mix = mixing(images(before), images(now), "repeat", source_names=names[:before], target_names=names[:now])
    adapted = adapt_weights(target, multiplied_out(weights), mix, first_convolution(target, "critic"))
    target.load_state_dict(taken_apart(adapted, weights))
    expected = torch.einsum("ts,os...->ot...", mix, weights["0.parametrizations.weight.original"].double())
    largest = torch.linalg.matrix_norm(expected.flatten(1), 2)
    layers: Any = target
    torch.testing.assert_close(layers[0].weight.double(), expected / largest, rtol=1e-5, atol=1e-6)
    # the other layers are as they were, to the bit
    assert all(torch.equal(value, weights[name]) for name, value in target.state_dict().items() if name[0] == "2")


def test_a_saved_segmentor_with_weight_norm_gets_another_modality() -> None:
    def system(modalities: list[str]) -> AdversarialSegmentation:
        segmentor = partial(few_shot.Segmentor, width=2, spatial_dims=2)
        return AdversarialSegmentation({"segmentor": segmentor}, Supervised(), modalities=modalities, labels="regions")

    before, now = system(["flair"]).eval(), system(["t1", "flair"]).eval()
    weights = {"segmentor": before.segmentor.state_dict()}
    source = Source(Path("flair.ckpt"), "", 0, ("flair",), "regions/brats2017", weights)
    now.segmentor.load_state_dict(_adapted("segmentor", now, source, "zero"))
    image = torch.randn(1, 2, 16, 16)
    torch.testing.assert_close(now.segmentor(image), before.segmentor(image[:, 1:]), rtol=1e-4, atol=1e-5)
