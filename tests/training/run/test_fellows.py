"""What each rank knows of the others, without a run: connections that break, strangers, stops, words."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from segan_pl.training.run.fellow_words import exit_words
from segan_pl.training.run.fellows import Fellows
from segan_pl.training.run.signals import Signals, Stopped


@pytest.fixture
def three(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[list[tuple[Fellows, Signals, list[int]]]]:
    """Three ranks of one process, each connected to the first, after strangers that say what the test gives."""
    strangers: list[socket.socket] = []
    told: list[Any] = []

    def broadcast(found: list[Any], source: int) -> None:
        if found[0] is None:
            found[0] = told[0]
        else:
            told.append(found[0])

    monkeypatch.setattr("segan_pl.training.run.fellows.dist.broadcast_object_list", broadcast)
    monkeypatch.setattr("segan_pl.training.run.fellows.PATIENCE", 0.1)
    monkeypatch.setattr("segan_pl.training.run.fellows.LAST_PATIENCE", 0.1)
    monkeypatch.setattr("segan_pl.training.run.fellows.STOP_PATIENCE", 0.5)
    ranks = []
    for rank in range(3):
        signals, codes = Signals(), []
        fellows = Fellows(signals, codes.append)
        fellows.connect(rank, 3, "127.0.0.1")
        if rank == 0:
            strangers.extend(stranger(told[0][0], said) for said in getattr(request, "param", ()))
        ranks.append((fellows, signals, codes))
    wait(lambda: len(ranks[0][0]._sockets) == 2)
    yield ranks
    for one in strangers:
        one.close()
    for fellows, _, _ in ranks:
        fellows.close()
    wait(nobody_watches)


def stranger(port: int, said: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(said)
    return connection


def nobody_watches() -> bool:
    return all(thread.name != "ranks" for thread in threading.enumerate())


def wait(condition: Any) -> None:
    limit = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_an_error_of_one_rank_is_told_to_all(three: list[tuple[Fellows, Signals, list[int]]]) -> None:
    three[2][0].tell(MemoryError("no room"))
    wait(lambda: three[0][2] == [1] and three[1][2] == [1])
    for _, signals, _ in three[:2]:
        assert "ended with MemoryError: no room: look at its log" in signals.lost
    assert three[2][2] == []
    assert not three[2][1].lost


def test_a_connection_that_breaks_is_a_rank_that_ended_without_a_word(
    three: list[tuple[Fellows, Signals, list[int]]],
) -> None:
    (connection,) = three[1][0]._sockets.values()
    three[1][0].closed = True  # this rank is dead, and learns nothing
    connection.shutdown(2)
    wait(lambda: three[0][2] == [1] and three[2][2] == [1])
    assert three[2][1].lost.startswith("rank 1 of 3 (")
    assert "ended without a word (killed, out of memory, or its machine is gone)" in three[2][1].lost


def test_ranks_that_leave_one_after_the_other_lose_nobody(three: list[tuple[Fellows, Signals, list[int]]]) -> None:
    for fellows, _, _ in three:
        fellows.close()
        time.sleep(0.1)
    assert [(signals.lost, codes) for _, signals, codes in three] == [("", [])] * 3
    wait(nobody_watches)


def test_a_rank_that_was_stopped_takes_those_along_that_do_not_stop(
    three: list[tuple[Fellows, Signals, list[int]]],
) -> None:
    three[1][1].stop = signal.SIGTERM
    three[1][0].tell(Stopped(signal.SIGTERM))
    three[1][0].close()
    wait(lambda: three[0][2] == [143])
    assert three[0][1].lost == ""


def test_an_error_in_a_collective_waits_for_the_loss_that_caused_it(
    three: list[tuple[Fellows, Signals, list[int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segan_pl.training.run.fellows.PATIENCE", 5)
    error = RuntimeError("[gloo/transport/tcp/pair.cc:538] Connection closed by peer [127.0.0.1]:1. GLHF!")
    thread = threading.Thread(target=three[2][0].tell, args=(error,))
    thread.start()
    three[1][0].tell(ValueError("a bad batch"))
    thread.join(10)
    assert not thread.is_alive()
    assert "rank 1 of 3" in three[2][1].lost
    assert "GLHF" not in three[0][1].lost


SILENT, PROBE, LIST, NUMBER, FOREIGN = (
    b"",
    b"GET / HTTP/1.1\r\n\r\n",
    b"[1]\n",
    b"7\n",
    b'{"token": "x", "name": [1, "", 1]}\n',
)


@pytest.mark.parametrize("three", [(SILENT, PROBE, LIST, NUMBER, FOREIGN, b"\xff\n")], indirect=True)
def test_strangers_connections_neither_end_the_run_nor_switch_the_watch_off(
    three: list[tuple[Fellows, Signals, list[int]]],
) -> None:
    assert sorted(three[0][0]._sockets) == [1, 2]
    three[2][0].tell(MemoryError("no room"))
    wait(lambda: three[0][2] == [1] and three[1][2] == [1])


def test_a_rank_that_cannot_connect_says_so_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setattr(
        "segan_pl.training.run.fellows.dist.broadcast_object_list",
        lambda found, source: found.__setitem__(0, (port, "token", (0, "host", 1))),
    )
    Fellows(Signals(), print).connect(3, 4, "127.0.0.1")
    assert "segan_pl: note: rank 3 cannot watch rank 0, and notices its end late: " in capsys.readouterr().err


@pytest.mark.parametrize("said", [None, "stopped", "left"])
def test_a_stop_that_waits_for_a_dead_rank_ends_after_a_while(
    three: list[tuple[Fellows, Signals, list[int]]], said: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    three[0][1].stop = signal.SIGTERM
    if said:
        three[1][0]._tell({said: 143})
        wait(lambda: 1 in three[0][0]._left)
    (connection,) = three[1][0]._sockets.values()
    three[1][0].closed = True
    connection.shutdown(2)
    if said:
        time.sleep(1.0)
        assert three[0][2] == []
        return
    wait(lambda: three[0][2] == [143])
    assert three[0][1].lost == ""
    assert "stopped by SIGTERM, without a checkpoint of this moment (rank 1 of 3 (" in capsys.readouterr().err


def test_a_child_that_ends_by_the_same_stop_is_not_lost() -> None:
    fellows = Fellows(Signals(), print)
    fellows.signals.stop = signal.SIGTERM
    children = [subprocess.Popen([sys.executable, "-c", "import sys; sys.exit(143)"])]
    children[0].wait()
    fellows.watch_family(SimpleNamespace(procs=children))
    time.sleep(0.5)
    assert not fellows._waits_to_stop
    fellows.close()
    wait(nobody_watches)


def test_ranks_of_a_later_node_are_named_by_their_number_among_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segan_pl.training.run.fellows.PATIENCE", 0.1)
    codes: list[int] = []
    fellows = Fellows(Signals(), codes.append)
    children = [subprocess.Popen([sys.executable, "-c", f"import sys; sys.exit({code})"]) for code in (0, 3)]
    fellows.watch_family(SimpleNamespace(procs=children), 3)  # of the second node, with three devices
    wait(lambda: codes == [1])
    assert fellows.signals.lost.startswith("rank 5 (")
    assert "ended with exit code 3: look at its log" in fellows.signals.lost


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (None, "ended without a word (killed, out of memory, or its machine is gone)"),
        (-9, "was killed by SIGKILL, as the system does when memory runs out"),
        (-11, "was killed by SIGSEGV"),
        (3, "ended with exit code 3"),
    ],
)
def test_an_exit_code_in_words(code: int | None, words: str) -> None:
    assert exit_words(code) == words
