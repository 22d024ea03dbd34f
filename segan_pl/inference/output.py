"""A folder of segmentations: which file is whose and what made them all."""

from __future__ import annotations

import fcntl
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segan_pl.data.case import Case, CaseError
from segan_pl.data.outputs import Kind, Output
from segan_pl.errors import UsageError
from segan_pl.files import write_whole

IDENTITY = "predict.json"
REFUSING = ("missing", "nonfinite")
"""Settings that say which cases are refused, and change no file."""
ROWS = "predictions"
"""Before .csv, or before _1of5.csv for a part."""
TABLE = Kind("segan_pl predict", "case,patient,file,seconds,refused,")


@dataclass(frozen=True)
class Target:
    """Where one case goes.

    Attributes:
        label: File of the segmentation.
        probabilities: One file for each channel, or none.
        variance: File of the variance between checkpoints and mirror images, or None.
    """

    label: Path
    probabilities: tuple[Path, ...] = ()
    variance: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them, the segmentation last: where it is, the others are too."""
        return (*self.probabilities, *([self.variance] if self.variance else []), self.label)


@dataclass(frozen=True)
class OutputFolder:
    """The folder that one set of checkpoints and settings fills, in one call or in many.

    `predict.json` is written with the first file, so that a call that writes none leaves the folder as it was. All
    that is in the folder is then of that identity, since the old files go before another one is written.

    Attributes:
        path: The folder.
        identity: JSON values; what makes two segmentations of a case the same.
        targets: Case to its files, of all cases and not only of this call's.
        overwrite: Whether files of another identity, or of nobody, may be replaced.
        about: What readers of the folder are told besides: channels, meanings of labels, who has seen which case.
    """

    path: Path
    identity: Mapping[str, Any]
    targets: Mapping[str, Target]
    overwrite: bool = False
    about: Mapping[str, Any] = field(default_factory=dict)

    def begun(self) -> bool:
        """Whether files of this identity may be there; else the folder is new, or everything in it is to be replaced.

        Raises:
            UsageError: Other checkpoints or settings began it, or files are there that no predict.json accounts for.
        """
        before = read_identity(self.path)
        if not self.overwrite:
            for file in _tables(self.path):
                Output(file, TABLE, f"--output {self.path}").require_free()
        if before is None:
            there = [file.name for target in self.targets.values() for file in target.files if file.exists()]
            if there and not self.overwrite:
                raise UsageError(
                    f"{self.path}: holds {there[0]}{f' and {len(there) - 1} more' if there[1:] else ''}, which no "
                    f"{IDENTITY} accounts for; choose another --output or --overwrite true"
                )
            return False
        differing = differences(before, self.identity)
        if differing and not self.overwrite:
            raise UsageError(
                f"{self.path}: holds predictions made with other {', '.join(differing)}; choose another --output or "
                f"--overwrite true"
            )
        return not differing

    def ours(self) -> bool:
        """Whether no other identity's files are in the folder."""
        before = read_identity(self.path)
        return before is None or not differences(before, self.identity)

    def claim(self) -> None:
        """Say whose the folder is from now on; called before the first file is written.

        Of several jobs one removes the other identity's files, under a lock; the rest find their own.

        Raises:
            UsageError: Another job began the folder in the meantime.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        # one process at a time; the lock ends with its process
        with (self.path / f".{IDENTITY}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = read_identity(self.path)
            names = {file.name for target in self.targets.values() for file in target.files}
            if not self.begun():
                old = names | set(before.get("files", ()) if before else ())
                # Names that a file held: nothing outside of the folder is removed.
                if strange := [name for name in old if Path(name).name != name]:
                    why = f"lists the file {strange[0]!r}, expected plain names; remove the folder"
                    raise CaseError(f"{self.path / IDENTITY}: {why}")
                for file in [*(self.path / name for name in old), *_tables(self.path)]:
                    file.unlink(missing_ok=True)
            else:
                assert before is not None  # the folder was begun
                names |= set(before.get("files", ()))
            content = {**self.identity, "predicted": self._about(before), "files": sorted(names)}
            write_whole(self.path / IDENTITY, json.dumps(content, indent=1))

    def _about(self, before: Mapping[str, Any] | None) -> dict[str, Any]:
        """What readers are told, with the cases of earlier calls whose files are still there."""
        about = dict(self.about)
        if before is None or differences(before, self.identity):
            return about
        earlier = before.get("predicted") or {}
        parts, known = about.get("parts"), earlier.get("parts")
        if parts and known:
            about["parts"] = {name: sorted({*names, *known.get(name, ())}) for name, names in parts.items()}
        asked, then = about.get("cases"), earlier.get("cases")
        about["cases"] = sorted({*asked, *then}) if asked and then else None  # None: all of the input
        return about


def targets(
    cases: Sequence[Case],
    names: Mapping[str, str],
    folder: Path,
    channels: Sequence[str],
    taken: Iterable[Path] = (),
    *,
    variance: bool = False,
) -> dict[str, Target]:
    """Where each case goes.

    Args:
        cases: All of the data set.
        names: Case to the file name of its segmentation.
        folder: Of all files.
        channels: One file of probabilities each; none for no such files.
        taken: Further files that must not be replaced.
        variance: Whether there is a file of it.

    Raises:
        UsageError: Two files would have one name, or one would replace an image or a mask.
    """
    found = {
        case.name: Target(
            folder / names[case.name],
            tuple(folder / f"{case.name}_{channel}.nii.gz" for channel in channels),
            folder / f"{case.name}_variance.nii.gz" if variance else None,
        )
        for case in cases
    }
    owners: dict[Path, str] = {}
    for name, target in found.items():
        for file in target.files:
            if (other := owners.setdefault(file, name)) != name or target.files.count(file) > 1:
                raise UsageError(f"--output {folder}: {other} and {name} would both be {file.name}; rename a case")
    held = {path.resolve(): case.name for case in cases for path in (*case.images.values(), case.mask) if path}
    held |= {path.resolve(): "the input" for path in taken}
    for file in (*owners, folder / IDENTITY, *_tables(folder)):
        if owner := held.get(file.resolve()):
            raise UsageError(
                f"--output {folder}: {file.name} is a file of {owner}, which would be replaced; choose a folder of its "
                f"own"
            )
    return found


def _tables(folder: Path) -> list[Path]:
    """Where the rows of all parts are; whatever else has such a name stays."""
    parts = [file for file in folder.glob(f"{ROWS}_*of*.csv") if re.fullmatch(rf"{ROWS}_\d+of\d+\.csv", file.name)]
    return [folder / f"{ROWS}.csv", *parts]


def read_identity(folder: Path) -> dict[str, Any] | None:
    """What `predict.json` says; None where there is none.

    Raises:
        UsageError: It is something else.
    """
    file = folder / IDENTITY
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or not isinstance(found.get("checkpoints"), list):
            raise ValueError("no checkpoints in it")
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UsageError(f"{file}: not what `segan_pl predict` writes ({error}); rename or remove it") from error
    return found


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """In which points two identities differ.

    A copy of a checkpoint is the same checkpoint, and which cases were refused changes no file that is there.
    """
    first, second = (json.loads(json.dumps(identity)) for identity in (before, now))
    for one in (*first["checkpoints"], *second["checkpoints"]):
        one.pop("path", None)
    for identity in (first, second):
        for name in REFUSING:
            identity.get("settings", {}).pop(name, None)
    return [key for key in second if first.get(key) != second[key]]
