"""The CSV manifest: what is written is found, what is wrong is refused with its line."""

from __future__ import annotations

import csv
import io
import json
import string
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segan_pl.data.case import CaseError
from segan_pl.data.layouts import find_cases, find_data_set
from segan_pl.data.layouts.folders import suffix_of
from segan_pl.data.layouts.table import read_table
from tests.data.layouts.test_forms import empty

ODD = st.text(st.sampled_from(string.ascii_letters + string.digits + " ,;\t\"'-_äßé中.#=%"), min_size=1, max_size=12)
ODD = ODD.filter(lambda text: not suffix_of(text))  # a column of those is one of images
NAMES = ODD.map(str.strip).filter(lambda name: name and "\t" not in name and name[0] != ".")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with a.nii.gz to e.nii.gz."""
    for letter in "abcde":
        empty(tmp_path / "images" / f"{letter}.nii.gz")
    return tmp_path


def manifest(root: Path, *lines: str, name: str = "cases.csv") -> Path:
    path = root / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_the_shell_lines_of_the_docs_write_one(tmp_path: Path) -> None:
    """docs/data.md, of a study whose folders have names with spaces."""
    for name in ("patient 1", "patient 2"):
        for file in ("MPRAGE", "tissue"):
            empty(tmp_path / "my_study" / name / f"{file}.nii.gz")
    page = (Path(__file__).parents[3] / "docs/data.md").read_text(encoding="utf-8")
    lines = page.split("```sh\ncd my_study\n")[1].split("```")[0]
    subprocess.run(["sh", "-c", f"cd my_study\n{lines}"], cwd=tmp_path, check=True)
    found = find_data_set(tmp_path / "my_study")
    assert [case.name for case in found.cases] == ["patient 1", "patient 2"]
    assert found.cases[0].images == {"t1": tmp_path / "my_study/patient 1/MPRAGE.nii.gz"}
    assert found.cases[0].mask == tmp_path / "my_study/patient 1/tissue.nii.gz"


def test_every_column_finds_its_place(images):
    path = manifest(
        images,
        "case,patient,grade,institution,T1w,T1Gd,t2w,T2-FLAIR,seg,native_labels,scanner,Age",
        "one,p1,HGG,Oslo,images/a.nii.gz,images/b.nii.gz,images/c.nii.gz,images/d.nii.gz,images/e.nii.gz,msd,Skyra,61",
        "two,,,,,,,images/a.nii.gz,,,,",
    )
    found = find_data_set(path)
    assert (found.layout, found.root, found.native_labels) == ("manifest", path, "msd")
    one, two = found.cases
    assert (one.name, one.patient, one.grade, one.institution) == ("one", "p1", "HGG", "Oslo")
    assert {part: file.name[0] for part, file in one.images.items()} == {
        "t1": "a",
        "t1ce": "b",
        "t2": "c",
        "flair": "d",
    }
    assert one.mask == images / "images/e.nii.gz"
    assert one.extra == {"scanner": "Skyra", "Age": "61"}
    assert one.column("scanner") == "Skyra"
    assert (two.patient, two.grade, two.institution, two.mask) == ("two", None, None, None)
    assert list(two.images) == ["flair"]
    assert two.column("scanner") is None


def test_a_folder_with_manifest_csv_is_a_data_set_and_paths_may_be_absolute(images):
    manifest(images, "case,t1", f"one,{images / 'images/a.nii.gz'}", name="manifest.csv")
    found = find_data_set(images)
    assert found.root == images / "manifest.csv"
    assert found.cases[0].images["t1"] == images / "images/a.nii.gz"
    assert find_data_set(images, "manifest") == found


def test_a_manifest_among_the_cases_it_could_list_must_be_asked_for(images):
    manifest(images, "case,t1", "one,images/a.nii.gz", name="manifest.csv")
    empty(images / "BraTS2021_00000/BraTS2021_00000_t1.nii.gz")
    with pytest.raises(CaseError, match=r"\(brats2021\), \S+ \(manifest\); give one as --root, or name --data.layout"):
        find_cases(images)
    assert find_cases(images, "manifest")[0].name == "one"


def test_a_column_of_image_files_is_a_modality_whatever_it_is_called(images):
    lines = (
        "case,T1,T1-IR,PD,scanner",
        "one,images/a.nii.gz,images/b.nii.gz,,Skyra",
        "two,,images/a.nii.gz,x.mha,Trio",
    )
    (images / "x.mha").touch()
    found = find_data_set(manifest(images, *lines)).cases
    assert [list(case.images) for case in found] == [["t1", "t1_ir"], ["pd", "t1_ir"]]
    assert [dict(case.extra) for case in found] == [{"scanner": "Skyra"}, {"scanner": "Trio"}]


def test_a_json_list_of_objects_says_the_same_as_a_table(images):
    rows = [
        {"case": "one", "T1_IR": "images/a.nii.gz", "grade": None, "age": 61},
        {"case": "two", "flair": "images/b.nii.gz"},
    ]
    table = find_cases(
        manifest(images, "case,T1_IR,grade,age,flair", "one,images/a.nii.gz,,61,", "two,,,,images/b.nii.gz")
    )
    (images / "manifest.json").write_text(json.dumps(rows))
    assert find_cases(images / "manifest.json") == find_cases(images) == table
    manifest(images, "case,t1", "one,images/a.nii.gz", name="manifest.csv")
    with pytest.raises(CaseError, match=r"manifest.csv and manifest.json; expected one manifest"):
        find_cases(images)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ('{"cases": []}', r"expected a list of objects, \[{\"case\": \"a\""),
        ('[{"name": "a"}]', r"no 'case' in its objects, they have \['name'\]"),
        ('[{"case": "a", "t1": ["x.nii"]}]', r"object 1: \['t1'\] hold lists or objects"),
        ('[{"case": "a", "Case": "b"}]', r"\['Case', 'case'\] differ only in capitals"),
    ],
)
def test_what_is_wrong_in_json_is_refused(tmp_path, text, message):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(CaseError, match=message):
        find_cases(tmp_path)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_tables_of_any_spreadsheet_are_read(images, delimiter, mark, end):
    lines = [["Case", " Grade ", "FLAIR", "comment"], ["one", "HGG", "images/a.nii.gz", "a, b; c"], [""] * 4]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=end).writerows(lines)
    path = images / "cases.csv"
    path.write_bytes((mark + text.getvalue()).encode())
    (case,) = find_cases(path)
    assert (case.name, case.grade, case.extra) == ("one", "HGG", {"comment": "a, b; c"})


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("case,t1", "a,images/a.nii.gz", "a,images/b.nii.gz"), r"case 'a' on lines 2 and 3; expected one row"),
        (("case,t1,T1w", "a,images/a.nii.gz,"), r"columns \['t1', 'T1w'\] are both t1; expected one"),
        (("case,t1,seg,mask", "a,images/a.nii.gz,,"), r"columns \['seg', 'mask'\] are both mask"),
        (("case,t1,Case", "a,images/a.nii.gz,b"), r"column \['Case', 'case'\] occurs twice"),
        (
            ("case,t1,brain_mask", "a,images/a.nii.gz,", "b,,x/b.mha"),
            r"line 3: column 'brain_mask' holds image files and is called like a mask",
        ),
        (("case,t1,DWI,dwi-", "a,,images/a.nii.gz,images/a.nii.gz"), r"columns \['DWI', 'dwi-'\] are both dwi"),
        (("case,t1,--", "a,images/a.nii.gz,images/a.nii.gz"), "names a modality '--'; expected small letters"),
        (
            ("case,t1", "a,images/z.nii.gz"),
            r"line 2, column 't1': \S+/images/z.nii.gz does not exist; .* empty the cell",
        ),
        (("case,t1", "a,images"), r"line 2, column 't1': \S+/images is a folder; expected an image file"),
        (("case,t1", "a," + "x" * 5000), r"line 2, column 't1': \S+ (cannot be looked up|does not exist)"),
        (("case,t1", "a,images/a.nii.gz,HGG"), "line 2 has 3 cells, expected 2 as in the header"),
        (("case,t1,t2", "a,images/a.nii.gz"), "line 2 has 2 cells, expected 3 as in the header"),
        (("case,t1", ",images/a.nii.gz"), "line 2: case ''; expected a name that a file can have"),
        (("case,t1", "../a,images/a.nii.gz"), r"line 2: case '../a'; expected a name that a file can have"),
        (("case,t1", ".a,images/a.nii.gz"), r"line 2: case '.a'; expected a name that a file can have"),
        (("name,t1", "a,images/a.nii.gz"), r"no column 'case' among \['name', 't1'\]"),
        (("case,patient,institution", "a,p,x"), "no modality among the columns"),
        (
            ("case,t1,native_labels", "a,images/a.nii.gz,brats2016"),
            "line 2: --data.native_labels brats2016: unknown; did you",
        ),
        (
            ("case,t1,native_labels", "a,images/a.nii.gz,msd", "b,images/b.nii.gz,binary"),
            "line 2 says native_labels msd, line 3 says binary; expected one for all; make two manifests",
        ),
        (("case,t1", '"a,images/a.nii.gz'), r"line \d is not CSV \(unexpected end of data\); fix its quotes"),
        (("case,t1",), r"cases.csv: no case found; expected a CSV, TSV or JSON file"),
        (("",), r"no column 'case' among \[\]"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(images, lines, message):
    with pytest.raises(CaseError, match=message) as caught:
        find_cases(manifest(images, *lines))
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_refused(images):
    path = images / "cases.csv"
    path.write_bytes("case,t1\nMüller,images/a.nii.gz\n".encode("cp1252"))
    with pytest.raises(CaseError, match=r"not UTF-8 \(byte 9\); save it as 'CSV UTF-8'"):
        find_cases(path)


def test_a_line_number_counts_the_lines_of_the_file(images):
    lines = ("case,t1,note", 'a,images/a.nii.gz,"two\nlines"', "", "b,images/z.nii.gz,")
    with pytest.raises(CaseError, match="line 5, column "):
        find_cases(manifest(images, *lines))


@given(
    rows=st.lists(st.tuples(NAMES, ODD, ODD, st.booleans()), min_size=1, max_size=5, unique_by=lambda row: row[0]),
    delimiter=st.sampled_from(",;\t"),
    mark=st.sampled_from(["", "\ufeff"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_odd_names_come_back_from_any_dialect(tmp_path_factory, rows, delimiter, mark, quoting):
    root = tmp_path_factory.mktemp("manifest")
    (root / "ä b;c,d.nii").touch()
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, quoting=quoting)
    writer.writerow(["case", "patient", "flair", "scanner"])
    writer.writerows([name, patient, "ä b;c,d.nii" if there else "", extra] for name, patient, extra, there in rows)
    (root / "m.csv").write_bytes((mark + text.getvalue()).encode())
    found = [(c.name, c.patient, c.extra["scanner"], "flair" in c.images) for c in find_cases(root / "m.csv")]
    assert found == sorted(
        (name, patient.strip() or name, extra.strip(), there) for name, patient, extra, there in rows
    )


@given(st.binary(max_size=200) | st.text(st.sampled_from('case,t1;"\n\r\tab\x00'), max_size=60).map(str.encode))
def test_any_bytes_are_a_table_or_are_refused_in_one_line(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("manifest") / "m.csv"
    path.write_bytes(content)
    message = ""
    try:
        table = read_table(path, "case")
    except CaseError as error:
        message = str(error)
    else:
        assert "case" in [column.lower() for column in table.columns]
        assert all(set(row) == set(table.columns) for _, row in table.rows)
    assert len(message.splitlines()) <= 1


def test_empty_trailing_columns_as_a_spreadsheet_leaves_them_are_no_columns(tmp_path):
    empty(tmp_path / "a.nii.gz")
    path = tmp_path / "m.csv"
    path.write_text("case,t1,mask,,\na,a.nii.gz,,,\nb,a.nii.gz,,,\n")
    assert [dict(case.extra) for case in find_cases(path)] == [{}, {}]
    path.write_text("case,t1,mask,,\na,a.nii.gz,,,x\n")
    with pytest.raises(CaseError, match="line 2 has 5 cells, expected 3"):
        find_cases(path)
    path.write_text("case,,t1,,mask\na,,a.nii.gz,,\n")
    with pytest.raises(CaseError, match=r"column \[''\] occurs twice"):
        find_cases(path)


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("a_1,p", "A_1,q", "cases 'A_1' and 'a_1' differ only in capitals: one file on macOS and Windows; rename"),
        ("u\u0308,p", "\u00fc,q", r"cases 'u\\u0308' and '\\xfc' differ only in Unicode form .*: one file on macOS"),
        ("a,Smith", "b,smith", "patients 'Smith' and 'smith' differ only in capitals: perhaps one, whose scans"),
    ],
)
def test_names_that_a_disk_may_hold_for_one_are_refused_with_both(tmp_path, first, second, said):
    empty(tmp_path / "a.nii.gz")
    (tmp_path / "m.csv").write_text(f"case,patient,t1\n{first},a.nii.gz\n{second},a.nii.gz\n", encoding="utf-8")
    with pytest.raises(CaseError, match=said):
        find_cases(tmp_path / "m.csv")
