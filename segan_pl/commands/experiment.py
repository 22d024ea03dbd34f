"""`segan_pl experiment`: SegAN-CAT's tables, or a cross-validation, from one command that continues itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from jsonargparse.typing import NonNegativeInt

from segan_pl.commands.experiment_options import Call, StudyDataOptions, listed, parsed, seed_list
from segan_pl.data.cohort import Cohort
from segan_pl.data.folds import stratified_folds
from segan_pl.data.split_record import Split, load_folds
from segan_pl.data.splits import stratified_split
from segan_pl.data.volume import Case
from segan_pl.errors import UsageError, nearest
from segan_pl.experiments.execution import execute
from segan_pl.experiments.paper_plan import WAYS, Cell, PaperStudy, chosen_tables, usual_order
from segan_pl.experiments.paper_trials import expand
from segan_pl.experiments.running import Outcome
from segan_pl.experiments.study_cases import Draw, keep, scored_part, settled, write_manifest
from segan_pl.experiments.trials import Trial
from segan_pl.parsing import OneLineErrors

HELP = """usage: segan_pl experiment tables --system SYSTEM --data.root DATA --output DIR [options] [-- options of fit]
       segan_pl experiment folds  --system SYSTEM --data.root DATA --output DIR [options] [-- options of fit]

  tables    SegAN-CAT's Tables I, II and III, Figure 2 and voting, beside the published numbers
  folds     a cross-validation, pooled over all patients, and its ensemble

The same command continues what it began. --help after tables or folds shows all options.
"""


def main(arguments: list[str]) -> int:
    """Run an experiment, or continue it, and write its tables.

    Args:
        arguments: "experiment", "tables" or "folds", and options; after "--" options of every fit.

    Returns:
        0 when every trial has finished, or none was to run here; else 1.

    Raises:
        UsageError: What was typed wrongly, or a folder that holds something else.
        CaseError: The data cannot be used.
    """
    if len(arguments) < 2 or arguments[1] in ("-h", "--help"):
        print(HELP, end="")
        return 0 if len(arguments) > 1 else 2
    kinds: dict[str, Callable[[list[str]], int]] = {"tables": _tables, "folds": _folds}
    if arguments[1] not in kinds:
        raise UsageError(f"experiment {arguments[1]}: unknown; {nearest(arguments[1], kinds)}")
    return kinds[arguments[1]](arguments[2:])


# -- tables ------------------------------------------------------------------------------------------------------------


def _tables(arguments: list[str]) -> int:
    call = parsed("experiment tables", "SegAN-CAT's tables, beside the published numbers.", arguments, _add_tables)
    settings, options, directory = call.settings, call.options, call.directory
    ways = listed("--ways", settings.ways, WAYS)
    seeds = seed_list(settings.seeds)
    modalities = usual_order(call.cohort.modalities)
    tables, notes = chosen_tables(settings.tables, modalities)
    (split,), more = settled(call.cohort, _one_split(options, call.cohort), directory / "split.json")
    part = scored_part(split)
    study = PaperStudy(
        directory=directory,
        system=settings.system,
        modalities=modalities,
        data=call.data,
        labels=_label_arguments(options),
        configs=call.configs,
        extra=call.extra,
        tables=tables,
        ways=ways,
        seeds=seeds,
        has_test=part == "test",
    )
    trials, cells = expand(study)
    names = getattr(split, part)
    notes = [*call.cohort.notes(), *split.notes, *more, *notes]
    outcome = _run(call, trials, notes, lambda: _keep_cases(call.cohort, split, names, directory))
    if outcome is None and not settings.report:
        return 0
    _write_tables(study, cells, notes, f"{len(names)} {'test' if part == 'test' else 'validation'} cases")
    return _ended(outcome)


def _add_tables(parser: OneLineErrors) -> None:
    add = parser.add_argument
    add("--tables", type=str | None, help="some of I,II,figure2,III,voting (default: all that the data allow)")
    add("--seeds", type=str, default="0", help="e.g. 0,1,2: everything is trained once a seed")
    add("--ways", type=str, default="all,critic_input", help="of fine tuning: all (the paper's S,D), critic_input "
        "(its S,D_in), segmentor (the authors' scripts: the critic at rest)")  # fmt: skip


def _write_tables(study: PaperStudy, cells: Sequence[Cell], notes: Sequence[str], scored: str) -> None:
    # these load SciPy and matplotlib, which --help and a wrong option need not wait for
    from segan_pl.experiments.findings import claims, findings, lines
    from segan_pl.experiments.paper_tables import Page, write
    from segan_pl.experiments.results import results

    found = results(study.directory, cells)
    page = Page(study, found, findings(claims(study), found), notes, scored)
    for line in lines(page.findings):
        print(line)
    for path in write(page, study.directory):
        print(f"written: {path}")


def _keep_cases(cohort: Cohort, split: Split, names: Sequence[str], directory: Path) -> None:
    keep([split], directory / "split.json")
    write_manifest(cohort, names, directory / "scored_cases.csv")


def _one_split(options: StudyDataOptions, cohort: Cohort) -> Draw:
    def draw(cases: Sequence[Case]) -> list[Split]:
        if options.split_file:
            split = Split.load(Path(options.split_file).expanduser(), options.fold)
            leaks = options.split_leaks
            return [split.require_matches(cases, dropped=cohort.dropped, leftovers="ignore", leaks=leaks)]
        if options.fold is not None:
            raise UsageError("--data.fold is given without --data.split_file; make one with segan_pl split --folds")
        val, test = options.val_fraction, options.test_fraction
        by, seed = options.stratify_by, options.split_seed
        return [stratified_split(cases, val_fraction=val, test_fraction=test, by=by, seed=seed)]

    return draw


def _label_arguments(options: StudyDataOptions) -> tuple[str, ...]:
    """For `evaluate`: the references' convention stands in the manifest."""
    return ("--data.labels", options.labels)


# -- folds -------------------------------------------------------------------------------------------------------------


def _folds(arguments: list[str]) -> int:
    call = parsed("experiment folds", "A cross-validation, pooled over all patients.", arguments, _add_folds)
    from segan_pl.experiments.folds import FoldStudy, fold_trials, pooled, predict_line, table_text, write

    settings, directory = call.settings, call.directory
    if call.options.fold is not None:
        raise UsageError(f"--data.fold {call.options.fold}: all folds are run; leave it out")
    folds, notes = settled(call.cohort, _all_folds(call.options, call.cohort, settings.folds), directory / "folds.json")
    notes = list(dict.fromkeys([*call.cohort.notes(), *(note for fold in folds for note in fold.notes), *notes]))
    modalities = ("--data.modalities", f"[{','.join(call.cohort.modalities)}]")
    study = FoldStudy(
        directory, settings.system, len(folds), (*call.data, *modalities), call.configs, call.extra, settings.seed
    )
    outcome = _run(call, fold_trials(study), notes, lambda: keep(folds, directory / "folds.json"))
    if outcome is None and not settings.report:
        return 0
    found = pooled(study)
    paths = write(study, found, notes)
    for region in found.regions:
        for name, dice, precision, sensitivity, _, patients, _ in table_text(study, found, region)[1]:
            numbers = f"Dice {dice}, precision {precision}, sensitivity {sensitivity}, n {patients}"
            print(f"{region.upper()} {name}: {numbers}")
    print(*(f"written: {path}" for path in paths), sep="\n")
    if line := predict_line(study, found):
        print(f"ensemble: {line}")
    return _ended(outcome)


def _add_folds(parser: OneLineErrors) -> None:
    parser.add_argument("--folds", type=int | None, help="how many (default 5, or those of --data.split_file)")
    parser.add_argument("--seed", type=NonNegativeInt, default=0, help="of all folds' training")


def _all_folds(options: StudyDataOptions, cohort: Cohort, count: int | None) -> Draw:
    def draw(cases: Sequence[Case]) -> list[Split]:
        if options.split_file is None:
            return stratified_folds(
                cases,
                folds=5 if count is None else count,
                test_fraction=options.test_fraction,
                by=options.stratify_by,
                seed=options.split_seed,
            )
        folds = load_folds(Path(options.split_file).expanduser())
        if count not in (None, len(folds)) or len(folds) < 2:
            held = f"{options.split_file} holds {len(folds)}"
            raise UsageError(f"{held}; expected {count or 'several'} folds; make them with segan_pl split --folds")
        leaks = options.split_leaks
        return [fold.require_matches(cases, dropped=cohort.dropped, leftovers="ignore", leaks=leaks) for fold in folds]

    return draw


# -- what both share ---------------------------------------------------------------------------------------------------


def _run(call: Call, trials: Sequence[Trial], notes: Sequence[str], prepare: Callable[[], None]) -> Outcome | None:
    """Say what must be known, lay out the study's files, and run, show or submit."""
    if call.settings.report:
        return None
    if call.execution.dry_run:
        return execute(trials, call.execution)
    for note in notes:
        print(f"note: {note}")
    prepare()
    return execute(trials, call.execution)


def _ended(outcome: Outcome | None) -> int:
    if outcome is None:
        return 0
    print("\n".join(outcome.lines()))
    return outcome.exit_code
