"""Mondal's split of iSEG: by the subjects' numbers, as his code has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from segan_pl.__main__ import main
from segan_pl.data.case import Case, CaseError
from segan_pl.data.module import MRIDataModule
from segan_pl.data.split.mondal import mondal_split
from segan_pl.data.split.record import Split
from segan_pl.data.synthetic.healthy import make_healthy_cohort
from segan_pl.errors import UsageError


def iseg(*missing: int) -> list[Case]:
    numbers = [number for number in range(1, 24) if number not in missing]
    return [Case(f"subject-{n}", f"subject-{n}", {}, Path("m") if n <= 10 else None) for n in numbers]


def numbers(names: tuple[str, ...]) -> list[int]:
    return sorted(int(name.split("-")[1]) for name in names)


@pytest.mark.parametrize(
    ("labelled", "train", "val", "test"), [(1, [1], [2], range(3, 10)), (2, [1, 2], [3], range(4, 11))]
)
def test_who_is_in_which_part_follows_from_the_number_of_labelled_subjects(labelled, train, val, test):
    split = mondal_split(iseg(), labelled)
    assert (numbers(split.train), numbers(split.val), numbers(split.test)) == (train, val, [*test])
    assert numbers(split.unlabelled) == [*range(11, 23)]
    assert f"the test part is subjects {test[0]} to {test[-1]}: of another --data.n_labelled" in split.notes[0]


@pytest.mark.parametrize("labelled", [0, 3])
def test_another_number_of_labelled_subjects_is_refused(labelled):
    with pytest.raises(UsageError, match=rf"--preset mondal: --data.n_labelled {labelled}; expected 1 or 2"):
        mondal_split(iseg(), labelled)


def test_a_subject_that_is_missing_is_named():
    with pytest.raises(CaseError, match=r"--preset mondal: the data lacks subject-9, subject-22; expected iSEG-2017's"):
        mondal_split(iseg(9, 22))
    mondal_split(iseg(10, 23))  # of no part for one labelled subject


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("iseg")
    make_healthy_cohort(root, form="iseg", subjects=10, unlabelled=13, shape=(4, 8, 8))
    return root


@pytest.mark.parametrize(("labelled", "left"), [(1, {"subject-10", "subject-23"}), (2, {"subject-23"})])
def test_the_command_writes_it_and_a_run_follows_it_to_the_subject(root, tmp_path, capsys, labelled, left):
    file = tmp_path / "s.json"
    asked = ["--data.unlabelled=use", f"--data.n_labelled={labelled}"]
    assert main(["split", f"--root={root}", "--preset=mondal", *asked, "-o", str(file)]) == 0
    assert f"23 given, {23 - len(left)} used, 0 refused" in capsys.readouterr().out
    written = Split.load(file)
    assert written == mondal_split(iseg(), labelled)
    options = {"labels": "labels", "modalities": ["t1"], "unlabelled": "use", "patch": [8, 8], "split_file": str(file)}
    with pytest.raises(CaseError, match=rf"the split leaves out {len(left)} of the data's 23 cases"):
        MRIDataModule(str(root), **options).find()
    data = MRIDataModule(str(root), split_leftovers="ignore", **options)
    data.find()
    assert data.split is not None
    assert {case.name for case in data.cohort.cases} - data.split.named == left
    assert numbers(data.split.unlabelled) == [*range(11, 23)]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--seed=1"], 2, "--preset mondal draws nothing; leave out --seed"),
        (["--group=scan"], 2, "--preset mondal draws nothing; leave out --group"),
        (["--val=0.3"], 2, "--preset says how the cases are parted; leave out --val"),
        (["--hold_out=institution=C"], 2, "--preset says how the cases are parted; leave out --hold_out"),
        (["--data.n_labelled=3"], 2, "expected 1 or 2, of 10 subjects with labels"),
        (["--data.unlabelled=refuse"], 1, "without a mask they may train as unlabelled: --data.unlabelled use"),
        (["--data.unlabelled=refuse", "--data.missing=drop"], 1, "its test folder with --data.unlabelled use"),
    ],
)
def test_what_does_not_go_with_it_is_refused_in_one_line(root, capsys, arguments, code, message):
    try:
        found = main(["split", f"--root={root}", "--preset=mondal", "--data.unlabelled=use", *arguments])
    except SystemExit as end:
        found = int(end.code or 0)
    assert found == code
    said = capsys.readouterr().err
    assert message in said
    assert len(said.strip().splitlines()) == 1
