"""What `segan_pl predict` leaves in its folder, with segmentors that need no training."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from segan_pl.__main__ import main
from segan_pl.data.io import read_volume, write_volume
from segan_pl.data.split.record import Split
from tests.inference.segmentors import segmentor

AWAY = np.diag([1.0, 1, 1, 1])
AWAY[:3, 3] = (40, -20, 9)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A manifest of three cases; the T1 of "b" lies elsewhere than its FLAIR."""
    for number, name in enumerate("abc"):
        array = np.random.default_rng(number).integers(1, 500, (4, 8, 8)).astype(np.int16)
        write_volume(tmp_path / f"{name}_flair.nii.gz", array, np.eye(4))
        write_volume(tmp_path / f"{name}_t1.nii.gz", array, AWAY if name == "b" else np.eye(4))
    file = tmp_path / "data.csv"
    file.write_text("case,t1,flair\n" + "".join(f"{c},{c}_t1.nii.gz,{c}_flair.nii.gz\n" for c in "abc"))
    return file


@pytest.fixture
def predict(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """The command; a checkpoint's name says which segmentor it is."""
    known = {
        "flair": segmentor("flair"),
        "other": segmentor("flair", digest="other", logits=lambda image: 0.5 - image),
        "both": segmentor("t1", "flair"),
        "regions": segmentor("flair", scheme="regions"),
        "blind": segmentor("flair", logits=lambda _: fail()),
    }
    monkeypatch.setattr("segan_pl.cli.predict_cases.load_model", lambda path, **_: known[path])

    known |= {run: replace(known["flair"], source=Path(run)) for run in [str(tmp_path / "checkpoints" / "best.ckpt")]}

    def run(checkpoint: str, data: Path, *more: str) -> int:
        return main(["predict", "--ckpt_path", checkpoint, f"--root={data}", f"--output={tmp_path / 'out'}", *more])

    return run


def fail() -> Tensor:
    raise RuntimeError("[enforce fail at alloc_cpu.cpp:115] DefaultCPUAllocator: can't allocate memory")


def table(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "out" / "predictions.csv").open(newline="") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


def outputs(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: read_volume(path).array for path in sorted((folder / "out").glob("*.nii.gz"))}


def test_a_segmentation_lies_where_the_network_looked(predict, data, tmp_path):
    assert predict("flair", data) == 0
    found = read_volume(tmp_path / "out" / "b.nii.gz")
    np.testing.assert_array_equal(found.affine, np.eye(4))


def test_a_case_without_images_or_on_two_grids_spoils_no_other(predict, data, tmp_path, capsys):
    data.write_text(data.read_text() + "d,,\ne,a_t1.nii.gz,\n")
    assert predict("both", data, "--missing=zero") == 1
    out = capsys.readouterr().out
    assert list(outputs(tmp_path)) == ["a.nii.gz", "c.nii.gz", "e.nii.gz"]
    assert "refused: b: " in out
    assert "refused: d: no t1, flair, the checkpoint takes t1, flair; complete the case" in out
    assert table(tmp_path)["d"]["file"] == ""


def test_cases_without_memory_are_refused_by_name_and_the_folder_stays_free(predict, data, tmp_path, capsys):
    assert predict("blind", data) == 1
    assert "refused: a: not enough memory" in capsys.readouterr().out
    assert not (tmp_path / "out" / "predict.json").exists()
    assert predict("other", data) == 0


def test_another_checkpoint_with_overwrite_leaves_nothing_of_the_first_in_any_part(predict, data, tmp_path):
    assert predict("flair", data, "--probabilities=true") == 0
    first = outputs(tmp_path)
    assert predict("other", data) == 2
    assert predict("other", data, "--overwrite=true", "--share=1/3") == 0
    assert list(outputs(tmp_path)) == ["a.nii.gz"]
    assert predict("other", data) == 0
    assert list(outputs(tmp_path)) == ["a.nii.gz", "b.nii.gz", "c.nii.gz"]
    assert all(not np.array_equal(array, first[name]) for name, array in outputs(tmp_path).items())


def test_rows_of_former_calls_stay_and_a_case_has_one(predict, data, tmp_path):
    image = tmp_path / "b_flair.nii.gz"
    whole = image.read_bytes()
    image.write_bytes(whole[:-40])
    assert predict("flair", data) == 1
    assert table(tmp_path)["b"]["refused"].startswith("b: ")
    seconds = table(tmp_path)["a"]["seconds"]
    image.write_bytes(whole)
    assert predict("flair", data) == 0
    rows = table(tmp_path)
    assert [(row["case"], row["refused"]) for row in rows.values()] == [("a", ""), ("b", ""), ("c", "")]
    assert rows["a"]["seconds"] == seconds


def test_rows_are_there_when_the_call_is_killed(predict, data, tmp_path, monkeypatch):
    from segan_pl.inference.predictor import Predictor

    read = Predictor.read

    def killed(self: Predictor, case: object) -> object:
        if getattr(case, "name", "") == "c":
            raise KeyboardInterrupt
        return read(self, case)  # type: ignore[arg-type]

    monkeypatch.setattr(Predictor, "read", killed)
    with pytest.raises(KeyboardInterrupt):
        predict_all_of(data, tmp_path)
    assert "a" in table(tmp_path)


def predict_all_of(data: Path, folder: Path) -> None:
    from segan_pl.cli.commands.options import PlaceOptions
    from segan_pl.cli.predict_cases import predict_all
    from segan_pl.cli.predict_options import PredictOptions

    predict_all(PredictOptions(["flair"], str(folder / "out")), PlaceOptions(str(data)))


def test_what_was_advised_for_a_refused_case_can_be_done_in_the_same_folder(predict, data, tmp_path):
    data.write_text("case,t1,flair\na,a_t1.nii.gz,a_flair.nii.gz\nc,,c_flair.nii.gz\n")
    assert predict("both", data, "--missing=refuse") == 1
    assert predict("both", data, "--missing=zero") == 0
    assert list(outputs(tmp_path)) == ["a.nii.gz", "c.nii.gz"]
    assert json.loads((tmp_path / "out" / "predict.json").read_text())["settings"]["missing"] == "zero"


def test_other_data_with_the_same_names_is_not_taken_for_done(predict, data, tmp_path, capsys):
    assert predict("flair", data) == 0
    copy = tmp_path / "copy.csv"
    copy.write_text(data.read_text())
    assert predict("flair", copy) == 2
    assert "holds predictions made with other root" in capsys.readouterr().err


def test_an_output_that_would_replace_what_is_read_is_refused_before_anything_is_written(
    predict, data, tmp_path, capsys
):
    folder = tmp_path / "out"
    folder.mkdir()
    image = folder / "a.nii.gz"
    image.write_bytes((tmp_path / "a_flair.nii.gz").read_bytes())
    data.write_text(f"case,flair\na,{image}\nb,b_flair.nii.gz\n")
    before = image.read_bytes()
    assert predict("flair", data, "--overwrite=true") == 2
    assert "a.nii.gz is a file of a, which would be replaced" in capsys.readouterr().err
    assert image.read_bytes() == before
    assert list(folder.iterdir()) == [image]


def test_names_that_collide_in_another_part_are_refused_too(predict, data, tmp_path, capsys):
    data.write_text("case,flair\na,a_flair.nii.gz\na_wt,b_flair.nii.gz\n")
    assert predict("flair", data, "--share=1/2") == 0
    assert predict("flair", data, "--share=1/2", "--probabilities=true", "--overwrite=true") == 2
    assert "a and a_wt would both be a_wt.nii.gz" in capsys.readouterr().err


def test_notes_of_the_layout_are_shown(predict, data, capsys, monkeypatch):
    from dataclasses import replace

    from segan_pl.cli.commands import options

    find = options.find_data_set
    monkeypatch.setattr(options, "find_data_set", lambda *given: replace(find(*given), notes=("beside it lies x",)))
    assert predict("flair", data) == 0
    assert "note: beside it lies x" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ckpt_path", "other"], "--ckpt_path is given twice; name all values after one"),
        (["--overlap=1.0"], "the windows' overlap 1.0: expected a share from 0 and below 1"),
        (["--overlap=0.5", "--whole=16"], "--overlap and --whole exclude each other; give one of them"),
        (["--overlap=0.5"], ".ckpt takes slices"),
        (["--window_batch=0"], "the windows' batch 0: expected at least 1 window"),
        (["--postprocess", "small_components"], "expected a volume above 0 ml, e.g. small_components:0.5"),
        (["--postprocess", "small_enhancing:1", "--native_labels=binary"], "no enhancing tumour and necrosis"),
    ],
)
def test_what_is_typed_wrongly_leaves_no_folder(predict, data, tmp_path, capsys, arguments, message):
    assert predict("flair", data, *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("begun", [False, True])
def test_a_strangers_table_of_predictions_stays(predict, data, tmp_path, capsys, begun):
    if begun:
        assert predict("flair", data) == 0
    (tmp_path / "out").mkdir(exist_ok=True)
    foreign = tmp_path / "out" / "predictions.csv"
    foreign.write_text("case,mine\na,1\n")
    capsys.readouterr()
    assert predict("flair", data) == 2
    assert f"{foreign}: is there and was not written by `segan_pl predict`" in capsys.readouterr().err
    assert foreign.read_text() == "case,mine\na,1\n"


def test_of_files_with_names_like_a_parts_table_only_those_are_removed(predict, data, tmp_path):
    (tmp_path / "out").mkdir()
    mine = tmp_path / "out" / "predictions_most_of_them.csv"
    mine.write_text("x")
    assert predict("flair", data, "--share=1/2") == 0
    assert predict("other", data, "--overwrite=true") == 0
    assert mine.read_text() == "x"
    assert not (tmp_path / "out" / "predictions_1of2.csv").exists()


def test_it_is_said_what_the_labels_mean_on_the_screen_and_in_the_folder(predict, data, tmp_path, capsys):
    assert predict("flair", data) == 0
    assert (
        "labels in the files: 1 is necrosis, oedema or enhancing, which are not told apart" in capsys.readouterr().out
    )
    said = json.loads((tmp_path / "out" / "predict.json").read_text())["predicted"]
    assert said["channels"] == ["wt"]
    assert said["label_meanings"] == {"1": ["necrosis", "oedema", "enhancing"]}
    assert said["parts"] is None  # the checkpoint lies in no run


def test_data_that_cannot_be_read_are_told_with_the_option_that_was_typed(predict, data, tmp_path, capsys):
    file = tmp_path / "a_seg.nii.gz"
    file.touch()
    assert predict("flair", file) == 2
    assert "check --root" in capsys.readouterr().err


def test_a_damaged_split_stops_no_prediction_that_does_not_ask_for_its_parts(predict, data, tmp_path, capsys):
    (tmp_path / "split.json").write_text('{"train": ["a"')
    (tmp_path / "config.yaml").write_text("model: {}")
    run = tmp_path / "checkpoints" / "best.ckpt"
    assert predict(str(run), data, "--part=val") == 1
    assert "split.json: cannot be read as JSON" in capsys.readouterr().err
    assert predict(str(run), data) == 0
    assert "note: predict.json cannot say which cases trained the network: " in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "predict.json").read_text())["predicted"]["parts"] is None


def test_a_part_of_the_runs_split_is_predicted_and_a_later_call_adds_the_others(predict, data, tmp_path, capsys):
    def said() -> dict:
        return json.loads((tmp_path / "out" / "predict.json").read_text())["predicted"]

    Split(("a",), ("b", "c")).save(tmp_path / "split.json")
    (tmp_path / "config.yaml").write_text("model: {}")
    run = tmp_path / "checkpoints" / "best.ckpt"
    assert predict("flair", data, "--part=val") == 2
    assert "lies in no run's checkpoints folder" in capsys.readouterr().err
    assert predict(str(run), data, "--part", "val") == 0
    out = capsys.readouterr().out
    assert f"note: 2 of 3 cases, the val part of {tmp_path / 'split.json'}" in out
    assert out.splitlines()[-1] == "2 given, 2 used, 0 refused"
    assert (said()["cases"], said()["parts"]) == (["b", "c"], {"train": [], "val": ["b", "c"]})
    assert predict(str(run), data, "--part=train") == 0
    assert said()["cases"] == ["a", "b", "c"]
    Split(("a",), ("b",), unlabelled=("c",)).save(tmp_path / "split.json")
    assert predict(str(run), data, "--part=unlabelled", "--overwrite=true") == 0
    assert "note: 1 of 3 cases, the unlabelled part of " in capsys.readouterr().out
    Split(("a",), ("b", "c")).save(tmp_path / "split.json")
    assert predict(str(run), data, "--overwrite=true") == 0
    assert said()["cases"] is None
    assert said()["parts"] == {"train": ["a"], "val": ["b", "c"]}
