from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from segan_pl.data.case import Case
from segan_pl.data.case_pool import over_cases
from segan_pl.data.check.case_table import CaseRow, case_table_csv, rounded, triple
from segan_pl.data.check.cases import CheckReport, check_all
from segan_pl.data.check.summary import data_set_notes, duplicate_groups, quartiles, summary
from segan_pl.data.conventions import CONVENTIONS, Convention, label_convention
from segan_pl.data.io import read_volume, write_volume
from tests.data.conftest import OBLIQUE

BRATS = CONVENTIONS["brats2017"]
MODALITIES = ("t1", "flair")
MakeCase = Callable[..., Case]


def check(cases: Sequence[Case], convention: Convention | None = BRATS, workers: int = 1) -> CheckReport:
    return check_all(cases, convention, modalities=MODALITIES, workers=workers, progress=False)


def row(name: str, **facts: object) -> CaseRow:
    return CaseRow(name, **{"patient": name, **facts})  # type: ignore[arg-type]


def damage(case: Case) -> Case:
    case.images["t1"].write_bytes(b"")
    return case


def test_one_bad_case_stops_no_other_and_all_are_accounted_for(make_case: MakeCase) -> None:
    cases = [make_case("c"), damage(make_case("b")), make_case("a"), make_case("d", modalities=("t1",))]
    report = check_all(cases, BRATS, modalities=MODALITIES, missing="drop", workers=1, progress=False)
    assert [row.name for row in report.rows] == ["a", "b", "c", "d"]
    assert report.used == ("a", "c")
    assert report.left_out == ("d",)
    ((name, faults),) = report.refused
    assert name == "b"
    assert "empty file" in faults[0]
    assert report.summary() == "4 given, 2 used, 1 refused"


def test_two_processes_find_what_one_finds(make_case: MakeCase) -> None:
    cases = [make_case("a"), damage(make_case("b")), make_case("c")]
    alone, together = (check(cases, workers=workers).as_dict() for workers in (1, 2))
    assert alone | {"seconds": 0} == together | {"seconds": 0}


def test_the_json_is_valid_and_whole(make_case: MakeCase) -> None:
    outlier = np.zeros((6, 8, 10), np.float32)
    outlier[0, 0, 0] = 1e30
    report = check([make_case("a", arrays={"t1": outlier}), damage(make_case("b"))])
    found = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert found["cases"][0]["intensities"]["t1"]["maximum"] == pytest.approx(1e30, rel=1e-6)
    assert [case["status"] for case in found["cases"]] == ["used", "refused"]
    assert found["refused"][0]["case"] == "b"
    assert found["data_set"]["native_labels"] == "brats2017"
    assert set(found["versions"]) == {"segan_pl", "python", "numpy", "nibabel"}
    assert Path(found["cases"][0]["files"]["mask"]).is_file()


def test_cases_of_the_same_voxels_are_a_group_whatever_their_compression(make_case: MakeCase) -> None:
    first, second, other = make_case("a"), make_case("b"), make_case("c")
    write_volume(second.images["flair"], read_volume(first.images["t1"]).array, OBLIQUE, compresslevel=9)
    report = check([first, second, other])
    assert report.duplicates == (("a", "b"),)
    assert report.as_dict()["duplicates"] == [["a", "b"]]
    assert report.notes[0] == "a, b have the same content (t1, flair); keep them on one side of a split"


def test_groups_join_through_a_shared_case_and_masks_join_none() -> None:
    rows = [
        row("d", contents={"t1": "2", "t2": "3"}),
        row("a", contents={"t1": "1", "mask": "m"}),
        row("c", contents={"t1": "1", "t2": "2"}),
        row("b", contents={"t1": "9", "mask": "m"}),
        row("f", contents={"t1": "7"}),
        row("e", contents={"t1": "8", "t2": "7"}),
    ]
    assert duplicate_groups(rows) == (("a", "c", "d"), ("e", "f"))


def test_scans_of_one_patient_with_the_same_content_need_no_word_on_splits() -> None:
    rows = [row(name, patient="p", files={"mask": ""}, contents={"t1": "1"}) for name in ("a", "b")]
    assert data_set_notes(rows, BRATS, duplicate_groups(rows)) == ["a, b have the same content (t1)"]


def test_many_pairs_of_the_same_content_do_not_fill_the_page() -> None:
    rows = [row(f"{number:02d}{copy}", contents={"t1": str(number)}) for number in range(12) for copy in "ab"]
    notes = [note for note in data_set_notes(rows, None, duplicate_groups(rows)) if "content" in note]
    assert notes[0] == "00a, 00b have the same content (t1); keep them on one side of a split"
    assert (len(notes), notes[-1]) == (11, "2 more groups of cases have the same content: --json names all")


def test_without_a_convention_cases_with_masks_are_refused_with_those_that_fit_all(make_case: MakeCase) -> None:
    report = check([make_case("a"), make_case("b", masked=False)], None)
    ((name, (fault,)),) = report.refused
    assert name == "a"
    assert fault == (
        "nothing says what the masks' labels mean; together they hold [0, 1, 2, 4]: state it with "
        "--data.native_labels (brats2015, brats2017, brats2024 would fit), or relabel the masks"
    )


def test_labels_that_no_convention_knows_are_put_into_an_example_of_a_mapping(make_case: MakeCase) -> None:
    mask = np.resize(np.array([0, 10, 30], np.uint8), (6, 8, 10))
    ((_, (fault,)),) = check([make_case("a", arrays={"seg": mask})], None).refused
    assert fault.endswith(
        "no --data.native_labels fits but a mapping with names of your own, '{name10: 10, name30: 30}', where the name "
        "ignore is for labels that are not judged; or relabel the masks"
    )


def test_enhancing_tumour_that_never_occurs_is_reported_with_what_would_fit() -> None:
    rows = [row(name, files={"mask": ""}, labels={0: 5, 1: 1, 2: 1}) for name in ("a", "b")]
    assert data_set_notes(rows, BRATS, ()) == [
        "enhancing (label 4) occurs in none of 2 masks, though 'brats2017' has it; the labels [0, 1, 2] would fit "
        "brats2015, brats2023, brats2024, msd too (--data.native_labels)"
    ]


def test_labels_beyond_the_convention_name_what_fits_all_masks_together() -> None:
    rows = [row("a", files={"mask": ""}, labels={3: 1}), row("b", files={"mask": ""}, labels={0: 1, 4: 1})]
    assert data_set_notes(rows, BRATS, ()) == [
        "the masks together hold labels [0, 3, 4]: brats2015, brats2024 would fit"
    ]
    assert data_set_notes(rows, label_convention("{csf: 3}"), ()) == [
        "the masks together hold labels [0, 3, 4]: add 4 to the mapping of --data.native_labels, or 'ignore: 4'"
    ]


@pytest.mark.parametrize(
    ("masked", "note"), [("ab", []), ("a", ["1 of 2 cases have no mask: b"]), ("", ["2 of 2 cases have no mask: all"])]
)
def test_cases_without_a_mask_are_named(masked: str, note: list[str]) -> None:
    rows = [row(name, files={"mask": ""} if name in masked else {}) for name in "ab"]
    assert data_set_notes(rows, None, ()) == note


def test_quartiles_by_hand() -> None:
    rows = [row(str(volume), tumour_ml=float(volume)) for volume in (5, 1, 3, 2, 4)] + [row("none")]
    assert quartiles(rows) == {
        "cases": 5,
        "minimum": 1,
        "lower_quartile": 2,
        "median": 3,
        "upper_quartile": 4,
        "maximum": 5,
    }
    assert quartiles([row("none")]) is None


def test_distributions_count_every_case_whatever_becomes_of_it() -> None:
    rows = [
        row("a", patient="p", grade="HGG", institution="X", shape=(2, 3, 4), files={"flair": "", "t1": ""}),
        row("b", patient="p", grade="HGG", institution="X", shape=(2, 3, 4), files={"mask": "", "t1": ""}),
        row("c", grade="LGG", shape=(5, 3, 4), spacing_mm=(1.0, 0.99999, 5.5), faults=("wrong",), labels={0: 3, 4: 2}),
    ]
    found = summary(rows, BRATS)
    assert (found["given"], found["used"], found["refused"], found["patients"]) == (3, 2, 1, 2)
    assert list(found["modalities"].items()) == [("t1", 2), ("flair", 1), ("mask", 1)]
    assert found["shapes"] == {"2 x 3 x 4": 2, "5 x 3 x 4": 1}
    assert found["spacings_mm"] == {"1 x 1 x 5.5": 1}
    assert found["institutions"] == {"X": 2, "unknown": 1}
    assert [(s["grade"], s["institution"], s["cases"], s["patients"]) for s in found["strata"]] == [
        ("HGG", "X", 2, 1),
        ("LGG", "unknown", 1, 1),
    ]
    assert [(label["label"], label["tissue"], label["voxels"]) for label in found["labels"]] == [
        (0, "background", 3),
        (1, "necrosis", 0),
        (2, "oedema", 0),
        (4, "enhancing", 2),
    ]


def test_the_csv_has_a_line_a_case_and_columns_for_what_occurs(make_case: MakeCase) -> None:
    report = check([make_case("a"), make_case("b", masked=False)])
    extra = row("c", extra={"scanner": "a, b"}, faults=("no; image",))
    first, second, third = csv.DictReader(case_table_csv([*report.rows, extra]).splitlines())
    assert list(first)[:6] == ["case", "patient", "grade", "institution", "status", "extra_scanner"]
    assert first["shape"] == "10 x 8 x 6"
    assert first["label_4"] == str(report.rows[0].labels[4])
    assert first["t1_max"] == str(report.rows[0].intensities["t1"].maximum)
    assert second["label_4"] == ""
    assert (third["extra_scanner"], third["status"], third["faults"]) == ("a, b", "refused", "no; image")
    assert case_table_csv([]) == "case\n"


def test_numbers_are_written_to_six_digits() -> None:
    assert (rounded(1234.56789), rounded(0.1 + 0.2)) == (1234.57, 0.3)
    assert triple((1.0, 0.99999, 5.5)) == "1 x 1 x 5.5"
    assert triple((240, 240, 155)) == "240 x 240 x 155"


def name_or_die(case: Case) -> str:
    if case.name == "killer":
        os.kill(os.getpid(), signal.SIGKILL)
    return case.name


def test_a_case_that_kills_its_process_costs_no_other() -> None:
    cases = [Case(name, name, {}) for name in ("a", "b", "killer", "c", "d")]
    found = {case.name: result for case, result in over_cases(name_or_die, cases, workers=2)}
    assert found == {"a": "a", "b": "b", "killer": None, "c": "c", "d": "d"}


def test_a_killed_case_is_refused_by_name(make_case: MakeCase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segan_pl.data.check.cases.over_cases", lambda work, cases, workers: ((c, None) for c in cases))
    report = check([make_case("a")])
    assert report.refused[0][0] == "a"
    assert report.refused[0][1][0].startswith("its process was killed, perhaps for memory")


SLEEPER = """
import sys, time
from segan_pl.data.case_pool import over_cases
from segan_pl.data.case import Case
from tests.data.check.test_cases import sleep_and_tell
if __name__ == "__main__":
    list(over_cases(sleep_and_tell, [Case(str(i), sys.argv[1], {}) for i in range(2)], workers=2))
"""


def sleep_and_tell(case: Case) -> None:
    """Write this process's number into the folder that the patient names, then outlast the test."""
    (Path(case.patient) / str(os.getpid())).touch()
    time.sleep(600)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="processes are looked up in /proc")
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_no_process_outlives_a_check_that_is_stopped(tmp_path: Path, ending: signal.Signals) -> None:
    script, told = tmp_path / "sleeper.py", tmp_path / "told"
    script.write_text(SLEEPER)
    told.mkdir()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])}
    parent = subprocess.Popen([sys.executable, script, told], env=environment, stderr=subprocess.DEVNULL)
    wait_for(lambda: len(list(told.iterdir())) == 2)
    parent.send_signal(ending)
    parent.wait(30)
    wait_for(lambda: not any(Path(f"/proc/{process.name}").exists() for process in told.iterdir()))


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
