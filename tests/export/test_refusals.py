"""What is refused in one line and leaves nothing behind; and the upload, with a stand-in of the Hub."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from segan_pl.__main__ import main
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.errors import UsageError
from segan_pl.export import whole
from segan_pl.export.card import Stated
from segan_pl.export.tracing import TOLERANCE, DiffersError, labels_line, require_equal, traced, undecided
from segan_pl.inference import exported
from segan_pl.inference.checkpoint_file import CheckpointError, NoCheckpointError
from segan_pl.inference.exported import described_segmentor, description, load_model
from segan_pl.inference.trained import TrainedSegmentor
from tests.cohort import QUIET
from tests.inference.segmentors import segmentor
from tests.inference.test_predictor import train

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = QUIET
STATED = Stated("a", "other")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, cohort: Path, prepared: Path) -> Path:
    return train(tmp_path_factory.mktemp("checkpoint"), cohort, prepared, "wt")


def test_an_export_that_differs_leaves_no_folder(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(NamedTuple):
        segmentor: TrainedSegmentor

        def module(self) -> Callable[[Tensor], Tensor]:
            return lambda image: self.segmentor.network(image) + 1

    monkeypatch.setattr("segan_pl.export.formats.traced", Other)
    with pytest.raises(DiffersError, match=r"model.pt2: logits of generated input differ by .* more than 0.0001"):
        whole.export(checkpoint, tmp_path / "out", "torch", stated=STATED)
    assert not list(tmp_path.iterdir())


def test_a_difference_in_a_whole_case_counts_too(cohort: Path) -> None:
    from segan_pl.data.layouts import find_cases

    model = segmentor("t1", "flair", preparation=Preparation(crop=None))

    def other(image: Tensor) -> Tensor:
        return model.network(image) + (0 if image.shape[-1] < 30 else 0.01)

    case = find_cases(cohort)[0]
    assert "labels of 0 of" in require_equal(model, model.network, case, "x")
    with pytest.raises(DiffersError, match="probabilities of a whole case by 2"):
        require_equal(model, other, case, "x")


def test_only_what_lies_near_the_decision_may_turn() -> None:
    near, far = 0.9 * TOLERANCE, 1.1 * TOLERANCE
    regions = torch.tensor([[0.5 + near, 0.5 + far, 0.9, 0.5], [0.1, 0.2, 0.5 - near, 0.5 - far]])
    assert undecided(regions, "sigmoid").tolist() == [True, False, True, True]
    labels = torch.tensor([[0.4, 0.4 + 2 * near, 0.4 + 2 * far], [0.4, 0.4, 0.4], [0.2, 0.2, 0.2]])
    assert undecided(labels, "softmax").tolist() == [True, True, False]


def test_a_turned_voxel_is_counted_where_rounding_decides_it_and_refused_elsewhere() -> None:
    open_ = torch.tensor([True, True, False, False])
    assert labels_line(torch.tensor([False] * 4), open_, "x") == "labels of 0 of 4 voxels"
    said = labels_line(torch.tensor([True, False, False, False]), open_, "x")
    assert said == "labels of 1 of 4 voxels, each within 0.0001 of a tie or of 0.5, where rounding decides"
    with pytest.raises(DiffersError, match=r"x: 1 of 4 voxels .* have another label, though .* no rounding"):
        labels_line(torch.tensor([True, False, True, False]), open_, "x")


def test_labels_that_turn_everywhere_are_no_rounding_however_open_they_are() -> None:
    turned, all_open = torch.arange(10**6) < 10, torch.ones(10**6, dtype=torch.bool)
    assert labels_line(turned, all_open, "x").startswith("labels of 10 of 1000000 voxels")
    with pytest.raises(DiffersError, match=r"x: 11 of 1000000 voxels .* rounding turns at most 10, so the network"):
        labels_line(torch.arange(10**6) < 11, all_open, "x")


@pytest.mark.parametrize("number", [0, 1])
def test_a_graph_that_gives_no_numbers_is_refused(number: int) -> None:
    model, calls = segmentor("t1", "flair"), iter(range(9))
    with pytest.raises(DiffersError, match="logits of generated input differ by nan"):
        require_equal(model, lambda x: model.network(x) * (torch.nan if next(calls) == number else 1), None, "x")


def test_a_network_that_branches_on_values_goes_as_safetensors_alone() -> None:
    def branching(image: Tensor) -> Tensor:
        return image[:, :1] if image.sum() > 0 else -image[:, :1]

    with pytest.raises(
        UsageError, match=r"torch.export cannot follow its network Simple \(.*only --format safetensors"
    ):
        traced(segmentor("t1", logits=branching))


@pytest.mark.parametrize("there", ["a file", "a folder", "an export"])
def test_what_is_there_stays(there: str, checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    if there == "a file":
        output.write_text("mine")
    elif there == "a folder":
        output.mkdir()
        (output / "README.md").write_text("mine")
    else:
        whole.export(checkpoint, output, "safetensors", stated=STATED)
        whole.export(checkpoint, output, "safetensors", stated=STATED, overwrite=True)
    said = "holds an export already" if there == "an export" else "is no folder of `segan_pl export`"
    with pytest.raises(UsageError, match=said):
        whole.export(checkpoint, output, "safetensors", stated=STATED, overwrite=there != "an export")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--format", "onxx"], "did you mean onnx?"),
        (["--format", "onnx", "--push_to_hub", "name"], "--push_to_hub name: expected OWNER/NAME"),
        (["--format", "torch", "--power_watts", "-1"], "--power_watts -1.0: expected a number from 0 on"),
        (["--format", "torch", "--carbon_g_per_kwh", "300"], "without --power_watts nothing says the energy"),
        (["--format", "torch", "--postprocess=[holes]"], "--postprocess holes: no such step"),
        (["--format", "torch", "--scores", "nowhere"], "no run nowhere"),
    ],
)
def test_wrong_options_are_one_line(
    options: list[str], why: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "--ckpt_path", str(checkpoint), "--output", str(tmp_path / "out"), *options]) == 2
    assert why in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_data_set_without_a_whole_case_is_refused(checkpoint: Path, tmp_path: Path, capsys, cohort: Path) -> None:
    images = sorted(cohort.rglob("*_t1.nii.gz"))
    for image in images:
        place = tmp_path / "data" / image.relative_to(cohort)
        place.parent.mkdir(parents=True)
        place.write_bytes(image.read_bytes())
    line = ["export", "--ckpt_path", str(checkpoint), f"--output={tmp_path / 'out'}", "--format=torch"]
    assert main([*line, f"--root={tmp_path / 'data'}"]) == 2
    assert "no case has all of t1, t1ce, t2, flair" in capsys.readouterr().err


def test_a_missing_package_is_named_with_its_extra(checkpoint: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "safetensors.torch", None)
    with pytest.raises(UsageError, match=r"safetensors.torch cannot be imported .* pip install 'segan_pl\[export\]'"):
        whole.export(checkpoint, tmp_path / "out", "safetensors", stated=STATED)


def test_files_that_are_no_export_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NoCheckpointError, match="no such file"):
        load_model(tmp_path / "gone.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match=r"bad.onnx: onnxruntime cannot read it"):
        load_model(tmp_path / "bad.onnx")
    with pytest.raises(UsageError, match="runs on the CPU; use cpu or auto"):
        load_model(tmp_path / "bad.onnx", device="cuda")
    with pytest.raises(UsageError, match="computes in float32"):
        load_model(tmp_path / "bad.onnx", precision="bfloat16")


def test_a_foreign_onnx_file_is_refused(tmp_path: Path) -> None:
    from onnx import TensorProto, helper, save

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("image", "logits")]
    graph = helper.make_graph([helper.make_node("Relu", ["image"], ["logits"])], "g", values[:1], values[1:])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "a.onnx")
    with pytest.raises(CheckpointError, match="no description of segan_pl in it"):
        load_model(tmp_path / "a.onnx")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"format": 9}, "export format 9, this version reads 1"),
        ({"windows": {"x": 1}}, "its description cannot be used"),
    ],
)
def test_another_versions_description_is_refused(change: dict[str, object], why: str) -> None:
    model = segmentor("t1")
    with pytest.raises(CheckpointError, match=why):
        described_segmentor({**description(model), **change}, model.network, source=Path("a.onnx"), digest="")


def test_a_description_describes_the_whole_segmentor() -> None:
    model = replace(segmentor("t1", "pet", scheme="only:et/brats2023"), predict_in="brain", copes=True, seen={"a": [1]})
    found = described_segmentor(description(model), model.network, source=model.source, digest=model.digest)
    assert found == model


class Commit(NamedTuple):
    commit_url: str


class Hub:
    """A stand-in of huggingface_hub."""

    def __init__(self, refuse: bool = False) -> None:
        self.calls: list[tuple[str, object]] = []
        self.refuse = refuse

    def HfApi(self) -> Hub:  # noqa: N802
        return self

    def create_repo(self, name: str, **options: object) -> None:
        if self.refuse:
            raise OSError("401: log in\nfirst")
        self.calls.append((name, options))

    def upload_folder(self, **options: object) -> Commit:
        self.calls.append(("upload", sorted(path.name for path in Path(str(options["folder_path"])).iterdir())))
        return Commit("https://hub/commit")


def pushed(hub: Hub, checkpoint: Path, output: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> int:
    real: Callable[[str], object] = exported.extra
    monkeypatch.setattr(whole, "extra", lambda name: hub if name == "huggingface_hub" else real(name))
    line = ["export", "--ckpt_path", str(checkpoint), f"--output={output}", "--format=safetensors"]
    return main([*line, "--push_to_hub=me/model", *more])


def test_the_folder_is_uploaded_when_it_is_whole(checkpoint, tmp_path, monkeypatch, capsys) -> None:
    hub = Hub()
    assert pushed(hub, checkpoint, tmp_path / "out", monkeypatch) == 0
    assert hub.calls[0] == ("me/model", {"private": True, "exist_ok": True})
    assert hub.calls[1] == ("upload", ["README.md", "config.json", "model.safetensors"])
    assert "uploaded: https://hub/commit" in capsys.readouterr().out


def test_a_refusal_of_the_hub_is_one_line_and_the_export_stays(checkpoint, tmp_path, monkeypatch, capsys) -> None:
    assert pushed(Hub(refuse=True), checkpoint, tmp_path / "out", monkeypatch) == 2
    assert f"--push_to_hub me/model: 401: log in first; the export is in {tmp_path / 'out'}" in capsys.readouterr().err
    assert (tmp_path / "out" / "README.md").is_file()
