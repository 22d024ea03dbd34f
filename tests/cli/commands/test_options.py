"""A line copied from `fit` in front of the other commands that read a data set."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path

import pytest

from segan_pl.__main__ import main
from segan_pl.cli.commands.options import ALONE, DATA, PlaceOptions, parse, parted
from segan_pl.cli.experiment_options import CASES, StudyDataOptions
from segan_pl.data.module import MRIDataModule
from segan_pl.training.finetuning.settings import SCORING

pytest_plugins = ["tests.cohort_fixtures"]

LINE = (
    "-c segan_cat_small --data.root {root} --data.cache_dir {work}/cache --data.preparation.crop null "
    "--data.stratify_by [] --data.batch_size 4 --data.patch=[32,32] --data.modalities [flair,t1] --data.seed 3 "
    "--data.labels whole_tumour --data.missing refuse --data.augmentation.rotation_deg -5 --data.split_leaks allow "
    "--trainer.max_epochs 1 --trainer.enable_progress_bar false --model.networks.segmentor.init_args.width=2 "
    "--run.patience 3 --seed_everything 1 --finetuning.parts [segmentor]"
)
KNOWN = ("input", "layout", "output")


def test_the_options_of_the_data_are_those_of_the_data_module() -> None:
    assert sorted(DATA) == sorted(set(inspect.signature(MRIDataModule.__init__).parameters) - {"self"})
    assert sorted(ALONE) == sorted([SCORING, "ckpt_path", "seed_everything"])


def test_every_option_of_the_data_that_an_experiment_reads_is_settled_or_handed_to_its_fits() -> None:
    assert {field.name for field in fields(StudyDataOptions)} == set(CASES)


@pytest.mark.usefixtures("isolated")
@pytest.mark.parametrize(
    ("command", "unused", "used"),
    [
        ("check", "--data.batch_size", "--data.modalities"),
        ("split", "--data.preparation.crop", "--data.split_leaks"),
        ("prepare --dry_run", "--data.stratify_by", "--data.cache_dir"),
    ],
)
def test_a_line_of_fit_works_and_what_does_nothing_is_told(
    command: str, unused: str, used: str, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command.split(), *LINE.format(root=cohort, work=tmp_path).split()]) == 0
    output = capsys.readouterr()
    (note,) = [line for line in output.err.splitlines() if line.startswith("note: without effect here: ")]
    assert f"{unused}, " in note
    assert f"{used}," not in note
    assert "8 given, 8 used, 0 refused" in output.out


def test_a_misspelt_option_of_fit_is_refused_with_the_right_one(
    cohort: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prepare", f"--root={cohort}", "--data.bach_size=3"]) == 2
    assert "did you mean --data.batch_size?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "own", "of_fit"),
    [
        ("--output o --data.seed 3 --input i", "--output o --input i", "--data.seed 3"),
        ("--data.augmentation.noise -0.5 --output o", "--output o", "--data.augmentation.noise -0.5"),
        ("--trainer.fast_dev_run --output o", "--output o", "--trainer.fast_dev_run"),
        ("--data.sead 3", "--data.sead 3", ""),
        ("--models 3 --data", "--models 3 --data", ""),
    ],
)
def test_only_what_fit_takes_is_parted_with_its_value(line: str, own: str, of_fit: str) -> None:
    assert parted(line.split(), KNOWN) == (own.split(), of_fit.split())


def test_what_predict_calls_otherwise_is_told_with_its_own_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"predict --ckpt_path={tmp_path}/gone.ckpt --root=i --output={tmp_path}/out"
    assert main([*line.split(), "--data.missing", "zero", "--data.native_labels=msd", "--data.batch_size=2"]) == 2
    assert capsys.readouterr().err.splitlines()[0] == (
        "note: without effect here: --data.missing (--missing refuse or zero says what becomes of a case that lacks a "
        "modality), --data.native_labels (masks are not looked at; --native_labels says what the written labels mean), "
        "--data.batch_size"
    )


@pytest.mark.parametrize("line", ["-c albunet2d -c lgg --root=i", "--config=albunet2d --config=lgg --root=i"])
def test_nothing_is_told_that_nobody_typed(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    data, _ = parse(["predict", *line.split()], "Predicts.", lambda parser: None, PlaceOptions)
    assert data == PlaceOptions("i", "lgg")
    assert capsys.readouterr().err == ""


def test_only_what_follows_config_is_replaced_by_its_part(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "my.yaml"
    file.write_text(f"data: {{root: {cohort}, stratify_by: [], batch_size: 3}}\n")
    before = file.read_bytes()
    for output in (["-o", str(file)], [f"--output={file}"]):
        assert main(["split", "-c", str(file), *output, "--overwrite"]) == 2
        error = capsys.readouterr().err
        assert (
            error
            == f"segan_pl: error: -o {file}: is a file that the command reads; it stays as it is, give another name\n"
        )
        assert file.read_bytes() == before
