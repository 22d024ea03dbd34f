"""The options of `segan_pl clinical`, and what of them cannot be."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from jsonargparse.typing import PositiveInt

from segan_pl.cli.commands.clinical.tables import require_own
from segan_pl.clinical.back import made_by
from segan_pl.clinical.brain_mask import BrainMask, require_installed
from segan_pl.clinical.patient import Pipeline
from segan_pl.clinical.space import Interpolation
from segan_pl.data.case import MODALITIES
from segan_pl.errors import UsageError
from segan_pl.files import require_writable
from segan_pl.inference.atlases.registration import simple_itk


@dataclass(frozen=True)
class Root:
    """Where the patients are.

    Attributes:
        root: Folder with the files of one or many patients, DICOM or NIfTI, nested in any way; --root is short for it.
    """

    root: str


@dataclass(frozen=True)
class ClinicalOptions:
    """How series become cases, and masks go back.

    Attributes:
        output: Folder for all: manifest.csv, series.csv, cases, brain, quality, records, and the masks.
        brain: How the brain is found: "deepbet", "hd_bet", "given" (--masks), or "none" for stripped input.
        masks: With --brain given, a folder of masks called like the case, or the patient of one visit.
        masks_on: Modality that these were drawn on; default the one of the highest resolution.
        interpolation: Of images, "linear", "bspline" or "nearest" (the paper's).
        atlas: Image to register to; default the sequence of the highest resolution.
        fill: Copies for missing sequences, e.g. [t1=t1ce].
        rules: YAML file of rules that say which series is which modality.
        series_file: Edited copy of series.csv, whose column use_as decides by hand.
        pseudonyms: CSV of patient and pseudonym, kept and extended; it must lie outside of --output.
        identifying: Keep patients' names, series' descriptions and DICOM-SEG's patient fields.
        only_list: Write series.csv alone, to look at what the series were taken for.
        ckpt_path: Checkpoint that segments the cases, whose masks then go back.
        segmentations: Instead, a folder of `segan_pl predict` over this output, whose masks go back.
        workers: Processes, a patient each, of one thread; default all cores.
        overwrite: Replace what other series or settings made.
    """

    output: str
    brain: BrainMask = "deepbet"
    masks: str | None = None
    masks_on: str = ""
    interpolation: Interpolation = "linear"
    atlas: str | None = None
    fill: list[str] = field(default_factory=list)
    rules: str | None = None
    series_file: str | None = None
    pseudonyms: str | None = None
    identifying: bool = False
    only_list: bool = False
    ckpt_path: str | None = None
    segmentations: str | None = None
    workers: PositiveInt | None = None
    overwrite: bool = False


def pipeline_of(options: ClinicalOptions, root: Path, output: Path) -> Pipeline:
    """The steps, once everything that was typed wrongly is refused.

    Raises:
        UsageError: Options that exclude each other, a place that cannot be, or a package that is not installed.
    """
    require_writable(output, f"--output {options.output}")
    if output.resolve().is_relative_to(root.resolve()):
        raise UsageError(f"--output {options.output}: lies in --root, whose images it would add to; choose another")
    tables = [Path(name).expanduser() for name in (options.series_file, options.pseudonyms) if name]
    require_own(output, f"--output {options.output}", tables)
    if (options.masks is None) == (options.brain == "given"):
        raise UsageError("--masks and --brain given belong together; give both or neither")
    if options.masks_on and options.brain != "given":
        raise UsageError("--masks_on: is of --brain given; leave it out")
    if options.masks and not Path(options.masks).expanduser().is_dir():
        raise UsageError(f"--masks {options.masks}: is no folder")
    if options.ckpt_path and options.segmentations:
        raise UsageError("--ckpt_path and --segmentations exclude each other; give one of them")
    if options.only_list and (options.ckpt_path or options.segmentations):
        raise UsageError("--only_list writes series.csv alone; leave out --ckpt_path and --segmentations")
    fill = {}
    for text in options.fill:
        name, equals, other = text.partition("=")
        if not equals or name == other or not {name, other} <= set(MODALITIES):
            raise UsageError(f"--fill {text}: expected MISSING=INSTEAD of {', '.join(MODALITIES)}, e.g. t1=t1ce")
        fill[name] = other
    atlas = Path(options.atlas).expanduser() if options.atlas else None
    if atlas and not atlas.is_file():
        raise UsageError(f"--atlas {options.atlas}: is no file; none is shipped, name one of your own")
    if options.segmentations:
        made_by(Path(options.segmentations).expanduser())
    if options.ckpt_path and not Path(options.ckpt_path).expanduser().is_file():
        raise UsageError(f"--ckpt_path {options.ckpt_path}: is no file")
    if not options.only_list:
        simple_itk("clinical")
        require_installed(options.brain)
    return Pipeline(output, options.brain, options.masks_on, options.interpolation, fill, atlas, options.overwrite)
