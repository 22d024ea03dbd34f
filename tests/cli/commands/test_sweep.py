"""The shipped sweep files, W&B's agent over them, and `segan_pl sweep` with real runs."""

from __future__ import annotations

import csv
import os
import sys
import types
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from wandb import wandb_agent

from segan_pl.__main__ import main
from segan_pl.cli.main import AdversarialSegmentation, MRIDataModule, Parser, SeganCLI
from segan_pl.experiments.local import LocalRunner
from segan_pl.experiments.runs import run_folder, write_state
from segan_pl.experiments.shipped import resolve_config_arguments, shipped_folder
from segan_pl.experiments.sweep.file import read_sweep
from segan_pl.experiments.sweep.search import Search, Trial, draw, grid, values_at
from segan_pl.experiments.sweep.study import chosen_runs, plan
from tests.cohort import QUIET, SYSTEM

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # pydantic's, on an option that the package still spells as in version 1
    from sweeps.config import schema_violations_from_proposed_config

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [
    *QUIET,
    pytest.mark.usefixtures("isolated"),
]

SHIPPED = sorted(shipped_folder("sweeps").glob("*.yaml"))


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, with `segan_pl` on the path, and the variables that the shipped files name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["segan_pl"])
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("DATA_ROOT", "/data/BraTS2019")
    monkeypatch.setenv("SOURCE_CHECKPOINT", "/runs/flair.ckpt")
    for name in ("WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):
        monkeypatch.setenv(name, "")  # the agent sets them for the whole process
    return tmp_path


class Parsed(SeganCLI):
    """Our command line up to where its values are known."""

    def before_instantiate_classes(self) -> None:
        raise Values(self.config["fit"])


class Values(Exception):  # noqa: N818
    """Carries them out."""


def parsed(arguments: list[str]) -> Any:
    """The typed values of `segan_pl fit ...`."""
    with pytest.raises(Values) as caught:
        Parsed(
            AdversarialSegmentation,
            MRIDataModule,
            args=resolve_config_arguments(arguments),
            save_config_callback=None,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            parser_class=Parser,
        )
    return caught.value.args[0]


def agent_run(sweep: Mapping[str, Any], values: Mapping[str, Any], process: Any) -> Any:
    """What W&B's agent makes of a trial: its `_command_run`, with `process` in the place of a child process.

    The server sends nested parameters as nested values.
    """
    agent = types.SimpleNamespace(
        _in_jupyter=False, _function=None, _run_processes={}, _forward_signals=False, _sweep_command=[*sweep["command"]]
    )
    args = {name: {"value": value} for name, value in values.items()}
    command = {"run_id": "trial123", "program": sweep["program"], "args": args, "type": "run"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wandb_agent, "AgentProcess", process)
        wandb_agent.Agent._command_run(agent, command)
    return agent._run_processes["trial123"]


def agent_arguments(sweep: Mapping[str, Any], values: Mapping[str, Any]) -> list[str]:
    """The command line of the agent for a trial, from `fit` on."""
    run = agent_run(sweep, values, lambda command, **_: types.SimpleNamespace(command=command))
    assert "segan_pl" in run.command[:2]
    return run.command[run.command.index("segan_pl") + 1 :]


# -- the shipped files -------------------------------------------------------------------------------------------------


def test_there_are_sweeps() -> None:
    asked_for = {"loss", "modalities", "finetuning", "seeds", "adversarial_weights", "vat", "pretrained"}
    assert {path.stem for path in SHIPPED} >= asked_for


def test_the_sweep_of_vat_has_dice_alone_either_term_and_both() -> None:
    points = grid(read_sweep("vat").parameters)
    assert [tuple(point.values()) for point in points] == [(0.0, 0.0), (0.0, 0.3), (0.2, 0.0), (0.2, 0.3)]


def test_the_sweep_of_pretrained_weights_has_each_seed_with_and_without_them() -> None:
    points = grid(read_sweep("pretrained").parameters)
    pairs = [(seed, weights) for seed in range(3) for weights in ("imagenet", None)]
    assert [tuple(point.values()) for point in points] == pairs


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_sweep_is_valid_for_wandb_and_says_its_question(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    assert schema_violations_from_proposed_config(content) == []
    assert path.read_text().startswith(f"# {content['description']}\n")
    assert content["description"].endswith("?")
    assert content["metric"]["goal"] == "maximize"
    assert content["metric"]["name"] in ("val/dice_wt", "val/dice_mean")
    assert content["program"] == "segan_pl"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_agents_command_gives_every_swept_option_its_value_and_type(path: Path) -> None:
    content, sweep = yaml.safe_load(path.read_text()), read_sweep(str(path))
    firsts = {one.name: (one.choices or [one.at(0.3)])[0] for one in sweep.parameters}
    lasts = {one.name: (one.choices or [one.at(0.9)])[-1] for one in sweep.parameters}
    for values in (firsts, lasts):
        settings = parsed(agent_arguments(content, values))
        assert settings.data.root == "/data/BraTS2019"
        for name, value in values.items():
            found = settings
            for key in name.split("."):
                found = found[key]
            assert found == value, name
            assert type(found) is type(value), name


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_trial_here_is_configured_as_the_agents_but_for_its_logging(path: Path) -> None:
    content, sweep = yaml.safe_load(path.read_text()), read_sweep(str(path))
    points = (
        grid(sweep.parameters)
        if sweep.method == "grid"
        else [values_at(sweep.parameters, draw(sweep.parameters, 1, 0))]
    )
    point = points[0]
    here = parsed(list(plan(sweep, count=1).run(Trial(1, "001", point)).arguments))
    theirs = parsed(agent_arguments(content, point))
    assert (here.run.loggers, theirs.run.loggers) == ([], ["wandb"])
    here.run.loggers = theirs.run.loggers
    here.config = theirs.config  # the agent's has its file of values among them
    assert here == theirs


def test_the_agents_values_of_many_kinds_reach_our_options() -> None:
    sweep = {"program": "segan_pl", "command": ["${env}", "segan_pl", "fit", "--config", "segan_cat", "${args}"]}
    settings = parsed(
        agent_arguments(
            sweep,
            {
                "data.root": "/data",
                "trainer.max_epochs": 1e3,
                "trainer.limit_train_batches": 1.0,
                "data.batch_size": 8.0,
                "data.patch": (96, 96),
                "data.modalities": ["t1", "flair"],
                "data.preparation": {"crop": None, "orientation": None},
                "model.objective.init_args": {"gap": {"init_args": {"layer_weights": (1, 2)}}, "dice_weight": 0},
                "model.networks.segmentor.init_args.width": 16.0,
                "run.directory": None,
                "model.channels_last": True,
            },
        )
    )
    assert settings.trainer.max_epochs == 1000
    assert type(settings.trainer.max_epochs) is int
    assert type(settings.trainer.limit_train_batches) is float
    assert (settings.data.batch_size, settings.data.patch, settings.data.modalities) == (8, (96, 96), ["t1", "flair"])
    assert (settings.data.preparation.crop, settings.data.preparation.scaling) == (None, "percentile")
    objective = settings.model.objective.init_args
    weights = objective.gap.init_args.layer_weights
    assert (weights, objective.dice_weight, objective.critic_input) == ([1.0, 2.0], 0.0, "concat")
    assert settings.model.networks["segmentor"].init_args.width == 16
    assert settings.run.directory is None
    assert settings.model.channels_last is True


# -- the command -------------------------------------------------------------------------------------------------------


def test_a_dry_run_of_a_shipped_sweep_prints_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "loss", "--output", "study", "--dry_run", "--", "--data.root", "/d"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("segan_pl fit")]
    assert len(lines) == 3 * 2 * 3 * 2
    assert len(set(lines)) == 36
    assert all("--data.root /d " in line and "DATA_ROOT" not in line for line in lines)


def test_a_report_shows_the_table_and_runs_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(LocalRunner, "run_all", lambda *_: pytest.fail("a trial was run"))
    monkeypatch.delenv("DATA_ROOT")
    call = ["sweep", "seeds", "--output", "study", "--seed", "7", "--report"]
    assert main(call) == 2
    assert "study: no trial of a sweep is there" in capsys.readouterr().err
    assert not (place / "study").exists()
    sweep = read_sweep("seeds")
    Search(sweep, place / "study").choose(3)
    done = chosen_runs(sweep, place / "study")[1]
    write_state(place / "study", done, "finished", exit_code=0, seconds=2.0, error="")
    run = run_folder(place / "study", done.name)
    run.mkdir(parents=True)
    (run / "metrics.csv").write_text("epoch,val/dice_wt\n0,0.75\n")
    assert main(call) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in lines if line.startswith("00")] == [
        ["002", "0", "1", "0.7500"],
        ["001", "0", "0", "not"],
        ["003", "0", "2", "not"],
    ]
    assert {path.name for path in (place / "study").iterdir()} >= {"results.csv", "results.md"}


def test_an_output_that_cannot_be_made_is_refused_but_for_a_dry_run(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "file").touch()
    call = ["sweep", "seeds", "--output", "file/study", "--count", "1"]
    assert main(call) == 2
    reason = "cannot be made (Not a directory); give another folder"
    assert capsys.readouterr().err == f"segan_pl: error: --output file/study: {reason}\n"
    assert main([*call, "--dry_run"]) == 0


def test_a_wrong_name_is_one_line_with_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "los", "--output", "study"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


# -- real runs ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny(place: Path, cohort: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A sweep over the tiny cohort, without parameters."""
    system = SYSTEM % (cohort, prepared, place / "runs")
    (place / "tiny.yaml").write_text(system.replace("max_epochs: 2", "max_epochs: 1"))
    for name in ("SEGAN_PL_RUN_DIRECTORY", "PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.delenv(name)
    command = ["${env}", "segan_pl", "fit", "--config", "tiny.yaml", "${args}"]
    metric = {"name": "val/dice_wt", "goal": "maximize"}
    return {"program": "segan_pl", "method": "grid", "metric": metric, "command": command}


@pytest.mark.slow
def test_the_agents_trial_trains_into_the_folder_of_its_run_and_fails_with_its_exit_code(
    tiny: dict[str, Any], place: Path
) -> None:
    values = {"trainer.max_epochs": 1.0, "run.directory": None, "data": {"patch": (32, 32), "batch_size": 12.0}}
    assert agent_run(tiny, values, wandb_agent.AgentProcess)._popen.wait() == 0
    (run,) = (place / "runs" / "tiny").iterdir()
    assert run.name.endswith("_trial123")
    assert (run / "metrics.csv").is_file()
    diverging = {"model.optimizers.default.init_args.lr": 1e30, "run.experiment": "other"}
    assert agent_run(tiny, diverging, wandb_agent.AgentProcess)._popen.wait() == 1


@pytest.mark.slow
def test_of_eight_trials_one_diverges_and_a_second_call_runs_it_alone(
    tiny: dict[str, Any], place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rates = [1e-5, 1e-4, 3e-4, 1e-3, 1e30, 3e-3, 1e-2, 1e-1]
    tiny["parameters"] = {"model.optimizers.default.init_args.lr": {"values": rates}}
    (place / "rates.yaml").write_text(yaml.safe_dump(tiny))
    call = ["sweep", "rates.yaml", "--output", "study", "--parallel", "2"]
    assert main(call) == 1
    out = capfd.readouterr().out
    assert "8 runs, 7 finished, 1 failed, 0 skipped" in out
    assert "failed: 005_lr=1e+30: " in out
    with (place / "study" / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["finished"] * 7 + ["failed"]
    scores = [float(row["val/dice_wt"]) for row in rows[:7]]
    assert scores == sorted(scores, reverse=True)
    assert rows[7]["trial"] == "005_lr=1e+30"
    before = {path: path.stat().st_mtime_ns for path in (place / "study" / "runs").glob("*/metrics.csv")}
    assert main(call) == 1
    out = capfd.readouterr().out
    assert [line for line in out.splitlines() if line.endswith(": started")] == ["005_lr=1e+30: started"]
    assert "7 finished (7 of them earlier), 1 failed" in out
    assert {path: path.stat().st_mtime_ns for path in before} == before
