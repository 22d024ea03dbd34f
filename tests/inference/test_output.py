"""Which file of a folder is whose, and what made them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from segan_pl.data.case import Case, CaseError
from segan_pl.errors import UsageError
from segan_pl.inference import output
from segan_pl.inference.output import OutputFolder, Target, differences, read_identity, targets


def case(name: str, folder: Path, **more: object) -> Case:
    return Case(name, name, {"flair": folder / f"{name}_flair.nii.gz"}, **more)  # type: ignore[arg-type]


def identity(digest: str = "one", **settings: object) -> dict[str, object]:
    return {"checkpoints": [{"path": "a.ckpt", "digest": digest}], "settings": settings}


def folder(path: Path, digest: str = "one", names: str = "ab", overwrite: bool = False) -> OutputFolder:
    return OutputFolder(path, identity(digest), {n: Target(path / f"{n}.nii.gz") for n in names}, overwrite)


def fill(output: OutputFolder, *names: str) -> None:
    output.claim()
    for name in names:
        output.targets[name].label.write_text(str(output.identity["checkpoints"]))


def test_two_cases_with_one_file_name_are_refused(tmp_path: Path) -> None:
    cases = [case("a", tmp_path, output="VSD.Seg.1.mha"), case("b", tmp_path, output="VSD.Seg.1.mha")]
    with pytest.raises(UsageError, match=r"a and b would both be VSD\.Seg\.1\.mha; rename a case"):
        targets(cases, {"a": "VSD.Seg.1.mha", "b": "VSD.Seg.1.mha"}, tmp_path / "out", ())


def test_a_case_called_like_anothers_probability_is_refused_only_where_probabilities_are_written(
    tmp_path: Path,
) -> None:
    cases, names = [case("a", tmp_path), case("a_wt", tmp_path)], {"a": "a.nii.gz", "a_wt": "a_wt.nii.gz"}
    assert [t.label.name for t in targets(cases, names, tmp_path / "out", ()).values()] == ["a.nii.gz", "a_wt.nii.gz"]
    with pytest.raises(UsageError, match=r"a and a_wt would both be a_wt\.nii\.gz"):
        targets(cases, names, tmp_path / "out", ("wt",))


def test_an_image_a_mask_or_the_manifest_is_never_replaced(tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    (tmp_path / "link").symlink_to(masks)
    one = case("a", tmp_path, mask=masks / "a.nii.gz")
    with pytest.raises(UsageError, match=r"a\.nii\.gz is a file of a, which would be replaced"):
        targets([one], {"a": "a.nii.gz"}, tmp_path / "link", ())
    with pytest.raises(UsageError, match=r"a_flair\.nii\.gz is a file of a"):
        targets([one], {"a": "a_flair.nii.gz"}, tmp_path, ())
    with pytest.raises(UsageError, match="is a file of the input"):
        targets([one], {"a": "b.nii.gz"}, tmp_path, (), [tmp_path / "b.nii.gz"])
    with pytest.raises(UsageError, match=r"predictions\.csv is a file of the input"):
        targets([one], {"a": "a.nii.gz"}, tmp_path, (), [tmp_path / "predictions.csv"])
    assert targets([one], {"a": "a.nii.gz"}, tmp_path, ())


def test_a_folder_is_continued_by_its_own_identity_alone(tmp_path: Path) -> None:
    assert not folder(tmp_path).begun()
    fill(folder(tmp_path), "a")
    assert folder(tmp_path).begun()
    with pytest.raises(UsageError, match="holds predictions made with other checkpoints; choose another --output"):
        folder(tmp_path, "two").begun()
    assert not folder(tmp_path, "two", overwrite=True).begun()


def test_files_that_nobody_accounts_for_are_not_taken_for_ours(tmp_path: Path) -> None:
    (tmp_path / "b.nii.gz").write_text("somebody's")
    with pytest.raises(UsageError, match=r"holds b\.nii\.gz, which no predict\.json accounts for"):
        folder(tmp_path).begun()
    folder(tmp_path, overwrite=True).claim()
    assert not (tmp_path / "b.nii.gz").exists()


def test_the_other_identitys_files_go_before_the_first_new_one_also_those_of_other_parts_and_cases(
    tmp_path: Path,
) -> None:
    fill(folder(tmp_path, names="abc"), "a", "b", "c")
    (tmp_path / "predictions_1of2.csv").write_text("case\na\n")
    (tmp_path / "mine.txt").write_text("not of predict")
    fill(folder(tmp_path, "two", overwrite=True), "a")  # killed here
    assert {path.name for path in tmp_path.iterdir() if path.name[0] != "."} == {
        "a.nii.gz",
        "mine.txt",
        "predict.json",
    }
    second = folder(tmp_path, "two", overwrite=True)
    assert second.begun()
    fill(second, "b")
    assert all("two" in (tmp_path / f"{name}.nii.gz").read_text() for name in "ab")


def test_a_kill_between_removing_and_writing_leaves_the_old_identity_and_none_of_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder(tmp_path), "a", "b")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(output, "write_whole", killed)
    with pytest.raises(KeyboardInterrupt):
        folder(tmp_path, "two", overwrite=True).claim()
    assert folder(tmp_path).begun()
    assert not list(tmp_path.glob("*.nii.gz"))


def test_a_job_that_finds_the_folder_taken_in_the_meantime_says_so(tmp_path: Path) -> None:
    late = folder(tmp_path, "two")
    assert not late.begun()
    folder(tmp_path).claim()
    with pytest.raises(UsageError, match="made with other checkpoints"):
        late.claim()


def test_a_copy_of_a_checkpoint_and_what_is_refused_make_no_difference() -> None:
    copied = {**identity(missing="zero", mirror=[1]), "checkpoints": [{"path": "copy.ckpt", "digest": "one"}]}
    assert differences(identity(missing="refuse", mirror=[1]), copied) == []
    assert differences(identity(mirror=[]), copied) == ["settings"]


def test_a_damaged_or_foreign_predict_json_is_refused_and_removes_nothing_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "predict.json").write_text("[]")
    with pytest.raises(UsageError, match="not what `segan_pl predict` writes"):
        read_identity(tmp_path)
    (tmp_path / "kept").write_text("")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "predict.json").write_text(json.dumps({**identity(), "files": ["../kept"]}))
    with pytest.raises(CaseError, match="expected plain names"):
        folder(tmp_path / "out", "two", overwrite=True).claim()
    assert (tmp_path / "kept").exists()
