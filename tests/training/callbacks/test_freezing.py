"""What is frozen stays to the bit, whatever would move it; what unfreezes moves; a resumed run does the same."""

from __future__ import annotations

import copy
import hashlib
import logging
import pickle
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial, partialmethod
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import lightning as L
import pytest
import torch
from torch import Tensor, nn

from segan_pl.data.module import MRIDataModule
from segan_pl.errors import UsageError
from segan_pl.nets.segan import Critic
from segan_pl.objectives.segan import SegAN
from segan_pl.training.callbacks.freezing import Freezing, find_frozen, moving_and_frozen
from segan_pl.training.system import AdversarialSegmentation
from tests.cohort import QUIET, build_system, build_trainer

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = QUIET

MakeData = Callable[..., MRIDataModule]
ADAMW = partial(torch.optim.AdamW, lr=1e-2, weight_decay=0.5)
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def hashes(system: nn.Module) -> dict[str, str]:
    """Of every parameter and buffer of the networks."""
    return {
        name: hashlib.sha256(value.detach().numpy().tobytes()).hexdigest()
        for name, value in system.get_submodule("networks").state_dict().items()
    }


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]}


class Diary(L.Callback):
    """Hashes after each epoch."""

    def __init__(self) -> None:
        self.pages: list[dict[str, str]] = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.pages.append(hashes(pl_module))


def moving_system(**settings: Any) -> AdversarialSegmentation:
    """One in which everything would move everything: weight decay, clipping of gradients and of all critic weights."""
    objective = SegAN(clip="all", clip_value=0.03, update=settings.pop("update", "alternating"))
    return build_system(objective, optimizers={"default": ADAMW}, clip_gradient=0.1, **settings)


def fit(
    folder: Path,
    system: AdversarialSegmentation,
    data: MRIDataModule,
    *callbacks: L.Callback,
    epochs: int = 1,
    checkpoint: Path | None = None,
) -> L.Trainer:
    trainer = build_trainer(folder, *callbacks, epochs=epochs)
    trainer.fit(system, data, ckpt_path=checkpoint)
    return trainer


@pytest.mark.parametrize("update", ["alternating", "simultaneous"])
@pytest.mark.parametrize(
    "frozen",
    [
        [],
        ["critic"],
        ["critic.enc2", "critic.enc3"],
        ["segmentor.enc*", "segmentor.dec1"],
        ["segmentor"],
        ["critic.*.bias", "segmentor.output.conv.weight"],
    ],
)
def test_exactly_what_is_not_frozen_changes(
    tmp_path: Path, make_data: MakeData, frozen: list[str], update: str
) -> None:
    """Under weight decay, gradient clipping and clamping of every weight of the critic, validation in between."""
    system = moving_system(update=update)
    before = hashes(system)
    names = [pattern.rstrip("*") for pattern in frozen if not pattern.startswith("critic.*")]
    still = {
        name
        for name in before
        if any(name == n or name.startswith((f"{n}.", *([n] if f"{n}*" in frozen else []))) for n in names)
        or ("critic.*.bias" in frozen and name.startswith("critic") and name.endswith(".bias"))
    }
    trainer = fit(tmp_path, system, make_data(), *([Freezing(frozen)] if frozen else []), epochs=2)
    assert changed(before, hashes(system)) == before.keys() - still
    named = {id(parameter): name for name, parameter in system.networks.named_parameters()}
    stepped = {named[id(p)] for optimizer in trainer.optimizers for p in optimizer.state if optimizer.state[p]}
    assert stepped == named_parameters(system) - still
    assert all(p.grad is None for name, p in system.networks.named_parameters() if name in still)


def named_parameters(system: AdversarialSegmentation) -> set[str]:
    return {name for name, _ in system.networks.named_parameters()}


def test_the_average_of_frozen_weights_is_these_weights(tmp_path: Path, make_data: MakeData) -> None:
    system = moving_system(averaging=0.9)
    fit(tmp_path, system, make_data(), Freezing(["segmentor.enc*"]), epochs=2)
    averaged = system.averaged.get_submodule("segmentor.module").state_dict()
    differ = {name for name, value in system.segmentor.state_dict().items() if not torch.equal(averaged[name], value)}
    assert not any(name.startswith("enc") for name in differ)
    assert "dec1.conv.weight" in differ


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_run_resumed_before_at_or_after_unfreezing_ends_as_the_uninterrupted_one(
    tmp_path: Path, make_data: MakeData, stop: int
) -> None:
    freezing = partial(Freezing, ["critic", "segmentor.enc*"], unfreeze_epoch=2)
    whole, diary = moving_system(), Diary()
    before = hashes(whole)
    fit(tmp_path, whole, make_data(), freezing(), diary, epochs=4)
    moved = [changed(one, two) for one, two in zip([before, *diary.pages[:-1]], diary.pages, strict=True)]
    still = {name for name in before if name.startswith(("critic", "segmentor.enc"))}
    assert moved[:3] == [before.keys() - still, before.keys() - still, before.keys()]  # then some stay at the clamp

    first = fit(tmp_path, moving_system(), make_data(), freezing(), epochs=stop)
    first.save_checkpoint(tmp_path / "stopped.ckpt")
    resumed, rest = moving_system(seed=1), Diary()
    fit(tmp_path, resumed, make_data(), freezing(), rest, epochs=4, checkpoint=tmp_path / "stopped.ckpt")
    assert rest.pages == diary.pages[stop:]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compiled_networks_keep_what_is_frozen_and_move_it_after_unfreezing(
    tmp_path: Path, make_data: MakeData, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The graphs of torch.compile without their C++, which would take a minute to build and knows nothing of freezing.
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="aot_eager"))
    system, diary = moving_system(compile=True), Diary()
    before = hashes(system)
    fit(tmp_path, system, make_data(), Freezing(["critic.enc*", "segmentor.enc*"], unfreeze_epoch=1), diary, epochs=2)
    still = {name for name in before if name.startswith(("critic.enc", "segmentor.enc"))}
    assert changed(before, diary.pages[0]) == before.keys() - still
    assert changed(*diary.pages) >= still


def net() -> nn.ModuleDict:
    """A convolution with batch norm in front of a bare batch norm."""
    layers = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.BatchNorm2d(2, affine=False))
    return nn.ModuleDict({"critic": nn.Sequential(layers, nn.Conv2d(2, 1, 1))})


def run_statistics(networks: nn.Module) -> dict[str, Tensor]:
    networks(torch.rand(4, 1, 3, 3))
    return {name: value.clone() for name, value in networks.state_dict().items() if name.endswith(STATISTICS)}


@pytest.mark.parametrize("copied", [lambda x: x, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_statistics_rest_through_train_copies_and_pickles_until_the_end(
    copied: Callable[[nn.ModuleDict], nn.ModuleDict],
) -> None:
    networks = net()
    frozen = find_frozen(networks, ["critic.0"])
    frozen.freeze()
    other = copied(networks)
    before = run_statistics(other["critic"])
    for module in (other, other["critic"], other["critic"].get_submodule("0.1")):
        module.train()
        assert all(torch.equal(before[name], value) for name, value in run_statistics(other["critic"]).items())
    assert other["critic"].training
    frozen.unfreeze()
    start = run_statistics(networks["critic"])
    assert all(not torch.equal(before[name], start[name]) for name in start)
    networks.eval()
    assert all(torch.equal(start[name], value) for name, value in run_statistics(networks["critic"]).items())


def test_statistics_move_as_long_as_a_parameter_beside_them_does() -> None:
    networks = net()
    assert find_frozen(networks, ["critic.0.1.bias"]).statistics == []
    assert find_frozen(networks, ["critic.0.1.*"]).statistics == [networks.get_submodule("critic.0.1")]
    assert find_frozen(networks, ["critic.*.1*"]).statistics == [networks.get_submodule("critic.0.1")]
    assert len(find_frozen(networks, ["critic"]).statistics) == 2


def test_what_was_frozen_before_does_not_unfreeze() -> None:
    networks = net()
    networks.get_parameter("critic.1.weight").requires_grad_(False)
    frozen = find_frozen(networks, ["critic"])
    frozen.freeze()
    frozen.unfreeze()
    assert [p.requires_grad for p in networks.get_submodule("critic.1").parameters()] == [False, True]


def test_spectral_norm_of_a_frozen_layer_is_frozen_too() -> None:
    networks = nn.ModuleDict({"critic": nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3))})
    find_frozen(networks, ["critic"]).freeze()
    networks.train()
    before = copy.deepcopy(networks.state_dict())
    networks["critic"](torch.rand(2, 3))
    assert all(torch.equal(before[name], value) for name, value in networks.state_dict().items())


def test_the_summary_counts_what_moves_and_what_is_frozen_as_the_paper_does() -> None:
    networks = nn.ModuleDict({"segmentor": nn.Conv2d(1, 1, 1), "critic": Critic(1)})
    assert moving_and_frozen(networks, find_frozen(networks, ["critic.enc2", "critic.enc3"])) == [
        "segmentor: 2 parameters move",
        # 657,216 in all, D_in 1,088 (fact sheet, 1.1)
        "critic: 1,088 parameters move (input), 656,128 are frozen (enc2, enc3)",
    ]
    assert moving_and_frozen(networks, find_frozen(networks, ["critic"]))[1] == "critic: 657,216 parameters are frozen"


def test_a_fit_says_what_moves_and_when_it_unfreezes(
    tmp_path: Path, make_data: MakeData, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero"):
        fit(tmp_path, moving_system(), make_data(), Freezing(["critic.enc*"], 1), epochs=2)
    said = [record.getMessage() for record in caplog.records]
    assert "critic: 162 parameters move (input), 664 are frozen (enc2, enc3)" in said  # 5*2*16+2; 128+8 and 512+16
    assert said.count("epoch 1: unfroze critic.enc*") == 1


def test_a_run_resumed_after_unfreezing_says_that_all_moves(
    tmp_path: Path, make_data: MakeData, caplog: pytest.LogCaptureFixture
) -> None:
    freezing = partial(Freezing, ["critic"], unfreeze_epoch=1)
    fit(tmp_path, moving_system(), make_data(), freezing()).save_checkpoint(tmp_path / "stopped.ckpt")
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero"):
        fit(tmp_path, moving_system(), make_data(), freezing(), epochs=2, checkpoint=tmp_path / "stopped.ckpt")
    assert [message for message in caplog.messages if message.startswith("critic: ")] == [
        "critic: 826 parameters move"  # 162 of its input, 664 of enc2 and enc3
    ]


class Failing(L.Callback):
    """Breaks off in the first batch."""

    def on_train_batch_start(self, *_: object) -> None:
        raise RuntimeError("broken off")


@pytest.mark.parametrize("breaks", [False, True])
def test_a_fit_that_ends_lets_go_of_what_rested(tmp_path: Path, make_data: MakeData, breaks: bool) -> None:
    """Also by an exception; so the next fit of the same system unfreezes what this one never did."""
    system = moving_system()
    first = [Freezing(["critic.enc2"]), *([Failing()] if breaks else [])]
    with pytest.raises(RuntimeError, match="broken off") if breaks else nullcontext():
        fit(tmp_path, system, make_data(), *first)
    assert all(parameter.requires_grad for parameter in system.networks.parameters())
    assert not any("train" in vars(module) for module in system.modules())
    before = hashes(system)
    fit(tmp_path, system, make_data(), Freezing(["critic"], unfreeze_epoch=1), epochs=2)
    assert {name for name in before if name.startswith("critic.enc2")} <= changed(before, hashes(system))


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("critik", "did you mean 'critic'"),
        ("critic.enc4", r"did you mean 'critic\.0'|known: critic"),
        ("critic.0.weight", "names no part"),
        ("Critic", "did you mean 'critic'"),
        ("", "names no part"),
    ],
)
def test_a_pattern_that_names_nothing_is_refused_with_the_nearest(pattern: str, hint: str) -> None:
    with pytest.raises(UsageError, match=hint):
        find_frozen(net(), ["critic", pattern])


def test_nothing_to_freeze_and_unfreezing_at_the_start_are_refused() -> None:
    with pytest.raises(UsageError, match="nothing to freeze"):
        Freezing([])
    with pytest.raises(UsageError, match=r"--finetuning.unfreeze_epoch 0: expected at least 1"):
        Freezing(["critic"], 0)


@pytest.mark.parametrize(("epoch", "moving"), [(0, False), (1, False), (2, True), (3, True)])
def test_a_run_resumed_in_the_middle_of_an_epoch_freezes_only_before_unfreezing(epoch: int, moving: bool) -> None:
    """Lightning then calls `on_train_start` alone."""
    system, trainer = moving_system(), SimpleNamespace(current_epoch=epoch)
    Freezing(["critic"], 2).on_train_start(cast(L.Trainer, trainer), system)
    assert all(parameter.requires_grad == moving for parameter in system.networks["critic"].parameters())
