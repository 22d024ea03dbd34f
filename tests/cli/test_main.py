"""The command line as a user types it, in this process, on the tiny cohort with the smallest networks."""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from segan_pl.__main__ import main
from segan_pl.data.module import MRIDataModule
from segan_pl.inference.checkpoint_file import KEY
from segan_pl.training.run.continuing import saved_split
from segan_pl.training.run.folder import RunOptions
from segan_pl.training.system import AdversarialSegmentation
from segan_pl.training.trackers.choice import trackers
from tests.cohort import CASES, QUIET, SYSTEM

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [
    *QUIET,
    pytest.mark.usefixtures("isolated"),
]

Command = Callable[..., int]


@pytest.fixture
def config(tmp_path: Path, cohort: Path, prepared: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(SYSTEM % (cohort, prepared, tmp_path / "runs"))
    return path


@pytest.fixture
def command(config: Path) -> Command:
    """`segan_pl NAME --config tiny.yaml ...`"""
    return lambda name, *arguments: main([name, "--config", str(config), *map(str, arguments)])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("finished") / "run"


@pytest.fixture
def finished(run: Path, command: Command) -> Path:
    """A run of two epochs, made once."""
    if not run.exists():
        assert command("fit", f"--run.directory={run}") == 0
    return run


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def exit_code(run: Callable[[], int]) -> int:
    """Of a command that may end in its parser."""
    try:
        return run()
    except SystemExit as end:
        return int(end.code or 0)


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


# -- fit -------------------------------------------------------------------------------------------------------------


def test_a_run_that_stopped_early_trains_no_further_when_called_again(command: Command, tmp_path: Path) -> None:
    still = ["--model.optimizers.default.init_args.lr=1e-30", "--model.networks.segmentor.init_args.bn_momentum=0.0"]
    line = ["fit", f"--run.directory={tmp_path / 'run'}", *still]
    line += ["--trainer.max_epochs=9", "--run.patience=1"]
    for _ in range(2):
        assert command(*line) == 0
        assert [int(row["epoch"]) for row in rows(tmp_path / "run" / "metrics.csv")] == [0, 1]
    assert command(*line, "--run.patience=2") == 0  # more patience goes on
    assert [int(row["epoch"]) for row in rows(tmp_path / "run" / "metrics.csv")] == [0, 1, 2]


def test_last_is_the_last_epoch_also_when_the_score_has_long_not_improved(command: Command, tmp_path: Path) -> None:
    still = ["--model.optimizers.default.init_args.lr=1e-30", "--model.networks.segmentor.init_args.bn_momentum=0.0"]
    line = ["fit", f"--run.directory={tmp_path / 'run'}", *still]
    assert command(*line, "--trainer.max_epochs=3") == 0
    folder = tmp_path / "run" / "checkpoints"
    assert [path.name[:9] for path in sorted(folder.iterdir())] == ["epoch0000", "last.ckpt"]
    assert torch.load(folder / "last.ckpt", weights_only=True)["epoch"] == 2
    assert command(*line, "--trainer.max_epochs=4") == 0  # goes on, with the best one still known
    assert [path.name[:9] for path in sorted(folder.iterdir())] == ["epoch0000", "last.ckpt"]
    assert [int(row["epoch"]) for row in rows(tmp_path / "run" / "metrics.csv")] == [0, 1, 2, 3]


def test_a_split_file_in_the_runs_own_folder_is_used_and_stays_byte_for_byte(
    command: Command, cohort: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    file = run / "split.json"
    assert main(["split", f"--root={cohort}", "--by", "--seed=3", "--val=0.3", "-o", str(file)]) == 0
    before = file.read_bytes()
    line = ["fit", f"--run.directory={run}"]
    assert command(*line) == 2  # without it another split would be drawn
    for epochs in (1, 2):
        assert command(*line, f"--data.split_file={file}", f"--trainer.max_epochs={epochs}") == 0
        assert file.read_bytes() == before
    part = {row["case"]: row["part"] for row in rows(run / "cases.csv")}
    assert sorted(case for case in part if part[case] == "val") == sorted(json.loads(before)["val"])


def test_a_run_leaves_its_record_scores_pictures_and_checkpoints(finished: Path) -> None:
    assert {path.name for path in finished.iterdir()} == {
        "checkpoints",
        "command.txt",
        "config.yaml",
        "environment.json",
        "metrics.csv",
        "previews",
        "cases.csv",
        "scores",
        "split.json",
    }
    settings = yaml.safe_load((finished / "config.yaml").read_text())
    assert settings["model"]["networks"]["segmentor"]["init_args"]["width"] == 2
    assert settings["trainer"]["max_epochs"] == 2
    assert json.loads((finished / "environment.json").read_text())["torch"] == torch.__version__
    metrics = rows(finished / "metrics.csv")
    assert [(row["epoch"], row["batches_seen"]) for row in metrics] == [("0", "4"), ("1", "8")]
    assert 0 <= float(metrics[1]["val/dice_wt"]) <= 1
    split = json.loads((finished / "split.json").read_text())
    assert len(split["train"]) == CASES - 2
    scores = rows(finished / "scores" / "val_epoch_0001.csv")
    assert sorted(row["case"] for row in scores) == sorted(split["val"])
    assert [path.name for path in sorted((finished / "previews").iterdir())] == ["epoch_0000.png", "epoch_0001.png"]
    kept = sorted(path.name for path in (finished / "checkpoints").iterdir())
    assert len(kept) == 2
    assert kept[1] == "last.ckpt"
    assert torch.load(finished / "checkpoints" / "last.ckpt", weights_only=True)[KEY]["batches_seen"] == 8


def test_the_learning_rates_of_each_epoch_stand_in_its_row(command: Command, tmp_path: Path) -> None:
    schedule = ["--model.schedule=torch.optim.lr_scheduler.ExponentialLR", "--model.schedule.init_args.gamma=0.5"]
    assert command("fit", f"--run.directory={tmp_path / 'run'}", *schedule, "--trainer.limit_train_batches=1") == 0
    found = rows(tmp_path / "run" / "metrics.csv")
    for network in ("segmentor", "critic"):
        assert [float(row[f"lr/{network}"]) for row in found] == [0.001, 0.0005]


def test_the_best_checkpoint_bears_its_epoch_and_score(finished: Path) -> None:
    scores = [float(row["val/dice_wt"]) for row in rows(finished / "metrics.csv")]
    best = max(range(2), key=lambda epoch: scores[epoch])
    assert (finished / "checkpoints" / f"epoch{best:04d}_dice_wt{scores[best]:.4f}.ckpt").is_file()


def test_the_same_directory_continues_the_run(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert command("fit", f"--run.directory={folder}", "--trainer.max_epochs=1") == 0
    before = rows(folder / "metrics.csv")
    assert command("fit", f"--run.directory={folder}", "--trainer.max_epochs=2") == 0
    after = rows(folder / "metrics.csv")
    assert [row["epoch"] for row in after] == ["0", "1"]
    assert after[0] == before[0]
    assert len((folder / "command.txt").read_text().splitlines()) == 2


def test_an_interrupted_run_ends_with_the_scores_of_an_uninterrupted_one(
    finished: Path, command: Command, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    for epochs in (1, 2):
        assert command("fit", f"--run.directory={folder}", f"--trainer.max_epochs={epochs}") == 0
    whole, parts = (torch.load(path / "checkpoints" / "last.ckpt", weights_only=True) for path in (finished, folder))
    assert all(torch.equal(whole["state_dict"][name], parts["state_dict"][name]) for name in whole["state_dict"])
    score = Path("scores") / "val_epoch_0001.csv"
    assert rows(folder / score) == rows(finished / score)


def test_the_same_directory_with_another_configuration_is_refused_with_the_difference(
    finished: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished / "metrics.csv").read_text()
    assert command("fit", f"--run.directory={finished}", "--data.batch_size=6") == 1
    error = last_line(capsys.readouterr().err)
    assert "holds a run with another configuration (data.batch_size: 12 -> 6)" in error
    assert (finished / "metrics.csv").read_text() == before


def failed_before_its_first_epoch(command: Command, monkeypatch: pytest.MonkeyPatch, *line: str) -> None:
    """A `fit` that ends with an error in its first batch."""

    def fail(*_: object) -> None:
        raise ValueError("a first batch that fails")

    with monkeypatch.context() as patch:
        patch.setattr(AdversarialSegmentation, "training_step", fail)
        assert command("fit", *line) == 1


def test_a_run_that_failed_before_its_first_epoch_does_not_block_its_folder(
    finished: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    folder = tmp_path / "run"
    wrong = ("--data.batch_size=6", "--data.split_seed=5")
    failed_before_its_first_epoch(command, monkeypatch, f"--run.directory={folder}", *wrong)
    assert {path.name for path in folder.iterdir()} >= {"config.yaml", "command.txt", "split.json", "environment.json"}
    drawn, right = (json.loads((home / "split.json").read_text())["val"] for home in (folder, finished))
    assert drawn != right
    (folder / "command.txt").write_text("the wrong line\n")
    caplog.clear()
    assert command("fit", f"--run.directory={folder}") == 0
    assert f"{folder} holds a run that ended before its first epoch; it starts again" in caplog.text
    assert "the run's own" not in caplog.text
    for name in ("split.json", "cases.csv", "metrics.csv"):
        assert without_seconds(folder / name) == without_seconds(finished / name)
    assert yaml.safe_load((folder / "config.yaml").read_text())["data"]["batch_size"] == 12
    assert "wrong" not in (folder / "command.txt").read_text()
    assert json.loads((folder / "environment.json").read_text())["earlier"] == []


def without_seconds(path: Path) -> Any:
    """A file of a run, but for the time that its epochs took."""
    if path.suffix != ".csv":
        return path.read_text()
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows(path)]


HEAD = "epoch,batches_seen,seconds\n"  # of a metrics.csv: another one would be somebody else's


@pytest.mark.parametrize("left", ["checkpoints/last.ckpt", "metrics.csv", "scores/val_epoch_0000.csv"])
def test_a_folder_with_anything_that_training_made_is_kept(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], left: str
) -> None:
    folder = tmp_path / "run"
    failed_before_its_first_epoch(command, monkeypatch, f"--run.directory={folder}", "--data.batch_size=6")
    (folder / left).parent.mkdir(exist_ok=True)
    (folder / left).write_text(HEAD)
    capsys.readouterr()
    assert command("fit", f"--run.directory={folder}") == 1
    assert "another configuration (data.batch_size: 6 -> 12)" in last_line(capsys.readouterr().err)
    assert (folder / left).read_text() == HEAD


@pytest.fixture
def unprepared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where cases would be prepared."""
    monkeypatch.setattr(MRIDataModule, "prepare_data", lambda _: pytest.fail("cases were prepared"))


@pytest.mark.parametrize("name", ["fit", "test"])
def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_prepared(
    finished: Path,
    unprepared: None,  # after the finished run, which prepares its own
    command: Command,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "run"
    more = [f"--ckpt_path={finished / 'checkpoints' / 'last.ckpt'}"] if name == "test" else []
    capsys.readouterr()
    assert command(name, f"--run.directory={folder}", *more) == 2
    error = last_line(capsys.readouterr().err)
    assert error.endswith(f"--run.directory {folder}: cannot be made (Not a directory); give another folder")


def test_the_folder_that_nobody_named_is_refused_by_the_option_that_names_another(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert command("fit", f"--run.root={tmp_path / 'file'}") == 2
    error = last_line(capsys.readouterr().err)
    assert f"--run.directory (by default {tmp_path / 'file' / 'tiny'}" in error
    assert "cannot be made (Not a directory); give another folder" in error


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_rate_on_the_line_beats_the_checkpoint_that_is_continued_elsewhere(
    finished: Path, command: Command, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    checkpoint = f"--ckpt_path={finished / 'checkpoints' / 'last.ckpt'}"
    rate = ["--model.optimizers.segmentor=torch.optim.Adam", "--model.optimizers.segmentor.init_args.lr=0.005"]
    assert command("fit", f"--run.directory={folder}", "--trainer.max_epochs=3", checkpoint, *rate) == 0
    last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert [state["param_groups"][0]["lr"] for state in last["optimizer_states"]] == [0.005, 0.001]
    assert last[KEY]["batches_seen"] == 12
    saved = yaml.safe_load((folder / "config.yaml").read_text())
    assert saved["model"]["optimizers"]["segmentor"]["init_args"]["lr"] == 0.005


def test_without_a_directory_every_run_gets_its_own(command: Command, tmp_path: Path) -> None:
    for _ in range(2):
        assert command("fit", "--trainer.max_epochs=1", "--run.preview_every=0") == 0
    runs = list((tmp_path / "runs" / "tiny").iterdir())
    assert len(runs) == 2
    assert all((path / "checkpoints" / "last.ckpt").is_file() for path in runs)


def test_a_score_that_is_never_logged_is_refused_before_the_first_epoch(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("fit", f"--run.directory={tmp_path / 'run'}", "--run.monitor=val/dice_tw") == 2
    said = last_line(capsys.readouterr().err)
    assert "--run.monitor val/dice_tw is never logged; did you mean 'val/dice_wt'?" in said
    assert not (tmp_path / "run" / "metrics.csv").exists()


def test_tensorboard_files_are_written_on_request(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert command("fit", f"--run.directory={folder}", "--run.loggers=[tensorboard]", "--trainer.max_epochs=1") == 0
    assert list(folder.rglob("events.out.tfevents.*"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_wandb_offline_needs_no_network_and_no_account(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, folder in (
        ("WANDB_DIR", "w"),
        ("WANDB_CACHE_DIR", "c"),
        ("WANDB_CONFIG_DIR", "o"),
        ("WANDB_DATA_DIR", "d"),
    ):
        monkeypatch.setenv(name, str(tmp_path / folder))
    folder = tmp_path / "run"
    assert (
        command(
            "fit",
            f"--run.directory={folder}",
            "--run.loggers=[wandb]",
            "--run.wandb_offline=true",
            "--trainer.max_epochs=1",
        )
        == 0
    )
    import wandb

    wandb.finish()
    assert list(folder.rglob("*.wandb"))


@pytest.mark.parametrize(
    ("obstacle", "warning", "offline"),
    [
        ("no network", "W&B cannot be reached (no route to host); logging offline", [True]),
        ("no login", "W&B has no login (`wandb login`, or WANDB_API_KEY); logging offline", [True]),
        ("not installed", "wandb is asked for but not installed (`pip install wandb`); going on without it", []),
        ("disabled", "", []),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of wandb's own imports
def test_wandb_that_cannot_be_used_is_never_fatal(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    obstacle: str,
    warning: str,
    offline: list[bool],
) -> None:
    class Unreachable:
        def __init__(self, id: str, resume: str, offline: bool = False, **settings: object) -> None:
            self.id, self.resume, self.offline = id, resume, offline

        @property
        def experiment(self) -> object:
            raise ConnectionError("no route to host")

    monkeypatch.setattr("segan_pl.training.trackers.wandb_run.WandbRun", Unreachable)
    if obstacle == "no network":
        monkeypatch.setattr("segan_pl.training.trackers.wandb_run.logged_in", lambda: True)
    elif obstacle == "no login":  # the real question, which neither prompts nor needs a network
        for name in ("HOME", "NETRC", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
            monkeypatch.setenv(name, str(tmp_path / name))
    elif obstacle == "not installed":
        monkeypatch.setattr("segan_pl.training.trackers.choice.find_spec", lambda name: None)
    else:
        monkeypatch.setenv("WANDB_MODE", "disabled")
    options = RunOptions(loggers=["wandb"])
    made: list[Any] = [one for name in ("a", "b", "a") for one in trackers(options, tmp_path / name / "run")]
    assert [logger.offline for logger in made] == 3 * offline
    assert warning in caplog.text
    assert bool(caplog.text) == bool(warning)
    ids = [logger.id for logger in made]  # a continued folder's is the same; another folder's of that name is not
    assert ids == [] or (ids[0] == ids[2] != ids[1] and ids[0].startswith("run-"))
    assert all(logger.resume == "allow" for logger in made)
    assert trackers(RunOptions(), tmp_path) == []


def test_notes_on_the_data_are_shown(
    command: Command, tmp_path: Path, cohort: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = sorted(path.name for path in cohort.glob("*/*"))
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": names[:4], "val": names[4:6]}))
    arguments = (f"--run.directory={tmp_path / 'run'}", f"--data.split_file={split}", "--trainer.max_epochs=1")
    assert command("fit", *arguments) == 1
    assert command("fit", *arguments, "--data.split_leftovers=ignore") == 0
    assert "2 cases are in no part of the split and not used" in caplog.text


# -- validate and test -----------------------------------------------------------------------------------------------


def test_a_checkpoint_alone_is_enough_to_test_it(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = shutil.copytree(finished, tmp_path / "moved")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))  # nothing is written there that a kill could leave
    assert main(["test", f"--ckpt_path={moved / 'checkpoints' / 'last.ckpt'}"]) == 0
    assert not (finished / "scores" / "test_last.csv").exists()
    tested, validated = rows(moved / "scores" / "test_last.csv"), rows(finished / "scores" / "val_epoch_0001.csv")
    assert [{name: row[name] for name in validated[0]} for row in tested] == validated  # and `test` says more
    assert tested[0].keys() > validated[0].keys()


def test_flags_beat_what_the_checkpoint_was_trained_with(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    checkpoint = finished / "checkpoints" / "last.ckpt"
    assert (
        main(
            [
                "test",
                f"--ckpt_path={checkpoint}",
                "--model.score_on=crop",
                "--model.crop=[4,32,32]",
                f"--run.directory={folder}",
            ]
        )
        == 0
    )
    found = rows(folder / "scores" / "test_last.csv")
    assert {sum(int(row[name]) for name in ("tp", "fp", "fn", "tn")) for row in found} == {4 * 32 * 32}


def test_validate_repeats_the_scores_of_the_run(finished: Path, command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "validated"
    checkpoint = finished / "checkpoints" / "last.ckpt"
    assert command("validate", f"--ckpt_path={checkpoint}", f"--run.directory={folder}") == 0
    assert rows(folder / "scores" / "validate_last.csv") == rows(finished / "scores" / "val_epoch_0001.csv")


@pytest.mark.parametrize("name", ["fit", "validate", "test"])
def test_a_folder_in_place_of_a_checkpoint_is_refused_with_those_in_it(
    finished: Path,
    unprepared: None,  # after the finished run, which prepares its own
    command: Command,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    capsys.readouterr()
    assert command(name, f"--ckpt_path={finished}", f"--run.directory={tmp_path / 'run'}") == 2
    error = last_line(capsys.readouterr().err)
    assert f"--ckpt_path {finished}: is a folder; give a checkpoint: {finished / 'checkpoints' / 'epoch'}" in error
    assert error.endswith(f", {finished / 'checkpoints' / 'last.ckpt'}")
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", f"--ckpt_path={tmp_path / 'none.ckpt'}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "none.ckpt: no such checkpoint" in error


# -- what was typed wrongly ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "hint"),
    [
        ("--data.batchsize=3", "did you mean --data.batch_size?"),
        ("--batch_size=3", "--batch_size: no such option; did you mean --data.batch_size?"),
        ("--epochs=3", "--epochs: no such option; did you mean --trainer.max_epochs?"),
        ("--lr=3", "--lr: no such option; did you mean --model.optimizers.default.init_args.lr?"),
        ("--gpus=3", "--gpus: no such option; did you mean --trainer.devices?"),
        ("--model.networks.segmentor.init_args.widht=3", "width"),
        ("--trainer.max_epocs=3", "did you mean --trainer.max_epochs?"),
        ("--run.patience=many", "patience"),
        ("--model.networks.segmenter.init_args.width=8", "no such entry; did you mean --model.networks.segmentor?"),
        (
            "--model.optimizers.segmentr.init_args.lr=1",
            "give its class first: --model.optimizers.segmentr torch",
        ),
        ("--model.optimizers.critic.init_args.lr=1", "give its class first: --model.optimizers.critic torch.optim."),
        ("--model.segmentor.init_args.width=8", "did you mean --model.networks.segmentor.init_args.width?"),
        ("--model.critic_optimizer.init_args.lr=1", "did you mean --model.optimizers.default.init_args.lr?"),
        ("--model.networks.segmentor=Segmenter", "no such class; did you mean segan_pl.nets."),
        ("--model.networks.segmentor=segan_pl.nets.segan.Segmenter", "did you mean segan_pl.nets.segan.Segmentor?"),
        ("--model.objective=segan", "no such class; did you mean segan_pl.objectives.segan.SegAN?"),
        ("--model.optimizers.default.init_args.learning_rate=1", "not accepted by torch.optim."),
        ("--data.patch_augmentation.mirror=[0,0,0.5]", "did you mean --data.augmentation?"),
    ],
)
def test_a_wrong_option_is_one_line_with_the_nearest_name(
    command: Command, capsys: pytest.CaptureFixture[str], argument: str, hint: str
) -> None:
    assert exit_code(lambda: command("fit", argument)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("segan_pl: error: ")
    assert hint in error


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine without a GPU")
def test_a_gpu_that_is_not_there_is_told_with_the_option(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("fit", "--trainer.accelerator=gpu") == 2
    assert "--trainer.accelerator gpu: this machine has none" in last_line(capsys.readouterr().err)


def test_a_wrong_key_in_a_file_is_one_line_with_the_nearest_name(
    config: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(config.read_text().replace("batch_size", "batchsize"))
    assert exit_code(lambda: command("fit")) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "batch_size" in error


def test_two_files_with_a_model_are_refused(config: Path, command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("fit", "--config", "segan_cat") == 2
    assert "more than one --config defines a model" in last_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("argument", "remedy"),
    [
        ("model.networks.segmentor=os.system", "os"),
        ("model.networks.segmentor=torch.hub.load", "torch.hub"),
        ("model.optimizers.default=mypackage.optim.Own", "mypackage"),
        ("trainer.callbacks+=mypackage.Own", "mypackage"),
    ],
)
def test_a_class_outside_the_allowed_packages_is_not_imported(
    command: Command, capsys: pytest.CaptureFixture[str], argument: str, remedy: str
) -> None:
    option, _, path = argument.partition("=")
    assert exit_code(lambda: command("fit", f"--{argument}")) == 2
    assert capsys.readouterr().err == (
        f"segan_pl: error: --{option.removesuffix('+')}: {path} is outside the packages that may be imported; if you "
        f"trust it, set SEGAN_PL_ALLOW_IMPORTS={remedy}\n"
    )


def test_a_file_or_a_checkpoint_that_names_such_a_class_says_the_same(
    finished: Path, config: Path, command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(finished / "checkpoints" / "last.ckpt", weights_only=True)
    content[KEY]["config"] = content[KEY]["config"].replace("segan_pl.nets.segan.Segmentor", "mypackage.Net")
    torch.save(content, tmp_path / "foreign.ckpt")
    config.write_text(config.read_text().replace("segan_pl.nets.segan.Segmentor", "mypackage.Net"))
    capsys.readouterr()
    says = "mypackage.Net is outside the packages that may be imported; if you trust it, set SEGAN_PL_ALLOW_IMPORTS="
    assert exit_code(lambda: command("fit")) == 2
    assert f"--model.networks.segmentor: {says}mypackage" in capsys.readouterr().err
    foreign = f"--ckpt_path={tmp_path / 'foreign.ckpt'}"
    for line in (["validate", foreign], ["predict", foreign, f"--root={tmp_path}", f"--output={tmp_path / 'out'}"]):
        assert exit_code(lambda line=line: main(line)) != 0
        assert f"{says}mypackage" in last_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("--data.labels=tumor", "no such label scheme; did you mean 'whole_tumour'?"),
        ("--root=/nowhere", "/nowhere: no such folder"),
        ("--data.modalities=[flare]", "flare"),
    ],
)
def test_wrong_data_settings_are_one_line(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str], argument: str, expected: str
) -> None:
    assert exit_code(lambda: command("fit", f"--run.directory={tmp_path / 'run'}", argument)) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert expected in last_line(error)


# -- print_config ----------------------------------------------------------------------------------------------------


def test_print_config_shows_the_resulting_configuration(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(lambda: command("fit", "--data.batch_size=7", "--print_config")) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["data"]["batch_size"] == 7
    assert shown["model"]["networks"]["segmentor"]["init_args"]["width"] == 2


def test_a_patch_that_the_networks_cannot_take_is_refused_before_anything_is_prepared(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("fit", f"--run.directory={tmp_path / 'run'}", "--data.patch=[30,32]") == 2
    assert "need multiples of 16; nearest 16 or 32, 32" in last_line(capsys.readouterr().err)


def test_a_continued_directory_goes_on_from_its_own_last_checkpoint_not_from_where_it_began(
    command: Command, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert command("fit", f"--run.directory={first}", "--trainer.max_epochs=1") == 0
    line = ["fit", f"--run.directory={second}", f"--ckpt_path={first / 'checkpoints' / 'last.ckpt'}"]
    assert command(*line, "--trainer.max_epochs=2") == 0
    before = (second / "metrics.csv").read_text().splitlines()
    assert command(*line, "--trainer.max_epochs=3") == 0
    after = (second / "metrics.csv").read_text().splitlines()
    assert after[: len(before)] == before
    assert len(after) == len(before) + 1


def test_a_checkpoint_that_is_not_ours_is_named(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    assert main(["test", f"--ckpt_path={tmp_path / 'other.ckpt'}"]) == 2
    assert "not a checkpoint of segan_pl" in last_line(capsys.readouterr().err)


def test_a_folder_keeps_its_split_when_cases_come_later_and_other_data_gets_its_own(tmp_path: Path) -> None:
    home, root = tmp_path / "run", tmp_path / "data"
    (home / "checkpoints").mkdir(parents=True)
    (home / "split.json").touch()
    (home / "config.yaml").write_text(f"data: {{root: {root}}}")
    assert saved_split(home, None, str(root)) == home / "split.json"
    assert saved_split(tmp_path / "new", str(home / "checkpoints" / "last.ckpt"), str(root)) == home / "split.json"
    assert saved_split(home, None, str(tmp_path / "elsewhere")) is None
    assert saved_split(tmp_path / "new", None, str(root)) is None


def test_what_is_typed_wins_over_a_file_that_stands_after_it(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(lambda: main(["fit", "--data.batch_size=5", "--config", str(config), "--print_config"])) == 0
    assert yaml.safe_load(capsys.readouterr().out)["data"]["batch_size"] == 5


def test_unlabelled_samples_that_no_loss_reads_are_said_at_the_start(
    command: Command, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert command("fit", "--data.n_labelled=2", "--trainer.fast_dev_run=true") == 0
    assert sum("note: SegAN reads labelled samples alone, so those of" in one for one in caplog.messages) == 1
