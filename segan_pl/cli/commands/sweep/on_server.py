"""`segan_pl sweep create` and `segan_pl sweep agent`: W&B's own sweeps, for people with an account."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from segan_pl.cli.parsing import OneLineErrors
from segan_pl.errors import UsageError
from segan_pl.experiments.config_layers import read_config
from segan_pl.experiments.shipped import find_sweep
from segan_pl.training.run.requeue import AGENT_TOLD

PATH = re.compile(r"([\w.-]+/){2}\w+")
SEEN = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


def create(arguments: list[str]) -> int:
    """Make a sweep on W&B's server, and say how its agents are started.

    Args:
        arguments: What follows "sweep create".

    Raises:
        UsageError: The file is no sweep, or W&B has no login, or refuses.
    """
    parser = OneLineErrors(prog="segan_pl sweep create", description="Make a sweep of a file on W&B's server.")
    parser.add_argument("file", type=str, metavar="FILE", help="a sweep file, or a shipped one by name, e.g. seeds")
    parser.add_argument("--project", type=str | None, help="default: the file's, or segan_pl")
    parser.add_argument("--entity", type=str | None, help="user or team; default: the file's, or that of the login")
    settings = parser.parse_args(arguments)
    file = find_sweep(settings.file)
    content: dict[str, Any] = dict(read_config(file))
    if not isinstance(content.get("parameters"), dict):
        raise UsageError(f"{file}: no parameters; expected a sweep file of W&B")
    for name in sorted(set(re.findall(r"\$\{envvar:(\w+)\}", yaml.safe_dump(content)))):
        print(f"note: each agent needs the variable {name} in its environment")
    _require_login()
    import wandb

    project = settings.project or content.get("project") or "segan_pl"
    entity = settings.entity or content.get("entity")
    try:
        # asks the server
        entity = entity or wandb.Api().default_entity
        number = wandb.sweep(content, entity=entity, project=project)
    except Exception as error:  # of several kinds, by the server's answer
        raise UsageError(f"{file}: W&B refused the sweep: {' '.join(str(error).split())}") from error
    path = f"{entity}/{project}/{number}"
    print(f"here:  segan_pl sweep agent {path}")
    print(f"Slurm: segan_pl submit -c one_gpu --array N --output agents/{number} -- sweep agent {path}")
    return 0


def agent(arguments: list[str]) -> int:
    """Run trials of a sweep of W&B's, one after the other, by its own agent; returns that one's exit code.

    A signal stops the trial, which writes its checkpoint and says to W&B that it was preempted, so that the next agent
    gets the same run; the agent ends after it. By SIGUSR1, which Slurm sends before a job's time is up, the exit code
    is that of a process that SIGUSR1 has ended, for which the job is queued again (`experiments.process`).

    Args:
        arguments: What follows "sweep agent".

    Raises:
        UsageError: The sweep's name is none, or W&B has no login.
    """
    parser = OneLineErrors(prog="segan_pl sweep agent", description="Run trials of a sweep on W&B's server.")
    parser.add_argument("path", type=str, metavar="ENTITY/PROJECT/ID", help="as `sweep create` has printed it")
    parser.add_argument("--count", type=int | None, help="trials of this agent (default: until the sweep ends)")
    settings = parser.parse_args(arguments)
    if not PATH.fullmatch(settings.path):
        raise UsageError(f"{settings.path}: expected ENTITY/PROJECT/ID, as `segan_pl sweep create` prints it")
    if settings.count is not None and settings.count < 1:
        raise UsageError(f"--count {settings.count}: expected at least 1")
    _require_login()
    count = [] if settings.count is None else ["--count", str(settings.count)]
    folder = Path(tempfile.mkdtemp(prefix="segan_pl-agent"))
    marker, told = folder / "told", list[int]()
    command = [sys.executable, "-m", "wandb", "agent", "--forward-signals", *count, settings.path]
    process = subprocess.Popen(command, env={**os.environ, AGENT_TOLD: str(marker)}, start_new_session=True)

    def pass_on(number: int, frame: object) -> None:
        marker.touch()
        told.append(number)
        # to the agent, which hands it on; after SIGUSR1 alone it would begin another trial
        process.send_signal(signal.SIGTERM if number == signal.SIGUSR1 else number)

    before = {number: signal.signal(number, pass_on) for number in SEEN}
    try:
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        shutil.rmtree(folder, ignore_errors=True)
    return 128 + told[0] if told else code if code >= 0 else 128 - code


def _require_login() -> None:
    """Raise UsageError where W&B does not know who asks: a sweep is on its server, and cannot be offline."""
    import wandb

    if os.environ.get("WANDB_MODE") in ("offline", "dryrun", "disabled"):
        raise UsageError(f"WANDB_MODE={os.environ['WANDB_MODE']}: W&B's sweeps are on its server; use `segan_pl sweep`")
    if not wandb.login(prompt=False, verify=False):
        raise UsageError(
            "W&B has no login here; `wandb login`, or WANDB_API_KEY, or without an account `segan_pl sweep`"
        )
