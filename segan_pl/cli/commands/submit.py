"""`segan_pl submit`: one command of segan_pl as a job of Slurm, or an array that shares its cases."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segan_pl.cli.parsing import OneLineErrors
from segan_pl.cli.ranks import in_job
from segan_pl.data.outputs import Kind, Output
from segan_pl.errors import UsageError, nearest
from segan_pl.experiments.cluster import Cluster, read_cluster
from segan_pl.experiments.runs import PLACEHOLDER, Run, load_runs
from segan_pl.experiments.slurm import SlurmRunner
from segan_pl.experiments.standing import standing_lines
from segan_pl.files import require_writable

COMMANDS = (
    *("fit", "validate", "test", "check", "split", "prepare", "predict", "atlas", "postprocess", "evaluate"),
    *("compare", "report", "demo"),
)
PARSED = ("fit", "validate", "test", "check", "split", "prepare", "predict", "atlas", "postprocess", "evaluate")
"""Those whose line can be parsed without being carried out (--print_config)."""


def main(arguments: list[str]) -> int:
    """Submit a command, or say how what was submitted stands.

    Args:
        arguments: "submit" and its options; after "--" the command and its options.

    Returns:
        0: it was submitted, shown or reported.

    Raises:
        UsageError: An option is wrong, the command does not fit what the job asks for, or Slurm refuses.
    """
    place = arguments.index("--") if "--" in arguments else len(arguments)
    parser = _parser(arguments[0])
    settings = parser.parse_args(arguments[1:place])
    directory, line = Path(settings.output).expanduser(), arguments[place + 1 :]
    if settings.report:
        if line or settings.dry_run:
            raise UsageError("--report submits nothing; leave out --dry_run and what follows --")
        print("\n".join(standing_lines(load_runs(directory), directory)))
        return 0
    given = {name: settings[name] for name in Cluster.__dataclass_fields__ if settings[name] is not None}
    cluster = read_cluster(settings.config, given)
    runs = _runs(line, cluster, settings.name, settings.array, _whole(settings.after, directory))
    runner = SlurmRunner(cluster)
    if settings.dry_run:
        print(runner.script(directory, len(runs)), end="")
        for run in runs:
            print(f"# {run.name}: segan_pl {shlex.join(run.arguments)}")
        return 0
    require_writable(directory, f"--output {settings.output}")
    Output(directory / "study.json", Kind("segan_pl", r'\[\s*\{\s*"name": '), f"--output {directory}").require_free()
    _require_parsed(runs[0].arguments)
    runner.run_all(runs, directory)
    return 0


def _parser(command: str) -> OneLineErrors:
    parser = OneLineErrors(
        prog=f"segan_pl {command}",
        description="Submit a command as a job of Slurm; it stands after --, e.g. -- fit -c segan_cat --root /data",
    )
    add = parser.add_argument
    add("--output", type=str, required=True, help="the job's folder; the same command continues what was stopped")
    add("-c", "--config", type=str | None, help="what the job asks for: a YAML file, or one of configs/cluster by name")
    add("--name", type=str | None, help="of the run in the folder (default: the command)")
    add("--array", type=int, default=1, help="jobs that share the cases of a predict, or agents of a sweep")
    add(
        "--after",
        type=list[str],
        default=[],
        help="runs of the folder that must have finished before, e.g. [fit]; an array by its name",
    )
    add("--dry_run", type=bool, default=False, help="print the script, submit and write nothing")
    add("--report", type=bool, default=False, help="say how the folder's runs stand, submit nothing")
    helps: dict[str, tuple[Any, str]] = {
        "nodes": (int, "default 1"),
        "gpus_per_node": (str, "a number, or a100:4"),
        "tasks_per_node": (int, "ranks of a fit (default: one for each GPU)"),
        "cpus_per_task": (int, "CPU cores of each rank"),
        "mem": (str, "of each node, e.g. 64G"),
        "time": (str, "limit, e.g. 08:00:00"),
        "partition": (str, "where to"),
        "account": (str, "on whose"),
        "qos": (str, "quality of service"),
        "constraint": (str, "features of nodes"),
        "signal_seconds": (int, "before the time limit: checkpoint, and queued again (default 120; 0: never)"),
        "setup": (list[str], 'lines of bash before the run, e.g. ["module load cuda"]'),
        "options": (list[str], "further ones of sbatch, e.g. [--exclude=node7]"),
    }
    for name, (kind, text) in helps.items():
        add(f"--{name}", type=kind | None, default=None, help=text)
    return parser


def _runs(line: Sequence[str], cluster: Cluster, name: str | None, array: int, after: Sequence[str]) -> list[Run]:
    """The runs of a command line.

    Raises:
        UsageError: There is no command, it cannot be submitted, or it does not fit the job.
    """
    if not line:
        raise UsageError("nothing to submit; give a command after --, e.g. -- fit -c segan_cat --root /data")
    command = line[0]
    agents = list(line[:2]) == ["sweep", "agent"]
    if command in ("experiment", "sweep") and not agents:
        raise UsageError(f"{command} submits its runs itself: segan_pl {command} ... --slurm --cluster NAME")
    if command not in COMMANDS and not agents:
        raise UsageError(f"{command!r} after --: expected a command; {nearest(command, COMMANDS)}")
    arguments, name = in_job(line, cluster), name or ("agent" if agents else command)
    if array == 1:
        return [Run(name, tuple(arguments), tuple(after))]
    if array > 1 and agents:
        return [Run(f"{name}_{number}", tuple(arguments), tuple(after)) for number in range(1, array + 1)]
    if array < 1 or command != "predict":
        raise UsageError(f"--array {array}: expected 1, or with predict the number of jobs that share the cases")
    if any(argument.partition("=")[0] == "--share" for argument in line):
        raise UsageError("--share and --array exclude each other; --array gives each job its share")
    shares = [f"{number}/{array}" for number in range(1, array + 1)]
    return [Run(f"{name}_{one.replace('/', 'of')}", (*arguments, "--share", one), tuple(after)) for one in shares]


def _whole(after: Sequence[str], directory: Path) -> list[str]:
    """Names of runs of the folder; the one name that an array was given stands for all its runs."""
    known = [run.name for run in load_runs(directory)] if after and (directory / "study.json").is_file() else []
    parts = {one: [name for name in known if re.fullmatch(rf"{re.escape(one)}_\d+(of\d+)?", name)] for one in after}
    return [name for one in after for name in ([one] if one in known else parts[one] or [one])]


def _require_parsed(arguments: Sequence[str]) -> None:
    """Refuse a line that its command would refuse: it would be found out when the job begins, after hours in a queue.

    Raises:
        UsageError: In the command's words.
    """
    later = any(map(PLACEHOLDER.search, arguments))
    # the last two read the checkpoint that they are given, which may not be there yet
    if arguments[0] not in PARSED or (later and arguments[0] in ("validate", "test")):
        return
    line = [PLACEHOLDER.sub("later", argument) for argument in arguments]
    command = [sys.executable, "-m", "segan_pl", *line, "--print_config"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [one for one in done.stderr.splitlines() if one.strip()] or [f"exit code {done.returncode}"]
        raise UsageError(f"{arguments[0]} would refuse this: {said[-1].removeprefix('segan_pl: error: ')}")
