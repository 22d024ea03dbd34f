"""Beginning with another run's weights, what then moves, and scoring on other modalities, as a user types it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from segan_pl.__main__ import main
from segan_pl.data.module import MRIDataModule
from segan_pl.errors import UsageError
from segan_pl.inference.checkpoint_file import KEY, CheckpointError
from segan_pl.nets import segan, segan_isic
from segan_pl.nets.monai_nets import MonaiSegmentor
from segan_pl.objectives.segan import SegAN
from segan_pl.objectives.supervised import Supervised
from segan_pl.training.callbacks.freezing import find_frozen, frozen_at_random
from segan_pl.training.checkpoint import CheckpointMismatchError
from segan_pl.training.finetuning.initialising import Source, _adapted, initialise
from segan_pl.training.finetuning.pretrained import pretrained_parts
from segan_pl.training.finetuning.settings import FinetuningOptions, frozen_patterns, refuse_out_of_place
from segan_pl.training.run.continuing import source_split
from segan_pl.training.system import AdversarialSegmentation
from tests.cli.test_main import exit_code, last_line, rows
from tests.cohort import QUIET, SYSTEM, build_system, build_trainer

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [
    *QUIET,
    pytest.mark.usefixtures("isolated"),
]

MakeData = Callable[..., MRIDataModule]
Command = Callable[..., int]
ADAM = partial(torch.optim.Adam, lr=1e-3)


# -- weights ---------------------------------------------------------------------------------------------------------


def save(path: Path, make_data: MakeData, modalities: tuple[str, ...] = ("flair",), **settings: Any) -> Path:
    """A checkpoint of one epoch on these modalities."""
    system = build_system(
        settings.pop("objective", None), modalities=modalities, seed=7, optimizers={"segmentor": ADAM}, **settings
    )
    trainer = build_trainer(path.parent)
    trainer.fit(system, make_data(modalities=list(modalities)))
    trainer.save_checkpoint(path)
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, make_data: MakeData) -> Path:
    """Trained on FLAIR, its average kept."""
    return save(tmp_path_factory.mktemp("source") / "flair.ckpt", make_data, averaging=0.5)


def state_of(checkpoint: Path, prefix: str) -> dict[str, Tensor]:
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def assert_holds(network: nn.Module, expected: dict[str, Tensor]) -> None:
    found = network.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def one(modality: str = "t1", **settings: Any) -> AdversarialSegmentation:
    return build_system(settings.pop("objective", None), modalities=(modality,), **settings)


def test_the_segmentor_takes_the_averaged_weights_that_were_scored_and_the_critic_its_own(source: Path) -> None:
    system = one(averaging=0.9)
    lines = initialise(system, FinetuningOptions(init_from=str(source)))
    averaged = state_of(source, "averaged.segmentor.module.")
    assert any(not torch.equal(averaged[n], v) for n, v in state_of(source, "networks.segmentor.").items())
    assert_holds(system.segmentor, averaged)
    assert_holds(system.averaged.get_submodule("segmentor.module"), averaged)
    assert_holds(system.networks["critic"], state_of(source, "networks.critic."))
    assert system.batches_seen == 0
    assert lines == [
        f"segmentor and critic begin with epoch 1 of {source}",
        "note: trained on flair, now on t1; inputs are taken over one to one",
    ]


def test_only_the_named_networks_are_taken(source: Path) -> None:
    system = one()
    critic = {name: value.clone() for name, value in system.networks["critic"].state_dict().items()}
    initialise(system, FinetuningOptions(init_from=str(source), networks=["segmentor"]))
    assert_holds(system.networks["critic"], critic)
    assert_holds(system.segmentor, state_of(source, "averaged.segmentor.module."))


def test_nothing_is_drawn(source: Path) -> None:
    system = one()
    before = torch.get_rng_state()
    initialise(system, FinetuningOptions(init_from=str(source)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("rule", ["repeat", "mean", "zero"])
def test_four_modalities_begin_with_a_model_of_one(source: Path, rule: Any) -> None:
    """FLAIR in all channels (repeat, mean), or in its own among others (zero), gives the source's output."""
    alone, four = one("flair"), build_system(seed=3)
    initialise(alone, FinetuningOptions(init_from=str(source)))
    said = initialise(four, FinetuningOptions(init_from=str(source), adapt_input=rule))
    assert f"input layers: flair -> t1, t1ce, t2, flair by {rule}" in said
    flair = torch.rand(2, 1, 32, 32)
    image = flair.repeat(1, 4, 1, 1)
    if rule == "zero":
        image[:, :3] = torch.rand(2, 3, 32, 32)
    for name in ("segmentor", "critic"):
        alone.networks[name].eval()
        four.networks[name].eval()
    torch.testing.assert_close(four.segmentor(image), alone.segmentor(flair), rtol=1e-4, atol=1e-5)
    mask = torch.rand(2, 1, 32, 32)
    before = alone.networks["critic"](torch.cat([flair, mask], 1))[1:]
    now = four.networks["critic"](torch.cat([image, mask], 1))[1:]
    for expected, found in zip(before, now, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_checkpoint_remembers_what_the_run_began_with(source: Path, make_data: MakeData, tmp_path: Path) -> None:
    system = one()
    initialise(system, FinetuningOptions(init_from=str(source)))
    trainer = build_trainer(tmp_path)
    trainer.fit(system, make_data(modalities=["t1"]))
    trainer.save_checkpoint(tmp_path / "after.ckpt")
    noted = torch.load(tmp_path / "after.ckpt", weights_only=True)[KEY]["initialised_from"]
    assert (noted["path"], noted["epoch"], noted["modalities"]) == (str(source), 1, ["flair"])
    assert len(noted["digest"]) == 32
    again = one()
    build_trainer(tmp_path).validate(
        again, make_data(modalities=["t1"]), ckpt_path=tmp_path / "after.ckpt", verbose=False
    )
    assert again.initialised_from == noted


def test_two_modalities_are_not_taken_for_one_and_its_plane(tmp_path: Path, make_data: MakeData) -> None:
    path = save(tmp_path / "two.ckpt", make_data, modalities=("t1", "flair"))
    system = one("flair", modality_mask="channels")
    initialise(system, FinetuningOptions(init_from=str(path), adapt_input="zero", networks=["segmentor"]))
    kernel = state_of(path, "networks.segmentor.")["input.conv.weight"]
    found = system.segmentor.state_dict()
    assert torch.equal(found["input.conv.weight"][:, 0], kernel[:, 1])
    assert not found["input.conv.weight"][:, 1].any()  # the plane begins without influence
    other = {name: value for name, value in state_of(path, "networks.segmentor.").items() if "input" not in name}
    assert all(torch.equal(found[name], value) for name, value in other.items())


@pytest.mark.parametrize("rule", ["repeat", "mean", "zero"])
def test_the_same_network_of_the_same_modalities_needs_no_adaptation_whatever_its_channels_show(rule: Any) -> None:
    def slabs() -> AdversarialSegmentation:  # five slices of two modalities: ten channels
        segmentor = partial(MonaiSegmentor, spatial_dims=2, neighbours=2, width=4, levels=2)
        return AdversarialSegmentation(
            {"segmentor": segmentor}, Supervised(), modalities=["t1", "flair"], labels="regions"
        )

    weights = slabs().segmentor.state_dict()
    source = Source(Path("slabs.ckpt"), "", 0, ("t1", "flair"), "regions/brats2017", {"segmentor": weights})
    assert _adapted("segmentor", slabs(), source, rule) is weights


def test_modalities_in_another_order_go_by_position_with_a_note_that_says_how_to_go_by_name(
    tmp_path: Path, make_data: MakeData
) -> None:
    path = save(tmp_path / "two.ckpt", make_data, ("t1", "flair"))
    system = build_system(modalities=("flair", "t1"))
    said = initialise(system, FinetuningOptions(init_from=str(path)))
    assert_holds(system.segmentor, state_of(path, "networks.segmentor."))
    assert said[-1] == (
        "note: trained on t1, flair, now on flair, t1; inputs are taken over one to one by position (flair takes t1's, "
        "t1 takes flair's); --finetuning.adapt_input zero goes by name"
    )
    image = torch.rand(2, 2, 32, 32)
    by_position = system.segmentor.eval()(image)
    initialise(system, FinetuningOptions(init_from=str(path), adapt_input="zero"))
    torch.testing.assert_close(system.segmentor.eval()(image.flip(1)), by_position)


def test_zero_finds_as_many_modalities_again_by_name(tmp_path: Path, make_data: MakeData) -> None:
    path = save(tmp_path / "two.ckpt", make_data, modalities=("t1", "flair"))
    system = build_system(modalities=("flair", "t2"))
    said = initialise(system, FinetuningOptions(init_from=str(path), adapt_input="zero"))
    assert "input layers: t1, flair -> flair, t2 by zero" in said
    for network in ("segmentor", "critic"):
        kernel = state_of(path, f"networks.{network}.")["input.conv.weight"]
        found = system.networks[network].get_parameter("input.conv.weight")
        assert torch.equal(found[:, 0], kernel[:, 1])
        assert not found[:, 1].any()
        assert torch.equal(found[:, 2:], kernel[:, 2:])  # the critic's mask


def test_mask_channels_without_adaptation_are_refused_with_the_remedy(source: Path) -> None:
    with pytest.raises(CheckpointMismatchError, match=r"to add mask channels, --finetuning.adapt_input zero"):
        initialise(one("flair", modality_mask="channels"), FinetuningOptions(init_from=str(source)))


def test_adapting_another_network_lists_its_keys(source: Path) -> None:
    """Its first convolution has another name."""
    system = one("flair")
    segmentor = system.networks["segmentor"] = nn.Sequential(nn.Conv2d(1, 1, 1))
    assert "0.weight" in segmentor.state_dict()
    with pytest.raises(CheckpointMismatchError, match=r"0\.bias \(checkpoint lacks it, model \(1,\)\)"):
        initialise(system, FinetuningOptions(init_from=str(source), adapt_input="repeat"))


def test_mask_channels_begin_without_influence_and_are_not_lost_silently(
    source: Path, tmp_path: Path, make_data: MakeData
) -> None:
    alone, four = one("flair"), build_system(modality_mask="channels")
    initialise(alone, FinetuningOptions(init_from=str(source), networks=["segmentor"]))
    initialise(four, FinetuningOptions(init_from=str(source), adapt_input="zero"))
    flair, others, mask_channels = torch.rand(2, 1, 32, 32), torch.rand(2, 3, 32, 32), torch.ones(2, 4, 32, 32)
    found = four.segmentor.eval()(torch.cat([others, flair, mask_channels], 1))
    torch.testing.assert_close(found, alone.segmentor.eval()(flair), rtol=1e-4, atol=1e-5)
    path = save(tmp_path / "mask_channels.ckpt", make_data, modality_mask="channels")
    with pytest.raises(UsageError, match=r"reads mask channels; give --model\.modality_mask channels"):
        initialise(build_system(), FinetuningOptions(init_from=str(path), adapt_input="mean"))


@pytest.mark.parametrize(
    ("options", "system", "error", "text"),
    [
        (
            {},
            {},
            UsageError,
            r"trained on 1 modalities \(flair\).* has 4 \(t1, .*--finetuning.adapt_input repeat, mean or zero",
        ),
        (
            {"networks": ["critik"]},
            {},
            UsageError,
            "--finetuning.networks critik: not in this model; did you mean 'critic'",
        ),
        (
            {},
            {"objective": SegAN(critic_input="mask"), "modalities": ("t1",)},
            CheckpointMismatchError,
            r"critic: .*input\.conv\.weight \(checkpoint \(2, 2, 4, 4\), model \(2, 1, 4, 4\)\)",
        ),
        ({}, {"labels": "regions", "modalities": ("t1",)}, CheckpointMismatchError, r"segmentor: .*output\.conv\.bias"),
        ({"adapt_input": "mean"}, {"plain": True}, UsageError | CheckpointMismatchError, "segmentor"),
        ({"adapt_input": "zero"}, {"modalities": ("t1", "t2")}, UsageError, "t1, t2 has none of flair"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(
    source: Path, options: dict[str, Any], system: dict[str, Any], error: Any, text: str
) -> None:
    target = build_system(system.pop("objective", None), **system)
    before = {name: value.clone() for name, value in target.state_dict().items()}
    with pytest.raises(error.__args__ if hasattr(error, "__args__") else error, match=text):
        initialise(target, FinetuningOptions(init_from=str(source), **options))
    assert_holds(target, before)


def test_a_source_without_a_critic_serves_the_segmentor_only(tmp_path: Path, make_data: MakeData) -> None:
    path = save(tmp_path / "alone.ckpt", make_data, objective=Supervised())
    with pytest.raises(UsageError, match=r"has no critic, only segmentor; give --finetuning.networks \[segmentor\]"):
        initialise(one(), FinetuningOptions(init_from=str(path)))
    initialise(one(), FinetuningOptions(init_from=str(path), networks=["segmentor"]))


def test_a_missing_a_damaged_and_a_foreign_file_are_refused(tmp_path: Path, source: Path) -> None:
    with pytest.raises(UsageError, match=r"--finetuning.init_from .*none\.ckpt: no such checkpoint"):
        initialise(one(), FinetuningOptions(init_from=str(tmp_path / "none.ckpt")))
    with pytest.raises(
        UsageError, match=rf"--finetuning.init_from {source.parent}: is a folder; give a checkpoint: {source}"
    ):
        initialise(one(), FinetuningOptions(init_from=str(source.parent)))
    content = bytearray(source.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "damaged.ckpt").write_bytes(content)
    with pytest.raises(UsageError, match=r"--finetuning.init_from .*damaged\.ckpt: damaged checkpoint"):
        initialise(one(), FinetuningOptions(init_from=str(tmp_path / "damaged.ckpt")))
    torch.save({"state_dict": {}, "epoch": 1}, tmp_path / "foreign.ckpt")
    with pytest.raises(CheckpointError, match=r"foreign\.ckpt: no checkpoint of segan_pl"):
        initialise(one(), FinetuningOptions(init_from=str(tmp_path / "foreign.ckpt")))


# -- what moves ------------------------------------------------------------------------------------------------------


def networks(critic: nn.Module | None) -> nn.ModuleDict:
    return nn.ModuleDict({"segmentor": segan.Segmentor(1, 1, width=2), **({"critic": critic} if critic else {})})


@pytest.mark.parametrize(
    ("critic", "moving"),
    [
        (segan.Critic(2, width=2), {"critic.input.conv.weight", "critic.input.conv.bias"}),
        (segan_isic.Critic(2, width=2), {"critic.input.conv.weight"}),
        (
            nn.Sequential(nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)), nn.Conv2d(2, 1, 1)),
            {"critic.0.0.weight", "critic.0.0.bias"},
        ),
        (nn.Conv2d(2, 1, 1), {"critic.weight", "critic.bias"}),
    ],
)
def test_of_any_critic_its_input_is_the_convolution_that_reads_its_input(critic: nn.Module, moving: set[str]) -> None:
    both = networks(critic)
    patterns = frozen_patterns(FinetuningOptions(parts=["segmentor", "critic.input"]), both)
    frozen = find_frozen(both, patterns)
    names = {name for name, _ in both.named_parameters()}
    assert {name for name in names - frozen.parameters.keys() if name.startswith("critic")} == moving
    assert not any(name.startswith("segmentor") for name in frozen.parameters)
    statistics = [module for module in critic.modules() if isinstance(module, nn.BatchNorm2d)]
    assert list(frozen.statistics) == statistics


def test_parts_that_are_not_named_are_frozen_and_patterns_add_to_them() -> None:
    both = networks(segan.Critic(2, width=2))
    assert frozen_patterns(FinetuningOptions(), both) == []
    assert frozen_patterns(FinetuningOptions(parts=["segmentor"]), both) == ["critic"]
    more = FinetuningOptions(parts=["segmentor"], frozen=["segmentor.enc*", "critic"])
    assert frozen_patterns(more, both) == ["critic", "segmentor.enc*"]
    assert frozen_patterns(FinetuningOptions(parts=["segmentor"]), networks(None)) == []
    assert frozen_patterns(FinetuningOptions(parts=["segmentor", "critic"]), both) == []
    layers = frozen_patterns(FinetuningOptions(parts=["segmentor.dec*", "critic.*.bias"]), both)
    moving = {name for name, _ in both.named_parameters()} - find_frozen(both, layers).parameters.keys()
    assert moving == {
        name
        for name, _ in both.named_parameters()
        if name.startswith("segmentor.dec") or (name.startswith("critic") and name.endswith("bias"))
    }


def test_a_third_networks_input_can_move_alone() -> None:
    three = nn.ModuleDict(
        {**networks(segan.Critic(2, width=2)), "generator": nn.Sequential(nn.Conv2d(4, 2, 1), nn.ReLU())}
    )
    patterns = frozen_patterns(FinetuningOptions(parts=["segmentor", "generator.input"]), three)
    assert patterns == ["critic"]  # all of the generator's weights are in its input
    assert frozen_patterns(FinetuningOptions(parts=["generator"]), three) == ["segmentor", "critic"]


def test_parts_that_name_nothing_and_unfreezing_of_nothing_are_refused() -> None:
    with pytest.raises(UsageError, match=r"--finetuning.parts critic\.input: names no part of the networks"):
        frozen_patterns(FinetuningOptions(parts=["segmentor", "critic.input"]), networks(None))
    with pytest.raises(UsageError, match=r"--finetuning.parts critik: .*did you mean 'critic'"):
        frozen_patterns(FinetuningOptions(parts=["critik"]), networks(segan.Critic(2, width=2)))
    with pytest.raises(UsageError, match="the critic Linear has no convolution"):
        frozen_patterns(FinetuningOptions(parts=["critic.input"]), networks(nn.Linear(2, 1)))
    with pytest.raises(UsageError, match=r"--finetuning.unfreeze_epoch 3, but nothing is frozen"):
        frozen_patterns(FinetuningOptions(parts=["segmentor"], unfreeze_epoch=3), networks(None))


@pytest.mark.parametrize(
    ("options", "checkpoint", "text"),
    [
        ({"init_from": "a.ckpt"}, "b.ckpt", "--finetuning.init_from begins a new run, --ckpt_path goes on with one"),
        ({"adapt_input": "mean"}, None, "--finetuning.adapt_input mean needs the checkpoint to adapt"),
        ({"networks": ["critic"]}, None, "needs the checkpoint to take them from"),
        ({"init_from": "a.ckpt", "networks": []}, None, "--finetuning.networks is empty"),
        ({"parts": []}, None, "--finetuning.parts is empty: nothing would move"),
    ],
)
def test_options_without_sense_are_refused(options: dict[str, Any], checkpoint: str | None, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        FinetuningOptions(**options).require_sense(checkpoint)


@pytest.mark.parametrize(
    "line",
    [
        "fit --other_modalities allow",
        "validate --finetuning.init_from=a.ckpt",
        "test --finetuning.parts=[segmentor]",
        "test --finetuning.frozen+=critic",
    ],
)
def test_options_of_another_command_are_refused(line: str) -> None:
    command = line.split()[0]
    with pytest.raises(UsageError, match=rf"is an option of .*, not of {command}; leave it out"):
        refuse_out_of_place(line.split())
    refuse_out_of_place(["fit", "--finetuning.init_from=a.ckpt", "--trainer.max_epochs=1"])
    refuse_out_of_place(["test", "--other_modalities", "allow"])


# -- the command line ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("finetuning")


@pytest.fixture
def command(folder: Path, cohort: Path, prepared: Path) -> Command:
    """`segan_pl NAME --config tiny.yaml ...` for one epoch."""
    text = SYSTEM % (cohort, prepared, folder / "runs")
    (folder / "tiny.yaml").write_text(text.replace("max_epochs: 2", "max_epochs: 1"))
    return lambda name, *arguments: main([name, "--config", str(folder / "tiny.yaml"), *map(str, arguments)])


@pytest.fixture
def flair(folder: Path, command: Command) -> Path:
    """A run on FLAIR; its last checkpoint."""
    if not (folder / "flair").exists():
        assert command("fit", "--data.modalities=[flair]", f"--run.directory={folder / 'flair'}") == 0
        split = json.loads((folder / "flair/split.json").read_text())  # then one that nobody would draw again
        swapped = {**split, "train": [*split["val"], *split["train"][2:]], "val": split["train"][:2]}
        (folder / "flair/split.json").write_text(json.dumps(swapped))
    return folder / "flair/checkpoints/last.ckpt"


def test_a_run_begins_with_another_and_goes_on_with_itself(
    flair: Path, folder: Path, command: Command, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    target = folder / "t1"
    line = ["fit", "--data.modalities=[t1]", f"--finetuning.init_from={flair}", f"--run.directory={target}"]
    preset = ["-c", "finetuning_critic_input"]
    with caplog.at_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero"):
        assert command(*line, *preset, "--trainer.max_epochs=1") == 0
    assert f"segmentor and critic begin with epoch 0 of {flair}" in caplog.messages
    assert f"note: the split is that of the source, {folder / 'flair/split.json'}" in caplog.messages
    assert "critic: 66 parameters move (input), 664 are frozen (enc2, enc3)" in caplog.messages
    settings = yaml.safe_load((target / "config.yaml").read_text())
    assert settings["finetuning"]["parts"] == ["segmentor", "critic.input"]
    assert settings["finetuning"]["init_from"] == str(flair)
    splits = [json.loads((folder / run / "split.json").read_text()) for run in ("flair", "t1")]
    assert [splits[0][part] for part in ("train", "val")] == [splits[1][part] for part in ("train", "val")]
    last = target / "checkpoints/last.ckpt"
    before, after = (state_of(path, "networks.critic.") for path in (flair, last))
    assert {name for name in before if not torch.equal(before[name], after[name])} == {
        "input.conv.weight",
        "input.conv.bias",
    }
    assert torch.load(last, weights_only=True)[KEY]["initialised_from"]["path"] == str(flair)

    caplog.clear()
    with caplog.at_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero"):
        assert command(*line, *preset, "--trainer.max_epochs=2") == 0  # continued: the source is not read again
    assert f"continuing {target} from last.ckpt (epoch 0, 4 batches seen)" in caplog.messages
    assert f"note: the split is the run's own, {target / 'split.json'}" in caplog.messages
    assert not any("begin with" in message for message in caplog.messages)
    assert exit_code(lambda: command(*line, "--finetuning.parts=[segmentor]")) == 1
    assert "finetuning.parts: ['segmentor', 'critic.input'] -> ['segmentor']" in last_line(capsys.readouterr().err)


def test_a_critic_that_is_frozen_without_being_loaded_is_named(
    flair: Path, folder: Path, command: Command, caplog: pytest.LogCaptureFixture
) -> None:
    line = [
        "--data.modalities=[t1]",
        f"--finetuning.init_from={flair}",
        "--finetuning.networks=[segmentor]",
        "--finetuning.parts=[segmentor]",
    ]
    with caplog.at_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero"):
        assert command("fit", *line, f"--run.directory={folder / 'random'}") == 0
    note = "note: frozen with random weights: critic.input, critic.enc2, critic.enc3; "
    note += "--finetuning.init_from gives trained ones"
    assert note in caplog.messages


def test_scoring_takes_a_finetuned_runs_configuration_as_it_is(
    flair: Path, folder: Path, command: Command, caplog: pytest.LogCaptureFixture
) -> None:
    """Also when the source is gone."""
    gone = folder / "gone.ckpt"
    gone.write_bytes(flair.read_bytes())
    run = f"--run.directory={folder / 'scored'}"
    options = [
        "--data.modalities=[t1]",
        f"--finetuning.init_from={gone}",
        "--finetuning.parts=[segmentor]",
        "--finetuning.frozen=[segmentor.enc*]",
    ]
    assert (
        command("fit", run, *options, "--finetuning.unfreeze_epoch=5", "--finetuning.networks=[critic,segmentor]") == 0
    )
    gone.unlink()
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero"):
        assert main(["validate", "--ckpt_path", str(folder / "scored/checkpoints/last.ckpt")]) == 0
        assert main(["test", "--ckpt_path", str(folder / "scored/checkpoints/last.ckpt")]) == 0
    assert (folder / "scored/scores/validate_last.csv").is_file()
    assert not any("begin with" in message or "frozen" in message for message in caplog.messages)


def test_a_checkpoint_is_scored_on_other_modalities_when_that_is_allowed(
    flair: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["test", "--ckpt_path", str(flair), "--data.modalities=[t2]"]
    assert exit_code(lambda: main(line)) == 1
    said = last_line(capsys.readouterr().err)
    assert "trained with modalities ['flair'], the configuration says ['t2']" in said
    assert said.endswith("set --data.modalities alike, or add --other_modalities allow to score it on these")
    assert main([*line, "--other_modalities=allow"]) == 0
    assert main(["test", "--ckpt_path", str(flair)]) == 0
    scores = flair.parents[1] / "scores"
    other, own = rows(scores / "test_last_on_t2.csv"), rows(scores / "test_last.csv")
    assert [row["case"] for row in other] == [row["case"] for row in own]
    assert other != own


def test_another_number_of_modalities_is_refused_all_the_same(flair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["test", "--ckpt_path", str(flair), "--data.modalities=[t1,t2]", "--other_modalities=allow"]
    assert exit_code(lambda: main(line)) == 1
    said = last_line(capsys.readouterr().err)
    assert "trained with modalities ['flair']" in said
    assert said.endswith("set --data.modalities alike")  # what is typed already would not help


@pytest.mark.parametrize(
    ("now", "kept"),
    [
        ({}, True),
        ({"modalities": ["t1"], "batch_size": 3}, True),
        ({"val_fraction": 0.5}, False),
        ({"split_seed": 1}, False),
        ({"split_file": "own.json"}, False),
        ({"root": "/elsewhere"}, False),
    ],
)
def test_the_sources_split_is_kept_for_the_same_data_and_settings(
    tmp_path: Path, now: dict[str, Any], kept: bool, caplog: pytest.LogCaptureFixture
) -> None:
    data = {"root": str(tmp_path), "val_fraction": 0.2, "split_seed": 0, "split_file": None}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"data": data}))
    (tmp_path / "split.json").touch()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/last.ckpt").touch()
    with caplog.at_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero"):
        found = source_split(str(tmp_path / "checkpoints/last.ckpt"), {**data, **now})
    assert found == (tmp_path / "split.json" if kept else None)
    warned = "may be among the validation cases" in caplog.text
    assert warned == bool({"val_fraction", "split_seed", "root"} & now.keys())


def test_without_a_source_or_its_run_there_is_no_split_to_keep_and_a_copied_checkpoint_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (copied := tmp_path / "copied/last.ckpt").parent.mkdir()
    copied.touch()
    with caplog.at_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero"):
        assert source_split(None, {"root": "/data"}) is None
        assert source_split(str(tmp_path / "none.ckpt"), {"root": "/data"}) is None
        assert source_split(str(copied), {"root": "/data", "split_file": "own.json"}) is None
        assert not caplog.messages
        assert source_split(str(copied), {"root": "/data"}) is None
    assert caplog.messages == [
        f"note: the split is not that of {tmp_path} (it has no split.json and config.yaml); what that run was trained "
        f"on may be among the validation cases"
    ]


@pytest.mark.parametrize(
    ("loaded", "layers"),
    [
        ([], "segmentor.encoder, segmentor.dec1, critic.input"),
        (["segmentor"], "critic.input"),
        (["segmentor.encoder"], "segmentor.dec1, critic.input"),
        (["segmentor", "critic"], None),
    ],
)
def test_what_is_frozen_with_random_weights_is_said_layer_by_layer(loaded: list[str], layers: str | None) -> None:
    frozen = ["segmentor.encoder.0.weight", "segmentor.dec1.bias", "critic.input.weight", "critic.input.bias"]
    expected = (
        [f"note: frozen with random weights: {layers}; --finetuning.init_from gives trained ones"] if layers else []
    )
    assert frozen_at_random(frozen, loaded) == expected


def test_of_a_pretrained_network_only_the_encoder_is_loaded() -> None:
    both = nn.ModuleDict({"segmentor": nn.Identity(), "critic": nn.Identity()})
    assert pretrained_parts(both) == []
    both["segmentor"].pretrained = "imagenet"
    both["segmentor"].encoder = nn.Identity()
    assert pretrained_parts(both) == ["segmentor.encoder"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--finetuning.init_from=nowhere.ckpt"], "--finetuning.init_from nowhere.ckpt: no such checkpoint"),
        (
            ["--finetuning.frozen=[critic.enc9]"],
            "--finetuning.frozen critic.enc9: names no part of the networks; did you mean 'critic.enc",
        ),
        (["--finetuning.unfreeze_epoch=2"], "--finetuning.unfreeze_epoch 2, but nothing is frozen"),
        (
            ["--finetuning.parts=[critik]"],
            "--finetuning.parts critik: names no part of the networks; did you mean 'critic",
        ),
        (["--finetuning.parts=critic"], "--finetuning.parts critic: expected a list, e.g. [critic]"),
        (["--init_from=a.ckpt"], "did you mean --finetuning.init_from?"),
        (["--frozen=[critic]"], "did you mean --finetuning.frozen?"),
        (
            ["--finetuning.parts=[segmentor]", "--finetuning.unfreeze_epoch=0"],
            "--finetuning.unfreeze_epoch 0: expected at least 1",
        ),
    ],
)
def test_a_wrong_option_ends_with_one_line_before_anything_is_prepared(
    command: Command, folder: Path, capsys: pytest.CaptureFixture[str], options: list[str], text: str
) -> None:
    assert exit_code(lambda: command("fit", f"--run.directory={folder / 'refused'}", *options)) == 2
    assert text in last_line(capsys.readouterr().err)
    assert not (folder / "refused").exists()


def test_options_show_in_the_printed_configuration(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        exit_code(
            lambda: command(
                "fit", "-c", "finetuning_segmentor", "--finetuning.frozen=[segmentor.enc*]", "--print_config"
            )
        )
        == 0
    )
    printed = yaml.safe_load(capsys.readouterr().out)
    found = printed["finetuning"]
    assert (found["parts"], found["frozen"]) == (["segmentor"], ["segmentor.enc*"])
    assert printed["trainer"]["max_epochs"] == 300
