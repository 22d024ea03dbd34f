"""A cross-validation: a run a fold, pooled into one table over all patients, and an ensemble for `predict`."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segan_pl.evaluation.cases import write_table
from segan_pl.evaluation.scored_runs import read_run
from segan_pl.evaluation.seeds import Entry, known_patients
from segan_pl.experiments.paper_tables import mean_text
from segan_pl.experiments.results import METRICS, Mean, case_scores, mean_of
from segan_pl.experiments.trials import Trial, best_checkpoint, run_folder, trial_state
from segan_pl.files import write_whole


@dataclass(frozen=True)
class FoldStudy:
    """What is asked for.

    Attributes:
        directory: The study's folder, absolute.
        system: A system file, shipped or not.
        count: Of folds.
        data: Arguments of `fit` that say which data set, e.g. ("--data.root", "/data").
        configs: Names or paths of further configuration files, after the system.
        extra: Arguments of every `fit`, last.
        seed: Of all folds' training.
    """

    directory: Path
    system: str
    count: int
    data: tuple[str, ...]
    configs: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    seed: int = 0

    def name(self, fold: int) -> str:
        """Of a fold's trial."""
        return f"fold{fold}"


def fold_trials(study: FoldStudy) -> list[Trial]:
    """A `fit` a fold."""
    return [Trial(study.name(fold), _arguments(study, fold), values={"fold": fold}) for fold in range(study.count)]


def _arguments(study: FoldStudy, fold: int) -> tuple[str, ...]:
    seed = str(study.seed)
    return (
        "fit",
        *(part for file in (study.system, *study.configs) for part in ("--config", file)),
        *study.data,
        *("--data.split_file", str(study.directory / "folds.json"), "--data.fold", str(fold)),
        *("--data.split_leftovers", "ignore", "--seed_everything", seed, "--data.seed", seed),
        *study.extra,
    )


@dataclass(frozen=True)
class Pooled:
    """What the folds have shown.

    Attributes:
        states: Fold to "finished", "failed", "skipped" or "not run".
        reasons: Fold to why it failed.
        entries: Fold to its scores: the validation cases of its best checkpoint.
        checkpoints: Fold to its best checkpoint.
    """

    states: Mapping[int, str]
    reasons: Mapping[int, str]
    entries: Mapping[int, Entry]
    checkpoints: Mapping[int, Path]

    @property
    def regions(self) -> list[str]:
        """Of all folds, in order."""
        return list(
            dict.fromkeys(name for entry in self.entries.values() for run in entry.runs for name in run.regions)
        )

    def means(self, folds: Sequence[int], region: str) -> dict[str, Mean]:
        """Metric to its mean over the cases of some folds."""
        entries = [self.entries[fold] for fold in folds]
        return {metric: mean_of(case_scores(entries, metric, region)) for metric in METRICS}


def pooled(study: FoldStudy) -> Pooled:
    """Read what has finished.

    Raises:
        CaseError: A table of scores is damaged.
    """
    states, reasons, entries, checkpoints = {}, {}, {}, {}
    for fold in range(study.count):
        state = trial_state(study.directory, study.name(fold)) or {}
        states[fold] = str(state.get("state", "not run"))
        folder = run_folder(study.directory, study.name(fold))
        if states[fold] == "finished":
            entries[fold] = Entry(study.name(fold), (read_run(folder),))
            checkpoints[fold] = best_checkpoint(folder)
        elif state:
            reasons[fold] = str(state.get("error") or "")
    return Pooled(states, reasons, entries, checkpoints)


def write(study: FoldStudy, found: Pooled, notes: Sequence[str]) -> list[Path]:
    """Write report.md, pooled.csv (a row a case and region); once all folds have finished, ensemble.json and .txt."""
    files = {"report.md": "\n".join(report_lines(study, found, notes)) + "\n"}
    if line := predict_line(study, found):
        facts = {"checkpoints": [str(path) for path in found.checkpoints.values()], "combine": "mean"}
        files |= {"ensemble.json": json.dumps(facts, indent=1) + "\n", "ensemble.txt": f"{line}\n"}
    write_table(study.directory / "pooled.csv", case_rows(found), ["fold", "case", "patient", "region", *METRICS])
    for name, content in files.items():
        write_whole(study.directory / name, content)
    return [study.directory / name for name in (*files, "pooled.csv")]


def predict_line(study: FoldStudy, found: Pooled) -> str | None:
    """The command that lets all folds decide together; None until every fold has finished."""
    if len(found.checkpoints) < study.count:
        return None
    checkpoints = [str(found.checkpoints[fold]) for fold in range(study.count)]
    return shlex.join(["segan_pl", "predict", "--ckpt_path", *checkpoints, "--input", "CASES", "--output", "MASKS"])


def case_rows(found: Pooled) -> list[dict[str, object]]:
    """One row a case and region, from the fold that held it out; empty where a metric is not available."""
    out = []
    for fold, entry in found.entries.items():
        patients = known_patients([entry])
        for (region, case), row in entry.runs[0].rows.items():
            values = {name: "" if math.isnan(row.values[name]) else row.values[name] for name in METRICS}
            facts = {"fold": fold, "case": case, "patient": patients.get(case, case), "region": region}
            out.append({**facts, **values})
    return out


def report_lines(study: FoldStudy, found: Pooled, notes: Sequence[str]) -> list[str]:
    """The report as Markdown."""
    out = [f"# {study.count} folds of {Path(study.system).stem}", ""]
    out += [
        "Each case is scored by the run that did not train on it; its fold's cases chose that run's checkpoint. Means "
        "over cases, in brackets 95 % bootstrap intervals over patients.",
        *([""] if notes else []),
        *(f"- {note}" for note in notes),
        "",
    ]
    for region in found.regions or ["wt"]:
        columns, body = table_text(study, found, region)
        lines = [columns, ["---"] * len(columns), *body]
        out += [f"## {region.upper()}", "", *(f"| {' | '.join(line)} |" for line in lines), ""]
    if left := unfinished_lines(study, found):
        out += ["## Not finished", "", *(f"- {line}" for line in left), ""]
    if line := predict_line(study, found):
        out += ["## Ensemble", "", f"```sh\n{line}\n```", ""]
    return out


def table_text(study: FoldStudy, found: Pooled, region: str) -> tuple[list[str], list[list[str]]]:
    """Columns and lines: all folds pooled, then each."""
    done = list(found.entries)
    pooled_name = "all folds" if len(done) == study.count else f"{len(done)} of {study.count} folds"
    body = [_line(pooled_name, found.means(done, region), "finished")] if done else []
    for fold, state in found.states.items():
        means = found.means([fold], region) if fold in found.entries else {}
        body.append(_line(f"fold {fold}", means, state))
    return ["", "Dice", "precision", "sensitivity", "cases", "patients", "state"], body


def _line(name: str, means: Mapping[str, Mean], state: str) -> list[str]:
    if not means:
        return [name, *[state] * len(METRICS), "", "", state]
    dice = means["dice"]
    return [name, *(mean_text(means[metric]) for metric in METRICS), str(dice.cases), str(dice.patients), state]


def unfinished_lines(study: FoldStudy, found: Pooled) -> list[str]:
    """Every fold without scores, and why."""
    return [
        f"{study.name(fold)}: {state}" + (f" ({found.reasons[fold]})" if found.reasons.get(fold) else "")
        for fold, state in found.states.items()
        if state != "finished"
    ]
