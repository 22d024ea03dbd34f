"""`segan_pl clinical` as a user types it, on generated DICOM of small heads."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from segan_pl.__main__ import main
from segan_pl.clinical import align
from segan_pl.data.io import read_volume, same_affine, write_like
from segan_pl.data.layouts import find_data_set
from segan_pl.data.synthetic.cohort import make_case
from tests.cohort import QUIET
from tests.generators.dicom import IDENTITY, NAME, centred, rigid, scanned, write_series
from tests.inference.test_predictor import train

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = QUIET
pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")
MOTION = rigid((4.0, -3.0, 2.0), (3.0, -4.0, 2.0))


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two patients: one with t1ce and a moved t2, and a localiser; one whose only series is in doubt."""
    root = tmp_path_factory.mktemp("hospital") / "export"
    case = make_case(0, shape=(48, 72, 72), modalities=("t1ce", "t2"))
    head = {name: centred(image, 2.0) for name, image in case.images.items()}
    still = scanned(head["t1ce"], np.eye(4), thickness_mm=2.0, pixel_mm=2.0)
    write_series(root / NAME / "1", still, "t1ce", number=1)
    write_series(root / NAME / "2", scanned(head["t2"], MOTION, thickness_mm=4.0, pixel_mm=2.0), "t2", number=2)
    write_series(root / NAME / "3", still, "flair", number=3, words="localizer")
    write_series(root / "other", still, "t2", patient="MRN-2", words="head", times=(40.0, 2000.0, None))
    return root


@pytest.fixture(scope="module")
def sparse() -> Iterator[None]:
    """Registration with fewer samples and places than shipped, which finds these heads and costs less."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(align, "KEPT", 2)
        for name, value in {"FIRST": (8.0, 8000, 2), "SECOND": (4.0, 10_000, 3), "LAST": (1.5, 20_000, 2)}.items():
            patch.setattr(align, name, value)
        yield


@pytest.fixture(scope="module")
def made(hospital: Path, sparse: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of one call."""
    out = tmp_path_factory.mktemp("made") / "out"
    assert run(hospital, out, "--fill=[t1=t1ce]", f"--pseudonyms={out.parent / 'table.csv'}") == 1
    return out


def run(root: Path, output: Path, *more: str) -> int:
    return main(["clinical", f"--root={root}", f"--output={output}", "--brain=none", "--workers=1", *more])


def done_case(output: Path) -> str:
    (case,) = (one.name for one in (output / "cases").iterdir())
    return case


def test_cases_are_aligned_and_a_doubt_stops_its_patient_alone(hospital: Path, made: Path) -> None:
    source = find_data_set(made)
    (case,) = source.cases
    assert set(case.images) == {"t1", "t1ce", "t2"}
    grids = [read_volume(file) for file in case.images.values()]
    assert all(one.shape == grids[0].shape and same_affine(one.affine, grids[0].affine) for one in grids)
    assert grids[0].orientation == "LPS"
    np.testing.assert_allclose(grids[0].spacing_mm, 1)
    record = json.loads((made / "records" / f"{case.name}.json").read_text())
    found = np.array(record["modalities"]["t2"]["motion"])
    corners = np.array([[x, y, z, 1] for x in (-40, 40) for y in (-50, 50) for z in (-30, 30)]).T
    assert np.linalg.norm(((found - MOTION) @ corners)[:3], axis=0).mean() < 2
    assert record["filled"] == {"t1": "t1ce"}
    with (made / "manifest.csv").open() as file:
        assert [row["filled"] for row in csv.DictReader(file)] == ["t1=t1ce"]
    with (made / "series.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["role"] for row in rows].count("localiser") == 1
    (why,) = (row["why"] for row in rows if row["case"] != case.name)
    assert why.startswith("neither its times nor its words")


def test_nothing_that_is_written_or_printed_identifies_anybody(hospital: Path, made: Path, capsys) -> None:
    run(hospital, made, "--fill=[t1=t1ce]", f"--pseudonyms={made.parent / 'table.csv'}")
    said = capsys.readouterr()
    texts = [said.out, said.err, *(str(path.relative_to(made)) for path in made.rglob("*"))]
    texts += [path.read_bytes().decode("latin-1") for path in made.rglob("*") if path.is_file()]
    for word in (NAME, NAME.split("^")[0], IDENTITY, "MRN-2", "Elsewhere", "19700101", "POST GD", "2020010"):
        assert not [text[:80] for text in texts if word in text]
    with (made.parent / "table.csv").open() as file:
        assert {row["patient"] for row in csv.DictReader(file)} == {IDENTITY, "MRN-2"}


@pytest.mark.slow
def test_a_second_call_keeps_what_is_there_and_gives_the_same_bits(hospital: Path, made: Path, capsys) -> None:
    table = f"--pseudonyms={made.parent / 'table.csv'}"
    run(hospital, made, "--fill=[t1=t1ce]", table)
    assert "1 were there already and are kept" in capsys.readouterr().out
    other = made.parent / "other"
    run(hospital, other, "--fill=[t1=t1ce]", table)
    case = done_case(made)
    for name in ("t1ce", "t2"):
        files = [folder / "cases" / case / f"{case}_{name}.nii.gz" for folder in (made, other)]
        assert len({hashlib.sha256(file.read_bytes()).hexdigest() for file in files}) == 1
    assert run(hospital, made, table) == 1
    assert "was prepared from other series or settings" in capsys.readouterr().out


def test_masks_go_back_onto_every_series(hospital: Path, made: Path, tmp_path: Path) -> None:
    case = done_case(made)
    file = made / "cases" / case / f"{case}_t1ce.nii.gz"
    image = read_volume(file)
    z, y, x = np.indices(image.shape)
    middle = [size // 2 for size in image.shape]
    ball = (z - middle[0]) ** 2 + (y - middle[1]) ** 2 + (x - middle[2]) ** 2 < 15**2
    masks = tmp_path / "masks"
    masks.mkdir()
    write_like(file, (ball * 4).astype(np.uint8), masks / f"{case}.nii.gz")
    (masks / "predict.json").write_text(
        '{"checkpoints": [{"path": "x", "digest": "d1"}], "native_labels": "brats2017"}'
    )
    table = f"--pseudonyms={made.parent / 'table.csv'}"
    run(hospital, made, "--fill=[t1=t1ce]", table, f"--segmentations={masks}")
    native = made / "native" / case
    assert sorted(one.name for one in native.iterdir()) == [
        f"{case}_{name}_seg.{end}" for name in ("t1ce", "t2") for end in ("dcm", "nii.gz")
    ]
    for name in ("t2", "t1ce"):
        found = read_volume(native / f"{case}_{name}_seg.nii.gz")
        ml = float((found.array > 0).sum()) * abs(np.linalg.det(found.affine[:3, :3])) / 1000
        assert ml == pytest.approx(ball.sum() / 1000, rel=0.05)
        held = pydicom.dcmread(native / f"{case}_{name}_seg.dcm")
        numbers = [
            int(one.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
            for one in held.PerFrameFunctionalGroupsSequence
        ]
        whole = sum(int(frame.sum()) for frame, number in zip(held.pixel_array, numbers, strict=True) if number == 1)
        assert whole == int((found.array > 0).sum())
    place = np.argwhere(read_volume(native / f"{case}_t2_seg.nii.gz").array > 0).mean(0)
    grid = read_volume(native / f"{case}_t2_seg.nii.gz").affine
    lps = np.diag([-1, -1, 1, 1]) @ grid @ [*place[::-1], 1]
    centre = np.diag([-1, -1, 1, 1]) @ image.affine @ [*middle[::-1], 1]
    np.testing.assert_allclose(lps[:3], (MOTION @ centre)[:3], atol=2.5)


@pytest.mark.slow
def test_one_command_goes_from_dicom_to_dicom(hospital: Path, cohort: Path, prepared: Path, tmp_path: Path) -> None:
    checkpoint = train(tmp_path / "run", cohort, prepared, "regions", labels="regions")
    out = tmp_path / "out"
    assert run(hospital, out, "--fill=[t1=t1ce,flair=t2]", f"--ckpt_path={checkpoint}") == 1
    case = done_case(out)
    digest = json.loads((out / "segmentations" / "predict.json").read_text())["checkpoints"][0]["digest"]
    for name in ("t1ce", "t2"):
        held = pydicom.dcmread(out / "native" / case / f"{case}_{name}_seg.dcm")
        algorithm = held.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
        assert digest in algorithm.AlgorithmParameters


def test_a_doubt_is_settled_by_hand(hospital: Path, made: Path, tmp_path: Path) -> None:
    text = (made / "series.csv").read_text().splitlines()
    columns = text[0].split(",")
    rows = [line.split(",") for line in text[1:]]
    for row in rows:
        if "neither" in row[-1]:
            row[columns.index("use_as")] = "t2"
    edited = tmp_path / "edited.csv"
    edited.write_text("\n".join([text[0], *(",".join(row) for row in rows)]))
    assert run(hospital, tmp_path / "out", f"--series_file={edited}", "--only_list=true") == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--brain=given"], "--masks and --brain given belong together"),
        (["--masks_on=t1"], "is of --brain given"),
        (["--fill=[t1=pet]"], "expected MISSING=INSTEAD"),
        (["--atlas=nowhere.nii"], "is no file; none is shipped"),
        (["--ckpt_path=a", "--segmentations=b"], "exclude each other"),
        (["--only_list=true", "--ckpt_path=a"], "writes series.csv alone"),
        (["--ckpt_path=nowhere.ckpt"], "is no file"),
        (["--segmentations=nowhere"], "has no predict.json"),
    ],
)
def test_what_was_typed_wrongly_is_refused(hospital: Path, tmp_path: Path, capsys, options: list, says: str) -> None:
    assert main(["clinical", f"--root={hospital}", f"--output={tmp_path / 'o'}", *options]) == 2
    assert says in capsys.readouterr().err


def test_the_output_is_no_part_of_the_input_and_the_key_no_part_of_the_output(
    hospital: Path, tmp_path: Path, capsys
) -> None:
    assert run(hospital, hospital / "out") == 2
    assert "lies in --root" in capsys.readouterr().err
    assert run(hospital, tmp_path / "o", f"--pseudonyms={tmp_path / 'o' / 'key.csv'}") == 2
    assert "which is to identify nobody" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("manifest.csv", "case,patient,t1,seg\na,a,a.nii.gz,b.nii.gz\n", "was not written by `segan_pl clinical`"),
        ("series.csv", "name,notes\n", "was not written by `segan_pl clinical`"),
        ("segmentations/P001.nii.gz", "drawn by hand", "no series.csv of `segan_pl clinical`"),
    ],
)
def test_a_folder_of_somebody_elses_stays_as_it_is(
    hospital: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, content: str, says: str
) -> None:
    path = tmp_path / "o" / file
    path.parent.mkdir(parents=True)
    path.write_text(content)
    for more in ([], ["--overwrite=true"]):
        assert run(hospital, tmp_path / "o", *more) == 2
        assert says in capsys.readouterr().err
    assert path.read_text() == content
    assert [one for one in (tmp_path / "o").rglob("*") if one.is_file()] == [path]


def test_the_list_that_decides_by_hand_is_not_written_over(hospital: Path, made: Path, capsys) -> None:
    table = made / "series.csv"
    before = table.read_text()
    assert run(hospital, made, f"--series_file={table}", "--only_list=true") == 2
    assert "is a file that the command reads" in capsys.readouterr().err
    assert table.read_text() == before
