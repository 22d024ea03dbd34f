"""The phases within Lightning's loop, whole-volume scores, and checkpoints, with tiny networks on the tiny cohort."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args, get_type_hints

import lightning as L
import nibabel as nib
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader

from segan_pl.batch import Batch
from segan_pl.data.labels import label_scheme
from segan_pl.data.module import MRIDataModule
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.data.source import case_names
from segan_pl.errors import UsageError
from segan_pl.evaluation.policies import POLICIES, Counts
from segan_pl.inference.checkpoint_file import FORMAT, KEY
from segan_pl.losses.overlap import soft_dice_loss
from segan_pl.nets.segan import Critic, Segmentor
from segan_pl.objectives.base import LossTerms, Objective, Phase, StepContext
from segan_pl.objectives.segan import SegAN
from segan_pl.objectives.supervised import Supervised
from segan_pl.training.checkpoint import CheckpointMismatchError
from segan_pl.training.system import AdversarialSegmentation
from segan_pl.training.whole_volumes import NonFiniteLossError
from tests.cohort import CROP, QUIET, PlainSegmentor, build_system, build_trainer
from tests.contracts import descent, take_phase

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = QUIET

MakeData = Callable[..., MRIDataModule]
SGD = partial(torch.optim.SGD, lr=0.1)
ADAM = partial(torch.optim.Adam, lr=1e-3)
FALLING = partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)


class Watch(L.Callback):
    """Notes at every optimiser step which networks moved in it, and which had moved since the step before."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, set[str], set[str]]] = []  # optimiser's network, moved before, moved in the step
        self.norms: list[float] = []
        self.forwards: dict[str, int] = {"segmentor": 0, "critic": 0}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.networks = dict(pl_module.networks.items())  # type: ignore[union-attr, operator]
        self.seen = self.state()
        for name, optimizer in zip(pl_module.objective.networks, trainer.optimizers, strict=True):  # type: ignore[union-attr, arg-type]
            optimizer.register_step_pre_hook(partial(self.before, name))
            optimizer.register_step_post_hook(partial(self.after, name))
        for name, network in self.networks.items():
            network.register_forward_hook(partial(self.count, name))

    def count(self, name: str, module: nn.Module, *_: Any) -> None:
        self.forwards[name] += module.training

    def state(self) -> dict[str, list[Tensor]]:
        return {name: [p.detach().clone() for p in net.parameters()] for name, net in self.networks.items()}

    def moved(self) -> set[str]:
        before, self.seen = self.seen, self.state()
        return {n for n in before if any(not torch.equal(a, b) for a, b in zip(before[n], self.seen[n], strict=True))}

    def before(self, name: str, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        self.steps.append((name, self.moved(), set()))

    def after(self, name: str, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        self.steps[-1][2].update(self.moved())
        gradients = [p.grad for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
        self.norms.append(float(torch.stack([g.norm() for g in gradients]).norm()))


def fit(
    folder: Path,
    system: AdversarialSegmentation,
    data: MRIDataModule,
    *callbacks: L.Callback,
    epochs: int = 1,
    checkpoint: Path | None = None,
    **settings: Any,
) -> L.Trainer:
    trainer = build_trainer(folder, *callbacks, epochs=epochs, **settings)
    trainer.fit(system, data, ckpt_path=checkpoint)
    return trainer


def first_epoch(data: MRIDataModule) -> DataLoader[Batch]:
    data.prepare_data()
    data.setup("fit")
    return data.train_dataloader()


def weights(system: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in system.state_dict().items()}


def assert_same(first: Mapping[str, Tensor], second: Mapping[str, Tensor], **tolerance: float) -> None:
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], **(tolerance or {"rtol": 0, "atol": 0}), msg=name)


# -- phases ----------------------------------------------------------------------------------------------------------


def test_each_network_moves_in_its_own_step_and_only_then(tmp_path: Path, make_data: MakeData) -> None:
    watch = Watch()
    trainer = fit(tmp_path, build_system(SegAN(clip="none")), make_data(), watch)
    assert [(name, moved) for name, _, moved in watch.steps] == [
        ("critic", {"critic"}),
        ("segmentor", {"segmentor"}),
    ] * 4
    assert all(not between for _, between, _ in watch.steps)
    assert trainer.global_step == 8


def test_clipping_the_critic_follows_its_step_at_once(tmp_path: Path, make_data: MakeData) -> None:
    watch = Watch()
    system = build_system(SegAN(clip="all", clip_value=0.01))
    fit(tmp_path, system, make_data(), watch)
    assert [between for name, between, _ in watch.steps if name == "segmentor"] == [{"critic"}] * 4
    assert all(not between for name, between, _ in watch.steps if name == "critic")
    assert max(float(p.detach().abs().max()) for p in system.networks["critic"].parameters()) <= 0.01


def test_simultaneous_networks_step_after_one_backward(tmp_path: Path, make_data: MakeData) -> None:
    watch = Watch()
    fit(tmp_path, build_system(SegAN(clip="none", update="simultaneous")), make_data(), watch)
    assert [(name, between, moved) for name, between, moved in watch.steps] == [
        ("segmentor", set(), {"segmentor"}),
        ("critic", set(), {"critic"}),
    ] * 4
    assert watch.forwards == {"segmentor": 4, "critic": 8}


@pytest.mark.parametrize("update", ["alternating", "simultaneous"])
def test_lightnings_loop_takes_the_steps_that_a_plain_loop_takes(
    tmp_path: Path, make_data: MakeData, update: Any
) -> None:
    data, system = make_data(), build_system(SegAN(update=update), optimizers={"default": SGD})
    plain = build_system(SegAN(update=update))
    fit(tmp_path, system, data)
    optimizers = descent(dict(plain.networks.items()), rate=0.1)
    for batch in first_epoch(make_data()):
        batch = batch._replace(image=batch.image.float(), target=batch.target.float())
        context = StepContext(dict(plain.networks.items()), batch, "sigmoid")
        for phase in plain.objective.phases():
            take_phase(phase, context, optimizers)
    assert_same(weights(system), weights(plain), rtol=1e-6, atol=1e-7)


def test_one_segmentor_forward_serves_a_batch_and_an_alternating_critic_is_run_again(
    tmp_path: Path, make_data: MakeData
) -> None:
    watch = Watch()
    fit(tmp_path, build_system(), make_data(), watch)
    assert watch.forwards == {"segmentor": 4, "critic": 16}


def test_a_phase_lowers_the_loss_of_its_network_alone_and_logs_it(tmp_path: Path, make_data: MakeData) -> None:
    trainer = fit(tmp_path, build_system(), make_data())
    logged = {name for name in trainer.callback_metrics if name.startswith("train/")}
    assert logged == {
        "train/critic_gap",
        "train/critic_loss",
        "train/segmentor_adversarial",
        "train/segmentor_dice",
        "train/segmentor_loss",
    }


def test_two_accumulated_batches_move_like_one_of_both(tmp_path: Path, make_data: MakeData) -> None:
    found = []
    for size, accumulate in ((12, 2), (24, 1)):
        system = build_system(
            Supervised(cross_entropy_weight=1), plain=True, optimizers={"segmentor": SGD}, accumulate=accumulate
        )
        data = make_data(batch_size=size, patch=(48, 48))  # the whole slice, so there is no other place to draw
        trainer = fit(tmp_path, system, data, precision="64-true", limit_val_batches=0)
        assert trainer.global_step == 2
        found.append(weights(system))
    assert_same(*found, rtol=1e-9, atol=1e-12)


def test_the_last_batches_of_an_epoch_step_though_they_are_too_few(tmp_path: Path, make_data: MakeData) -> None:
    trainer = fit(tmp_path, build_system(accumulate=3), make_data(), epochs=2)
    assert trainer.global_step == 2 * 2 * 2  # two epochs of two steps (3 + 1 batches) of two networks


def test_gradients_are_clipped_one_network_at_a_time(tmp_path: Path, make_data: MakeData) -> None:
    free, clipped = Watch(), Watch()
    fit(tmp_path, build_system(), make_data(), free)
    fit(tmp_path, build_system(clip_gradient=1e-3), make_data(), clipped)
    assert min(free.norms) > 1e-3
    assert clipped.norms == pytest.approx([1e-3] * 8, rel=1e-3)


def test_schedules_step_once_an_epoch_for_both_networks(tmp_path: Path, make_data: MakeData) -> None:
    trainer = fit(tmp_path, build_system(optimizers={"segmentor": SGD}, schedule=FALLING), make_data(), epochs=2)
    rates = [optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers]
    assert rates == pytest.approx([0.1 / 4, 2e-5 / 4])


def test_the_averaged_segmentor_follows_and_is_the_one_that_is_scored(tmp_path: Path, make_data: MakeData) -> None:
    system = build_system(averaging=0.5, optimizers={"segmentor": SGD})
    means: list[Tensor] = []
    history: list[Tensor] = []
    leading = next(system.segmentor.parameters())

    class Follow(L.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            history.append(leading.detach().clone())
            means.append(next(system.averaged.parameters()).detach().clone())

    fit(tmp_path, system, make_data(), Follow())
    expected = history[0]
    for number, (now, mean) in enumerate(zip(history, means, strict=True)):
        if number:
            keep = min(0.5, (1 + number) / (10 + number))
            expected = keep * expected + (1 - keep) * now
        torch.testing.assert_close(mean, expected)
    assert not torch.equal(means[-1], history[-1])
    assert system.scored is system.averaged["segmentor"]
    assert all(not parameter.requires_grad for parameter in system.averaged.parameters())


@pytest.mark.parametrize("labels", ["regions", "labels"])
@pytest.mark.parametrize("critic_input", ["mask", "concat", "mix"])
def test_regions_and_labels_are_trained_and_scored(
    tmp_path: Path, make_data: MakeData, labels: str, critic_input: Any
) -> None:
    system = build_system(SegAN(critic_input=critic_input), labels=labels, modalities=("flair", "t1"))
    trainer = fit(tmp_path, system, make_data(labels=labels, modalities=["flair", "t1"]))
    assert set(system.metric_names()) == {name for name in trainer.callback_metrics if name.startswith("val/")}
    assert {row.region for row in system.case_scores} == set(label_scheme(labels).foreground)


def test_bf16_and_channels_last_train(tmp_path: Path, make_data: MakeData) -> None:
    seen = []
    system = build_system(channels_last=True)
    system.segmentor.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    trainer = fit(tmp_path, system, make_data(), precision="bf16-mixed")
    assert all(image.is_contiguous(memory_format=torch.channels_last) for image in seen)
    assert system.segmentor.enc2[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert all(value.isfinite() for name, value in trainer.callback_metrics.items() if name.startswith("train/"))
    assert 0 <= trainer.callback_metrics["val/dice_wt"] <= 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compiled_networks_give_what_eager_ones_give(tmp_path: Path, make_data: MakeData) -> None:
    found = []
    for compiled in (False, True):
        system = build_system(optimizers={"default": SGD}, compile=compiled)
        fit(tmp_path, system, make_data(), limit_train_batches=2)
        found.append(weights(system))
    assert_same(*found, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("objective", "given", "settings", "message"),
    [
        (
            Supervised(),
            ("segmentor", "critic"),
            {},
            "networks: Supervised trains segmentor; the configuration gives also critic",
        ),
        (SegAN(), ("segmentor",), {}, "networks: SegAN trains segmentor, critic; the configuration gives no critic"),
        (SegAN(), ("segmentor", "critik"), {}, "networks: SegAN .* gives no critic and also critik"),
        (SegAN(), ("critic", "segmentor"), {"optimizers": {"critik": SGD}}, r"optimizers\.critik: .*mean 'critic'"),
        (SegAN(), ("critic", "segmentor"), {"averaging": {"critik": 0.9}}, r"averaging\.critik: .*mean 'critic'"),
    ],
)
def test_names_of_other_networks_than_the_objectives_are_refused_before_training(
    objective: Objective, given: tuple[str, ...], settings: dict[str, Any], message: str
) -> None:
    networks = {name: PlainSegmentor if name == "segmentor" else partial(Critic, width=2) for name in given}
    with pytest.raises(UsageError, match=f"--model.{message}"):
        AdversarialSegmentation(networks, objective, modalities=["t1"], labels="binary", **settings)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("averaging", 1.0),
        ("averaging", -0.5),
        ("averaging", {"critic": 1.5}),
        ("clip_gradient", 0.0),
        ("clip_gradient", -1.0),
        ("clip_gradient", math.nan),
    ],
)
def test_a_decay_or_a_norm_that_means_nothing_is_refused(option: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"--model\.{option} .*: expected"):
        build_system(**{option: value})


@pytest.mark.parametrize(("network", "found"), [("critc", "critc, segmentor"), (None, "nothing")])
def test_phases_of_no_network_of_the_objective_are_refused(
    tmp_path: Path, make_data: MakeData, monkeypatch: pytest.MonkeyPatch, network: str | None, found: str
) -> None:
    system = build_system(SegAN())
    critic, segmentor = system.objective.phases()
    phases = [critic._replace(network=network), segmentor] if network else []
    monkeypatch.setattr(system.objective, "phases", lambda: phases)
    with pytest.raises(UsageError, match=f"phases of SegAN move {found}; expected some of its networks: segmentor, cr"):
        fit(tmp_path, system, make_data())


class CriticFirst(SegAN):
    """The same networks in another order."""

    networks = ("critic", "segmentor")


def test_a_run_does_not_go_on_with_networks_in_another_order_than_its_optimisers(
    tmp_path: Path, make_data: MakeData
) -> None:
    fit(tmp_path, build_system(SegAN()), make_data()).save_checkpoint(tmp_path / "one.ckpt")
    with pytest.raises(CheckpointMismatchError, match=r"are segmentor, critic, in this order.*order critic, segmentor"):
        fit(tmp_path, build_system(CriticFirst()), make_data(), epochs=2, checkpoint=tmp_path / "one.ckpt")


class SegmentorTwice(Supervised):
    """Two losses of one network, each with a step of its own."""

    def phases(self) -> Sequence[Phase]:
        return [Phase("segmentor", self.loss), Phase("segmentor", self.again)]

    def again(self, context: StepContext) -> LossTerms:
        return LossTerms(context.segment(context.batch.image).square().mean(), {})


def test_a_network_of_two_phases_takes_two_steps_and_accumulates_no_batches(
    tmp_path: Path, make_data: MakeData
) -> None:
    assert fit(tmp_path, build_system(SegmentorTwice()), make_data()).global_step == 8
    with pytest.raises(UsageError, match="accumulate 2: segmentor moves in more than one phase of SegmentorTwice"):
        fit(tmp_path, build_system(SegmentorTwice(), accumulate=2), make_data())


class Poisoned(Supervised):
    """Dice that becomes NaN at batch 6 (the third of the second epoch)."""

    def loss(self, context: StepContext) -> LossTerms:
        self.batch = getattr(self, "batch", -1) + 1
        dice = soft_dice_loss(context.probability, context.batch.target)
        return LossTerms(dice * (math.nan if self.batch == 6 else 1), {"dice": dice.detach()})

    def validation_parts(self) -> tuple[str, ...]:
        return ()


def test_a_loss_that_is_not_finite_stops_with_the_cases_and_keeps_the_last_checkpoint(
    tmp_path: Path, make_data: MakeData
) -> None:
    saved = ModelCheckpoint(tmp_path, save_last=True, save_on_train_epoch_end=True)
    system, data = build_system(Poisoned()), make_data()
    with pytest.raises(
        NonFiniteLossError, match=r"epoch 1, batch 6: the segmentor's loss is not finite \(dice "
    ) as error:
        fit(tmp_path, system, data, saved, epochs=3, enable_checkpointing=True)
    loader = data.train_dataloader()
    loader.sampler.resume(1, 0)  # from the epoch's start, where the run was broken off within
    names = case_names(data, list(loader)[2].case)
    assert ", ".join(names) in str(error.value)
    kept = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert kept[KEY]["batches_seen"] == 4
    assert all(value.isfinite().all() for value in kept["state_dict"].values())


# -- whole volumes ---------------------------------------------------------------------------------------------------


def native_mask(case: Any, labels: str) -> np.ndarray:
    return label_scheme(labels).encode(np.asarray(nib.load(case.mask).dataobj, np.uint8).T) > 0


def count(found: np.ndarray, truth: np.ndarray) -> Counts:
    return Counts(
        int((found & truth).sum()),
        int((found & ~truth).sum()),
        int((~found & truth).sum()),
        int((~found & ~truth).sum()),
    )


@pytest.mark.parametrize("labels", ["whole_tumour", "regions", "labels"])
@pytest.mark.parametrize("crop", [CROP.crop, (12, 24, 64)], ids=["cut", "padded"])
def test_validation_counts_are_those_of_the_restored_volume(
    tmp_path: Path, make_data: MakeData, labels: str, crop: tuple[int, int, int]
) -> None:
    data = make_data(preparation=Preparation(crop=crop), labels=labels, test_fraction=0.25)
    system = build_system(labels=labels, slices=5)
    build_trainer(tmp_path).validate(system, data, verbose=False)
    scheme, found = label_scheme(labels), {}
    for row in data.rows("val"):
        prepared = data.open(row)
        height, width = (-(-n // 16) * 16 for n in prepared.geometry.shape[1:])
        image = np.zeros((prepared.geometry.shape[0], 4, height, width), np.float32)
        image[..., : crop[1], : crop[2]] = prepared.pixels().swapaxes(0, 1)
        with torch.no_grad():
            probability = system.segmentor.eval()(torch.from_numpy(image))[..., : crop[1], : crop[2]].movedim(0, 1)
        probability = probability.softmax(0) if scheme.activation == "softmax" else probability.sigmoid()
        largest = torch.arange(len(probability))[:, None, None, None] == probability.argmax(0)
        mask = largest if scheme.activation == "softmax" else probability > 0.5
        mask = prepared.geometry.restore(mask.numpy().astype(np.uint8)) > 0
        mask = scheme.encode(scheme.decode(mask)) > 0  # a core outside the whole tumour becomes part of it in a file
        truth = native_mask(data.cases[row], labels)
        for channel, name in enumerate(scheme.channels):
            found[data.cases[row].name, name] = count(mask[channel], truth[channel])
    assert {(row.case, row.region): row.counts for row in system.case_scores} == {
        key: value for key, value in found.items() if key[1] in scheme.foreground
    }
    assert sum(row.counts.fp for row in system.case_scores) > 0


def test_the_papers_way_scores_the_central_crop_alone(tmp_path: Path, make_data: MakeData) -> None:
    data, system = make_data(), build_system(score_on="crop", crop=(4, 32, 48))
    build_trainer(tmp_path).validate(system, data, verbose=False)
    for row, score in zip(data.rows("val"), system.case_scores, strict=True):
        image = torch.from_numpy(data.open(row).pixels()[:, 2:6, 8:40].astype(np.float32)).movedim(1, 0)
        with torch.no_grad():
            mask = system.segmentor.eval()(image)[:, 0] > 0
        assert score.counts == count(mask.numpy(), native_mask(data.cases[row], "whole_tumour")[0, 2:6, 8:40])


def test_a_model_may_name_every_policy_there_is() -> None:
    assert set(get_args(get_type_hints(AdversarialSegmentation.__init__)["empty_policy"])) == set(POLICIES)


def test_scores_follow_the_chosen_policy(tmp_path: Path, make_data: MakeData) -> None:
    data, dice = make_data(), {}
    for policy in ("segan_cat", "brats2018"):
        system = build_system(plain=True, objective=Supervised(), empty_policy=policy, score_on="crop", crop=(1, 2, 2))
        nn.init.constant_(system.segmentor.layers[2].bias, -100)  # nothing is found, and nothing is in these 4 voxels
        trainer = build_trainer(tmp_path)
        trainer.validate(system, data, verbose=False)
        assert trainer.callback_metrics["val/empty_both"] >= 1
        dice[policy] = float(trainer.callback_metrics["val/cases_wt"]), float(trainer.callback_metrics["val/dice_wt"])
    assert dice["brats2018"][0] == 2
    assert dice["segan_cat"][0] < 2


def test_test_scores_the_test_cases_and_names_them_so(tmp_path: Path, make_data: MakeData) -> None:
    data, system = make_data(test_fraction=0.25), build_system()
    trainer = build_trainer(tmp_path)
    trainer.test(system, data, verbose=False)
    assert data.split is not None
    assert sorted(row.case for row in system.case_scores) == sorted(data.split.test)
    assert set(system.metric_names("test")) == {name for name in trainer.callback_metrics if name.startswith("test/")}


@pytest.mark.parametrize("labels", ["whole_tumour", "regions", "labels"])
def test_a_preview_shows_the_slice_with_most_of_the_reference(tmp_path: Path, make_data: MakeData, labels: str) -> None:
    data, system = make_data(labels=labels), build_system(labels=labels, previews=1)
    build_trainer(tmp_path).validate(system, data, verbose=False)
    (shown,) = system.previews
    scheme, row = label_scheme(labels), data.rows("val")[0]
    truth = native_mask(data.cases[row], labels)[[scheme.channels.index(region) for region in scheme.foreground]]
    assert shown.case == data.cases[row].name
    shares = (truth.sum((2, 3)) / truth.sum((1, 2, 3))[:, None]).sum(0)  # (D,), of each region what lies in a slice
    assert shares[shown.z] == pytest.approx(shares.max())
    expected = np.zeros(truth.shape[2:], np.uint8)
    for number, region in enumerate(truth, 1):
        expected[region[shown.z] > 0] = number
    np.testing.assert_array_equal(shown.reference, expected)
    np.testing.assert_allclose(shown.image, data.open(row).pixels()[3, shown.z])
    assert shown.regions == scheme.foreground
    assert set(np.unique(shown.prediction)) <= set(range(len(truth) + 1))
    assert (shown.probability is None) == (len(truth) > 1)
    affine = data.geometry(row).affine_prepared
    assert shown.aspect == pytest.approx(np.linalg.norm(affine[:, 1]) / np.linalg.norm(affine[:, 0]))


# -- checkpoints -----------------------------------------------------------------------------------------------------


class Noisy(PlainSegmentor):
    """With dropout, so that a resumed run needs the random state too."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels)
        self.layers.insert(2, nn.Dropout(0.5))


def noisy(**settings: Any) -> AdversarialSegmentation:
    torch.manual_seed(0)
    return AdversarialSegmentation(
        {"segmentor": Noisy, "critic": partial(Critic, width=2)},
        SegAN(),
        modalities=["t1", "flair"],
        labels="whole_tumour",
        averaging=0.9,
        optimizers={"default": ADAM},
        **settings,
    )


def keep(folder: Path) -> ModelCheckpoint:
    return ModelCheckpoint(folder, save_last=True, save_top_k=0, save_on_train_epoch_end=True)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, make_data: MakeData) -> Path:
    """Of a run of one epoch, with a schedule."""
    folder = tmp_path_factory.mktemp("run")
    system = build_system(optimizers={"default": ADAM}, schedule=FALLING)
    fit(folder, system, make_data(), keep(folder), enable_checkpointing=True)
    return folder / "last.ckpt"


@pytest.mark.parametrize("schedule", [None, FALLING])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(
    tmp_path: Path, make_data: MakeData, schedule: Any, workers: int
) -> None:
    folder, ends = tmp_path / "interrupted", []
    plans: list[tuple[Path, int, Path | None]] = [
        (tmp_path / "straight", 4, None),
        (folder, 2, None),
        (folder, 4, folder / "last.ckpt"),
    ]
    for place, epochs, checkpoint in plans:
        system = noisy(schedule=schedule)
        torch.manual_seed(5 if checkpoint else 1)
        data = make_data(modalities=["t1", "flair"], workers=workers)
        trainer = fit(
            place,
            system,
            data,
            keep(place),
            epochs=epochs,
            checkpoint=checkpoint,
            enable_checkpointing=True,
            num_sanity_val_steps=1,
        )
        ends.append(
            (weights(system), [o.state_dict() for o in trainer.optimizers], system.batches_seen, system.case_scores)
        )
    straight, _, resumed = ends
    assert straight[2:] == resumed[2:]
    assert_same(straight[0], resumed[0])
    for first, second in zip(straight[1], resumed[1], strict=True):
        assert first["param_groups"] == second["param_groups"]
        for number, state in first["state"].items():
            assert_same(state, second["state"][number])


def test_a_checkpoint_holds_tensors_and_plain_values_alone(checkpoint: Path) -> None:
    found = torch.load(checkpoint, weights_only=True)[KEY]
    assert (found["format"], found["batches_seen"]) == (FORMAT, 4)
    assert found["data"]["modalities"] == ["t1", "t1ce", "t2", "flair"]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, 1e-3 / 4),
        ({"optimizers": {"segmentor": partial(torch.optim.Adam, lr=0.02), "critic": ADAM}}, 0.02 / 4),
    ],
)
def test_a_changed_rate_wins_over_the_checkpoints_and_keeps_the_schedules_progress(
    tmp_path: Path, make_data: MakeData, checkpoint: Path, changed: dict[str, Any], expected: float
) -> None:
    settings = {"optimizers": {"default": ADAM}, "schedule": FALLING} | changed
    trainer = fit(tmp_path, build_system(**settings), make_data(), epochs=2, checkpoint=checkpoint)
    groups = {n: o.param_groups[0] for n, o in zip(SegAN.networks, trainer.optimizers, strict=True)}
    assert groups["segmentor"]["lr"] == pytest.approx(expected)
    assert groups["critic"]["lr"] == pytest.approx(1e-3 / 4)


def test_a_changed_rate_wins_without_a_schedule_too(tmp_path: Path, make_data: MakeData) -> None:
    fit(tmp_path, build_system(optimizers={"segmentor": SGD}), make_data(), keep(tmp_path), enable_checkpointing=True)
    system = build_system(optimizers={"segmentor": partial(torch.optim.SGD, lr=0.7, momentum=0.5)})
    trainer = fit(tmp_path, system, make_data(), epochs=2, checkpoint=tmp_path / "last.ckpt")
    group = trainer.optimizers[0].param_groups[0]
    assert (group["lr"], group["momentum"]) == (0.7, 0.5)
    assert trainer.optimizers[1].param_groups[0]["lr"] == 2e-5


def test_a_schedule_keeps_its_place_and_takes_its_new_settings(
    tmp_path: Path, make_data: MakeData, checkpoint: Path
) -> None:
    gentler = partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.9)
    system = build_system(optimizers={"default": ADAM}, schedule=gentler)
    trainer = fit(tmp_path, system, make_data(), epochs=2, checkpoint=checkpoint)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-3 * 0.9 * 0.9)
    assert trainer.lr_scheduler_configs[0].scheduler.last_epoch == 2


@pytest.mark.parametrize(
    ("system", "data", "message"),
    [
        (
            {"labels": "regions"},
            {"labels": "regions"},
            "labels whole_tumour, the configuration says regions; set --data.labels",
        ),
        (
            {"modalities": ("t1", "flair")},
            {"modalities": ["t1", "flair"]},
            r"modalities \['t1', 't1ce', 't2', 'flair'\]",
        ),
        (
            {"modalities": ("t2", "t1", "t1ce", "flair")},
            {"modalities": ["t2", "t1", "t1ce", "flair"]},
            "set --data.modalities",
        ),
        ({"plain": True}, {}, r"for another network: networks.segmentor.dec1.* and \d+ more"),
        ({"averaging": 0.9}, {}, r"averaged.segmentor.module.*\(checkpoint lacks it, model \("),
    ],
)
def test_a_checkpoint_of_another_model_is_refused_with_what_differs(
    tmp_path: Path, make_data: MakeData, checkpoint: Path, system: dict[str, Any], data: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointMismatchError, match=message) as error:
        fit(tmp_path, build_system(**system), make_data(**data), epochs=2, checkpoint=checkpoint)
    assert "\n" not in str(error.value)


def test_a_schedule_that_is_made_longer_after_its_end_learns_again(tmp_path: Path, make_data: MakeData) -> None:
    short, long = (partial(torch.optim.lr_scheduler.PolynomialLR, total_iters=n, power=1.0) for n in (2, 4))
    fit(tmp_path, build_system(schedule=short), make_data(), keep(tmp_path), epochs=2, enable_checkpointing=True)
    checkpoint = tmp_path / "last.ckpt"
    assert torch.load(checkpoint, weights_only=True)["lr_schedulers"][0]["last_epoch"] == 2
    system = build_system(schedule=long)
    rates: list[float] = []
    system.on_train_batch_start = lambda *_: rates.append(system.trainer.optimizers[0].param_groups[0]["lr"])  # type: ignore[method-assign]
    fit(tmp_path / "b", system, make_data(), epochs=3, checkpoint=checkpoint)
    initial = system.trainer.optimizers[0].param_groups[0]["initial_lr"]
    assert rates
    assert rates[0] == pytest.approx(initial * 0.5)


def test_an_optimiser_of_another_class_starts_anew(tmp_path: Path, make_data: MakeData, checkpoint: Path) -> None:
    system = build_system(optimizers={"segmentor": partial(torch.optim.SGD, lr=0.25), "critic": ADAM})
    trainer = fit(tmp_path, system, make_data(), epochs=2, checkpoint=checkpoint)
    assert isinstance(trainer.optimizers[0], torch.optim.SGD)
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.25


def test_a_schedule_that_is_taken_away_leaves_the_configured_rate(
    tmp_path: Path, make_data: MakeData, checkpoint: Path
) -> None:
    system = build_system(optimizers={"default": ADAM})
    trainer = fit(tmp_path, system, make_data(), epochs=2, checkpoint=checkpoint)
    assert trainer.optimizers[0].param_groups[0]["lr"] == 1e-3


def test_a_group_of_batches_takes_one_step_and_its_last_may_be_smaller(tmp_path: Path, make_data: MakeData) -> None:
    system = build_system(accumulate=3)
    fit(tmp_path, system, make_data(batch_size=16), epochs=2)
    batches = int(system.trainer.num_training_batches)
    assert system.groups_seen == 2 * -(-batches // 3)
    assert system.batches_seen == 2 * batches


def test_an_output_that_is_not_finite_stops_validation_with_the_case(tmp_path: Path, make_data: MakeData) -> None:
    system = build_system()
    torch.nn.init.constant_(next(system.segmentor.parameters()), float("nan"))
    data = make_data()
    with pytest.raises(NonFiniteLossError, match=r"validation: the network's output is not finite .*cases: BraTS19"):
        build_trainer(tmp_path, epochs=1).validate(system, datamodule=data, verbose=False)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"format": 99}, "format 99, this version reads format 3; another version wrote it"),
        ({"format": 1}, "format 1, this version reads format 3; commit 8b3100a of segan_pl reads it"),
        ({"format": 2}, "format 2, this version reads format 3; commit 84b36fc of segan_pl reads it"),
        (None, "no segan_pl part"),
    ],
)
def test_a_checkpoint_of_another_format_is_refused(
    tmp_path: Path, make_data: MakeData, checkpoint: Path, part: Any, message: str
) -> None:
    foreign = torch.load(checkpoint, weights_only=True)
    foreign[KEY] = part
    torch.save(foreign, tmp_path / "foreign.ckpt")
    with pytest.raises(CheckpointMismatchError, match=message):
        build_trainer(tmp_path).validate(
            build_system(), make_data(), ckpt_path=tmp_path / "foreign.ckpt", verbose=False
        )


def test_scoring_a_checkpoint_repeats_the_runs_own_scores(tmp_path: Path, make_data: MakeData) -> None:
    system = build_system(averaging=0.9)
    fit(tmp_path, system, make_data(), keep(tmp_path), enable_checkpointing=True)
    again = build_system(averaging=0.9, seed=3)
    build_trainer(tmp_path).validate(again, make_data(), ckpt_path=tmp_path / "last.ckpt", verbose=False)
    assert again.case_scores == system.case_scores
    assert again.batches_seen == 4


def test_networks_are_built_for_the_modalities_and_the_labels() -> None:
    system = AdversarialSegmentation(
        {"segmentor": partial(Segmentor, width=2), "critic": partial(Critic, width=2)},
        SegAN(critic_input="mix"),
        modalities=["t1", "t2"],
        labels="regions",
    )
    assert system.segmentor.input[0].in_channels == 2
    assert system.segmentor.output.conv.out_channels == 3
    assert system.networks["critic"].input[0].in_channels == 2 + 3 + 6


@pytest.mark.parametrize("option", ["accumulate", "slices"])
def test_numbers_below_one_are_refused_by_name(option: str) -> None:
    with pytest.raises(UsageError, match=f"--model.{option} 0: expected at least 1"):
        build_system(**{option: 0})
