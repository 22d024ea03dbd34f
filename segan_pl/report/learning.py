"""What a report says of training: curves by epoch, and what was run with which settings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from segan_pl.evaluation.metrics.named import BUILT_IN
from segan_pl.evaluation.saved_files import METRICS, json_file, mapping
from segan_pl.report.charts import NAMED, Chart, Limits, curves, legend
from segan_pl.report.run_files import RunFiles, flat, when

CURVES = {
    "val/dice": ("Dice on the validation volumes", (0.0, 1.0)),
    "val/loss": ("validation loss", None),
    "train/": ("training losses", None),
    "lr": ("learning rate", None),
    "gradient_norm/": ("gradient norm", None),
    "output_range/": ("largest distance of two probabilities in a batch", (0.0, 1.0)),
    "gap_spread/": ("spread of the critic's gap over an epoch's batches", None),
    "at_bound/": ("share of the clamped weights at their bound", (0.0, 1.0)),
}
"""First letters of what is logged, to what it is called and the limits of its axis; None for what the values need."""
LOGARITHMIC = ("gradient_norm/", "gap_spread/")
HEALTH = "health/"
"""What `training.callbacks.health` found: 1 where two epochs in a row show it."""
VERDICT = "mean verdict, 1 is real"
VERDICTS = {"train/segmentor_real": "real patches", "train/segmentor_fake": "generated patches"}
"""The mean probability of "real", of real and of generated patches; they have a figure of their own."""
SOFTWARE = ("segan_pl", "python", "torch", "lightning", "monai", "numpy", "nibabel")
NOT_SETTINGS = ("run.directory", "data.cache_dir", "data.workers", "data.prepare_workers")


def all_curves(runs: Sequence[RunFiles]) -> list[Chart]:
    """Each group of CURVES that a run logged, and each metric that is not of segan_pl.

    One run has a chart for each group with a line for each of its curves; several have a chart for each curve with a
    line for each run, and before them the legend where they are too many for one in each chart.
    """
    own = {metric for run in runs for metric in json_file(run.home / "scores" / METRICS) if metric not in BUILT_IN}
    groups = {**CURVES, **{f"val/{metric}_": (f"{metric} on the validation volumes", None) for metric in sorted(own)}}
    drawn = []
    for prefix, (name, limits) in groups.items():
        # dice_x is no Dice
        others = tuple(other for other in groups if len(other) > len(prefix))
        logged = dict.fromkeys(key for run in runs for row in run.epochs for key in row if key not in VERDICTS)
        keys = {key: None for key in logged if key.startswith(prefix) and not key.startswith(others)}
        # one region: its mean says nothing more
        if len([key for key in keys if key.startswith("val/dice_")]) == 2:
            keys.pop("val/dice_mean", None)
        for about, series in _named_series(runs, {key: _label(key, prefix) for key in keys}).items():
            called = f"{name}, {about}" if about else name
            svg = curves(series, xlabel="epoch", ylabel=name, limits=limits, logarithmic=prefix in LOGARITHMIC)
            lines = about or ", ".join(series)
            drawn.append(Chart(f"curve_{safe(called)}", svg, f"{name} by epoch{f': {lines}' if lines else ''}"))
    for about, series in _named_series(runs, VERDICTS).items():
        levels = equilibria(runs)
        said = ", ".join(f"{run} {level:.3g}" for run, level in levels.items())
        meet = f"; dashed where both would be if no image could be told from another ({said})" if levels else ""
        svg = curves(series, xlabel="epoch", ylabel=VERDICT, limits=(0, 1), levels=tuple(levels.values()))
        name = f"curve_verdicts{f'_{safe(about)}' if about else ''}"
        drawn.append(Chart(name, svg, f"{VERDICT}, by epoch: {about or ', '.join(series)}{meet}"))
    shared = [Chart("legend", legend([run.name for run in runs]), "The lines of all charts")]
    return [*shared, *drawn] if drawn and len(runs) > NAMED else drawn


def _label(key: str, prefix: str) -> str:
    """What tells a curve from the others of its chart: "val/dice_wt" is WT, "lr/critic" critic."""
    left = key.removeprefix(prefix).strip("_/-")
    if key.startswith("val/loss"):
        return left or "sum"  # the other curves are its terms
    return left.upper() if key.startswith("val/") and left != "mean" else left


def collapses(runs: Sequence[RunFiles]) -> list[str]:
    """Each way in which a game collapsed, as a line: "run: gap frozen, epochs 3 to 7 and 9 to 10"."""
    lines = []
    for run in runs:
        for key in dict.fromkeys(name for row in run.epochs for name in row if name.startswith(HEALTH)):
            spans: list[tuple[int, int]] = []
            for epoch in (int(row["epoch"]) for row in run.epochs if float(row.get(key) or 0)):
                # two epochs show it, and the row is that of the second one
                joined = bool(spans) and epoch - 1 <= spans[-1][1]
                spans = [*spans[:-1], (spans[-1][0], epoch)] if joined else [*spans, (epoch - 1, epoch)]
            if spans:
                said = " and ".join(f"{first} to {last}" for first, last in spans)
                lines.append(f"{run.name}: {key.removeprefix(HEALTH).replace('_', ' ')}, epochs {said}")
    return lines


def equilibria(runs: Sequence[RunFiles]) -> dict[str, float]:
    """Run to unlabelled_weight / (unlabelled_weight + fake_weight), where its discriminator is the segmentor."""
    found = {}
    for run in runs:
        objective = mapping(mapping(mapping(run.config.get("model")).get("objective")).get("init_args"))
        real, fake = objective.get("unlabelled_weight"), objective.get("fake_weight")
        if isinstance(real, int | float) and isinstance(fake, int | float) and real + fake > 0:
            found[run.name] = real / (real + fake)
    return found


def _named_series(runs: Sequence[RunFiles], keys: Mapping[str, str]) -> dict[str, dict[str, list[Limits]]]:
    """What a chart is of ("" for all curves of a run) to its lines; curves without a point are left out."""
    charts: dict[str, dict[str, list[Limits]]] = {}
    for key, label in keys.items():
        for run in runs:
            if points := [(when(row, run.epochs), float(row[key])) for row in run.epochs if row.get(key)]:
                chart, line = ("", label) if len(runs) == 1 else (label, run.name)
                charts.setdefault(chart, {})[line] = points
    return charts


def safe(name: str) -> str:
    """A name that files may have."""
    return re.sub(r"[^\w.-]+", "_", name)


def differences(runs: Sequence[RunFiles]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows: one row for each setting; both are empty with fewer than two configurations."""
    settings = {run.name: flat(run.config) for run in runs if run.config}
    if len(settings) < 2:
        return [], []
    keys = list(dict.fromkeys(key for one in settings.values() for key in one if key not in NOT_SETTINGS))
    differing = [key for key in keys if len({one.get(key) for one in settings.values()}) > 1]
    return ["setting", *settings], [[key, *(o.get(key, "not set") for o in settings.values())] for key in differing]


def run_facts(run: RunFiles) -> list[tuple[str, object]]:
    """Names and values: data, split, software, hardware and time of a run; None or "" where it does not say one."""
    data, environment = mapping(run.config.get("data")), run.environment
    seconds = sum(float(row["seconds"]) for row in run.epochs if row.get("seconds"))
    gpus = environment.get("gpus") or ()
    git, state = None, environment.get("git")
    if isinstance(state, Mapping):
        changed = " with changes" if state.get("dirty") else ""
        git = f"{state['revision']}{changed}" if state.get("revision") else None
    elif state:
        git = str(state)
    parts = {part: len(run.split.get(part) or ()) for part in ("train", "val", "test")} if run.split else {}
    return [
        ("folder", run.folder),
        ("data", data.get("root")),
        ("modalities", ", ".join(data.get("modalities") or ())),
        ("labels", data.get("labels")),
        ("split", ", ".join(f"{count} {part}" for part, count in parts.items() if count)),
        ("validation", "none; the last checkpoint is the run's" if run.split and not parts["val"] else None),
        ("split seed", run.split.get("seed")),
        ("epochs", len({row["epoch"] for row in run.epochs}) or None),
        ("time", f"{seconds / 60:.1f} minutes in epochs" if seconds else None),
        ("started", environment.get("started")),
        ("git", git),
        ("software", ", ".join(f"{name} {environment[name]}" for name in SOFTWARE if environment.get(name))),
        ("hardware", ", ".join([*gpus, f"{environment.get('cpu_count', '?')} CPU cores"])),
        ("platform", environment.get("platform")),
    ]  # fmt: skip
