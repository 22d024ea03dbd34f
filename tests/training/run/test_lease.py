"""One process trains in a folder: live holders are found on this machine and on others, dead ones never block."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from segan_pl.training.run import lease as run_lease
from segan_pl.training.run.lease import NAME, FolderInUseError, RunLease

HOLD = """
import sys, time
from pathlib import Path
from segan_pl.training.run.lease import RunLease
lease = RunLease(Path(sys.argv[1]))
lease.acquire()
print("held", flush=True)
time.sleep(600)
"""

RACE = """
import sys
from pathlib import Path
from segan_pl.training.run.lease import FolderInUseError, RunLease
print("ready", flush=True)
for line in sys.stdin:
    lease = RunLease(Path(line.strip()))
    try:
        lease.acquire()
    except FolderInUseError:
        print("refused", flush=True)
        continue
    print(lease.token, flush=True)  # held until this process ends
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "one"


@pytest.fixture
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process of this machine that holds the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def elsewhere(folder: Path, **changed: Any) -> Path:
    """A lease that a process of another machine wrote."""
    folder.mkdir(parents=True)
    lease = {"host": "node7", "process": 4711, "started": "1", "space": "x", "since": "then", "token": "t", **changed}
    (folder / NAME).write_text(json.dumps(lease))
    return folder / NAME


def test_a_second_holder_is_refused_with_the_firsts_host_process_and_age(
    holder: subprocess.Popen[str], folder: Path
) -> None:
    with pytest.raises(FolderInUseError) as error:
        RunLease(folder).acquire()
    said = str(error.value)
    assert f"{folder}: process {holder.pid} on {os.uname().nodename} (since " in said
    assert "trains in this folder, last heard of" in said
    assert said.endswith("wait for its end, stop it, or choose another --run.directory")


def test_a_killed_holder_of_this_machine_is_found_dead_at_once(holder: subprocess.Popen[str], folder: Path) -> None:
    holder.kill()
    holder.wait()
    began = time.monotonic()
    with RunLease(folder):
        assert time.monotonic() - began < 1
        assert json.loads((folder / NAME).read_text())["process"] == os.getpid()


def test_a_holder_that_ended_and_that_nobody_waited_for_is_dead(holder: subprocess.Popen[str], folder: Path) -> None:
    os.kill(holder.pid, 9)
    state = Path(f"/proc/{holder.pid}/stat")
    wait_until(lambda: state.read_text().rpartition(")")[2].split()[0] == "Z")
    with RunLease(folder):
        assert json.loads((folder / NAME).read_text())["process"] == os.getpid()


def test_a_folder_in_which_nothing_was_written_does_not_stay(tmp_path: Path) -> None:
    with RunLease(tmp_path / "runs" / "one"):
        assert (tmp_path / "runs" / "one" / NAME).is_file()
    assert list(tmp_path.iterdir()) == []


def test_a_number_that_another_process_has_by_now_is_no_holder(folder: Path) -> None:
    lease = RunLease(folder)
    lease.acquire()
    mine = json.loads((folder / NAME).read_text())
    lease.release()
    elsewhere(folder, **{**mine, "started": "0"})
    with RunLease(folder):
        pass


def test_a_holder_elsewhere_that_goes_on_touching_is_alive(folder: Path) -> None:
    file = elsewhere(folder)
    said: list[str] = []
    beats = threading.Timer(0.3, lambda: os.utime(file, (time.time() + 5, time.time() + 5)))
    beats.start()
    with pytest.raises(FolderInUseError, match="process 4711 on node7"):
        RunLease(folder, said.append, beat=0.3, stale=30).acquire()
    beats.join()
    assert said == [
        f"{folder}: process 4711 on node7 (since then) began to train here; waiting up to 30 s to see whether it still "
        f"does"
    ]


def test_a_holder_elsewhere_that_is_silent_for_long_is_dead(folder: Path) -> None:
    elsewhere(folder)
    began = time.monotonic()
    with RunLease(folder, lambda _: None, beat=0.3, stale=0.5):
        assert time.monotonic() - began < 5
    file = elsewhere(folder.with_name("old"))
    os.utime(file, (1, 1))
    with RunLease(folder.with_name("old"), lambda line: pytest.fail(line)):  # long ago: no waiting
        pass


def test_a_torn_lease_is_judged_by_its_age(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / NAME).write_text('{"host": "no')
    os.utime(folder / NAME, (1, 1))
    with RunLease(folder):
        assert "token" in json.loads((folder / NAME).read_text())


def test_the_holder_touches_its_lease_and_notices_when_it_is_taken_over(folder: Path) -> None:
    lease = RunLease(folder, beat=0.05)
    lease.acquire()
    os.utime(folder / NAME, (1, 1))
    deadline = time.monotonic() + 10
    while (folder / NAME).stat().st_mtime < 100 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (folder / NAME).stat().st_mtime > 100
    lease.require_held(look=True)
    taken = json.loads((folder / NAME).read_text()) | {"token": "other", "host": "node7", "process": 5}
    (folder / NAME).write_text(json.dumps(taken))
    with pytest.raises(FolderInUseError, match=r"process 5 on node7 .* took this run over"):
        lease.require_held(look=True)
    lease.release()
    assert json.loads((folder / NAME).read_text())["token"] == "other"  # not ours to give back


def test_a_lease_that_cannot_be_read_for_a_while_stays_its_holders(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease, failed = RunLease(folder, beat=0.02), []

    def stale_handle(path: Path) -> bytes:
        failed.append(path)
        raise OSError(errno.ESTALE, "Stale file handle")

    with lease:
        with monkeypatch.context() as away:
            away.setattr(Path, "read_bytes", stale_handle)
            wait_until(lambda: len(failed) >= 3)
            lease.require_held(look=True)
        os.utime(folder / NAME, (1, 1))
        wait_until(lambda: (folder / NAME).stat().st_mtime > 100)  # it beats again
        lease.require_held(look=True)


def test_a_lease_that_somebody_deleted_is_laid_down_again(folder: Path) -> None:
    with RunLease(folder, beat=0.02) as lease:
        (folder / NAME).unlink()
        wait_until((folder / NAME).exists)
        assert json.loads((folder / NAME).read_text())["token"] == lease.token
        lease.require_held(look=True)
    assert not folder.exists()


def test_a_lease_that_is_gone_after_a_long_silence_is_lost(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "metrics.csv").touch()
    with RunLease(folder, beat=0.3) as lease:
        lease._heard -= 1000  # as after a sleep in which another one came, trained and went
        (folder / NAME).unlink()
        wait_until(lambda: lease.lost)
        with pytest.raises(FolderInUseError, match="its lease is gone, so another one may have trained here meanwhile"):
            lease.require_held()
    assert not (folder / NAME).exists()


def test_what_was_written_stays_and_the_lease_goes(folder: Path) -> None:
    def trained_until_a_signal() -> None:
        with RunLease(folder):
            (folder / "metrics.csv").touch()
            sys.exit(143)

    with pytest.raises(SystemExit):
        trained_until_a_signal()
    assert [path.name for path in folder.iterdir()] == ["metrics.csv"]


def test_of_many_that_ask_at_once_one_gets_the_folder(folder: Path) -> None:
    got: list[RunLease] = []

    def ask() -> None:
        lease = RunLease(folder)
        try:
            lease.acquire()
        except FolderInUseError:
            return
        got.append(lease)

    folder.mkdir(parents=True)
    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1
    got[0].release()
    assert list(folder.iterdir()) == []


def test_a_file_system_without_links_will_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    with RunLease(folder), pytest.raises(FolderInUseError):
        RunLease(folder).acquire()


def test_a_link_that_is_asked_for_again_locks_nobody_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def answered_too_late(source: Path, target: Path) -> None:
        link(source, target)  # NFS: done, the answer lost, asked again
        link(source, target)

    monkeypatch.setattr(os, "link", answered_too_late)
    with RunLease(folder):
        assert json.loads((folder / NAME).read_text())["process"] == os.getpid()


@pytest.mark.parametrize("links", [True, False])
def test_who_buries_a_live_lease_by_mistake_gives_it_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    file, lease = elsewhere(folder, host="here"), RunLease(folder)

    def no_links(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    def dead_and_taken_by_another_meanwhile(holder: dict[str, Any]) -> bool:
        file.write_text(json.dumps({**holder, "token": "live"}))
        return False

    monkeypatch.setattr(run_lease, "is_here", lambda holder: True)
    monkeypatch.setattr(run_lease, "lives", dead_and_taken_by_another_meanwhile)
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    lease._refuse_or_bury()
    assert json.loads(file.read_text())["token"] == "live"
    assert list(folder.iterdir()) == [file]


def test_of_two_that_bury_one_stale_lease_at_once_exactly_one_gets_the_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RACE]
    pipe = subprocess.PIPE
    racers = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1) for _ in range(2)]
    says = [racer.stdout for racer in racers if racer.stdout is not None]
    asks = [racer.stdin for racer in racers if racer.stdin is not None]
    assert [out.readline() for out in says] == ["ready\n"] * 2
    for number in range(20):
        file = elsewhere(tmp_path / str(number))
        os.utime(file, (1, 1))  # silent for long
        for ask in asks:
            ask.write(f"{file.parent}\n")
        answers = {out.readline().strip() for out in says}
        assert len(answers) == 2
        assert answers == {"refused", json.loads(file.read_text())["token"]}
    for racer in racers:
        racer.communicate()
