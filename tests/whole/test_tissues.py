"""A data set of tissues in its own form: trained on, predicted in native labels on its own grid, scored."""

from __future__ import annotations

import csv
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from segan_pl.__main__ import main
from segan_pl.data.conventions import label_convention
from segan_pl.data.layouts import find_data_set
from segan_pl.data.synthetic.healthy import HEALTHY_FORMS, make_healthy_cohort
from tests.changes.tiny import checkpoint, fit
from tests.cohort import QUIET

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [
    *QUIET,
    pytest.mark.usefixtures("isolated"),
    pytest.mark.filterwarnings("ignore:.*your dataloader is not resumable.*"),
]
NETWORK = "--model.networks.segmentor.init_args"
SMALL = ("--config=unet2d", f"{NETWORK}.width=8", f"{NETWORK}.levels=3")


def native(file: Path) -> tuple[np.ndarray, nib.spatialimages.SpatialImage]:
    """A file's voxels (X, Y, Z) as nibabel reads them, a trailing axis of 1 dropped, and the image."""
    image = nib.load(file.with_suffix(".img") if file.suffix == ".hdr" else file)
    array = np.asarray(image.dataobj)
    return (array[..., 0] if array.ndim == 4 else array), image


def round_trip(root: Path, work: Path, form: str, *more: str) -> None:
    """Fit, predict and evaluate on a tree with cases without labels; what is written is held against nibabel."""
    modalities = ",".join(HEALTHY_FORMS[form].modalities)
    line = [*SMALL, f"--config={form}", f"--data.modalities=[{modalities}]", "--data.unlabelled=use"]
    assert fit(root, work / "run", *line, "--data.preparation.crop=null", *more, epochs=1) == 0
    asked = [f"--ckpt_path={checkpoint(work / 'run')}", f"--root={root}", f"--output={work / 'out'}", "--device=cpu"]
    assert main(["predict", *asked]) == 0
    assert main(["evaluate", f"--root={root}", f"--pred={work / 'out'}", f"--output={work}", "--workers=1"]) == 0
    with (work / "metrics_per_case.csv").open(newline="") as file:
        dice = {(row["case"], row["region"]): float(row["dice"]) for row in csv.DictReader(file) if row["dice"]}
    found = find_data_set(root)
    convention = label_convention(found.native_labels or "")
    written = {0, *(numbers[0] for numbers in convention.numbers.values())}
    for case in found.cases:
        label, image = native(work / "out" / f"{case.name}.nii.gz")
        source, like = native(case.images["t1"])
        assert (label.shape, label.dtype) == (source.shape, np.uint8)
        assert image.header.get_zooms() == like.header.get_zooms()[:3]
        assert image.header["sform_code"] == (like.header["sform_code"] if form != "iseg" else 0)
        assert form == "iseg" or np.array_equal(image.affine, like.affine)
        assert set(np.unique(label)) <= written
        if case.mask is None:
            continue
        mask, _ = native(case.mask)
        judged = ~np.isin(mask, convention.ignore)
        for tissue, numbers in convention.numbers.items():
            mine, theirs = np.isin(label, numbers) & judged, np.isin(mask, numbers)
            expected = 2 * (mine & theirs).sum() / (mine.sum() + theirs.sum())
            assert dice[case.name, tissue] == pytest.approx(expected, abs=1e-6)
    assert {case for case, _ in dice} == {case.name for case in found.cases if case.mask}


@pytest.mark.parametrize(
    "form", ["iseg", *(pytest.param(form, marks=pytest.mark.slow) for form in HEALTHY_FORMS if form != "iseg")]
)
def test_what_is_predicted_lies_in_the_order_of_the_files_and_is_scored_as_nibabel_counts(form, tmp_path):
    root = tmp_path / "data"
    make_healthy_cohort(root, form=form, subjects=3, unlabelled=1, shape=(8, 48, 40))
    round_trip(root, tmp_path, form, "--data.patch=[32,32]", "--data.batch_size=12")


@pytest.mark.real_data
@pytest.mark.slow
def test_the_real_ibsr18_is_checked_prepared_trained_predicted_and_scored(real_data_root, tmp_path, capsys):
    """Three of its subjects, one of them without labels, as links."""
    root = tmp_path / "data"
    root.mkdir()
    for number in (1, 10, 16):
        (root / f"IBSR_{number:02d}").symlink_to(real_data_root / f"ibsr18/IBSR_{number:02d}")
    assert main(["check", f"--root={root}", "--workers=1"]) == 0
    said = capsys.readouterr().out
    assert "layout ibsr18, native labels ibsr18" in said
    assert "3 given, 3 used, 0 refused" in said
    cache = f"--data.cache_dir={tmp_path / 'cache'}"
    tissues = ("--config=unet2d", "--config=ibsr18", "--data.unlabelled=use", "--data.preparation.crop=null")
    assert main(["prepare", f"--root={root}", *tissues, cache]) == 0
    round_trip(
        root,
        tmp_path,
        "ibsr18",
        cache,
        "--data.patch=[64,64]",
        "--data.batch_size=8",
        "--trainer.limit_train_batches=4",
    )
