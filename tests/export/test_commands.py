"""The commands of docs/export.md, carried out one after the other on a generated cohort, and what they leave."""

from __future__ import annotations

import json
import re
import shlex
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from segan_pl.__main__ import main
from segan_pl.data.io import read_volume
from segan_pl.data.synthetic.cohort import make_cohort
from segan_pl.export.formats import network_of
from segan_pl.inference.exported import KEY, load_model
from segan_pl.inference.predictor import Predictor
from segan_pl.inference.trained import load_segmentor
from tests.cohort import QUIET, SYSTEM
from tests.export.blocked import without

pytestmark = [*QUIET, pytest.mark.slow]

DOC = Path(__file__).parents[2] / "docs" / "export.md"
CHECKPOINT = Path("runs/cat/checkpoints/last.ckpt")


def commands() -> list[str]:
    """Every line of the page's shell blocks, but for the installation."""
    blocks = re.findall(r"```sh\n(.*?)```", DOC.read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if not line.startswith("pip ")]


@dataclass(frozen=True)
class Done:
    """The folder in which the commands ran, and what each of them printed."""

    folder: Path
    said: dict[str, str]

    def line(self, beginning: str) -> str:
        return next(text for command, text in self.said.items() if command.startswith(beginning))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("export")
    make_cohort(folder / "data", cases=3, shape=(6, 36, 40), seed=1)
    config = yaml.safe_load(SYSTEM % ("data", "cache", "runs"))
    config["run"] = {"directory": "runs/cat", "preview_every": 0}
    config["trainer"] |= {"max_epochs": 1, "enable_progress_bar": False, "num_sanity_val_steps": 0}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(config))
    said = {}
    with chdir(folder):
        without([], "segan_pl", shlex.split("fit -c tiny.yaml --data.val_fraction 0.4 --seed_everything 1"), folder)
        for command in commands():
            said[command] = run(command)
    return Done(folder, said)


def run(command: str) -> str:
    """Our own commands here; a bundle in a process of its own, which cannot import segan_pl."""
    place, _, rest = command.rpartition(" && ")
    words = shlex.split(rest)
    if words[0] == "python":
        return without(["segan_pl"], words[2], words[3:], Path(place.removeprefix("cd ")))
    with redirect_stdout(StringIO()) as said:
        assert main(words[1:]) == 0
    return said.getvalue()


def test_every_form_says_what_was_compared(done: Done) -> None:
    for form in ("onnx", "bundle"):
        assert "a whole case" in done.line(f"segan_pl export --ckpt_path {CHECKPOINT} --output cat_{form}")

    said = done.line(f"segan_pl export --ckpt_path {CHECKPOINT} --output cat_pt2")
    assert "of generated input differ by 0.0e+00" in said


def test_onnx_and_bundle_give_the_labels_of_the_checkpoint(done: Done) -> None:
    predictor = Predictor.load(done.folder / CHECKPOINT)
    files = sorted((done.folder / "predictions").glob("*.nii.gz"))
    assert len(files) == 3
    cases = {path.name: path for path in (done.folder / "data").glob("*/*")}
    for file in files:
        folder = cases[file.name.removesuffix(".nii.gz")]
        images = {m: next(folder.glob(f"*_{m}.nii.gz")) for m in predictor.modalities}
        expected = predictor(images)
        assert expected.label.any()
        for other in (file, done.folder / "bundled" / file.name):
            found = read_volume(other)
            np.testing.assert_array_equal(found.array, expected.label)
            np.testing.assert_array_equal(found.affine, expected.affine)


def test_an_onnx_file_holds_all_that_prediction_needs(done: Done) -> None:
    wanted, found = load_segmentor(done.folder / CHECKPOINT), load_model(done.folder / "cat_onnx" / "model.onnx")
    for name in ("modalities", "scheme", "preparation", "patch", "slices", "windows", "divisor", "seen", "copes"):
        assert getattr(found, name) == getattr(wanted, name), name


def test_onnx_predicts_with_neither_lightning_nor_the_networks_code(done: Done) -> None:
    blocked = ["lightning", "segan_pl.nets.segan", "segan_pl.training.system", "torch.onnx", "onnx", "onnxscript"]
    arguments = ["predict", "--ckpt_path", "cat_onnx/model.onnx", "--root", "data", "--output", "again"]
    without(blocked, "segan_pl", arguments, done.folder)
    for file in sorted((done.folder / "predictions").glob("*.nii.gz")):
        np.testing.assert_array_equal(read_volume(done.folder / "again" / file.name).array, read_volume(file).array)


def test_a_pt2_file_runs_alone_and_holds_its_description(done: Done) -> None:
    segmentor, files = load_segmentor(done.folder / CHECKPOINT), {f"{KEY}.json": ""}
    network = torch.export.load(done.folder / "cat_pt2" / "model.pt2", extra_files=files).module()
    image = torch.rand(3, 4, 48, 32)
    with torch.no_grad():
        assert torch.equal(network(image), segmentor.network(image))
    assert json.loads(files[f"{KEY}.json"])["modalities"] == list(segmentor.modalities)


def test_safetensors_and_its_configuration_build_the_network_again(done: Done) -> None:
    from safetensors.torch import load_file

    from segan_pl.nets.segan import Segmentor

    config = json.loads((done.folder / "cat_weights" / "config.json").read_text())
    assert config["network"] == network_of(done.folder / CHECKPOINT)
    assert config["network"]["class_path"] == "segan_pl.nets.segan.Segmentor"
    network = Segmentor(**config["network"]["init_args"])
    network.load_state_dict(load_file(done.folder / "cat_weights" / "model.safetensors"))
    segmentor, image = load_segmentor(done.folder / CHECKPOINT), torch.rand(1, 4, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(network.eval()(image), segmentor.network(image))
    for name, value in segmentor.network.state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name


def test_the_card_is_filled_from_the_run(done: Done) -> None:
    text = (done.folder / "cat_weights" / "README.md").read_text()
    for line in ("# cat\n", "**Research use only.**", "2 train, 1 val cases", "| wt | dice |", "chose the checkpoint"):
        assert line in text
    assert "kWh at 65 W" in text
    assert "Carbon: not measured." in text
    assert "Energy and carbon: not measured." in (done.folder / "cat_pt2" / "README.md").read_text()
    names = [path.name for path in (done.folder / "data").glob("*/*")]
    for card in done.folder.glob("cat_*/README.md"):
        assert not [name for name in [*names, str(done.folder)] if name in card.read_text()]
