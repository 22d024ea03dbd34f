"""The commands of docs/clinical.md, carried out one after the other on generated DICOM, and what they leave."""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from segan_pl.__main__ import main
from segan_pl.clinical import align, work
from segan_pl.clinical.modality import read_rules
from segan_pl.data.case import MODALITIES
from segan_pl.data.io import read_volume
from segan_pl.data.synthetic.cohort import make_case
from tests.cohort import QUIET
from tests.generators.dicom import IDENTITY, centred, rigid, scanned, write_series
from tests.inference.test_predictor import train

pytest.importorskip("highdicom")
pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = QUIET
DOC = (Path(__file__).parents[2] / "docs" / "clinical.md").read_text(encoding="utf-8")


def commands() -> list[list[str]]:
    """Every line of the page's shell blocks, but for the installation."""
    blocks = re.findall(r"```sh\n(.*?)```", DOC, re.DOTALL)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    return [words for words in lines if words and words[0] != "pip"]


def ellipsoid(images: Mapping[str, NDArray[np.float32]], *_: Any) -> tuple[NDArray[np.bool_], str]:
    """In the place of deepbet, which knows no generated head."""
    shape = next(iter(images.values())).shape
    places = [(2 * place + 1) / size - 1 for place, size in zip(np.indices(shape), shape, strict=True)]
    return sum(place**2 for place in places) < 0.6, "t1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, cohort: Path, prepared: Path) -> Iterator[Path]:
    """Where the commands ran: one patient, four sequences, of which t2 moved, and a tiny checkpoint."""
    place = tmp_path_factory.mktemp("clinical")
    train(place, cohort, prepared, "C", labels="regions")
    case = make_case(0, shape=(48, 72, 72))
    for number, name in enumerate(MODALITIES, 1):
        motion = rigid((4.0, -3.0, 2.0), (3.0, -4.0, 2.0)) if name == "t2" else np.eye(4)
        thickness = 2.0 if name == "t1ce" else 4.0
        series = scanned(centred(case.images[name], 2.0), motion, thickness_mm=thickness, pixel_mm=2.0)
        write_series(place / "DICOM" / str(number), series, name, number=number)
    with pytest.MonkeyPatch.context() as patch, chdir(place):
        patch.setattr(work, "find_brain", ellipsoid)
        # fewer samples and places than shipped find these heads, and cost less
        for key, value in {"FIRST": (8.0, 8000, 1), "SECOND": (4.0, 10_000, 2), "LAST": (2.0, 10_000, 1)}.items():
            patch.setattr(align, key, value)
        for words in commands():
            assert main(words[1:]) == 0, words
        yield place


@pytest.mark.slow
def test_the_commands_lead_from_dicom_to_masks_on_every_series(folder: Path) -> None:
    with (folder / "O" / "series.csv").open() as file:
        assert sorted(row["used"] for row in csv.DictReader(file)) == sorted(MODALITIES)
    assert (folder / "key.csv").read_text().splitlines() == ["patient,pseudonym", f"{IDENTITY},P001"]
    by_hand, at_once = (folder / place / "P001_v1.nii.gz" for place in ("P", "O/segmentations"))
    np.testing.assert_array_equal(read_volume(by_hand).array, read_volume(at_once).array)
    for name in MODALITIES:
        for end in ("nii.gz", "dcm"):
            assert (folder / "O" / "native" / "P001_v1" / f"P001_v1_{name}_seg.{end}").is_file()
    assert (folder / "O" / "quality" / "P001_v1.html").is_file()


def test_the_page_has_commands_and_all_are_ours() -> None:
    assert len(commands()) >= 5
    assert {words[0] for words in commands()} == {"segan_pl"}


def test_the_pages_rules_are_read(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", DOC, re.DOTALL)
    (tmp_path / "rules.yaml").write_text(block)
    assert [rule.modality for rule in read_rules(tmp_path / "rules.yaml")] == ["t1ce", "none"]
