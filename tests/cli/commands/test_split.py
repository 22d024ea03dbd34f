"""`segan_pl split` on trees of empty files: a split reads no voxel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from segan_pl.__main__ import main
from segan_pl.data.case import CaseError
from segan_pl.data.cohort import find_cohort
from segan_pl.data.split.record import Split, load_folds
from tests.generators.trees import write_cohort

Run = Callable[..., tuple[int, str]]
SITES = {"HGG": {"CBICA": 6, "TMC": 3}, "LGG": {"TCIA09": 4, "TCIA10": 1}}


def put(root: Path, grade: str, name: str) -> None:
    """A case of empty files."""
    folder = root / grade / name
    folder.mkdir(parents=True)
    for part in ("t1", "t1ce", "t2", "flair", "seg"):
        (folder / f"{name}_{part}.nii.gz").touch()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """14 cases of as many patients."""
    for grade, sites in SITES.items():
        for site, number in sites.items():
            for patient in "ABCDEF"[:number]:
                put(tmp_path / "data", grade, f"BraTS19_{site}_A{patient}A_1")
    return tmp_path / "data"


@pytest.fixture
def split(root: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command on the cases: exit code, and what it said."""

    def run(*arguments: object) -> tuple[int, str]:
        try:
            code = main(["split", f"--root={root}", *map(str, arguments)])
        except SystemExit as end:
            code = int(end.code or 0)
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.glob("*/*"))


def test_without_a_file_it_shows_the_table_and_writes_nothing(split: Run, root: Path) -> None:
    before = sorted(root.parent.rglob("*"))
    code, said = split()
    assert code == 0
    assert "LGG TCIA10      1  1 (100.0%)   0 (0.0%)" in said
    assert "all            14  11 (78.6%)  3 (21.4%)" in said
    assert "note: stratum LGG TCIA10 has 1 of the 2 patients that a split takes: all in training" in said
    assert said.splitlines()[-2:] == ["nothing is written; -o FILE does", "14 given, 14 used, 0 refused"]
    assert sorted(root.parent.rglob("*")) == before


def test_a_convention_of_a_healthy_brain_is_no_fault_where_no_voxel_is_read(split: Run) -> None:
    assert split("--data.native_labels=mrbrains13")[0] == 0
    code, said = split("--data.native_labels=mrbrains13", "--data.labels=regions")
    assert code == 2
    assert "choose --data.labels labels" in said


def test_a_folder_that_may_not_be_written_is_named_before_anything_is_read(
    split: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # the tests run as root, who may write everywhere
    code, said = split("-o", tmp_path / "s.json")
    reason = "may not be written to (Permission denied); give another folder"
    assert (code, said) == (2, f"segan_pl: error: -o {tmp_path / 's.json'}: {reason}\n")


def test_the_file_holds_every_case_and_is_not_replaced_without_being_asked(
    split: Run, root: Path, tmp_path: Path
) -> None:
    file = tmp_path / "split.json"
    assert split("--test=0.2", "-o", file)[0] == 0
    first = file.read_bytes()
    assert sorted(Split.load(file).named) == names(root)
    code, said = split("--seed=1", "-o", file)
    assert (code, file.read_bytes()) == (2, first)
    assert f"-o {file}: is there already; choose another name or add --overwrite" in said
    assert split("--test=0.2", "--overwrite", "-o", file)[0] == 0
    assert file.read_bytes() == first
    assert split("--test=0.2", "--seed=1", "--overwrite", "-o", file)[0] == 0
    assert file.read_bytes() != first


def test_folds_are_written_and_each_fits(split: Run, root: Path, tmp_path: Path) -> None:
    file = tmp_path / "folds.json"
    code, said = split("--folds=3", "--test=0.2", "-o", file)
    assert code == 0
    assert "validation of each fold" in said
    folds = load_folds(file)
    assert [fold.name for fold in folds] == ["fold 0", "fold 1", "fold 2"]
    code, said = split("--check", file)
    assert code == 0
    assert f"{file} fits the data" in said
    found = json.loads(file.read_text())
    moved = found["folds"][1]["val"].pop()
    file.write_text(json.dumps(found))
    code, said = split("--check", file)
    assert code == 1
    assert f"{file}: fold 1: the split leaves out 1 of the data's 14 cases: {moved}" in said


def test_a_column_of_the_table_that_does_not_exist_is_refused_when_checking_too(split: Run, tmp_path: Path) -> None:
    split("-o", tmp_path / "s.json")
    code, said = split("--check", tmp_path / "s.json", "--by", "grad")
    assert code == 2
    assert "did you mean 'grade'" in said


def test_nested_folds_show_the_outer_and_each_inner_table(split: Run, tmp_path: Path) -> None:
    code, said = split("--folds=3", "--nested=2", "--table=markdown", "-o", tmp_path / "n.json")
    assert code == 0
    assert "| stratum    | total |   outer 0 |" in said
    assert [f"inner validations of outer {i}, cases:" in said for i in range(4)] == [True, True, True, False]
    assert len(load_folds(tmp_path / "n.json")) == 6


def test_nnunets_file_is_written_and_turned_into_ours(split: Run, tmp_path: Path) -> None:
    theirs, ours = tmp_path / "splits_final.json", tmp_path / "ours.json"
    code, said = split("--folds=3", "--test=0.2", "--format=nnunet", "-o", theirs)
    assert code == 0
    assert "note: nnU-Net's file has no test part: 3 test cases are not in it as such" in said
    assert [set(fold) for fold in json.loads(theirs.read_text())] == [{"train", "val"}] * 3
    code, said = split("--check", theirs, "-o", ours)
    assert code == 1
    assert "the split leaves out 3 of the data's 14 cases" in said
    code, said = split("--check", theirs, "--leftovers=ignore", "-o", ours)
    assert (code, said.splitlines()[-1]) == (0, "14 given, 11 used, 0 refused")
    assert [fold.val for fold in load_folds(ours)] == [fold.val for fold in load_folds(theirs)]


def test_a_second_scan_stays_with_the_first_and_leaks_only_when_asked(split: Run, root: Path, tmp_path: Path) -> None:
    for patient in "ABCDEF":
        put(root, "HGG", f"BraTS19_CBICA_A{patient}A_2")
    by_patient, by_scan = tmp_path / "patient.json", tmp_path / "scan.json"
    assert split("--val=0.4", "-o", by_patient)[0] == 0
    assert split("--check", by_patient)[0] == 0
    code, said = split("--val=0.4", "--group=scan", "-o", by_scan)
    assert code == 0
    assert "note: scans of a patient may be on two sides, as --group scan asks" in said
    assert "patients:" in said
    assert "patients are on two sides of the split" in split("--check", by_scan)[1]
    claims = json.loads(by_scan.read_text()) | {"grouped": "patient"}
    by_scan.write_text(json.dumps(claims))
    code, said = split("--check", by_scan)
    assert code == 1
    assert "the split has patients on two sides" in said
    assert split("--check", by_scan, "--leaks=allow")[0] == 0


def test_cases_of_the_same_content_share_a_side(split: Run, root: Path, tmp_path: Path) -> None:
    pair = ["BraTS19_CBICA_AAA_1", "BraTS19_TCIA09_AAA_1"]
    found = tmp_path / "check.json"
    found.write_text(json.dumps({"duplicates": [pair]}))
    sides = set()
    for seed in range(8):
        file = tmp_path / f"{seed}.json"
        assert split("--val=0.4", f"--seed={seed}", f"--together={found}", "-o", file)[0] == 0
        sides.add(tuple(name in Split.load(file).val for name in pair))
    assert sides <= {(True, True), (False, False)}
    apart = tmp_path / "apart.json"
    rest = [name for name in names(root) if name not in pair]
    Split((pair[0], *rest), (pair[1],)).save(apart)
    assert split("--check", apart)[0] == 0
    code, said = split("--check", apart, f"--together={found}")
    assert code == 1
    assert "cases with the same content on two sides: {BraTS19_CBICA_AAA_1, BraTS19_TCIA09_AAA_1}" in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", 'no list of groups under "duplicates"'),
        ('{"duplicates": ["a"]}', 'no list of groups under "duplicates"'),
        ('{"duplicates": [["a", "b"]]}', "names cases that the data lacks: a, b"),
        ("{", "cannot be read as JSON"),
    ],
)
def test_a_wrong_file_of_groups_is_refused(split: Run, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "check.json").write_text(text)
    code, said = split("--together", tmp_path / "check.json")
    assert code == 1
    assert message in said


def test_a_case_without_a_modality_is_refused_or_left_out_and_counted(split: Run, root: Path) -> None:
    next(root.rglob("*_t2.nii.gz")).unlink()
    code, said = split()
    assert code == 1
    assert "1 of 14 cases are incomplete" in said
    code, said = split("--data.missing=drop", "--together", _groups_of(root))
    assert (code, said.splitlines()[-1]) == (0, "14 given, 13 used, 0 refused")
    assert "1 cases are incomplete and left out" in said


def _groups_of(root: Path) -> Path:
    """What `segan_pl check` would say if all cases had one content, the incomplete one too, but for two."""
    file = root.parent / "check.json"
    file.write_text(json.dumps({"duplicates": [names(root)[:-3]]}))
    return file


def test_a_case_without_a_mask_is_refused_since_fit_cannot_use_it(split: Run, root: Path) -> None:
    next(root.rglob("*_seg.nii.gz")).unlink()
    code, said = split()
    assert code == 1
    assert "(no mask)" in said


def test_rounding_down_is_a_choice(split: Run) -> None:
    assert "LGG TCIA10      1  1 (100.0%)" in split("--val=0.2")[1]
    assert "LGG TCIA10      1   0 (0.0%)  1 (100.0%)" in split("--val=0.2", "--rounding=floor")[1]


@pytest.mark.parametrize("option", ["--data.labels=region", "--data.native_labels=brats2016"])
def test_a_wrong_name_of_labels_is_refused_though_a_split_needs_none(split: Run, option: str) -> None:
    code, said = split(option)
    assert code == 2
    assert option.split("=")[1] in said


def test_a_manifest_makes_strata_of_its_own_columns_and_need_not_say_what_labels_mean(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["case,patient,scanner,t1,mask"]
    for number, name in enumerate(names(root)):
        folder = next(root.glob(f"*/{name}"))
        files = f"{folder}/{name}_t1.nii.gz,{folder}/{name}_seg.nii.gz"
        lines.append(f"{name},{name},{'Skyra' if number % 2 else 'Prisma'},{files}")
    (tmp_path / "cases.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(CaseError, match="does not say what the masks' labels mean"):
        find_cohort(tmp_path / "cases.csv")
    assert main(["split", f"--root={tmp_path / 'cases.csv'}", "--by", "scanner", "--val=0.28"]) == 0
    said = capsys.readouterr().out
    assert "Prisma       7   5 (71.4%)  2 (28.6%)" in said
    assert "Skyra        7   5 (71.4%)  2 (28.6%)" in said


def test_a_preset_is_followed(split: Run, tmp_path: Path) -> None:
    code, _ = split("--preset=segan_cat_2019", "-o", tmp_path / "s.json")
    assert code == 0
    found = Split.load(tmp_path / "s.json")
    assert (len(found.train), len(found.val)) == (5 + 2 + 3 + 0, 1 + 1 + 1 + 1)  # int(0.9 n) of 6, 3, 4 and 1


def test_an_institution_is_held_out_of_every_fold_whatever_a_file_says_of_a_test_part(
    split: Run, root: Path, tmp_path: Path
) -> None:
    held = {name for name in names(root) if "CBICA" in name}
    line = ("--hold_out=institution=CBICA", "--data.test_fraction=0.3")
    code, said = split(*line, "--folds=3", "-o", tmp_path / "s.json")
    assert code == 0
    assert "note: 6 cases are the test part (--hold_out institution=CBICA)" in said
    folds = load_folds(tmp_path / "s.json")
    assert [set(fold.test) for fold in folds] == [held] * 3
    assert sorted(name for fold in folds for name in fold.val) == sorted(set(names(root)) - held)
    assert split(*line, "-o", tmp_path / "t.json")[0] == 0
    assert set(Split.load(tmp_path / "t.json").test) == held
    assert split("--check", tmp_path / "s.json")[0] == 0


def test_columns_are_chosen_and_none_is_a_choice(split: Run) -> None:
    by_grade, plain = split("--by", "grade")[1], split("--by")[1]
    assert "HGG          9   7 (77.8%)  2 (22.2%)" in by_grade
    assert "CBICA" not in by_grade
    assert "all         14  11 (78.6%)  3 (21.4%)" in plain
    assert "HGG" not in plain


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--by", "site"], "cannot stratify by ['site']"),
        (["--preset=albunett"], "--preset albunett: no such preset; did you mean 'albunet'"),
        (["--preset=albunet", "--val=0.3"], "--preset says how the cases are parted; leave out --val"),
        (["--preset=albunet", "--by", "grade"], "leave out --by"),
        (["--check=x", "--preset=albunet", "--folds=3"], "leave out --folds, --preset"),
        (["--nested=3"], "--nested needs --folds"),
        (["--folds=3", "--nested=2", "--test=0.2"], "leave out --test"),
        (["--folds=3", "--val=0.2"], "--folds says how large validation is; leave out --val"),
        (["--folds=1"], "1 folds, 0 inner folds; expected at least 2"),
        (["--hold_out=institution=CBICA", "--test=0.2"], "--hold_out says what the test part is; leave out --test"),
        (["--hold_out=institution=CBICA", "--folds=2", "--nested=2"], "--hold_out says what the test part is"),
        (["--hold_out=institution=CBICB"], "they have CBICA, TCIA09, TCIA10, TMC"),
        (["--hold_out=CBICA"], "--hold_out CBICA: expected COLUMN=VALUE"),
        (["--check=x", "--hold_out=institution=CBICA"], "leave out --hold_out"),
        (["--leaks=allow"], "--leftovers and --leaks go with --check"),
        (["--val=1.5"], "val"),
        (["--seed=-1"], "seed"),
        (["-o", "/nowhere/s.json"], "-o /nowhere/s.json: no such folder"),
        (["-o", "/tmp"], "-o /tmp: is a folder"),
        (["--fold=3"], "did you mean --folds?"),
        (["--val=0.6", "--test=0.4"], "sum below 1"),
        (["--check=none.json"], "none.json: no such file"),
        (["--data.split_seed=-1"], "--data.split_seed -1: expected a whole number from 0"),
    ],
)
def test_what_was_typed_wrongly_ends_with_2_and_one_line(split: Run, arguments: list[str], message: str) -> None:
    code, said = split(*arguments)
    assert code == 2
    assert message in said
    assert len(said.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--folds=15"], "14 patients for 15 folds; validation would be empty in 1"),
    ],
)
def test_what_the_cases_do_not_allow_ends_with_1(split: Run, arguments: list[str], message: str) -> None:
    code, said = split(*arguments)
    assert code == 1
    assert message in said


def test_a_case_without_a_mask_in_a_split_is_named_with_its_part(split: Run, root: Path, tmp_path: Path) -> None:
    bare, *rest = names(root)
    next(root.rglob(f"{bare}_seg.nii.gz")).unlink()
    Split((bare, *rest[:-1]), (rest[-1],)).save(tmp_path / "s.json")
    code, said = split("--check", tmp_path / "s.json", "--data.missing=drop")
    assert code == 0
    assert f"note: 1 cases of the split cannot be used and are left out: {bare} (train: no mask)" in said


def test_a_split_for_other_data_is_refused_with_both_differences(split: Run, root: Path, tmp_path: Path) -> None:
    Split((*names(root)[1:-1], "x"), (names(root)[-1],)).save(tmp_path / "s.json")
    code, said = split("--check", tmp_path / "s.json")
    assert code == 1
    assert f"names 1 cases that the data lacks: x; the data has 1 that the split lacks: {names(root)[0]}" in said


def test_the_command_imports_no_pytorch(root: Path) -> None:
    program = (
        "import sys; from segan_pl.__main__ import main; "
        f"code = main(['split', '--root={root}']); assert code == 0; "
        "assert not {'torch', 'lightning', 'nibabel'} & set(sys.modules), sorted(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_data_file_says_how_it_is_split_and_the_commands_own_options_win(tmp_path, capsys):
    write_cohort(tmp_path / "data", layout="brats2019", cases=20, shape=(16, 32, 32))
    file = tmp_path / "system.yaml"
    file.write_text("data: {val_fraction: 0.4, test_fraction: 0.2, stratify_by: [], split_seed: 3, batch_size: 7}")
    arguments = ["split", "--config", str(file), f"--root={tmp_path / 'data'}"]
    assert main([*arguments, "-o", str(tmp_path / "a.json")]) == 0
    split = Split.load(tmp_path / "a.json")
    assert [len(part) for part in (split.train, split.val, split.test)] == [8, 8, 4]
    assert split.seed == 3
    assert main([*arguments, "--val=0.1", "--test=0", "--seed=4", "-o", str(tmp_path / "b.json")]) == 0
    split = Split.load(tmp_path / "b.json")
    assert [len(part) for part in (split.train, split.val, split.test)] == [18, 2, 0]
    assert split.seed == 4
    capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--check=x.json", "--seed=7"], "--check draws nothing; leave out --seed"),
        (["--check=x.json", "--group=scan"], "--check draws nothing; leave out --group"),
        (["--format=nnunet"], "--format and --overwrite say how -o FILE is written"),
        (["--overwrite"], "--format and --overwrite say how -o FILE is written"),
    ],
)
def test_options_that_would_do_nothing_are_refused(tmp_path, capsys, arguments, message):
    assert main(["split", f"--root={tmp_path}", *arguments]) == 2
    assert message in capsys.readouterr().err
