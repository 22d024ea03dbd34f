"""`segan_pl atlas`: cases segmented by labelled ones that are registered to them, without any network."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jsonargparse.typing import PositiveInt
from numpy.typing import NDArray

from segan_pl.cli.commands.options import PlaceOptions, parse
from segan_pl.cli.predict_cases import REFUSALS, Row, keep_rows, report, row_of
from segan_pl.data.case import Case, Nonfinite
from segan_pl.data.case_pool import cores, over_cases, shown
from segan_pl.data.cohort import asked_modalities, scheme_of, unknown_labels
from segan_pl.data.conventions import Stated
from segan_pl.data.io import write_like
from segan_pl.data.labels import TISSUES, label_meanings, meaning_line
from segan_pl.data.layouts import DataSet
from segan_pl.data.split.choice import UnlabelledCases, require_masks
from segan_pl.data.split.record import Split, some
from segan_pl.errors import UsageError
from segan_pl.files import made_writable, require_writable
from segan_pl.inference.atlases.atlas import Method, MultiAtlas, Subject, read_subject
from segan_pl.inference.atlases.mixture import MixtureOptions
from segan_pl.inference.atlases.registration import Registration, simple_itk
from segan_pl.inference.input_case import output_name
from segan_pl.inference.output import OutputFolder, targets
from segan_pl.inference.split_part import Part

DESCRIPTION = (
    "Segment cases by the labelled training cases of a split, which are registered to them; no network, and no other "
    "case's mask is opened."
)
HINTS = {
    "data.missing": "a case without the modality is refused",
    "data.workers": "--workers",
    "data.labels": "each tissue is segmented, as with --data.labels labels",
}
"""Options of fit that mean something else here."""
PREFERRED = "t1"


@dataclass(frozen=True)
class AtlasDataOptions(PlaceOptions):
    """Which data set, and which of its cases are labelled; the keys are those of `fit`, and --KEY is short for them.

    Attributes:
        split_file: As `segan_pl split` writes it; its training cases are the labelled ones.
        fold: Which of the file's folds.
        n_labelled: How many of the training cases count as labelled; default all.
        split_seed: Of that choice, as in `fit`.
        split_leaks: Patients on two sides of the split: "refuse" or "allow".
        modalities: The first one is registered; default t1 where any case has it, else the first that any has.
        native_labels: What the masks' labels mean, and those that are written.
    """

    split_file: str = ""
    fold: int | None = None
    n_labelled: int | None = None
    split_seed: int = 0
    split_leaks: Literal["refuse", "allow"] = "refuse"
    modalities: list[str] | None = None
    native_labels: Stated = "auto"

    def split(self, source: DataSet) -> Split:
        """The split whose training cases are the labelled ones.

        Raises:
            UsageError: No split file, or more labelled cases than it has.
            CaseError: A split of other data, or a training case without a mask.
        """
        if not self.split_file:
            raise UsageError("--split_file is missing: give the split whose training cases are the labelled ones")
        chosen = UnlabelledCases(n_labelled=self.n_labelled, split_seed=self.split_seed)
        split = Split.load(Path(self.split_file).expanduser(), self.fold, val="free")
        split = split.in_form_of(case.name for case in source.cases)
        require_masks(replace(split, val=(), test=()), source.cases)
        known = [case for case in source.cases if case.mask or case.name in split.named]
        matched = split.require_matches(known, leftovers="ignore", leaks=self.split_leaks, val="free")
        return chosen.part(matched, source.cases)


@dataclass(frozen=True)
class AtlasOptions:
    """How the labelled cases segment others, which ones, and where to.

    Attributes:
        output: Folder for the segmentations.
        method: "vote", the majority of the registered labels; or "mixture", their mean as a prior for a Gaussian
            mixture of the intensities inside the brain.
        part: Of the split, which cases are segmented; "train" segments each labelled case by the others.
        registration: How each labelled case is registered: affine, then demons.
        mixture: How the mixture is fitted, with --method mixture.
        nonfinite: NaN and Inf voxels: "refuse", or "zero".
        keep: Folder in which registered labels are kept, and looked for: a second method, or another choice of labelled
            cases, then registers no pair again. Default: none is kept.
        workers: Processes, each with one thread; default all cores.
        overwrite: Replace segmentations that are there; without it they are kept and skipped.
    """

    output: str
    method: Method = "mixture"
    part: Part = "test"
    registration: Registration = field(default_factory=Registration)
    mixture: MixtureOptions = field(default_factory=MixtureOptions)
    nonfinite: Nonfinite = "refuse"
    keep: str | None = None
    workers: PositiveInt | None = None
    overwrite: bool = False


class Segmented(NamedTuple):
    """What a process found.

    Attributes:
        label: (D, H, W) native labels on the grid of the case's files; None where the case was refused.
        notes: What a user should know; of a refused case, why, alone.
        seconds: That it took, those of kept registrations among them.
    """

    label: NDArray[np.uint8] | None
    notes: tuple[str, ...]
    seconds: float


def main(arguments: list[str]) -> int:
    """Segment the cases of a part; 1 when one was refused."""
    keys = {f"--{one.name}" for one in fields(AtlasDataOptions)}
    found = []
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        found.append(f"--data.{flag[2:]}{equals}{value}" if flag in keys else argument)
    data, settings = parse(
        found, DESCRIPTION, lambda parser: parser.add_class_arguments(AtlasOptions), AtlasDataOptions, hints=HINTS
    )
    given = {one.name: settings[one.name] for one in fields(AtlasOptions)}
    given["registration"] = Registration(**given["registration"].as_dict())
    given["mixture"] = MixtureOptions(**given["mixture"].as_dict())
    if given["method"] == "vote" and given["mixture"] != MixtureOptions():
        raise UsageError("--mixture: is of --method mixture, and --method vote fits none; leave it out")
    return segment_all(AtlasOptions(**given), data)


def segment_all(options: AtlasOptions, data: AtlasDataOptions) -> int:
    """Carry out the command; the exit code."""
    start = time.monotonic()
    simple_itk()
    require_writable(Path(options.output).expanduser(), f"--output {options.output}")
    source = data.source()
    split = data.split(source)
    part = set(getattr(split, options.part))
    if not part:
        raise UsageError(f"--part {options.part}: the split {data.split_file} has no such case; choose another part")
    cases = [case for case in source.cases if case.name in part]
    atlas = _multi_atlas(options, data, source, split)
    for note in [*source.notes, *split.notes]:
        print(f"note: {note}")
    folder = _folder(atlas, source, options, cases)
    keeping = folder.begun() and not options.overwrite
    todo = [case for case in cases if not (keeping and folder.targets[case.name].label.exists())]
    names = some([one.case for one in atlas.atlases])
    print(f"{atlas.method} of {len(atlas.atlases)} labelled cases by {atlas.modality}: {names}")
    rows: list[Row] = []
    with shown(len(todo), label="segmenting", done="segmented") as advance:
        for row in _rows(atlas, todo, folder, options.workers or cores()):
            rows.append(row)
            if folder.ours():  # now and not at the end: a job may be killed
                keep_rows(folder.path / "predictions.csv", rows)
            advance()
    print(f"labels in the files: {meaning_line(atlas.scheme)}")
    if took := [float(row["seconds"]) for row in rows if not row["refused"]]:
        print(f"seconds a case: {sum(took) / len(took):.1f} (mean of {len(took)}; reading to labels, one thread each)")
    seconds = time.monotonic() - start
    return report(rows, given=len(cases), skipped=len(cases) - len(todo), output=folder.path, seconds=seconds)


def _multi_atlas(options: AtlasOptions, data: AtlasDataOptions, source: DataSet, split: Split) -> MultiAtlas:
    """The labelled cases, read."""
    scheme = scheme_of(source, TISSUES, data.native_labels)
    if scheme is None:
        raise unknown_labels(source)
    held = asked_modalities(source, data.modalities)
    modality = PREFERRED if data.modalities is None and PREFERRED in held else held[0]
    labelled = [case for case in source.cases if case.name in split.train]
    atlases: list[Subject] = [read_subject(case, modality, scheme, nonfinite=options.nonfinite) for case in labelled]
    kept = made_writable(Path(options.keep).expanduser(), f"--keep {options.keep}") if options.keep else None
    return MultiAtlas(
        atlases=atlases,
        modality=modality,
        scheme=scheme,
        method=options.method,
        registration=options.registration,
        mixture=options.mixture,
        nonfinite=options.nonfinite,
        kept=kept,
    )


def _folder(atlas: MultiAtlas, source: DataSet, options: AtlasOptions, cases: Sequence[Case]) -> OutputFolder:
    """Where everything goes, once no file would replace another one."""
    path = Path(options.output).expanduser()
    names = {case.name: output_name(case, [atlas.modality]) for case in source.cases}
    asked = [case.name for case in cases]
    about = {
        "channels": list(atlas.scheme.channels),
        "label_meanings": {str(value): list(names) for value, names in label_meanings(atlas.scheme).items()},
        # a labelled case is segmented by the others alone
        "parts": {"train": sorted({one.case for one in atlas.atlases} - set(asked)), "val": []},
        "cases": sorted(asked),
    }
    taken = [source.root] if source.root.is_file() else []
    planned = targets(source.cases, names, path, (), taken)
    mixture = {"mixture": asdict(atlas.mixture)} if atlas.method == "mixture" else {}
    identity = {  # what makes two segmentations of a case the same
        "checkpoints": [],
        "labelled cases": [
            {"case": one.case, "image": one.image.digest, "mask": one.mask_digest} for one in atlas.atlases
        ],
        "method": atlas.method,
        "modality": atlas.modality,
        "root": str(source.root.resolve()),
        "native_labels": atlas.scheme.convention.name,
        "labels": atlas.scheme.target,
        "settings": {"registration": asdict(atlas.registration), **mixture, "nonfinite": atlas.nonfinite},
        "SimpleITK": simple_itk().Version_VersionString(),
    }
    return OutputFolder(path, identity, planned, options.overwrite, about)


def _rows(atlas: MultiAtlas, cases: Sequence[Case], folder: OutputFolder, workers: int) -> Iterator[Row]:
    """One row for each case, as they come, once its file is written.

    Raises:
        UsageError: Another job began the folder with other settings in the meantime.
    """
    claimed = False
    for case, found in over_cases(partial(_segmented, atlas), cases, workers=workers):
        if found is None:
            yield row_of(case, None, 0.0, "its process was killed; is there enough memory? give fewer --workers")
            continue
        if found.label is None:
            yield row_of(case, None, found.seconds, found.notes[0])
            continue
        if not claimed:
            folder.claim()
            claimed = True
        file = folder.targets[case.name].label
        try:
            write_like(case.images[atlas.modality], found.label, file)
        except REFUSALS as error:
            yield row_of(case, None, found.seconds, f"{error or 'not enough memory'}")
            continue
        yield row_of(case, file, found.seconds, "", found.notes)


def _segmented(atlas: MultiAtlas, case: Case) -> Segmented:
    """One case in a process of its own."""
    start = time.monotonic()
    try:
        label, notes, kept = atlas.segment(case)
    except REFUSALS as error:
        return Segmented(None, (f"{error or 'not enough memory'}",), time.monotonic() - start)
    return Segmented(label, notes, kept + time.monotonic() - start)
