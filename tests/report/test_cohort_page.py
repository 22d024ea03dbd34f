"""`segan_pl check --html`: the data set before training."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from segan_pl.__main__ import main
from segan_pl.report.cohort_page import BINS, histogram
from segan_pl.report.figures import as_png, three_slices
from tests.generators.trees import write_cohort
from tests.report.test_run_report import Page


@pytest.mark.parametrize("layout", ["brats2019", "msd"])
def test_every_readable_case_is_drawn_with_words(
    tmp_path: Path, layout: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cohort(tmp_path / "data", layout=layout, cases=4, shape=(16, 32, 32))
    out = tmp_path / "page.html"
    assert main(["check", f"--root={tmp_path / 'data'}", "--workers=1", f"--html={out}"]) == 0
    assert f"page: {out}\n" in capsys.readouterr().err
    page = Page(out.read_text(encoding="utf-8"))
    pictures = page.all("img")
    assert len(pictures) == 4
    assert page.text.count("outline is yellow") == 1  # said once, and in each alternative text
    assert "None of 4 cases is refused." in page.text
    assert all("the mask's outline in yellow" in (one["alt"] or "") for one in pictures)
    drawn = [one["aria-label"] or "" for one in page.all("svg")]
    assert sum(words.startswith("Tumour volume") for words in drawn) == (2 if layout == "brats2019" else 0)
    assert sum("mean intensity histogram" in words for words in drawn) == 4


def test_a_case_that_is_refused_is_told_and_the_page_is_made(tmp_path: Path) -> None:
    write_cohort(tmp_path / "data", layout="brats2019", cases=3, shape=(16, 32, 32))
    bad = next((tmp_path / "data").rglob("*_flair.nii.gz"))
    bad.write_bytes(b"not a volume")
    out = tmp_path / "page.html"
    assert main(["check", f"--root={tmp_path / 'data'}", "--workers=1", f"--html={out}"]) == 1
    page = Page(out.read_text(encoding="utf-8"))
    assert len(page.all("img")) == 2  # the picture would be of flair
    assert "1 of 3 cases cannot be used." in page.text
    assert page.text.index("Refused cases") < page.text.index("The data set")
    assert bad.parent.name in page.text


def test_histograms_are_shares_of_what_is_not_zero() -> None:
    array = np.zeros((4, 10, 10), np.int16)
    array[0] = np.arange(1, 101).reshape(10, 10)
    shares = histogram(array)
    assert len(shares) == len(BINS) - 1
    assert shares.sum() == pytest.approx(1)
    np.testing.assert_allclose(shares, 1 / 40, atol=0.011)
    assert not histogram(np.zeros((2, 2, 2))).any()


def test_the_outline_is_where_the_mask_is() -> None:
    image = np.full((8, 30, 30), 100, np.int16)
    mask = np.zeros(image.shape, bool)
    mask[2:6, 10:20, 10:20] = True
    pixels = imread(io.BytesIO(as_png(three_slices(image, mask, (4, 15, 15), (3.0, 1.0, 1.0)))))
    yellow = (pixels[..., 0] > 0.8) & (pixels[..., 1] > 0.6) & (pixels[..., 2] < 0.3)
    width = pixels.shape[1]
    assert all(yellow[:, part * width // 3 : (part + 1) * width // 3].any() for part in range(3))
    bare = imread(io.BytesIO(as_png(three_slices(image, None, (4, 15, 15), (3.0, 1.0, 1.0)))))
    assert not ((bare[..., 0] > 0.8) & (bare[..., 2] < 0.3)).any()
