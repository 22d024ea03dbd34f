"""`segan_pl experiment`: the runs of a plan, and its tables, from one command that continues itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from segan_pl.cli.experiment_options import Call, chosen_tables, parsed, seed_list
from segan_pl.data.case import ordered
from segan_pl.data.split.record import Split, save_folds
from segan_pl.data.split.strata import require_columns
from segan_pl.experiments.plan.cell import Expansion
from segan_pl.experiments.plan.expansion import expand
from segan_pl.experiments.plan.expected import expected_lines
from segan_pl.experiments.plan.plan import read_plan, shipped_plans
from segan_pl.experiments.plan.plan_runs import SPLIT_FILES
from segan_pl.experiments.plan.study import Study, require_labelled, study_splits, training_split, write_manifest
from segan_pl.experiments.study_files import study_output

HELP = """usage: segan_pl experiment NAME|FILE --root DATA --output DIR [options] [-- options of fit]

A plan's runs and its tables, next to the published numbers; the same command continues what it began. Shipped plans:

{plans}

Options: segan_pl experiment NAME --help. How to write a plan: docs/experiments.md.
"""


def main(arguments: list[str]) -> int:
    """Run a plan, or continue it, and write its tables.

    Args:
        arguments: "experiment", a plan's name or file, and options; after "--" options of every fit.

    Returns:
        0 when every run has finished, or none was to run here; else 1.

    Raises:
        UsageError: What was typed wrongly, or a folder that holds something else.
        CaseError: The data cannot be used.
    """
    if len(arguments) < 2 or arguments[1] in ("-h", "--help"):
        known = {name: read_plan(name).title for name in shipped_plans()}
        print(HELP.format(plans="\n".join(f"  {name:18}{title}" for name, title in known.items())), end="")
        return 0 if len(arguments) > 1 else 2
    place = arguments.index("--") if "--" in arguments else len(arguments)
    return _experiment(parsed(read_plan(arguments[1]), arguments[2:place], arguments[place + 1 :]))


def _experiment(call: Call) -> int:
    plan, options, settings, directory = call.plan, call.options, call.settings, call.directory
    named = plan.split == "named"
    require_columns((cohort := options.find(mask=True, unlabelled=named)).cases, options.stratify_by)
    split_file = directory / ("folds.json" if plan.split == "folds" else "split.json")
    splits, notes = study_splits(plan, options.choice, cohort, split_file, call.folds)
    if plan.split == "folds":
        plan = replace(plan, values={**plan.values, "folds": len(splits)})
    part = "test" if named or (plan.split == "one" and splits[0].test) else "val"
    root = str(Path(options.root).expanduser().resolve())
    study = Study(
        plan=plan,
        directory=directory,
        root=root,
        modalities=ordered(cohort.modalities),
        data=("--data.root", root, *call.data),
        labels=options.labels,
        configs=call.configs,
        extra=call.extra,
        seeds=plan.seeds if settings.seeds is None else seed_list(settings.seeds),
        tables=chosen_tables(plan, settings.tables),
        has_test=part == "test" and not named,
    )
    expansion = expand(study)
    if named:
        require_labelled(expansion.runs, splits[0])
    notes = list(dict.fromkeys([*cohort.notes(), *(n for one in splits for n in one.notes), *notes, *expansion.notes]))
    facts = _facts(study, splits, part)
    if settings.report:
        _write(study, expansion, notes, facts)
        return 0
    for note in notes:
        print(f"note: {note}")
    if splits and call.runner.writes:
        if not split_file.exists():
            directory.mkdir(parents=True, exist_ok=True)
            save_folds(splits, split_file)
        if named:
            training_split(splits[0], cohort).save(directory / SPLIT_FILES[plan.split])
        scored = [set(getattr(one, part)) for one in splits]
        write_manifest(cohort, set().union(*scored), directory / "scored_cases.csv")
        for fold, names in enumerate(scored if plan.split == "folds" else ()):
            write_manifest(cohort, names, directory / f"scored_cases_fold{fold}.csv")
    outcome = call.runner.run_all(expansion.runs, directory)
    if not call.runner.writes:
        for line in expected_lines(expansion.runs, directory, parallel=call.runner.parallel):
            print(line)
    if outcome is None:
        return 0
    _write(study, expansion, notes, facts)
    print("\n".join(outcome.lines()))
    return outcome.exit_code


def _write(study: Study, expansion: Expansion, notes: Sequence[str], facts: Sequence[str]) -> None:
    # these load SciPy and matplotlib, which --help and a wrong option need not wait for
    from segan_pl.experiments.plan.claims import lines
    from segan_pl.experiments.plan.pages import files, predict_line, read_page

    page = read_page(study, expansion, notes, facts)
    for line in lines(page.findings):
        print(line)
    for name, content in files(page).items():
        print(f"written: {study_output(study.directory, name).write(content)}")
    if page.ensemble:
        print(f"ensemble: {predict_line(page.ensemble)}")


def _facts(study: Study, splits: Sequence[Split], part: str) -> list[str]:
    """How the numbers came about."""
    seeds = ", ".join(map(str, study.seeds))
    given = ", ".join(f"{name}={value}" for name, value in study.plan.values.items() if isinstance(value, str | int))
    lines = [f"Modalities {', '.join(study.modalities)}; seeds {seeds}{f'; {given}' if given else ''}."]
    if study.plan.split in ("one", "named"):
        last = any(run.checkpoint == "last" for run in study.plan.runs.values())
        chose = "" if part == "test" or last else ", the ones that chose each checkpoint, as in most papers"
        words = "test" if part == "test" else "validation"
        lines.append(f"Scored: {len(getattr(splits[0], part))} {words} cases{chose}.")
    return lines
