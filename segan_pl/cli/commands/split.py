"""`segan_pl split`: draw train, validation, test or folds; show the balance; check a split that exists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jsonargparse import Namespace
from jsonargparse.typing import ClosedUnitInterval, NonNegativeInt, OpenUnitInterval, PositiveInt

from segan_pl.cli.commands.options import DataSetOptions, parse
from segan_pl.cli.parsing import OneLineErrors
from segan_pl.data.case import Case, CaseError
from segan_pl.data.cohort import Cohort, native_convention
from segan_pl.data.conventions import label_convention
from segan_pl.data.labels import possible_target, require_target
from segan_pl.data.outputs import Kind, Output
from segan_pl.data.split import mondal
from segan_pl.data.split.balance import balance_of, render
from segan_pl.data.split.choice import Unlabelled, UnlabelledCases, expected_in, require_masks, with_masks
from segan_pl.data.split.drawing import Rounding, stratified_folds, stratified_split
from segan_pl.data.split.files import groups_of_same_content
from segan_pl.data.split.holding_out import part_held_out, with_held_out
from segan_pl.data.split.presets import PRESETS, find_preset, preset_split
from segan_pl.data.split.record import Split, folds_text, load_folds
from segan_pl.data.split.strata import COLUMNS, require_columns
from segan_pl.errors import UsageError
from segan_pl.files import require_writable

DESCRIPTION = (
    "Part the cases of a data set at random, stratified and with all scans of a patient on one side, show the balance, "
    "and write it with -o. Reads no voxel."
)
SPLIT = Kind("segan_pl split", r'\{\s*"(train|folds)": \[|\[\s*\{\s*"train": \[')
_SIZES = ("val", "test", "folds", "nested", "rounding", "hold_out")


@dataclass(frozen=True)
class SplitDataOptions(DataSetOptions):
    """Which data set, and how a system or data file says that it is split; the command's own options win.

    Attributes:
        val_fraction: Of the patients, where --val is not given.
        test_fraction: Of the patients, where --test is not given.
        stratify_by: Columns, where --by is not given.
        split_seed: Where --seed is not given.
        split_leftovers: With --check, where --leftovers is not given.
        split_leaks: With --check, where --leaks is not given.
        unlabelled: Cases without a mask: "refuse", or "use" them as unlabelled training cases.
        n_labelled: How many training cases count as labelled; the others come under "unlabelled".
    """

    val_fraction: float = 0.2
    test_fraction: float = 0.0
    stratify_by: tuple[str, ...] = COLUMNS
    split_seed: int = 0
    split_leftovers: Literal["refuse", "ignore"] = "refuse"
    split_leaks: Literal["refuse", "allow"] = "refuse"
    unlabelled: Unlabelled = "refuse"
    n_labelled: int | None = None


def main(arguments: list[str]) -> int:
    """Draw or check a split.

    Args:
        arguments: "split" and its options.

    Returns:
        0; whatever cannot be split is an error.
    """
    options, settings = parse(arguments, DESCRIPTION, _add_arguments, SplitDataOptions)
    _require_fitting(settings)
    output = _new_file(settings, Path(options.root).expanduser())
    name = None if options.native_labels == "auto" else label_convention(options.native_labels).name
    require_target(possible_target(options.labels, name), name)
    cohort = options.find(mask=True, scheme=False, unlabelled=options.unlabelled == "use")
    native_convention(cohort.source, options.native_labels, options.labels)
    by = options.stratify_by if settings.by is None else settings.by
    seed = options.split_seed if settings.seed is None else settings.seed
    unlabelled = UnlabelledCases(options.unlabelled, options.n_labelled, split_seed=seed)
    require_columns(cohort.cases, by)
    known, used_names = ([case.name for case in some] for some in (cohort.source.cases, cohort.cases))
    together = groups_of_same_content(settings.together, known, used_names) if settings.together else []
    folds = (
        _checked(settings, options, cohort, together)
        if settings.check
        else _drawn(settings, options, cohort.cases, by, together)
    )
    folds = [unlabelled.part(fold, cohort.cases) for fold in folds]
    kept_apart = "scans of a patient may be on two sides, as --group scan asks"
    scans = folds[0].grouped == "scan" and len({case.patient for case in cohort.cases}) < len(cohort.cases)
    notes = [*cohort.notes(), *([kept_apart] if scans else []), *(note for fold in folds for note in fold.notes)]
    for note in list(dict.fromkeys(notes)):
        print(f"note: {note}")
    for table in balance_of(folds, cohort.cases, by):
        print(render(table, settings.table))
    _write(folds, output and output.reading(cohort.source.cases), settings)
    used = len(frozenset().union(*(fold.named for fold in folds)))
    print(f"{len(cohort.source.cases)} given, {used} used, 0 refused")
    return 0


def _add_arguments(parser: OneLineErrors) -> None:
    presets = "; ".join(
        [*(f"{name}: {one.source}" for name, one in PRESETS.items()), f"{mondal.NAME}: {mondal.SOURCE}"]
    )
    add = parser.add_argument
    add("--val", type=OpenUnitInterval | None, help="fraction of the patients for validation (default: 0.2)")
    add("--test", type=ClosedUnitInterval | None, help="fraction of the patients held out (default: 0)")
    add("--hold_out", type=str | None, help="COLUMN=VALUE, e.g. institution=C: all cases with it are the test part")
    add("--folds", type=PositiveInt | None, help="so many folds instead; each patient validates once")
    add("--nested", type=PositiveInt | None, help="so many inner folds; the outer folds are then the test parts")
    add("--by", type=str, nargs="*", help="columns that make the strata (default: grade institution)")
    add("--group", type=Literal["patient", "scan"] | None, help="what stays on one side (default: patient)")
    add("--rounding", type=Rounding | None, help="total: exact parts of the whole; floor: each stratum rounded down")
    add("--seed", type=NonNegativeInt | None, help="of the drawing (default: 0)")
    add("--preset", type=str | None, help=f"a paper's proportions (no paper published its draw). {presets}")
    add("--together", type=str | None, help="JSON of `segan_pl check --json`: cases of the same content share a side")
    add("--check", type=str | None, help="a split file to hold against the data, instead of drawing one")
    add("--leftovers", type=Literal["refuse", "ignore"] | None, help="with --check: cases in no part (default: refuse)")
    add("--leaks", type=Literal["refuse", "allow"] | None, help="with --check: patients on two sides (default: refuse)")
    add("-o", "--output", type=str | None, help="the file to write; without it the table is only shown")
    add(
        "--format",
        type=Literal["json", "nnunet"] | None,
        help="json (default); nnunet: splits_final.json, which has no test",
    )
    add("--overwrite", type=bool, default=False, help="replace the file if it is there")
    add("--table", type=Literal["text", "markdown"], default="text", help="form of the table")


def _require_fitting(settings: Namespace) -> None:
    """Refuse options that contradict one another, before anything is looked for.

    Raises:
        UsageError: With the two.
    """
    given = [f"--{name}" for name in _SIZES if getattr(settings, name) is not None]
    if settings.preset and settings.preset != mondal.NAME:
        find_preset(settings.preset)
    for name in ("check", "preset"):
        asked = [*given, *(["--preset"] if settings.preset and name == "check" else [])]
        asked += ["--by"] if name == "preset" and settings.by is not None else []
        if getattr(settings, name) and asked:
            raise UsageError(f"--{name} says how the cases are parted; leave out {', '.join(asked)}")
    drawing = [f"--{name}" for name in ("seed", "group") if getattr(settings, name) is not None]
    if settings.check and drawing:
        raise UsageError(f"--check draws nothing; leave out {', '.join(drawing)}")
    idle = [*drawing, *(["--together"] if settings.together else [])]
    if settings.preset == mondal.NAME and idle:
        raise UsageError(f"--preset {mondal.NAME} draws nothing; leave out {', '.join(idle)}")
    if settings.hold_out and (settings.test or settings.nested):
        raise UsageError("--hold_out says what the test part is; leave out --test and --nested")
    if not settings.output and (settings.format or settings.overwrite):
        raise UsageError("--format and --overwrite say how -o FILE is written; give it")
    if settings.nested and not settings.folds:
        raise UsageError("--nested needs --folds, the number of outer folds")
    if settings.nested and settings.test:
        raise UsageError("--nested has the outer folds as test parts; leave out --test")
    if settings.folds and (clash := [name for name in ("--val", "--rounding") if name in given]):
        raise UsageError(f"--folds says how large validation is; leave out {', '.join(clash)}")
    if not settings.check and (settings.leftovers, settings.leaks) != (None, None):
        raise UsageError("--leftovers and --leaks go with --check; a drawn split has neither")


def _new_file(settings: Namespace, root: Path) -> Output | None:
    """Where to write, once it is known that nothing is lost; a split, which runs rest on, is replaced on request only.

    Raises:
        UsageError: It is there, or its folder is not, or may not be written to.
    """
    if settings.output is None:
        return None
    path = Path(settings.output).expanduser()
    if not path.parent.is_dir():
        raise UsageError(f"-o {path}: no such folder; give a file in a folder")
    require_writable(path.parent, f"-o {path}")
    read = (root, *settings.config, *(Path(text).expanduser() for text in (settings.check, settings.together) if text))
    output = Output(path, SPLIT, f"-o {path}", inputs=read, overwrite=settings.overwrite)
    output.require_free()
    return output


def _drawn(
    settings: Namespace,
    options: SplitDataOptions,
    cases: Sequence[Case],
    by: Sequence[str],
    together: Sequence[Sequence[str]],
) -> list[Split]:
    """The split, or the folds, that the options ask for; only `mondal` names cases without a mask."""
    if settings.preset == mondal.NAME:
        return [mondal.mondal_split(cases, options.n_labelled or 1)]
    grouped: Literal["patient", "scan"] = settings.group or "patient"
    cases = with_masks(cases)
    if not settings.hold_out:
        return _of_options(settings, options, cases, by, together, grouped)
    rest, held = part_held_out(cases, settings.hold_out, grouped=grouped, together=together)
    names = {case.name for case in rest}
    groups = [group for group in together if names.issuperset(group)]
    drawn = _of_options(settings, options, rest, by, groups, grouped)
    return [with_held_out(fold, rest, held, settings.hold_out) for fold in drawn]


def _of_options(
    settings: Namespace,
    options: SplitDataOptions,
    cases: Sequence[Case],
    by: Sequence[str],
    together: Sequence[Sequence[str]],
    grouped: Literal["patient", "scan"],
) -> list[Split]:
    """What is drawn from these cases."""
    seed = options.split_seed if settings.seed is None else settings.seed
    fraction = 0.0 if settings.hold_out else options.test_fraction  # of a file; the command's own option wins
    if settings.preset:
        return [preset_split(settings.preset, cases, seed=seed, grouped=grouped, together=together)]
    if settings.folds:
        return stratified_folds(
            cases,
            folds=settings.folds,
            nested=settings.nested or 0,
            test_fraction=settings.test or 0.0,
            by=by,
            seed=seed,
            grouped=grouped,
            together=together,
        )
    split = stratified_split(
        cases,
        val_fraction=options.val_fraction if settings.val is None else settings.val,
        test_fraction=fraction if settings.test is None else settings.test,
        by=by,
        seed=seed,
        grouped=grouped,
        together=together,
        rounding=settings.rounding or "total",
    )
    return [split]


def _checked(
    settings: Namespace, options: SplitDataOptions, cohort: Cohort, together: Sequence[Sequence[str]]
) -> list[Split]:
    """The folds of a file, each known to fit the data.

    Raises:
        CaseError: One does not, with the file and the fold before the reason.
    """
    leftovers, leaks = settings.leftovers or options.split_leftovers, settings.leaks or options.split_leaks
    allowed: dict[str, Any] = {"leftovers": leftovers, "leaks": leaks, "together": together}
    matched = []
    for number, fold in enumerate(folds := load_folds(settings.check)):
        try:
            fold = fold.in_form_of(case.name for case in cohort.cases)
            require_masks(fold, cohort.cases)
            known = expected_in(fold, cohort.cases)
            matched.append(fold.require_matches(known, dropped=cohort.dropped, **allowed))
        except CaseError as error:
            place = f"{settings.check}: fold {number}" if len(folds) > 1 else settings.check
            raise CaseError(f"{place}: {error}") from error
    return matched


def _write(folds: Sequence[Split], output: Output | None, settings: Namespace) -> None:
    """Write the file that was asked for, and say so."""
    if output is None:
        print("nothing is written; -o FILE does" if not settings.check else f"{settings.check} fits the data")
        return
    output.write(folds_text(folds, settings.format or "json"))
    for part in ("test", "unlabelled"):
        left = frozenset().union(*(getattr(fold, part) for fold in folds))
        if settings.format == "nnunet" and left:
            print(f"note: nnU-Net's file has no {part} part: {len(left)} {part} cases are not in it as such")
    print(f"wrote {output.path}")
