"""Every fault of the reliability table as a generated file, the command that meets it, and what the command says.

`python -m tests.reliability > docs/reliability.md` writes the table; tests/reliability/test_faults.py runs each row and
compares the file with it.
"""

from __future__ import annotations

import gzip
import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segan_pl.data.io import read_volume, write_volume

CHECK = "check --root={root} --workers=1"
Plant = Callable[[Path], object]

DIM, DATATYPE, PIXDIM, SLOPE, QFORM_CODE, SFORM_CODE, SROW = 40, 70, 76, 112, 252, 254, 280
"""Where NIfTI-1 keeps what the faults change, in bytes from the header's start."""


@dataclass(frozen=True)
class Fault:
    """One row of the table.

    Attributes:
        number: Of the row in the project's list of faults, 1 to 22.
        what: The fault, as a user would name it.
        plant: Changes a copy of the small cohort so that it has the fault.
        command: Arguments of `segan_pl`; "{root}" is the cohort, "{work}" an empty folder next to it.
        code: The exit code.
        says: What the output contains; "..." stands for anything within a line.
    """

    number: int
    what: str
    plant: Plant
    command: str = CHECK
    code: int = 1
    says: str = ""


# -- what is planted ---------------------------------------------------------------------------------------------------


def nothing(root: Path) -> None:
    """The cohort as it is."""


def first(root: Path, part: str) -> Path:
    """The file of the first case."""
    return sorted(root.rglob(f"*_{part}.nii.gz"))[0]


def content(part: str, data: bytes) -> Plant:
    """Replace a file's bytes."""
    return lambda root: first(root, part).write_bytes(data)


def cut(part: str, keep: float) -> Plant:
    """Keep the beginning of a file."""

    def plant(root: Path) -> None:
        file = first(root, part)
        data = file.read_bytes()
        file.write_bytes(data[: int(len(data) * keep)])

    return plant


def wrong_checksum(root: Path) -> None:
    """Change the CRC that ends the gzip stream."""
    file = first(root, "t2")
    data = bytearray(file.read_bytes())
    data[-8] ^= 1
    file.write_bytes(bytes(data))


def header(part: str, *changes: tuple[int, str, tuple[float, ...]]) -> Plant:
    """Overwrite header fields: (offset, struct format, values)."""

    def plant(root: Path) -> None:
        file = first(root, part)
        data = bytearray(gzip.decompress(file.read_bytes()))
        for offset, form, values in changes:
            struct.pack_into(form, data, offset, *values)
        file.write_bytes(gzip.compress(bytes(data), mtime=0))

    return plant


def dims(*values: int) -> tuple[int, str, tuple[float, ...]]:
    """The header's dim field."""
    return DIM, "<8h", (*values, *[1] * (8 - len(values)))


def voxels(part: str, change: Callable[[np.ndarray], np.ndarray]) -> Plant:
    """Replace a volume's (D, H, W) voxels, keeping its affine."""

    def plant(root: Path) -> None:
        file = first(root, part)
        volume = read_volume(file)
        write_volume(file, change(volume.array.copy()), volume.affine)

    return plant


def one_voxel(part: str, value: float, kind: str = "float32") -> Plant:
    """Set the middle voxel."""

    def change(array: np.ndarray) -> np.ndarray:
        array = array.astype(kind)
        array[tuple(n // 2 for n in array.shape)] = value
        return array

    return voxels(part, change)


def affine(part: str, change: Callable[[np.ndarray], np.ndarray]) -> Plant:
    """Replace a volume's affine."""

    def plant(root: Path) -> None:
        file = first(root, part)
        volume = read_volume(file)
        write_volume(file, volume.array, change(volume.affine.copy()))

    return plant


def unzipped_name(root: Path) -> None:
    """A gzipped file whose name says it is not, and the reverse."""
    zipped, other = first(root, "t1"), first(root, "t2")
    zipped.rename(zipped.with_suffix(""))
    other.write_bytes(gzip.decompress(other.read_bytes()))


def half_a_pair(root: Path) -> None:
    """A MetaImage header without its voxels."""
    file = first(root, "t1")
    volume = read_volume(file)
    x, y, z = volume.array.shape[::-1]
    text = (
        f"ObjectType = Image\nNDims = 3\nDimSize = {x} {y} {z}\nElementType = MET_SHORT\nElementDataFile = gone.raw\n"
    )
    file.with_name(file.name.replace(".nii.gz", ".mhd")).write_text(text)
    file.unlink()


def half_an_analyze(root: Path) -> None:
    """An Analyze header without its voxels."""
    file = first(root, "t1")
    head = bytearray(gzip.decompress(file.read_bytes())[:348])
    head[344:348] = b"\0\0\0\0"
    file.with_name(file.name.replace(".nii.gz", ".hdr")).write_bytes(bytes(head))
    file.unlink()


def broken_link(root: Path) -> None:
    """A link to nowhere in place of a file."""
    file = first(root, "t1")
    file.unlink()
    file.symlink_to(root / "nowhere.nii.gz")


def folder_for_file(root: Path) -> None:
    """A folder with a file's name."""
    file = first(root, "t1")
    file.unlink()
    file.mkdir()


def copied(source: str, target: str) -> Plant:
    """One file in place of another of the same case."""
    return lambda root: shutil.copy(first(root, source), first(root, target))


def removed(part: str) -> Plant:
    """A file less."""
    return lambda root: first(root, part).unlink()


def cases(root: Path) -> list[Path]:
    """The cases' folders, by name."""
    return sorted({file.parent for file in root.rglob("*.nii.gz")}, key=lambda folder: folder.name)


def renamed(folder: Path, name: str) -> Path:
    """A copy of a case under another name."""
    copy = folder.parent / name
    shutil.copytree(folder, copy)
    for file in copy.iterdir():
        file.rename(copy / file.name.replace(folder.name, name))
    return copy


def case_twice(root: Path) -> None:
    """One case under both grades."""
    folder = cases(root)[0]
    other = root / ("LGG" if folder.parent.name == "HGG" else "HGG") / folder.name
    shutil.copytree(folder, other)


def same_content(root: Path) -> None:
    """One case's files under a second name."""
    renamed(cases(root)[0], "BraTS19_ZZZ_999_1")


def only(count: int) -> Plant:
    """Keep the first cases."""
    return lambda root: [shutil.rmtree(folder) for folder in cases(root)[count:]]


def without_enhancing(root: Path) -> None:
    """Masks in which enhancing tumour never occurs."""
    for file in root.rglob("*_seg.nii.gz"):
        volume = read_volume(file)
        write_volume(file, np.where(volume.array == 4, 1, volume.array).astype(np.uint8), volume.affine)


def enhancing_is_3(root: Path) -> None:
    """A mask with the labels of 2023."""
    file = first(root, "seg")
    volume = read_volume(file)
    write_volume(file, np.where(volume.array == 4, 3, volume.array).astype(np.uint8), volume.affine)


def as_2023(root: Path) -> None:
    """The cases with the names of 2023, the labels as of 2024: 4 is a resection cavity."""
    words = {"t1": "t1n", "t1ce": "t1c", "t2": "t2w", "flair": "t2f", "seg": "seg"}
    for number, folder in enumerate(cases(root)):
        name = f"BraTS-GLI-{number:05d}-000"
        (root / name).mkdir()
        for old, new in words.items():
            next(folder.glob(f"*_{old}.nii.gz")).rename(root / name / f"{name}-{new}.nii.gz")
    for grade in ("HGG", "LGG"):
        shutil.rmtree(root / grade)


def second_scan(root: Path) -> None:
    """A second scan of the first patient, with content of its own."""
    folder = cases(root)[0]
    copy = renamed(folder, folder.name[:-1] + "2")
    for file in copy.iterdir():
        volume = read_volume(file)
        write_volume(file, volume.array[::-1], volume.affine)


def split_of(change: Callable[[list[str]], dict[str, list[str]]]) -> Plant:
    """A split file next to the cohort, made of the cases' names."""

    def plant(root: Path) -> None:
        names = [folder.name for folder in cases(root)]
        (root.parent / "split.json").write_text(json.dumps(change(names)))

    return plant


def both(*plants: Plant) -> Plant:
    """One after another."""
    return lambda root: [plant(root) for plant in plants]


def blocked(root: Path) -> None:
    """A file where the cache's folder should be."""
    (root.parent / "blocked").write_text("")


FIT = (
    "fit --config segan_cat_small --root={root} --data.cache_dir={work}/cache --run.directory={work}/run "
    "--data.preparation.crop=null --data.patch=[32,32] --data.batch_size=4 --data.stratify_by=[] "
    "--trainer.max_epochs=1 --trainer.accelerator=cpu"
)
PREPARE = "prepare --root={root} --data.cache_dir={work}/cache --data.preparation.crop=null --data.prepare_workers=1"
SPLIT = "split --root={root}"
