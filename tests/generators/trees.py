"""Generated cohorts in every naming that a layout knows: to test the layouts, and to try the package on 1,000 cases."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.case import MODALITIES, Shape
from segan_pl.data.conventions import label_convention
from segan_pl.data.io import write_volume
from segan_pl.data.synthetic.cohort import SCANNERS, SyntheticCase, make_case
from tests.generators.people import (
    Identity,
    brats2015_people,
    brats2019_people,
    brats2020_people,
    lgg_people,
    manifest_people,
    plain_people,
    scan_number,
)

Arrays = dict[str, NDArray]  # modality or "mask" to (D, H, W)
PARTS_2015 = {"flair": "MR_Flair", "t1": "MR_T1", "t1ce": "MR_T1c", "t2": "MR_T2", "mask": "OT"}
PARTS_2019 = {**{modality: modality for modality in MODALITIES}, "mask": "seg"}
PARTS_2023 = {"t1": "t1n", "t1ce": "t1c", "t2": "t2w", "flair": "t2f", "mask": "seg"}
PARTS_MEN_RT = {"t1ce": "t1c", "mask": "gtv"}
PARTS_LGG = {"t1": "t1", "t1ce": "t1ce", "flair": "flair", "mask": "seg"}
CHANNELS_MSD = {"flair": "FLAIR", "t1": "T1w", "t1ce": "t1gd", "t2": "T2w"}  # in the order of the 4-D image


@dataclass(frozen=True)
class Form:
    """How a data set is named and labelled.

    Attributes:
        convention: What its labels mean.
        identities: Everyone in it, without end.
        write: Puts one case's arrays below a root.
        finish: Writes what describes the whole tree, with everyone in it, where there is such.
    """

    convention: str
    identities: Callable[[], Iterator[Identity]]
    write: Callable[[Path, Identity, Arrays], None]
    finish: Callable[[Path, Sequence[Identity]], None] | None = None


def identities(layout: str, cases: int) -> list[Identity]:
    """The first `cases` of a form, in the order of generation."""
    everyone = FORMS[layout].identities()
    return [next(everyone) for _ in range(cases)]


def write_cohort(
    root: Path | str,
    *,
    layout: str = "brats2019",
    cases: int = 6,
    shape: Shape = (16, 32, 32),
    seed: int = 0,
    masks: bool = True,
    lacking: Mapping[int, Sequence[str]] | None = None,
) -> list[Identity]:
    """Write a generated cohort as a data set of the layout names, lays out and labels its files.

    Args:
        root: The data set's folder; it may hold one already.
        layout: A key of FORMS; those of a healthy brain are made by `data.synthetic.healthy`.
        cases: How many.
        shape: (D, H, W), voxels of 1 mm; in fewer than about (16, 32, 32) a tumour may find no room.
        seed: Of the images.
        masks: Whether the cases have masks, as in a training set.
        lacking: Number of a case, from 0, to modalities or "mask" that it is written without; not for the 4-D msd.

    Returns:
        What a layout must find, in the order of generation.
    """
    form, everyone = FORMS[layout], identities(layout, cases)
    for index, identity in enumerate(everyone):
        arrays = _arrays(index, identity, form.convention, shape=shape, seed=seed)
        for part in (*(lacking or {}).get(index, ()), *(() if masks else ("mask",))):
            arrays.pop(part, None)
        form.write(Path(root), identity, arrays)
    if form.finish:
        form.finish(Path(root), everyone)
    return everyone


def native(case: SyntheticCase, convention: str) -> NDArray[np.uint8]:
    """A generated case's mask in the labels of a convention, (D, H, W) uint8.

    brats2015's non-enhancing tumour is every other voxel of the necrosis, brats2024's cavity every third.
    """
    if convention == "binary":
        return (case.label > 0).astype(np.uint8)
    tissues = dict(label_convention(convention).tissues)
    label = np.zeros_like(case.label)
    for tissue, number in (("necrosis", 1), ("oedema", 2), ("enhancing", 4)):
        label[case.label == number] = tissues[tissue]
    for tissue, every in (("non_enhancing", 2), ("cavity", 3), ("cyst", 3)):
        if tissue in tissues:
            label.flat[np.flatnonzero(case.label == 1)[::every]] = tissues[tissue]
    return label


def _arrays(index: int, identity: Identity, convention: str, *, shape: Shape, seed: int) -> Arrays:
    """Images and mask of case `index`, of the identity's grade where it has one."""
    hgg = {"HGG": 1.0, "LGG": 0.0}.get(identity.grade or "", 0.7)
    scanner = SCANNERS[sum(map(ord, identity.institution or "")) % len(SCANNERS)]
    case = make_case(index, shape=shape, seed=seed, hgg=hgg, scanners=[scanner])
    return {**case.images, "mask": native(case, convention)}


def _write(path: Path, array: NDArray) -> None:
    """A volume of 1 mm with BraTS's affine; little compressed, for speed."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[1, 3] = array.shape[-2] - 1
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(path, array, affine, compresslevel=1)


def _folder_a_case(separator: str, parts: Mapping[str, str], suffix: str) -> Callable[[Path, Identity, Arrays], None]:
    """Writes <folder>/<case><separator><part><suffix> of each part that the data set has."""

    def write(root: Path, identity: Identity, arrays: Arrays) -> None:
        folder = root / identity.folder
        folder.mkdir(parents=True, exist_ok=True)
        for part in parts.keys() & arrays.keys():
            _write(folder / f"{folder.name}{separator}{parts[part]}{suffix}", arrays[part])

    return write


def _write_2015(root: Path, identity: Identity, arrays: Arrays) -> None:
    """Every image in a folder of its own, with an id that no other image of the tree has."""
    first = 10_000 + len(PARTS_2015) * scan_number(identity)
    for number, part in enumerate(PARTS_2015):
        if part not in arrays:
            continue
        where, raters = ("Brain_3more", "XX") if part == "mask" else ("Brain", "O")
        name = f"VSD.{where}.XX.{raters}.{PARTS_2015[part]}.{first + number}"
        _write(root / identity.folder / name / f"{name}.mha", arrays[part])


def _write_msd(root: Path, identity: Identity, arrays: Arrays) -> None:
    """One 4-D image, training or test."""
    part = "Tr" if "mask" in arrays else "Ts"
    _write(root / f"images{part}" / f"{identity.name}.nii.gz", np.stack([arrays[m] for m in CHANNELS_MSD]))
    if "mask" in arrays:
        _write(root / "labelsTr" / f"{identity.name}.nii.gz", arrays["mask"])


def _write_nnunet(root: Path, identity: Identity, arrays: Arrays) -> None:
    part = "Tr" if "mask" in arrays else "Ts"
    for modality in arrays.keys() - {"mask"}:
        number = MODALITIES.index(modality)
        _write(root / f"images{part}" / f"{identity.name}_{number:04d}.nii.gz", arrays[modality])
    if "mask" in arrays:
        _write(root / "labelsTr" / f"{identity.name}.nii.gz", arrays["mask"])


def _map_names(root: Path, everyone: Sequence[Identity]) -> None:
    """name_mapping.csv of 2020; NA where a case had no name."""
    rows = []
    for identity in everyone:
        old = f"{identity.patient}_1" if identity.institution else None
        names = [f"{prefix}_{old}" if old else "NA" for prefix in ("Brats17", "Brats18")]
        rows.append([identity.grade, *names, "NA", f"BraTS19_{old}" if old else "NA", identity.name])
    years = [f"BraTS_{year}_subject_ID" for year in (2017, 2018, 2019, 2020)]
    _table(root / "name_mapping.csv", ["Grade", *years[:2], "TCGA_TCIA_subject_ID", *years[2:]], rows)


def _table_of_lgg(root: Path, everyone: Sequence[Identity]) -> None:
    rows = []
    for one in everyone:
        there = {path.name for path in (root / one.folder).iterdir()}
        words = {"pre": "t1", "post": "t1ce", "flair": "flair"}
        absent = [word for word, part in words.items() if f"{one.name}_{part}.nii.gz" not in there]
        rows.append([one.name, one.patient, one.institution, "20", "+".join(absent)])
    _table(root / "cases.csv", ["case", "patient", "institution", "slices", "missing"], rows)


def _table_of_manifest(root: Path, everyone: Sequence[Identity]) -> None:
    rows = []
    for one in everyone:
        files = [f"{one.folder}/{one.folder.split('/')[1]}_{PARTS_2019[part]}.nii.gz" for part in (*MODALITIES, "mask")]
        there = [file if (root / file).exists() else "" for file in files]
        rows.append([one.name, one.patient, one.grade, one.institution, *there, "brats2017", f"Scanner, {one.name}"])
    columns = ["case", "patient", "grade", "institution", "T1w", "T1Gd", "T2w", "T2-FLAIR", "mask", "native_labels"]
    _table(root / "manifest.csv", [*columns, "scanner"], rows)


def _table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[str | None]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])


def _describe_msd(root: Path, everyone: Sequence[Identity]) -> None:
    tissues = ("background", "edema", "non-enhancing tumor", "enhancing tumour")
    _json(
        root / "dataset.json",
        tensorImageSize="4D",
        modality={str(number): name for number, name in enumerate(CHANNELS_MSD.values())},
        labels={str(number): name for number, name in enumerate(tissues)},
    )


def _describe_nnunet(root: Path, everyone: Sequence[Identity]) -> None:
    """Regions, as in nnU-Net's own example for BraTS: oedema 1, necrosis 2, enhancing 3."""
    _json(
        root / "dataset.json",
        channel_names={"0": "T1", "1": "T1ce", "2": "T2", "3": "Flair"},
        labels={"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]},
        regions_class_order=[1, 2, 3],
        file_ending=".nii.gz",
    )


def _json(path: Path, **content: object) -> None:
    path.write_text(json.dumps(content, indent=1))


FORMS: Mapping[str, Form] = {
    "brats2015": Form("brats2015", brats2015_people, _write_2015),
    "brats2019": Form("brats2017", brats2019_people, _folder_a_case("_", PARTS_2019, ".nii.gz")),
    "brats2020": Form("brats2017", brats2020_people, _folder_a_case("_", PARTS_2019, ".nii"), _map_names),
    "brats2021": Form("brats2017", plain_people("BraTS2021_{:05d}".format), _folder_a_case("_", PARTS_2019, ".nii.gz")),
    "brats2023": Form(
        "brats2023",
        plain_people(lambda i: f"BraTS-GLI-{i // 3:05d}-{i % 3:03d}", lambda i: f"BraTS-GLI-{i // 3:05d}"),
        _folder_a_case("-", PARTS_2023, ".nii.gz"),
    ),
    "brats_men_rt": Form(
        "binary",
        plain_people("BraTS-MEN-RT-{:04d}-1".format, "BraTS-MEN-RT-{:04d}".format),
        _folder_a_case("_", PARTS_MEN_RT, ".nii.gz"),
    ),
    "msd": Form("msd", plain_people("BRATS_{:03d}".format), _write_msd, _describe_msd),
    "nnunet": Form("msd", plain_people("BRATS_{:03d}".format), _write_nnunet, _describe_nnunet),
    "manifest": Form("brats2017", manifest_people, _folder_a_case("_", PARTS_2019, ".nii.gz"), _table_of_manifest),
    "lgg": Form("binary", lgg_people, _folder_a_case("_", PARTS_LGG, ".nii.gz"), _table_of_lgg),
}
