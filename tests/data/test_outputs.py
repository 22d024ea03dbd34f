"""What is never replaced: files that a command did not make, and files that it reads."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from segan_pl.__main__ import main
from segan_pl.data.outputs import Kind, Output, figure_of, page_of, require_free
from segan_pl.data.split.record import Split
from segan_pl.errors import UsageError
from segan_pl.training.callbacks.record import CaseScores
from segan_pl.training.run.folder import require_own_run, require_split_in_place
from tests.cli.commands.test_evaluate import predict
from tests.cohort import QUIET
from tests.generators.trees import write_cohort
from tests.report.run_folders import make_run

pytestmark = QUIET
FOREIGN = b"somebody's work\n"
OURS = Kind("segan_pl x", r"made,by,us\n")


# -- the function -----------------------------------------------------------------------------------------------------


def test_its_own_kind_and_an_empty_file_are_replaced(tmp_path: Path) -> None:
    output = Output(tmp_path / "a.csv", OURS, "--csv a.csv")
    for content in (b"", b"made,by,us\n1,2,3\n"):
        output.path.write_bytes(content)
        assert output.write("made,by,us\n4,5,6\n") == output.path
        assert output.path.read_text() == "made,by,us\n4,5,6\n"


def test_a_strangers_file_stays_and_the_line_says_whose_it_is_not(tmp_path: Path) -> None:
    output = Output(tmp_path / "a.csv", OURS, f"--csv {tmp_path / 'a.csv'}")
    output.path.write_bytes(FOREIGN)
    why = (
        r"--csv .*a.csv: is there and was not written by `segan_pl x`; it stays as it is, give another name or move it"
    )
    with pytest.raises(UsageError, match=why):
        output.write("made,by,us\n")
    assert output.path.read_bytes() == FOREIGN


@pytest.mark.parametrize("link", [False, True])
def test_what_is_read_stays_though_it_looks_like_ours_and_overwrite_is_given(tmp_path: Path, link: bool) -> None:
    read = tmp_path / "manifest.csv"
    read.write_text("made,by,us\n")
    target = tmp_path / "link.csv" if link else read
    if link:
        os.link(read, target)
    output = Output(target, OURS, "--csv x", inputs=(read,), overwrite=True)
    with pytest.raises(UsageError, match="is a file that the command reads; it stays as it is"):
        output.require_free()


def test_of_a_folder_that_is_read_only_its_own_kind_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(FOREIGN)
    (tmp_path / "ours.csv").write_text("made,by,us\n")
    with pytest.raises(UsageError, match=r"table.csv: is a file that the command reads"):
        Output(tmp_path / "table.csv", OURS, "-o x", inputs=(tmp_path,), overwrite=True).require_free()
    Output(tmp_path / "ours.csv", OURS, "-o x", inputs=(tmp_path,), overwrite=True).require_free()


def test_overwrite_decides_where_a_command_has_it(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("made,by,us\n")
    with pytest.raises(UsageError, match="is there already; choose another name or add --overwrite"):
        Output(tmp_path / "a.csv", OURS, "-o a.csv", overwrite=False).require_free()
    (tmp_path / "a.csv").write_bytes(FOREIGN)
    Output(tmp_path / "a.csv", OURS, "-o a.csv", overwrite=True).require_free()


@pytest.mark.parametrize(
    ("given", "instead", "remedy"),
    [
        ("--csv {path}", None, "give another name or move it"),
        ("--output {folder}", None, "give another --output or move it"),
        ("--run.directory {folder}", None, "give another --run.directory or move it"),
        ("--pred {folder} (where outputs go)", "give --output", "give --output or move it"),
        ("scores of {folder}", None, "move it"),
        ("{path}", "", "move it"),
    ],
)
def test_the_remedy_is_one_that_can_be_typed(tmp_path: Path, given: str, instead: str | None, remedy: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(FOREIGN)
    output = Output(path, OURS, given.format(path=path, folder=tmp_path), instead=instead)
    with pytest.raises(UsageError, match=f"; it stays as it is, {remedy}$"):
        output.require_free()


def test_folders_and_devices_are_no_places_for_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="is a folder, expected a file; give another --csv or move it"):
        Output(tmp_path, OURS, "--csv x").require_free()
    with pytest.raises(UsageError, match="is no regular file"):
        Output(tmp_path / "pipe", OURS, "--csv x").require_free()


def test_two_outputs_in_one_place_are_refused_by_whatever_name(tmp_path: Path) -> None:
    one, other = tmp_path / "a.csv", tmp_path / "." / "b" / ".." / "a.csv"
    with pytest.raises(UsageError, match="--csv a and --json b are one file; give each its own"):
        require_free([Output(one, OURS, "--csv a"), Output(other, OURS, "--json b")])


# -- the commands -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set in the lgg form, its own table in it; another with predictions; two runs."""
    folder = tmp_path_factory.mktemp("place")
    write_cohort(folder / "lgg", layout="lgg", cases=4, shape=(8, 24, 32))
    write_cohort(folder / "data", layout="brats2019", cases=3, shape=(8, 24, 32))
    (folder / "pred").mkdir()
    predict(folder / "data", folder / "pred")
    for name in "ab":
        make_run(folder / name)
    return folder


CHECK = "check --root={lgg} --workers=1 "
EVALUATE = "evaluate --pred={pred} --root={data} --workers=1 "
COMPARE = "compare {a} {b} --resamples=1000 --output={out}"
REPORT = "report {a} --output={out}/page.html"
CSV, JSON, HTML = "{out}/x.csv", "{out}/x.json", "{out}/x.html"
COMMANDS = [
    (f"{CHECK}--csv={CSV}", CSV),
    (f"{CHECK}--json={JSON}", JSON),
    pytest.param(f"{CHECK}--html={HTML}", HTML, marks=pytest.mark.slow),
    (f"{EVALUATE}--output={{out}}", "{out}/metrics_per_case.csv"),
    (f"{EVALUATE}--output={{out}}", "{out}/summary.json"),
    (COMPARE, "{out}/comparison.csv"),
    (COMPARE, "{out}/comparison.md"),
    (COMPARE, "{out}/comparison.tex"),
    (f"{REPORT} --figures=false", "{out}/page.html"),
    pytest.param(f"{REPORT} --figures=false", "{out}/page.md", marks=pytest.mark.slow),
    pytest.param(REPORT, "{out}/figures/box_dice.svg", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("command", "target"), COMMANDS)
def test_a_command_replaces_its_own_file_and_nobody_elses(
    command: str, target: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {name: place / name for name in ("lgg", "data", "pred", "a", "b")} | {"out": tmp_path}
    arguments, file = command.format(**names).split(), Path(target.format(**names))
    for _ in range(2):  # the second time over its own
        assert main(arguments) == 0
    made = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    file.write_bytes(FOREIGN)
    capsys.readouterr()
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{file}: is there and was not written by `segan_pl" in error
    assert file.read_bytes() == FOREIGN
    now = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert now == made | {file: FOREIGN}  # neither was anything else replaced


def test_pages_and_figures_are_known_by_their_first_bytes(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    from segan_pl.report.figures import as_png, as_svg
    from segan_pl.report.page import page

    contents = {
        "a.html": (Kind("x", page_of("segan_pl's & ")), page("base.html", title="segan_pl's & <b>").encode()),
        "a.svg": (figure_of("x", ".svg"), as_svg(Figure()).encode()),
        "a.png": (figure_of("x", ".png"), as_png(Figure())),
    }
    for name, (kind, content) in contents.items():
        (tmp_path / name).write_bytes(content)
        assert kind.made(tmp_path / name)
        (tmp_path / name).write_bytes(content.replace(b"segan_pl", b"somebody"))
        assert not kind.made(tmp_path / name)


@pytest.mark.parametrize("scored", [True, False])
def test_a_reports_markdown_of_an_earlier_version_is_replaced(place: Path, tmp_path: Path, scored: bool) -> None:
    page, run = tmp_path / "page.html", place / "a"
    if not scored:
        run = tmp_path / "run"
        make_run(run)
        shutil.rmtree(run / "scores")
    report = ["report", str(run), f"--output={page}", "--figures=false"]
    assert main(report) == 0
    tables = page.with_suffix(".md")
    now = tables.read_text()
    mark, _, before = now.partition("\n\n")
    assert mark.startswith("<!--")
    tables.write_text(before)
    assert main(report) == 0
    assert tables.read_text() == now


def test_a_figure_without_a_mark_may_be_an_earlier_versions(tmp_path: Path) -> None:
    (tmp_path / "a.svg").write_text("<svg/>")
    output = Output(tmp_path / "a.svg", figure_of("segan_pl report", ".svg"), f"--output {tmp_path}")
    with pytest.raises(
        UsageError, match=r"`segan_pl report` \(or by an earlier version, which left no mark in it\); it"
    ):
        output.require_free()


def test_the_data_sets_own_table_is_not_replaced(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = place / "lgg" / "cases.csv"
    before = table.read_bytes()
    for command in (
        f"check --root={place / 'lgg'} --csv={table}",
        f"split --root={place / 'lgg'} --by -o {table} --overwrite",
        f"fit -c segan_small --root={place / 'lgg'} --run.directory={place / 'lgg'}",
    ):
        assert main(command.split()) == 2, command
        assert "it stays as it is" in capsys.readouterr().err
        assert table.read_bytes() == before


def test_a_foreign_summary_beside_the_predictions_is_kept(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = place / "pred" / "summary.json"
    summary.write_text(json.dumps({"foreground_mean": {"Dice": 0.8}, "mean": {}}))  # nnU-Net's
    before = summary.read_bytes()
    try:
        assert main(f"evaluate --pred={place / 'pred'} --root={place / 'data'} --workers=1".split()) == 2
        error = capsys.readouterr().err
        assert "(where outputs go without --output)" in error
        assert error.endswith("it stays as it is, give --output or move it\n")
        assert summary.read_bytes() == before
        assert not (place / "pred" / "metrics_per_case.csv").exists()
    finally:
        summary.unlink()


def test_a_split_is_made_of_no_file_that_it_reads(place: Path, tmp_path: Path) -> None:
    file = tmp_path / "s.json"
    split = ["split", f"--root={place / 'data'}", "--by", "-o", str(file)]
    assert main(split) == 0
    before = file.read_bytes()
    assert main([*split, "--check", str(file), "--overwrite"]) == 2
    case = next((place / "data").rglob("*_t1.nii.gz"))
    assert main([*split[:-1], str(case), "--overwrite"]) == 2
    assert file.read_bytes() == before


def test_a_report_into_a_folder_asks_for_the_pages_file(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(place / "a"), f"--output={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"segan_pl: error: --output {tmp_path}: is a folder; give the page's file, e.g. --output ")
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("experiment segan_cat --set size=_small --root={data} --data.stratify_by=[]", "tables.csv"),
        ("experiment cross_validation --set system=segan_small --root={data} --data.stratify_by=[]", "report.md"),
        ("sweep seeds", "results.csv"),
    ],
)
def test_a_study_begins_in_no_folder_with_files_that_it_would_replace(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, name: str
) -> None:
    (tmp_path / name).write_bytes(FOREIGN)
    assert main([*command.format(data=place / "data").split(), f"--output={tmp_path}"]) == 2
    assert f"{name}: is there and was not written by" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["config.yaml", "split.json", "cases.csv", "metrics.csv", "command.txt"])
def test_a_run_begins_in_no_folder_with_files_that_it_would_replace(tmp_path: Path, name: str) -> None:
    require_own_run(tmp_path, "--run.directory x")
    (tmp_path / name).write_bytes(FOREIGN)
    with pytest.raises(UsageError, match=f"--run.directory x.*{name}.*it stays as it is"):
        require_own_run(tmp_path, "--run.directory x")


def test_a_run_takes_no_file_that_it_reads_for_its_own(tmp_path: Path) -> None:
    split, config = tmp_path / "split.json", tmp_path / "config.yaml"
    Split(("a", "b"), ("c",)).save(split)
    with pytest.raises(UsageError, match=r"x: holds split.json and no run that wrote it; it stays as it is"):
        require_own_run(tmp_path, "x")
    require_own_run(tmp_path, "x", split_file=split)
    with pytest.raises(UsageError, match=r"^x: is the folder of the data set; give another folder$"):
        require_own_run(tmp_path, "x", split_file=split, root=str(tmp_path))
    (tmp_path / "cases.tsv").touch()
    with pytest.raises(UsageError, match=r"^x: is the folder of the data set; give another folder$"):
        require_own_run(tmp_path, "x", split_file=split, root=str(tmp_path / "cases.tsv"))
    require_split_in_place(Split(("b", "a"), ("c",)), split)
    with pytest.raises(UsageError, match=r"leave 1 of its cases out \(b: incomplete or without mask\); it stays"):
        require_split_in_place(Split(("a",), ("c",)), split)
    config.write_text("seed_everything: 0\ntrainer:\n  accelerator: auto\n")  # as --print_config writes it
    with pytest.raises(UsageError, match=r"config.yaml is a file that the command reads; it stays as it is"):
        require_own_run(tmp_path, "x", [config])
    (tmp_path / "command.txt").write_text("fit\n")  # a run has begun
    require_own_run(tmp_path, "x", [config], root=str(tmp_path))


def test_a_strangers_file_in_the_place_of_scores_is_refused_before_anything_is_scored(tmp_path: Path) -> None:
    callback = CaseScores(tmp_path, "test_best.csv")
    (tmp_path / "scores").mkdir()
    callback.setup(None, None, "test")  # type: ignore[arg-type]
    (tmp_path / "scores" / "test_best.csv").write_bytes(FOREIGN)
    with pytest.raises(UsageError, match="was not written by `segan_pl validate or test`; it stays as it is"):
        callback.setup(None, None, "test")  # type: ignore[arg-type]
