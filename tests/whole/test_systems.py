"""What every shipped system must keep: a file in configs/systems is under test as soon as it is there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn

from segan_pl.__main__ import main
from segan_pl.cli import main as cli
from segan_pl.cli.lightning import SeganCLI
from segan_pl.data.case import MODALITIES
from segan_pl.data.labels import label_scheme
from segan_pl.data.synthetic.cohort import make_cohort
from segan_pl.experiments.shipped import find_config, shipped_folder
from segan_pl.inference.inferer import over_volume
from segan_pl.inference.predictor import Predictor
from segan_pl.inference.trained import load_segmentor
from segan_pl.losses.activation import activate
from segan_pl.nets.blocks import MEMORY_FORMATS
from segan_pl.training.system import AdversarialSegmentation
from tests.cohort import QUIET

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [
    *QUIET,
]

SYSTEMS = sorted(path.stem for path in (shipped_folder("configs") / "systems").glob("*.yaml"))
FILES: dict[str, Any] = {name: yaml.safe_load(find_config(name).read_text()) for name in SYSTEMS}

SEGAN = 4_308_225, 660_288  # 3,072 of the first are batch norm's, see tests/nets/test_segan.py
SMALL = 270_657, 42_192  # of a quarter of the width
PARAMETERS: Mapping[str, tuple[int, ...]] = {  # segmentor, critic; what docs/ and the files' heads print
    "albunet2d": (25_822_372,),
    "albunet2d_paper": (25_822_372,),
    "albunet3d": (26_673_172,),
    "albunet3d_paper": (26_673_172,),
    "brats2019_few_labels": (1_978_745,),
    "dynunet2d": (5_685_475,),
    "dynunet3d": (31_192_035,),
    **dict.fromkeys(["gan", "gan_fm", "gan_wfm"], (6_530_760, 2_202_948)),  # segmentor, generator
    "gan_bad": (6_530_760, 2_202_948, 33_622_688),  # and encoder
    "gt_gan": (6_530_760, 11_330_696),
    "mednext3d": (10_512_332,),
    "residual_unet2d": (71_798_060,),
    "residual_unet3d": (102_338_348,),
    "reciprocal": (19_167_819, 75_827),
    "reciprocal_code": (8_520_755, 3_030),
    "reciprocal_ours": (19_167_819, 74_097),
    "segan": SEGAN,
    "segan_cat": (SEGAN[0], SEGAN[1] + 16 * 64),  # five channels instead of four through 4x4 kernels
    "segan_cat_small": (SMALL[0], SMALL[1] + 16 * 16),
    "segan_dice": SEGAN,
    "segan_dice_small": SMALL,
    "segan_isic": (156_238_400, 9_396_224),
    "segan_small": SMALL,
    "segmentor_small": SMALL[:1],
    "segmentor_small_adamw": SMALL[:1],
    "segresnet2d": (1_576_851,),
    "segresnet3d": (4_702_227,),
    "strong2d": (20_613_420,),
    "strong2d_small": (661_003,),
    "strong3d": (31_193_388,),
    "supervised_unet3d": (6_530_760,),
    "swinunetr3d": (62_191_941,),
    "ucl_tig": (626_584,),
    "unet25d": (1_980_747,),
    "unet2d": (1_976_139,),
    "unet2d_critic": (1_976_139, 167_840),
    "unet3d": (5_926_347,),
    "unet3d_critic": (5_926_347, 74_097),
}
STILL = {"reciprocal_code": {"critic"}}  # what was released has an optimiser for its critic and no gradient
CANCELS = {"unet3d_critic": {"output.bias"}}  # SegAN's game compares feature maps by difference
# Before the last norm of a residual block, which begins with a weight of 0.
REST = re.compile(r"\.first\.|\.second\.conv\.")

SHAPE = (16, 32, 32)
NETS = "segan_pl.nets."
SMALLEST: Mapping[str, Mapping[str, Any]] = {  # by network, what makes it small enough for SHAPE
    f"{NETS}segan.Segmentor": {"width": 4},
    f"{NETS}segan.Critic": {"width": 4},
    f"{NETS}segan_isic.Segmentor": {"width": 2},
    f"{NETS}segan_isic.Critic": {"width": 2},
    f"{NETS}reciprocal.Segmentor": {"width": 4},
    f"{NETS}reciprocal.Critic": {"width": 2},
    # on CPUs without AVX-512, torch 2.13 (oneDNN) writes beyond the gradient of a strided 1x1 convolution with fewer
    # than 8 input channels in channels_last: a width of 4 ends the process
    f"{NETS}albunet.AlbuNet": {"width": 8, "filters": 2, "pretrained": None},
    f"{NETS}monai_nets.MonaiSegmentor": {"width": 8, "levels": 3},
    f"{NETS}residual_unet.ResidualUNet": {"width": 8, "levels": 3},
    f"{NETS}mednext.MedNeXtSegmentor": {"width": 8},
    f"{NETS}swin_unetr.SwinUNETRSegmentor": {"width": 12},
    f"{NETS}anisotropic.Cascade": {"width": 4},
    f"{NETS}few_shot.Segmentor": {"width": 1},
    f"{NETS}few_shot.Generator": {"width": 1},
    f"{NETS}few_shot.Encoder": {"width": 2},
    f"{NETS}gt_gan.Generator": {"width": 2},
}


@dataclass(frozen=True)
class Fitted:
    """A run and the model as it left the trainer.

    Attributes:
        system: In training mode no more; the weights are those of last.ckpt.
        before: Parameters before the first step, by network and name.
        inside: The trainer's precision plugin.
        run: The run's folder.
        dtypes: Of the segmentor's output in training.
        logged: The trainer's last values.
    """

    system: AdversarialSegmentation
    before: Mapping[str, Mapping[str, Tensor]]
    inside: Any
    run: Path
    dtypes: set[torch.dtype]
    logged: Mapping[str, float]

    @property
    def last(self) -> Path:
        return self.run / "checkpoints" / "last.ckpt"

    def precision(self) -> AbstractContextManager[None]:
        """The trainer's autocast."""
        return self.inside.forward_context()


class Watched(SeganCLI):
    """Our command line, which keeps what tests look at."""

    found: Fitted

    def before_fit(self) -> None:
        self.weights = {name: parameters(network) for name, network in self.model.networks.items()}
        self.dtypes: set[torch.dtype] = set()
        self.model.networks.segmentor.register_forward_hook(self.note)

    def note(self, *given: Any) -> None:
        """Of the logits, or in training those of the highest resolution."""
        self.dtypes.add((given[-1][0] if isinstance(given[-1], list) else given[-1]).dtype)

    def after_fit(self) -> None:
        logged = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        inside = self.trainer.precision_plugin
        Watched.found = Fitted(self.model.eval(), self.weights, inside, self.directory, self.dtypes, logged)


def parameters(network: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in network.named_parameters()}


def patch_of(system: str) -> list[int]:
    """The shipped patch's axes, as small as networks and cases allow."""
    shipped = FILES[system]["data"]["patch"]
    if "segan_isic" in FILES[system]["model"]["networks"]["segmentor"]["class_path"]:
        return [64, 64]
    if system == "swinunetr3d":  # the least that it takes
        return [32, 32, 64]
    return [min(side, most) for side, most in zip(shipped, SHAPE[-len(shipped) :], strict=True)]


def small(system: str) -> list[str]:
    """Options that shrink a shipped system to a case of SHAPE; the game is as shipped."""
    networks = FILES[system]["model"]["networks"]
    options = [
        f"--model.networks.{network}.init_args.{option}={'null' if value is None else value}"
        for network, spec in networks.items()
        for option, value in SMALLEST[spec["class_path"]].items()
    ]
    options += [
        f"--model.networks.{network}.init_args.patch={patch_of(system)}"
        for network, spec in networks.items()
        if "patch" in spec["init_args"]
    ]
    options += [
        f"--model.networks.{network}.init_args.deep_supervision=1"
        for network, spec in networks.items()
        if "deep_supervision" in spec["init_args"]
    ]
    if "step" in FILES[system]["model"].get("windows", {}):
        options.append(f"--model.windows.step={patch_of(system)}")
    if "sampling" in FILES[system]["data"]:
        options.append("--data.sampling.batches=1")
    if "n_labelled" in FILES[system]["data"]:  # one case is trained on
        options += ["--data.n_labelled=null", "--data.labelled_per_batch=null"]
    patch = patch_of(system)
    if len(patch) == 2:  # what is smaller than the patch is padded
        options.append(f"--data.preparation.crop={[SHAPE[0], *patch]}")
    return [*options, f"--data.patch={patch}", f"--data.batch_size={SHAPE[0] if len(patch) == 2 else 2}"]


def fit(system: str, root: Path, *options: str) -> Fitted:
    """One run of the command line in this process; the folder holds the cohort, too."""
    run = root / "-".join([system, *options]).translate(str.maketrans("./=[],", "______"))[:120]
    line = [
        *("fit", "--config", str(find_config(system)), f"--root={root / 'cohort'}"),
        *(f"--data.cache_dir={root / 'cache'}", "--data.val_fraction=0.5", "--data.stratify_by=[]"),
        "--data.test_fraction=0",
        *("--data.prepare_workers=1", f"--run.directory={run}", "--run.preview_every=0", "--trainer.accelerator=cpu"),
        *("--trainer.devices=1", "--trainer.enable_progress_bar=false", "--trainer.num_sanity_val_steps=0"),
        *(*small(system), *options),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "SeganCLI", Watched)
        assert main(line) == 0
    return Watched.found


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two generated cases, one of which is trained on."""
    folder = tmp_path_factory.mktemp("systems")
    make_cohort(folder / "cohort", cases=2, shape=SHAPE, seed=48)
    return folder


@pytest.fixture(scope="module")
def runs() -> dict[str, Fitted]:
    """Runs of one training step, by system."""
    return {}


@pytest.fixture(params=SYSTEMS)
def system(request: pytest.FixtureRequest) -> str:
    return str(request.param)


ONE_STEP = ("--trainer.max_epochs=1", "--trainer.limit_train_batches=1")
FAST = ("--trainer.precision=bf16-mixed", "--model.channels_last=true")


@pytest.fixture
def fitted(system: str, runs: dict[str, Fitted], root: Path, isolated: None) -> Fitted:
    """The system after one training step and one validation, as shipped but small; made once."""
    if system not in runs:
        runs[system] = fit(system, root, *ONE_STEP)
    return runs[system]


@pytest.fixture
def fast(system: str, root: Path, isolated: None) -> Fitted:
    """The same in bfloat16 with channels last."""
    depth = 24 if system.startswith("reciprocal") else 96 if system == "swinunetr3d" else 0
    deeper = [f"--data.patch=[{depth},32,32]"] if depth else []  # a lowest level that is 2 voxels deep is refused
    return fit(system, root, *ONE_STEP, *FAST, *deeper)


def test_a_full_system_has_the_parameters_that_the_docs_print(system: str) -> None:
    model, data = FILES[system]["model"], FILES[system]["data"]
    modalities = len(data.get("modalities", MODALITIES))
    channels = len(label_scheme(data.get("labels", "whole_tumour")).channels)
    game = made(model["objective"])
    # MONAI reads numbers of tensors while it builds a SwinUNETR
    with torch.device("cpu" if system == "swinunetr3d" else "meta"):
        networks = [
            made(model["networks"][name], **game.channels(name, modalities, channels)) for name in game.networks
        ]
    assert tuple(sum(p.numel() for p in network.parameters()) for network in networks) == PARAMETERS[system]


def made(spec: Mapping[str, Any], **channels: int) -> Any:
    """What a system file names, with the arguments that it states."""
    module, _, name = spec["class_path"].rpartition(".")
    return getattr(import_module(module), name)(**channels, **spec["init_args"])


def test_one_step_moves_every_parameter_that_the_system_trains_and_no_other(system: str, fitted: Fitted) -> None:
    assert fitted.system.batches_seen == 1
    assert set(fitted.before) == set(fitted.system.objective.networks)
    for network, before in fitted.before.items():
        after = parameters(fitted.system.networks[network])
        assert all(value.isfinite().all() for value in after.values())
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        resting = {name for name in before if name.startswith("down.") and REST.search(name)}
        moving = set(before) - resting - (CANCELS.get(system, set()) if network == "critic" else set())
        moved -= resting
        assert moved == (set() if network in STILL.get(system, ()) else moving), network


def test_a_saved_system_gives_the_same_output_to_the_bit(fitted: Fitted) -> None:
    system, scheme = fitted.system, fitted.system.scheme
    size = (SHAPE[0], *(system.patch or ())[-2:])
    image = torch.rand(len(system.modalities), *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), fitted.precision():
        if len(system.patch or ()) == 3:  # forward gives log odds, which rounds once more
            own = over_volume(
                system.scored,
                image,
                patch=system.patch,
                windows=system.windows,
                activation=scheme.activation,
                channels=len(scheme.channels),
                wanted="probabilities",
            )
        else:
            own = activate(system.predict_volume(image)[None].float(), scheme.activation)[0]
    loaded = Predictor.load(fitted.last, device="cpu").predict_array(image.numpy())
    assert np.ptp(loaded) > 0
    assert np.array_equal(loaded, own.numpy())


def test_a_system_runs_in_bfloat16_with_channels_last(fast: Fitted) -> None:
    losses = {name: value for name, value in fast.logged.items() if name.startswith("train/")}
    assert losses
    assert np.isfinite(list(losses.values())).all(), losses
    assert torch.bfloat16 in fast.dtypes
    kernels = [p for p in fast.system.segmentor.parameters() if p.ndim in MEMORY_FORMATS]
    assert all(kernel.is_contiguous(memory_format=MEMORY_FORMATS[kernel.ndim]) for kernel in kernels)
    loaded = load_segmentor(fast.last, device="cpu")
    assert (loaded.precision, loaded.channels_last) == (torch.bfloat16, True)
