"""What a job asks Slurm for: fields of a file in configs/cluster, or options of `segan_pl submit`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from segan_pl.errors import UsageError, nearest
from segan_pl.experiments.config_layers import read_config
from segan_pl.experiments.shipped import find_cluster

TIME = re.compile(r"\d+-\d+(:\d\d){0,2}|\d+(:\d\d){0,2}")
MEMORY = re.compile(r"\d+[KMGT]?")
GPUS = re.compile(r"(?:[\w.-]+:)?(\d+)")
OPTION = re.compile(r"--([a-z][a-z-]*)(?:=(.*))?", re.DOTALL)
OURS = ("array", "dependency", "wrap", "parsable", "test-only", "wait")
"""Options of sbatch that a study gives itself, or that would change what it reads."""


@dataclass(frozen=True)
class Cluster:
    """One job, in Slurm's terms.

    Attributes:
        nodes: How many.
        gpus_per_node: How many, or with their type: 4, "a100:4".
        tasks_per_node: Ranks of a `fit` on each node; default one for each GPU, at least one.
        cpus_per_task: CPU cores of each rank.
        mem: Memory of each node, e.g. "64G".
        time: The time limit, e.g. "08:00:00" or "2-12".
        partition: Where to.
        account: On whose.
        qos: Quality of service.
        constraint: Features of nodes, e.g. "a100|h100".
        signal_seconds: So long before the time limit a run is told, writes a checkpoint and is queued again; 0: never.
        setup: Lines of bash before the run, e.g. ["module load cuda"].
        options: Further ones of sbatch, e.g. ["--exclude=node7"]; they beat the others.
    """

    nodes: int = 1
    gpus_per_node: int | str = 0
    tasks_per_node: int | None = None
    cpus_per_task: int | None = None
    mem: str | None = None
    time: str | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    signal_seconds: int = 120
    setup: Sequence[str] = ()
    options: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name, least in (("nodes", 1), ("tasks_per_node", 1), ("cpus_per_task", 1), ("signal_seconds", 0)):
            value = getattr(self, name)
            left_out = value is None and name in ("tasks_per_node", "cpus_per_task")
            if not left_out and (not isinstance(value, int) or value < least):
                raise UsageError(f"{name} {value}: expected a whole number of at least {least}")
        for name in ("partition", "account", "qos", "constraint"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value.strip()):
                raise UsageError(f"{name} {value!r}: expected a name, as text")
        for name, form, like in (
            ("gpus_per_node", GPUS, "a number, or a type and a number (a100:4)"),
            ("time", TIME, "a time as Slurm has it, e.g. 08:00:00 or 2-12 (in a YAML file in quotes)"),
            ("mem", MEMORY, "e.g. 64G"),
        ):
            value = getattr(self, name)
            text = str(value) if name == "gpus_per_node" else value
            if value is not None and (not isinstance(text, str) or not form.fullmatch(text)):
                raise UsageError(f"{name} {value}: expected {like}")
        for name in ("setup", "options"):
            value = getattr(self, name)
            if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) for one in value):
                raise UsageError(f"{name} {value}: expected a list of texts")
        for option in self.options:
            parts = OPTION.fullmatch(option)
            if parts is None or parts[1] in OURS:
                raise UsageError(
                    f"options {option}: expected long ones of sbatch (--partition=gpu), none of {', '.join(OURS)}"
                )

    @property
    def gpus(self) -> int:
        """The GPUs of a node."""
        found = GPUS.fullmatch(str(self.gpus_per_node))
        return int(found[1]) if found else 0

    @property
    def tasks(self) -> int:
        """The tasks of a node."""
        return self.tasks_per_node or max(1, self.gpus)

    @property
    def sbatch(self) -> dict[str, str | bool]:
        """Options of sbatch by their names, without dashes; True for those without a value."""
        named = ("cpus_per_task", "mem", "time", "partition", "account", "qos", "constraint")
        found: dict[str, str | bool] = {
            name.replace("_", "-"): str(value) for name in named if (value := getattr(self, name)) is not None
        }
        if self.nodes > 1:
            found["nodes"] = str(self.nodes)
        if self.tasks > 1:
            found["ntasks-per-node"] = str(self.tasks)
        if self.gpus:
            found["gpus-per-node"] = str(self.gpus_per_node)
        if self.signal_seconds:
            found["signal"] = f"SIGUSR1@{self.signal_seconds}"
        # a run goes on where it was stopped, and what it said before is kept
        found |= {"requeue": True, "open-mode": "append"}
        for option in self.options:
            if parts := OPTION.fullmatch(option):
                if parts[1] == "no-requeue":
                    found.pop("requeue", None)
                found[parts[1]] = True if parts[2] is None else parts[2]
        return found


FIELDS = {field.name: field for field in fields(Cluster)}


def read_cluster(name: str | None, given: Mapping[str, Any] | None = None, *, option: str = "--config") -> Cluster:
    """What a job asks for.

    Args:
        name: A YAML file with fields of `Cluster`, or one of configs/cluster by name; None for none.
        given: Fields that beat those of the file.
        option: By which the name was given, for errors.

    Raises:
        UsageError: No such file, a field that there is not, or a value that none can have.
    """
    content: dict[str, Any] = {}
    if name is not None:
        content = read_config(find_cluster(name, option))
        for key in content:
            if key not in FIELDS:
                raise UsageError(f"{option} {name}: {key}: no such field of a job; {nearest(key, FIELDS)}")
    try:
        file = Cluster(**content)
    except UsageError as error:
        raise UsageError(f"{option} {name}: {error}") from None
    try:
        return replace(file, **(given or {}))
    except UsageError as error:
        raise UsageError(f"--{str(error).removeprefix('--')}") from None
