"""Which cases trained the network of a checkpoint and which chose it, by the split that its run keeps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from segan_pl.data.case import Case
from segan_pl.data.split.record import Split, some
from segan_pl.errors import UsageError

Part = Literal["train", "val", "test", "unlabelled"]


def split_file(checkpoint: Path) -> Path | None:
    """The split of a checkpoint's run; None where the checkpoint does not lie in a run's checkpoints folder.

    Any other split.json above a checkpoint, e.g. one that `segan_pl split` wrote, says nothing of what trained it.
    """
    folder = checkpoint.expanduser().resolve().parent
    kept = all((folder.parent / name).is_file() for name in ("split.json", "config.yaml"))
    return folder.parent / "split.json" if kept and folder.name == "checkpoints" else None


def split_of(checkpoint: Path) -> Split | None:
    """The split of a checkpoint's run; None where none is kept.

    Raises:
        CaseError: It is damaged.
        UsageError: It holds several folds.
    """
    file = split_file(checkpoint)
    return Split.load(file, val="free") if file else None


def parts_of(checkpoints: Sequence[Path], names: Sequence[str]) -> dict[str, list[str]] | None:
    """Which of some cases trained one of the networks ("train"), and which of the others chose one of them ("val").

    Returns:
        Part to names, sorted; None where a run keeps no split, so that nobody knows.

    Raises:
        CaseError: A split is damaged.
        UsageError: A split holds several folds.
    """
    splits = [split and split.in_form_of(names) for split in map(split_of, checkpoints)]
    if None in splits:
        return None
    train = {name for split in splits if split for name in split.train} & set(names)
    val = {name for split in splits if split for name in split.val} & set(names) - train
    return {"train": sorted(train), "val": sorted(val)}


def cases_of_part(checkpoints: Sequence[Path], part: Part, cases: Sequence[Case]) -> tuple[Case, ...]:
    """The cases of a part of the runs' split.

    Raises:
        UsageError: A run keeps no split, the runs' parts differ, the part is empty, or the data lack some of it.
        CaseError: A split is damaged.
    """
    asked = f"--part {part}"
    wanted: set[str] | None = None
    for path in checkpoints:
        split = split_of(path)
        if split is None:
            raise UsageError(
                f"{asked}: {path} lies in no run's checkpoints folder with split.json and config.yaml above it; give "
                f"the checkpoint where its run left it, or leave the option out"
            )
        names = set(getattr(split.in_form_of(case.name for case in cases), part))
        if not names:
            counts = ", ".join(f"{len(getattr(split, name))} {name}" for name in get_args(Part)) + " cases"
            raise UsageError(f"{asked}: the split {split_file(path)} has {counts}; choose another part")
        if wanted is not None and names != wanted:
            raise UsageError(f"{asked}: the checkpoints' runs have other {part} cases each; predict with one at a time")
        wanted = names
    found = tuple(case for case in cases if case.name in (wanted or ()))
    if missing := sorted((wanted or set()) - {case.name for case in found}):
        raise UsageError(
            f"{asked}: {len(missing)} of {len(wanted or ())} such cases are not in --root: {some(missing)}; give the "
            f"data that the run was trained on"
        )
    return found
