"""Sweep files: what of their command is taken over, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from segan_pl.errors import UsageError
from segan_pl.experiments.sweep.file import filled_arguments, fixed_arguments, read_sweep

SWEEP: dict[str, Any] = {
    "program": "segan_pl",
    "method": "grid",
    "metric": {"name": "val/dice_wt", "goal": "maximize"},
    "command": ["segan_pl", "fit", "--config", "segan_cat", "${args}"],
    "parameters": {"data.seed": {"values": [0, 1]}},
}


def written(folder: Path, **changes: Any) -> str:
    path = folder / "some.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in {**SWEEP, **changes}.items() if value is not None}))
    return str(path)


@pytest.mark.parametrize(
    "command",
    [
        ["segan_pl", "fit", "--a=1", "${args}"],
        ["${env}", "segan_pl", "fit", "--a=1", "${args}"],
        ["/usr/bin/env", "/opt/bin/segan_pl", "fit", "--a=1", "${args}"],
        ["${program}", "fit", "${args}", "--a=1"],
        ["${env}", "${interpreter}", "-m", "${program}", "fit", "--a=1", "${args}"],
        ["python3.11", "-m", "segan_pl", "fit", "--a=1", "${args}"],
        ["segan_pl", "fit", "--a=1", "--config", "${args_json_file}"],
        ["segan_pl", "fit", "-c", "${args_json_file}", "--a=1"],
        ["segan_pl", "fit", "--config=${args_json_file}", "--a=1"],
    ],
)
def test_every_way_to_call_us_gives_the_same_arguments(command: list[str]) -> None:
    assert fixed_arguments(command, "segan_pl") == ("fit", "--a=1")


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (["segan_pl", "fit", "${args_no_hyphens}"], r"\$\{args_no_hyphens\} is not understood"),
        (["segan_pl", "fit", "${args_json}"], r"\$\{args_json\} is not understood"),
        (["segan_pl", "fit"], r"or \$\{args\}, once"),
        (["segan_pl", "fit", "${args_json_file}"], r"expected --config \$\{args_json_file\}"),
        (["segan_pl", "fit", "${args}", "${args}"], r"or \$\{args\}, once"),
        (["python", "train.py", "${args}"], r"expected segan_pl fit \.\.\., found python train\.py"),
        (["segan_pl", "predict", "${args}"], "expected segan_pl fit, found segan_pl predict"),
        (["segan_pl", "${args}"], r"found segan_pl \(nothing\)"),
    ],
)
def test_another_command_is_refused(command: list[str], error: str) -> None:
    with pytest.raises(UsageError, match=error):
        fixed_arguments(command, "segan_pl")


def test_variables_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_ROOT", "/data/a")
    fixed = ["fit", "--data.root=${envvar:DATA_ROOT}/b", "--finetuning.init_from", "${envvar:DATA_ROOT}/c.ckpt"]
    assert filled_arguments(fixed) == ["fit", "--data.root=/data/a/b", "--finetuning.init_from", "/data/a/c.ckpt"]


def test_a_variable_that_is_not_set_is_refused_unless_its_option_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATA_ROOT", raising=False)
    fixed = ["fit", "--config", "segan_cat", "--data.root", "${envvar:DATA_ROOT}"]
    with pytest.raises(UsageError, match="needs the environment variable DATA_ROOT; set it, or give the option"):
        filled_arguments(fixed)
    given = ["--config", "lgg", "--data.root=/d"]
    assert filled_arguments(fixed, given) == ["fit", "--config", "segan_cat", "--config", "lgg", "--data.root=/d"]


def test_another_system_takes_the_place_of_the_files() -> None:
    fixed = ["fit", "--config", "segan_cat", "--config", "lgg", "--trainer.max_epochs=3"]
    small = ["fit", "--config", "segan_cat_small", "--config", "lgg", "--trainer.max_epochs=3"]
    assert filled_arguments(fixed, ["--config", "segan_cat_small"]) == small
    own = filled_arguments(fixed, ["--data.root=/d", "--config=segan_small"])
    assert own == ["fit", "--config=segan_small", "--config", "lgg", "--trainer.max_epochs=3", "--data.root=/d"]


def test_the_agents_logging_is_left_out_unless_it_is_asked_for() -> None:
    fixed = ["fit", "--run.loggers=[wandb]", "--run.experiment=a"]
    assert filled_arguments(fixed) == ["fit", "--run.experiment=a"]
    assert filled_arguments(fixed, ["--run.loggers", "[tensorboard]"]) == [
        "fit",
        "--run.experiment=a",
        "--run.loggers",
        "[tensorboard]",
    ]


def test_what_is_not_done_here_is_said(tmp_path: Path) -> None:
    sweep = read_sweep(
        written(
            tmp_path,
            metric={"name": "val/dice_wt", "goal": "maximize", "target": 0.9},
            early_terminate={"type": "hyperband", "min_iter": 3},
            command=["segan_pl", "fit", "--run.loggers=[wandb]", "${args}"],
        )
    )
    words = " ".join(sweep.notes)
    assert all(word in words for word in ("early_terminate", "metric.target", "--run.loggers"))
    assert len(sweep.notes) == 3


def test_wandbs_default_goal_is_to_minimise(tmp_path: Path) -> None:
    assert read_sweep(written(tmp_path, metric={"name": "val/loss"})).goal == "minimize"


def test_without_a_metric_the_dice_is_taken_and_said(tmp_path: Path) -> None:
    sweep = read_sweep(written(tmp_path, metric=None))
    assert (sweep.metric, sweep.goal) == ("val/dice_wt", "maximize")
    assert "no metric in the file" in sweep.notes[0]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"method": "custom"}, "some.yaml: method custom is not run here; known: grid, random, bayes"),
        ({"metod": "grid"}, "metod: no key of a sweep file; did you mean 'method'"),
        ({"metric": {"name": "a", "goal": "highest"}}, "metric.goal highest: expected maximize or minimize"),
        ({"metric": "val/dice_wt"}, "metric: expected"),
        ({"parameters": {"a": {"min": 0.0, "max": 1.0}}}, "parameter a: uniform has no list of values for a grid"),
        (
            {"method": "bayes", "parameters": {"a": {"values": [1], "probabilities": [1.0]}}},
            "probabilities mean nothing",
        ),
        ({"parameters": None}, "not a sweep file"),
        ({"command": None}, "expected segan_pl fit, found segan_pl"),
    ],
)
def test_a_file_that_asks_for_what_is_not_run_here_is_refused(
    tmp_path: Path, changes: dict[str, Any], error: str
) -> None:
    with pytest.raises(UsageError, match=error):
        read_sweep(written(tmp_path, **changes))


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"sweep sedes: no such file, and no shipped sweep; did you mean 'seeds'"):
        read_sweep("sedes")
