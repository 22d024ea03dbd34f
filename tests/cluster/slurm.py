"""A Slurm of one node on this machine, in a temporary folder: munge, slurmctld and slurmd as this user."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from segan_pl.data.case_pool import cores

DAEMONS = ("munged", "slurmctld", "slurmd")
CLIENTS = ("sbatch", "srun", "scontrol", "scancel", "sinfo")
# Debian puts the daemons where only root's PATH looks.
PATHS = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"

# FirstJobId: ranks meet at a port that follows from the job's number, and other clusters may run on this machine.
# More CPUs than there are let jobs run side by side. A requeued job waits for cred_expire seconds (120 by default; the
# least is 5).
# KillWait: from SIGTERM to SIGKILL. A partition of a higher tier takes the node from the jobs of the other.
CONFIGURATION = """
ClusterName=tests
FirstJobId={first}
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=2,bf_interval=2
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
MpiDefault=none
JobRequeue=1
KillWait={kill_wait}
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=1000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=2
"""


def missing() -> list[str]:
    """Slurm's and munge's programs that this machine lacks."""
    return [name for name in (*DAEMONS, *CLIENTS) if shutil.which(name, path=PATHS) is None]


def wait_for(ready: Callable[[], object], what: Callable[[], str], seconds: float = 120) -> None:
    """Poll until something is so; else fail, with what is known of it. Others may use the machine's cores too."""
    limit = time.monotonic() + seconds * min(6.0, max(1.0, os.getloadavg()[0] / cores()))
    while not ready():
        assert time.monotonic() < limit, what()
        time.sleep(0.1)


class Slurm:
    """A cluster of one node.

    Attributes:
        folder: Of its files; its path is short, since munge's socket lies in it.
        environment: By which the clients find it; jobs inherit it.
    """

    cpus, kill_wait = 8, 20

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = socket.gethostname().partition(".")[0]
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "OMP_NUM_THREADS": "1"}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("munge", "state", "spool"):
            (folder / name).mkdir()
        # munge asks that everybody may reach its socket
        for place in (folder, folder / "munge"):
            place.chmod(0o711)
        key = folder / "munge" / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        values = {"folder": folder, "host": self.host, "ports": free_ports(2), "cpus": self.cpus}
        values["first"] = secrets.randbelow(9000) + 1
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        text = CONFIGURATION.format(**values, user=user, kill_wait=self.kill_wait)
        (folder / "slurm.conf").write_text(text.lstrip())

    # -- daemons -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the daemons, and wait until the node takes jobs."""
        munge = self.folder / "munge"
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        self._launch("munged", "--foreground", *(f"--{option}={munge / name}" for option, name in files.items()))
        wait_for((munge / "socket").exists, self.words, 20)
        self._launch("slurmctld", "-D")
        self.start_node()

    def start_node(self) -> None:
        """Start the node's daemon, and wait until it takes jobs."""
        self._launch("slurmd", "-D", "-N", self.host)
        wait_for(lambda: re.fullmatch("idle|mixed|allocated", self.node_state()), self.words, 60)

    def node_state(self) -> str:
        """As sinfo has it: idle, mixed, down*, ..."""
        return self.client("sinfo", "--noheader", "-o", "%T", "-p", "main", may_fail=True).strip()

    def fail_node(self, *, jobs: bool = True) -> None:
        """What a node without power leaves: its daemon, and every process of its `jobs`, are gone without a word."""
        # first those that would report the end of the others
        self._kill(("slurmd", "slurmstepd") if jobs else ("slurmd",))
        if jobs:
            self._kill(spared=("munged", "slurmctld", "slurmscriptd"))
            # what slurmctld finds out by itself after SlurmdTimeout, five minutes by default
            self.client("scontrol", "update", f"NodeName={self.host}", "State=DOWN", "Reason=no power")
        self._running.pop("slurmd").wait()

    def stop(self) -> None:
        """End the daemons and all jobs; slurmctld may wait for ever when it is asked to."""
        self._kill()
        for process in self._running.values():
            process.wait()

    def _kill(self, names: Sequence[str] = (), spared: Sequence[str] = ()) -> None:
        """Kill what runs in this cluster: by its environment, which jobs inherit from the daemons."""
        variable = f"SLURM_CONF={self.environment['SLURM_CONF']}".encode()
        for folder in Path("/proc").iterdir():
            with suppress(OSError):
                if folder.name.isdigit() and variable in (folder / "environ").read_bytes().split(b"\0"):
                    name = (folder / "comm").read_text().strip()
                    if name in names or not (names or name in spared):
                        os.kill(int(folder.name), signal.SIGKILL)

    def _launch(self, program: str, *options: str) -> None:
        path = shutil.which(program, path=PATHS)
        assert path is not None
        with (self.folder / f"{program}.output").open("ab") as output:
            process = subprocess.Popen(
                [path, *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environment,
                start_new_session=True,
            )
        self._running[program] = process

    def words(self) -> str:
        """The ends of the daemons' logs."""
        logs = [*self.folder.glob("*.output"), self.folder / "slurmctld.log", self.folder / "slurmd.log"]
        return "\n".join(f"== {log.name}\n{log.read_text(errors='replace')[-1000:]}" for log in logs if log.exists())

    # -- clients -----------------------------------------------------------------------------------------------------

    def client(self, *command: str, may_fail: bool = False) -> str:
        """What one of Slurm's programs prints."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        assert may_fail or done.returncode == 0, f"{shlex.join(command)}: {done.stderr}\n{self.words()}"
        return done.stdout

    def submit(self, folder: Path, script: str, *options: str, variables: Mapping[str, str] | None = None) -> str:
        """Submit a script of bash; returns the job's number. What it prints is added to `folder`/output."""
        file = folder / "job.sh"
        file.write_text(f"#!/bin/bash\n{script}\n")
        given = ["--parsable", "--job-name=train", "--open-mode=append", f"--output={folder / 'output'}"]
        return self.client("sbatch", *given, f"--chdir={folder}", *options, str(file)).strip()

    def job(self, number: str) -> dict[str, str]:
        """What scontrol shows of a job: JobState, Restarts, Reason, ExitCode, ..."""
        text = self.client("scontrol", "--oneliner", "show", "job", number)
        return dict(re.findall(r"(\w+)=(\S*)", text))

    def wait(self, number: str, states: Sequence[str], seconds: float = 120) -> dict[str, str]:
        """Wait until a job is in one of these states; returns what is known of it then."""
        found: dict[str, str] = {}

        def there() -> bool:
            found.update(self.job(number))
            return found["JobState"] in states

        wait_for(there, lambda: f"{found}\n{self.words()}", seconds)
        return found


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
