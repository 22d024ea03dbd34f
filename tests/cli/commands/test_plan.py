from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import yaml

from segan_pl.__main__ import main
from segan_pl.cli.commands.plan.choices import Chosen, choices, network_of
from segan_pl.cli.commands.plan.fingerprint import Fingerprint, Machine, common_modalities, this_machine
from segan_pl.cli.commands.plan.memory import step_bytes
from segan_pl.cli.commands.plan.text import WIDTH, plan_text
from segan_pl.data.case import Case
from segan_pl.data.labels import label_scheme
from segan_pl.data.layouts import DataSet
from segan_pl.errors import UsageError
from tests.cohort import CASES, QUIET
from tests.generators.trees import write_cohort

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [*QUIET]

CPU, GPU = Machine(2, 16_000_000_000), Machine(16, 64_000_000_000, 24_000_000_000, "pretended")
BRATS = Fingerprint(
    source=DataSet(Path("D"), "brats2021", (), "brats2017"),
    modalities=("t1", "t1ce", "t2", "flair"),
    dropped=(),
    cases=100,
    left_out=(),
    patients=100,
    size=(240, 240, 155),
    spacing_mm=(1.0, 1.0, 1.0),
    spread=1.0,
    empty=0.84,
    grades=0,
    institutions=1,
)
REGIONS, TISSUES = label_scheme("regions", "brats2017"), label_scheme("labels", "iseg")


def planned(*arguments: object) -> int:
    return main(["plan", "--workers=1", *map(str, arguments)])


def settings(plan: Any) -> Any:
    """A plan's values without their reasons, as fit reads them."""
    found = yaml.safe_load(plan_text(["", ""], plan))
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("dimensions", "patch", "said"),
    [
        (2, [48, 48], "2-D UNet of width 16, patches of 48 x 48, batches of 12, 28 epochs of 50 batches"),
        (3, [8, 40, 40], "3-D DynUNet of width 8, patches of 8 x 40 x 40, batches of 2, 28 epochs of 50 batches"),
    ],
)
def test_two_commands_lead_from_a_folder_to_a_model(
    dimensions: int,
    patch: list[int],
    said: str,
    cohort: Path,
    prepared: Path,
    tmp_path: Path,
    isolated: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "mine.yaml"
    assert planned("--root", cohort, "-o", file, "--gpu_gb", 0, "--dimensions", dimensions) == 0
    assert capsys.readouterr().out.splitlines()[-3:] == [
        said,
        f"plan: {file}",
        f"next: segan_pl fit -c {file}",
    ]
    assert yaml.safe_load(file.read_text())["data"]["patch"] == patch
    small = ("--trainer.max_epochs=1", "--trainer.check_val_every_n_epoch=1", "--data.sampling.batches=1")
    places = (f"--data.cache_dir={prepared}", f"--run.directory={tmp_path / 'run'}", "--trainer.accelerator=cpu")
    assert main(["fit", "-c", str(file), *small, *places, "--data.prepare_workers=1"]) == 0
    assert list((tmp_path / "run" / "checkpoints").glob("epoch0000_dice_mean*.ckpt"))


def test_the_file_says_what_the_data_set_holds_and_every_choice_has_a_reason(cohort: Path, tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    assert planned("--root", cohort, "--output", file, "--gpu_gb", 0) == 0
    text = file.read_text()
    assert text.startswith(f"# segan_pl plan: {CASES} cases of {CASES} patients")
    assert all(len(line) <= WIDTH for line in text.splitlines() if str(tmp_path.parent) not in line)
    data = yaml.safe_load(text)["data"]
    assert (data["root"], data["labels"]) == (str(cohort.resolve()), "regions")
    assert data["modalities"] == ["t1", "t1ce", "t2", "flair"]
    assert "missing" not in data
    lines = text.splitlines()
    for key in ("kind", "spatial_dims", "width", "labels", "batch_size", "patch", "crop", "workers"):
        (place,) = [number for number, line in enumerate(lines) if line.strip().startswith(f"{key}: ")]
        assert "  # " in lines[place] or lines[place - 1].strip().startswith("# "), key


def test_without_an_output_the_plan_is_printed(cohort: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert planned("--root", cohort) == 0
    assert yaml.safe_load(capsys.readouterr().out)["run"]["monitor"] == "val/dice_mean"


# -- what is typed wrongly, and data that cannot be used ---------------------------------------------------------------


def test_nothing_is_overwritten_silently(cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text("my: own\n")
    assert planned("--root", cohort, "-o", file) == 2
    assert f"--output {file}: is there already; choose another name or add --overwrite" in capsys.readouterr().err
    assert file.read_text() == "my: own\n"
    assert planned("--root", cohort, "-o", file, "--overwrite") == 0
    first = file.read_text()
    assert first.startswith("# segan_pl plan: ")
    assert planned("--root", cohort, "-o", file) == 2
    assert file.read_text() == first


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-o", "plan.txt"], "--output plan.txt: expected a name that ends in .yaml"),
        (["-o", "no/plan.yaml"], "--output no/plan.yaml: no is no folder; give one that exists"),
        (["--dimensions", "4"], "--dimensions 4: expected 2, 3 or null"),
        (["--gpu_gb", "-1"], "--gpu_gb -1: expected the memory of one GPU in GB, 0 for none"),
        (["--data.labels", "region"], "region"),
        (["--root", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_wrong_options_are_one_line(
    cohort: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert planned("--root", cohort, *options) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_of_a_data_set_that_the_check_refuses_no_plan_is_written(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(shutil.copytree(cohort, tmp_path / "D"))
    sorted(root.rglob("*_t2.nii.gz"))[0].write_bytes(b"")
    assert planned("--root", root, "-o", tmp_path / "plan.yaml") == 1
    error = capsys.readouterr().err
    assert "_t2.nii.gz: empty file" in error
    assert f"1 of {CASES} cases are refused, and fit would refuse them too" in error
    assert not (tmp_path / "plan.yaml").exists()


def test_masks_without_a_meaning_are_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_cohort(tmp_path / "D", layout="brats2021", cases=2)
    images = sorted((tmp_path / "D").rglob("*_flair.nii*"))
    masks = [image.with_name(image.name.replace("flair", "seg")) for image in images]
    rows = "".join(f"{n},{image},{mask}\n" for n, (image, mask) in enumerate(zip(images, masks, strict=True)))
    (tmp_path / "m.csv").write_text(f"case,flair,mask\n{rows}")
    assert planned("--root", tmp_path / "m.csv") == 1
    assert "state it with --data.native_labels" in capsys.readouterr().err
    assert planned("--root", tmp_path / "m.csv", "--data.native_labels=brats2017") == 0
    assert yaml.safe_load(capsys.readouterr().out)["data"]["native_labels"] == "brats2017"


def test_incomplete_cases_are_left_out_by_name(cohort: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(cohort, tmp_path / "D"))
    gone = sorted(root.rglob("*_t2.nii.gz"))[0]
    gone.unlink()
    assert planned("--root", root, "-o", tmp_path / "plan.yaml") == 0
    text = (tmp_path / "plan.yaml").read_text()
    assert f"left out, no mask or a modality missing: {gone.parent.name}" in text
    assert yaml.safe_load(text)["data"]["missing"] == "drop"


def test_a_modality_that_few_cases_have_is_no_input() -> None:
    def case(name: str, *modalities: str, mask: bool = True) -> Case:
        return Case(name, name, {one: Path(one) for one in modalities}, Path("m") if mask else None)

    everyone = [case(str(n), "t1", "flair") for n in range(7)] + [case(str(n), "flair", "t2") for n in (8, 9, 10)]
    assert common_modalities(everyone) == ("flair",)
    assert common_modalities([case("a", "t1"), case("b", "t2")]) in (("t1",), ("t2",))
    with pytest.raises(UsageError, match="1 of 2 cases have a mask; expected 2 at least"):
        common_modalities([case("a", "t1"), case("b", "t1", mask=False)])


# -- the choices -------------------------------------------------------------------------------------------------------


def test_volumes_need_a_gpu_and_voxels_that_are_nearly_cubes() -> None:
    def dimensions(data: Fingerprint, machine: Machine, **more: Any) -> int:
        found = settings(choices(data, machine, REGIONS, **more))
        assert len(found["data"]["patch"]) == found["model"]["networks"]["segmentor"]["init_args"]["spatial_dims"]
        return len(found["data"]["patch"])

    assert dimensions(BRATS, GPU) == 3
    assert dimensions(BRATS, CPU) == 2
    assert dimensions(BRATS, CPU, dimensions=3) == 3
    assert dimensions(replace(BRATS, spacing_mm=(0.5, 0.5, 5.0), size=(512, 512, 24)), GPU) == 2
    assert dimensions(replace(BRATS, size=(240, 240, 20)), GPU) == 2


def test_slices_lie_across_the_largest_voxels_and_are_not_mirrored_upside_down() -> None:
    coronal = replace(BRATS, size=(256, 128, 200), spacing_mm=(0.94, 1.5, 0.94))
    found = settings(choices(coronal, CPU, TISSUES))
    assert found["data"]["preparation"]["orientation"] == "LSP"  # z leads to the back, x stays left and right
    assert found["data"]["augmentation"]["mirror"] == [0, 0, 0.5]
    assert found["data"]["preparation"]["scaling"] == "percentile"
    sagittal = settings(choices(replace(coronal, spacing_mm=(1.5, 0.94, 0.94)), CPU, REGIONS))
    assert sagittal["data"]["preparation"]["orientation"] == "PSL"
    assert sagittal["data"]["augmentation"]["mirror"] == [0, 0, 0]
    assert "orientation" not in settings(choices(BRATS, CPU, REGIONS))["data"]["preparation"]


def test_spacings_that_differ_are_made_one_in_the_order_of_the_turned_axes() -> None:
    mixed = replace(BRATS, spread=1.6, spacing_mm=(0.9, 1.5, 1.0))
    assert settings(choices(mixed, CPU, REGIONS))["data"]["preparation"]["spacing_mm"] == [0.9, 1.0, 1.5]
    assert settings(choices(mixed, GPU, REGIONS))["data"]["preparation"]["spacing_mm"] == [0.9, 1.5, 1.0]
    assert "spacing_mm" not in settings(choices(BRATS, CPU, REGIONS))["data"]["preparation"]


def test_less_gpu_memory_makes_smaller_steps_until_none_fits() -> None:
    steps = [network_of(BRATS, replace(GPU, gpu_bytes=gb * 10**9), 3, (4, 3)) for gb in (80, 12, 6)]
    assert steps[0].patch == (128, 128, 128)  # the brain's box, 105 x 162 x 162, in multiples of 32 up to 128
    volumes = [step.batch * np.prod(step.patch) for step in steps]
    assert volumes == sorted(volumes, reverse=True)
    assert volumes[2] < volumes[0]
    for step, gb in zip(steps, (80, 12, 6), strict=True):
        assert step.step_bytes <= 0.8 * gb * 1e9
    with pytest.raises(UsageError, match=r"0\.0 GB are too little: the smallest 3-D step takes .* give --dimensions 2"):
        network_of(BRATS, replace(GPU, gpu_bytes=10**7), 3, (4, 3))


def test_the_last_epoch_is_validated() -> None:
    for cases in (2, 10, 100, 1251):
        trainer = settings(choices(replace(BRATS, cases=cases), CPU, REGIONS))["trainer"]
        assert trainer["max_epochs"] % trainer["check_val_every_n_epoch"] == 0
    assert settings(choices(replace(BRATS, cases=2), CPU, REGIONS))["trainer"]["check_val_every_n_epoch"] == 1


def test_a_reason_that_is_too_long_for_its_line_stands_above_it() -> None:
    text = plan_text(["head", "more"], {"a": {"b": Chosen([1, 2], "why " * 40), "c": Chosen(None, "short")}})
    above, value, beside = text.splitlines()[-3:]
    assert (above[:8], value, beside) == ("  # why ", "  b: [1, 2]", "  c: null  # short")


# -- what it claims, measured otherwise --------------------------------------------------------------------------------

STEP = """
import json, sys
from pathlib import Path
import torch
from segan_pl.nets.monai_nets import MonaiSegmentor
torch.set_num_threads(1)
arguments, channels, patch, batch = json.loads(sys.argv[1])
def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))
network = MonaiSegmentor(*channels, **arguments)
optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, nesterov=True)
before = status("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
for _ in range(2):
    image, target = torch.randn(batch, channels[0], *patch), torch.ones(batch, channels[1], *patch)
    found = network(image, deep=True) if arguments.get("deep_supervision") else [network(image)]
    p = found[0].sigmoid()
    loss = 1 - 2 * (p * target).sum() / (p.square().sum() + target.sum())
    loss = loss + torch.nn.functional.binary_cross_entropy_with_logits(found[0], target)
    loss = loss + sum(one.mean() for one in found)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(status("VmHWM") - before)
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="no way to measure a peak here")
@pytest.mark.parametrize(
    ("arguments", "patch", "batch"),
    [
        ({"kind": "UNet", "spatial_dims": 2, "width": 16, "levels": 5}, [160, 160], 12),
        ({"kind": "DynUNet", "spatial_dims": 3, "width": 16, "levels": 4, "deep_supervision": 2}, [64, 64, 64], 2),
    ],
    ids=["slices", "volumes"],
)
def test_the_memory_of_a_step_is_what_a_process_takes(arguments: dict[str, Any], patch: list[int], batch: int) -> None:
    line = [sys.executable, "-c", STEP, json.dumps([arguments, [4, 3], patch, batch])]
    measured = int(subprocess.run(line, capture_output=True, text=True, check=True).stdout)
    assert 0.6 < measured / step_bytes(arguments, (4, 3), patch, batch) < 1.4


def test_the_box_that_is_not_empty_is_about_that_of_a_brain(cohort: Path, tmp_path: Path) -> None:
    """Against the voxels: the median box of each axis, read by nibabel."""
    from segan_pl.cli.commands.plan.choices import box_of
    from segan_pl.cli.commands.plan.fingerprint import fingerprint
    from segan_pl.data.check.cases import check_all
    from segan_pl.data.layouts import find_data_set

    source = find_data_set(cohort)
    report = check_all(source.cases, REGIONS.convention, modalities=common_modalities(source.cases), workers=1)
    data = fingerprint(report, source)
    boxes, shapes = [], []
    for case in source.cases:
        image = sum(np.asarray(nib.load(file).dataobj) != 0 for file in case.images.values())  # type: ignore[attr-defined]
        places = np.argwhere(image)
        boxes.append(places.max(0) - places.min(0) + 1)
        shapes.append(image.shape)
    assert data.size == tuple(np.median(shapes, axis=0).astype(int))
    assert np.abs(np.array(box_of(data)) / np.median(boxes, axis=0) - 1).max() < 0.3  # of 8 slices one is an eighth


def test_the_machine_at_hand_has_cores_and_memory() -> None:
    found = this_machine()
    assert 1 <= found.cores <= (os.cpu_count() or 1)
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < found.memory_bytes <= total
    assert this_machine(24).gpu_bytes == 24 * 10**9
    assert this_machine(0).gpu_bytes == 0


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "labels", "cases", "orientation"),
    [("lgg", "whole_tumour", 50, None), ("brats2021", "regions", 5, None), ("ibsr18", "labels", 10, "LSP")],
)
def test_real_data_sets_are_planned(
    name: str, labels: str, cases: int, orientation: str | None, real_data_root: Path, tmp_path: Path
) -> None:
    file = tmp_path / "plan.yaml"
    assert planned("--root", real_data_root / name, "-o", file, "--gpu_gb", 0) == 0
    text = file.read_text()
    assert text.startswith(f"# segan_pl plan: {cases} cases of {cases} patients")
    data = yaml.safe_load(text)["data"]
    assert data["labels"] == labels
    assert data["preparation"].get("orientation") == orientation
