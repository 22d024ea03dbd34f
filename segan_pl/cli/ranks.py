"""The ranks that a command line asks for, read without PyTorch; see `training.run.launch`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from segan_pl.errors import UsageError
from segan_pl.experiments.cluster import Cluster
from segan_pl.experiments.config_layers import defines_model
from segan_pl.experiments.shipped import config_paths, option_value, resolve_config_arguments
from segan_pl.recipe import flatten
from segan_pl.training.run.launch import require_ranks

ASKED = ("devices", "num_nodes", "accelerator")
ON_GPU = ("validate", "test", "predict", "postprocess", "demo", "sweep")
"""Commands besides `fit` that can use a GPU, each one alone."""


def require_ranks_of_line(arguments: Sequence[str]) -> None:
    """Refuse a `fit`, `validate` or `test` whose processes are others than its trainer asks for.

    Args:
        arguments: As they were typed, the command first. What cannot be parsed is left to the parser, which says why.

    Raises:
        UsageError: As `launch.require_ranks`, or a configuration file cannot be read.
    """
    if any(argument.partition("=")[0] == "--print_config" for argument in arguments):
        return
    if (asked := asked_of_trainer(arguments)) is not None:
        require_ranks(arguments[0], asked)


def asked_of_trainer(arguments: Sequence[str]) -> dict[str, Any] | None:
    """What a line says of `ASKED`, itself or by its files; None where that cannot be told without PyTorch.

    Raises:
        UsageError: A configuration file cannot be read.
    """
    resolved = resolve_config_arguments(arguments)
    paths = config_paths(resolved)
    if arguments[0] != "fit" and option_value(resolved, "--ckpt_path") and not any(map(defines_model, paths)):
        return None  # the checkpoint says how many; the parsed settings are compared later
    settings: dict[str, Any] = {}
    for path in paths:
        settings |= flatten(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    try:
        whole = yaml.safe_load(option_value(resolved, "--trainer") or "")
    except yaml.YAMLError:
        return None
    if isinstance(whole, dict):
        settings |= flatten({"trainer": whole})
    typed = {f"trainer.{name}": option_value(resolved, f"--trainer.{name}") for name in ASKED}
    settings |= {name: value for name, value in typed.items() if value is not None}
    return {name: settings.get(f"trainer.{name}") for name in ASKED}


def in_job(arguments: Sequence[str], cluster: Cluster) -> list[str]:
    """A line as it is to be given in a job: a `fit` that does not say its ranks gets those of the job.

    Args:
        arguments: As they were typed, the command first.
        cluster: What the job asks for.

    Raises:
        UsageError: The job would refuse the line, or leave GPUs or nodes of its own idle.
    """
    command, gpus = arguments[0], cluster.gpus
    if command != "fit":
        if cluster.nodes > 1 or cluster.tasks > 1:
            shares = ", and --array N for N jobs that share the cases" if command == "predict" else ""
            raise UsageError(
                f"{command} is one process, and this job asks for {cluster.nodes} x {cluster.tasks} tasks and "
                f"{cluster.nodes} x {gpus} GPUs; give --nodes 1 --tasks_per_node 1 "
                f"--gpus_per_node {min(gpus, int(command in ON_GPU))}{shares}"
            )
        if gpus and command not in ON_GPU:
            raise UsageError(f"{command} uses no GPU, and this job asks for {gpus}; give --gpus_per_node 0")
        return list(arguments)
    asked = asked_of_trainer(arguments)
    if asked is None:
        return list(arguments)
    own = {"devices": cluster.tasks, "num_nodes": cluster.nodes}
    added = [f"--trainer.{name}={value}" for name, value in own.items() if asked[name] in (None, "auto", -1, "-1")]
    asked |= {name: value for name, value in own.items() if asked[name] is None}
    automatic = asked["accelerator"] in (None, "auto")
    if gpus and not automatic and asked["accelerator"] not in ("gpu", "cuda"):
        raise UsageError(
            f"--trainer.accelerator {asked['accelerator']}: uses no GPU, and this job asks for {gpus}; give "
            f"--gpus_per_node 0"
        )
    if not gpus and automatic:
        raise UsageError("this job asks for no GPU; give --gpus_per_node N, or --trainer.accelerator cpu on purpose")
    environment = {
        "SLURM_JOB_ID": "1",
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_TASKS_PER_NODE": f"{cluster.tasks}(x{cluster.nodes})",
    }
    try:
        asked["accelerator"] = "gpu" if gpus else asked["accelerator"]
        require_ranks("fit", asked, gpus=gpus or None, environment=environment)
    except UsageError as error:
        raise UsageError(f"the job would refuse this: {error}") from error
    return [*arguments, *added]
