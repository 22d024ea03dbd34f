"""Many cases at once: none is lost, none costs another, and what is interrupted leaves what is finished."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from segan_pl.data.case import ABSENT, Case
from segan_pl.data.io import write_volume
from segan_pl.data.layouts import find_cases
from segan_pl.data.prepare.cache import Cache
from segan_pl.data.prepare.cache_building import remove_leftovers
from segan_pl.data.prepare.case import prepare
from segan_pl.data.prepare.cases import prepare_all
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.errors import UsageError

WHOLE = Preparation(crop=None)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", WHOLE)


@pytest.mark.parametrize("workers", [1, 2])
def test_one_bad_case_is_reported_and_the_others_are_prepared(make_case, cache, workers, capsys):
    cases = [make_case(name) for name in ("a", "b", "c")]
    cases[1].images["t1"].write_bytes(b"")
    report = prepare_all(cases, cache, workers=workers)
    assert (report.used, report.built) == (("a", "c"), 2)
    assert report.summary() == "3 given, 2 used, 1 refused"
    assert report.refused[0][0] == "b"
    assert "b_t1.nii.gz: empty file" in report.refused[0][1]
    assert report.lines()[-1] == report.summary()
    assert "prepared 3 of 3" in capsys.readouterr().err
    assert prepare_all(cases[::2], cache, workers=workers).built == 0
    assert capsys.readouterr().err == ""


def test_no_worker_at_all_is_refused(make_case, cache):
    with pytest.raises(UsageError, match=r"--data.prepare_workers 0: expected at least 1"):
        prepare_all([make_case()], cache, workers=0)


def test_a_source_that_vanished_is_a_refusal_too(make_case, cache):
    case = make_case()
    case.images["t1"].unlink()
    report = prepare_all([case], cache, progress=False)
    assert "cannot be read (No such file or directory); restore the file" in report.refused[0][1]


def die(cache: Cache, case: Case) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_a_refusal_not_a_hang(make_case, cache, monkeypatch):
    monkeypatch.setattr("segan_pl.data.prepare.cases._build", die)
    report = prepare_all([make_case("a"), make_case("b")], cache, workers=2, progress=False)
    assert report.summary() == "2 given, 0 used, 2 refused"
    assert "the process that prepared it was killed" in report.refused[0][1]


def test_an_incomplete_case_is_prepared_and_what_it_lacks_is_zeros_on_request(make_case, cache):
    case = make_case(modalities=("flair",), masked=False)
    assert prepare_all([case], cache, progress=False).summary() == "1 given, 1 used, 0 refused"
    opened = cache.open(case, ("t1", "flair"), absent=("t1",))
    assert (opened.channels, opened.label) == ((ABSENT, 0), None)
    assert not opened.pixels()[0].any()
    np.testing.assert_array_equal(opened.pixels()[1], prepare(case, WHOLE).image[0])


# -- the report ------------------------------------------------------------------------------------------------------


def test_notes_of_entries_that_are_there_already_are_told_again(make_case, cache):
    case = make_case(arrays={"t1": np.full((6, 8, 10), 7, np.int16)})
    first, second = (prepare_all([case], cache, progress=False) for _ in range(2))
    assert first.notes == second.notes == ("case: t1 has no contrast over the crop, all 0 now",)
    assert (first.built, second.built) == (1, 0)


# -- interruptions ---------------------------------------------------------------------------------------------------

SCRIPT = """
import sys
from pathlib import Path
from segan_pl.data.prepare.cache import Cache
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.data.prepare.cases import prepare_all
from segan_pl.data.case import Case

if __name__ == "__main__":
    sources = sorted(Path(sys.argv[1]).iterdir())
    cases = [Case(path.name, path.name, {"t1": path}) for path in sources]
    prepare_all(cases, Cache(sys.argv[2], Preparation(crop=None)), workers=int(sys.argv[3]))
"""


def test_a_script_without_its_guard_fails_once_and_says_what_it_lacks(tmp_path):
    sources = tmp_path / "sources"
    sources.mkdir()
    for name in ("a", "b"):
        write_volume(sources / f"{name}.nii", np.ones((4, 8, 8), np.int16), np.eye(4))
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace('if __name__ == "__main__":', "if True:"))
    command = [sys.executable, str(script), str(sources), str(tmp_path / "cache"), "2"]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.getcwd()}, timeout=120
    )
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1  # the parent's: no worker's own
    last = done.stderr.splitlines()[-1]
    assert last.startswith("RuntimeError: worker processes cannot start; guard the script with `if __name__ ==")


def workers_of(process: int) -> list[int]:
    """Processes that a process started and that run, but for multiprocessing's tracker of resources."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = status.read_text().rpartition(")")[2].split()[:2]
            line = status.with_name("cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(parent) == process and state != "Z" and b"resource_tracker" not in line:
            found.append(int(status.parent.name))
    return found


def runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads Linux's table of processes")
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_command_ends_at_once_with_its_workers_and_keeps_what_is_finished(tmp_path, signal_number, workers):
    sources, cache = tmp_path / "sources", Cache(tmp_path / "cache", WHOLE)
    sources.mkdir()
    array = np.random.default_rng(0).integers(0, 900, (40, 160, 160)).astype(np.int16)
    write_volume(sources / "case000.nii", array, np.eye(4))
    for number in range(1, 150):
        os.link(sources / "case000.nii", sources / f"case{number:03}.nii")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(sources), str(cache.directory), str(workers)]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.getcwd()}
    )
    until = time.monotonic() + 60
    while not (finished := list(cache.folder.glob("case*"))):
        assert time.monotonic() < until
        time.sleep(0.005)
    children = workers_of(process.pid)
    assert len(children) == (workers if workers > 1 else 0)
    os.kill(process.pid, signal_number)
    began = time.monotonic()
    process.communicate(timeout=30)
    while any(runs(child) for child in children):
        assert time.monotonic() - began < 30
        time.sleep(0.005)
    assert time.monotonic() - began < 5
    assert process.returncode == -signal_number
    kept = list(cache.folder.glob("case*"))
    assert set(finished) <= set(kept)
    assert len(kept) < 150
    cases = {path.name: Case(path.name, path.name, {"t1": path}) for path in sources.iterdir()}
    assert all(cache.holds(cases[place.name.rpartition("-")[0]]) for place in kept)
    # A signal may fall into the removal itself; what it leaves there is removed by the next command, once the system
    # has forgotten the process.
    while remove_leftovers(cache.building) or list(cache.building.iterdir()):
        assert time.monotonic() - began < 30
        time.sleep(0.05)


@pytest.mark.real_data
def test_lgg_is_prepared_whole_and_in_parallel(real_data_root, cache):
    cases = find_cases(real_data_root / "lgg")[:4]
    report = prepare_all(cases, cache, workers=2, progress=False)
    assert report.summary() == "4 given, 4 used, 0 refused"
    opened = cache.open(cases[0], ("flair",))
    assert opened.image.shape[1:] == opened.geometry.native == (23, 256, 256)
    assert set(opened.labels) == {0, 1}
