"""The model card of an export: what a reader must know before using the network, filled from the run's own files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segan_pl.data.case import CaseError
from segan_pl.data.labels import meaning_line
from segan_pl.errors import UsageError
from segan_pl.evaluation.saved_files import mapping
from segan_pl.inference.split_part import split_file
from segan_pl.inference.trained import TrainedSegmentor
from segan_pl.report.run_files import RunFiles, read_files
from segan_pl.report.score_rows import CAPTION, origin_lines, statistics, summary_cells

MARK = "<!-- written by segan_pl export -->"
SCORED = ("dice", "hd95_mm", "sensitivity", "precision", "lesion_dice")
"""Metrics that a card shows, of those that are there; all of them where none is."""
USE = {
    "onnx": "segan_pl predict --ckpt_path model.onnx --root DATA --output P   # CPU, onnxruntime",
    "bundle": "python -m monai.bundle run --config_file configs/inference.json --dataset_dir DATA --output_dir P",
    "torch": "python -c \"import torch; network = torch.export.load('model.pt2').module()\"",
    "safetensors": "python -c \"import safetensors.torch; weights = safetensors.torch.load_file('model.safetensors')\"",
}
TAGS = "[medical, brain-mri, image-segmentation]"
LIBRARY = {"onnx": "onnx", "bundle": "monai", "torch": "pytorch", "safetensors": "pytorch"}


@dataclass(frozen=True)
class Stated:
    """What no file of the run says.

    Attributes:
        name: Of the model.
        license: Of the weights.
        power_watts: Mean electrical power while it trained, of the whole machine.
        carbon_g_per_kwh: Of the electricity, CO2 equivalent.
    """

    name: str
    license: str
    power_watts: float | None = None
    carbon_g_per_kwh: float | None = None

    def __post_init__(self) -> None:
        for option, value in (("power_watts", self.power_watts), ("carbon_g_per_kwh", self.carbon_g_per_kwh)):
            if value is not None and not 0 <= value < math.inf:
                raise UsageError(f"--{option} {value}: expected a number from 0 on")
        if self.carbon_g_per_kwh is not None and self.power_watts is None:
            raise UsageError("--carbon_g_per_kwh: without --power_watts nothing says the energy; give both")


def run_of(checkpoint: Path, scores: str | None) -> tuple[RunFiles | None, str | None]:
    """The run that a card is filled from: an evaluation that was named, else the checkpoint's run.

    Returns:
        The run, and why there is none or why it has no scores.

    Raises:
        UsageError: What was named holds no scores.
    """
    if scores is not None:
        found = read_files(scores)
        if found.scored is None:
            raise UsageError(f"--scores {scores}: no scores in it; give a folder that `segan_pl evaluate` wrote")
        return found, None
    if split_file(checkpoint) is None:
        return None, "the checkpoint lies in no run's folder"
    try:
        found = read_files(str(checkpoint.expanduser().resolve().parent.parent))
    except (UsageError, CaseError) as error:
        return None, str(error)
    return found, None if found.scored else "the run has none"


def card(
    segmentor: TrainedSegmentor,
    content: Mapping[str, Any],
    form: str,
    compared: str,
    stated: Stated,
    run: RunFiles | None,
    why: str | None,
) -> str:
    """README.md.

    Args:
        segmentor: What is exported.
        content: Of `inference.exported.description`.
        form: The format.
        compared: What `tracing.require_equal` said.
        stated: By the user.
        run: Its files; None where there are none.
        why: It has no scores.
    """
    scheme = segmentor.scheme
    front = {"license": stated.license, "library_name": LIBRARY[form], "tags": TAGS}
    parts = [
        "---\n" + "\n".join(f"{key}: {value}" for key, value in front.items()) + "\n---",
        MARK,
        f"# {stated.name}",
        "**Research use only.** It is no medical device, and nothing here was reviewed by a regulator.",
        f"Segments {', '.join(scheme.foreground)} in brain MRI from {', '.join(segmentor.modalities)}. In the files "
        f"{meaning_line(scheme)}.",
        _section("Use", f"```sh\n{USE[form]}\n```", f"Checked when it was exported: {compared}."),
        _section("Network", *_network(segmentor, content)),
        _section("Training", *_training(run, why)),
        _section("Scores", *_scores(run, why, segmentor.source.name)),
        _section(
            "Intended use",
            "Research on segmentation: as a baseline, for teaching, or as a first mask that a person corrects. Not for "
            "diagnosis, for planning of therapy, or for any decision on a patient.",
        ),
        _section("Limits", *_limits(segmentor)),
        _section(
            "Licence",
            f"Weights: {stated.license}{' (none was stated)' if stated.license == 'other' else ''}. The code that "
            "trained them, segan_pl, is Apache-2.0. The terms of the training data may limit what the weights may be "
            "used for.",
        ),
        _section("Time and carbon", _carbon(run, stated)),
        f"segan_pl {content['segan_pl']}, checkpoint {segmentor.digest} (BLAKE2b), format {form}.",
    ]
    return "\n\n".join(parts) + "\n"


def _section(title: str, *paragraphs: str) -> str:
    return "\n\n".join([f"## {title}", *paragraphs])


def _network(segmentor: TrainedSegmentor, content: Mapping[str, Any]) -> list[str]:
    count = sum(parameter.numel() for parameter in segmentor.network.parameters())
    patch = " x ".join(map(str, segmentor.patch))
    steps = ", ".join(content["postprocess"]) or "none"
    preparation = ", ".join(f"{name} {value}" for name, value in content["preparation"].items() if name != "version")
    return [
        f"{type(segmentor.network).__name__}, {count:,} parameters, trained on patches of {patch} voxels; in float32.",
        f"Preparation: {preparation}. Post-processing: {steps}. Predictions {segmentor.predict_in}.",
    ]


def _training(run: RunFiles | None, why: str | None) -> list[str]:
    if run is None or not run.config:
        return [f"Not known: {why or 'what was read of the scores holds no run'}."]
    data, split = mapping(run.config.get("data")), run.split
    parts = [(part, len(split.get(part) or ())) for part in ("train", "val", "test", "unlabelled")]
    counts = ", ".join(f"{count} {part}" for part, count in parts if count)
    seed = f", seed {split['seed']}" if split.get("seed") is not None else ""
    epochs = len({row["epoch"] for row in run.epochs})
    # the folder's name alone: a path may name people and places
    name = Path(str(data.get("root", "not stated"))).name
    return [
        f"Data set: {name}, split by patients: {counts or 'not kept'} cases{seed}.",
        f"{epochs} epochs, seed {run.config.get('seed_everything', 'not stated')}.",
    ]


def _scores(run: RunFiles | None, why: str | None, exported: str) -> list[str]:
    if run is None or run.scored is None:
        return [f"None: {why}."]
    found = statistics(run)
    metrics = {metric for _, metric in found}
    shown = [name for name in SCORED if name in metrics] or sorted(metrics)
    total = len(run.scored.cases)
    rows = ["| region | metric | mean | 95 % interval | median | quartiles | n | n/a |", f"|{'---|' * 8}"]
    rows += [
        f"| {region} | {metric} | {' | '.join(summary_cells(values, total))} |"
        for (region, metric), values in found.items()
        if metric in shown
    ]
    # the folder's own path is nobody's business
    origin = [line.replace(str(run.folder), run.folder.name) for line in origin_lines(run)]
    return ["\n".join(rows), CAPTION, *origin, f"The exported weights are those of {exported}."]


def _limits(segmentor: TrainedSegmentor) -> list[str]:
    modalities, seen = segmentor.modalities, segmentor.seen or {}
    missing = "may lack some of them" if segmentor.copes else "is refused if it lacks one of them"
    lines = [
        f"It takes {', '.join(modalities)}; a case {missing}.",
        "It knows nothing but the tissues above: in a scan without them it may still label something. Other lesions, "
        "surgery, children and other scanners than those of training were not tested unless the scores say so.",
    ]
    if spacing := seen.get("spacing_mm"):
        lines.append(f"Voxel sizes of the training cases (x, y, z, least and largest): {spacing} mm.")
    return lines


def _carbon(run: RunFiles | None, stated: Stated) -> str:
    seconds = sum(float(row["seconds"]) for row in run.epochs if row.get("seconds")) if run else 0.0
    time = f"{seconds / 3600:.2f} hours in epochs" if seconds else "Hours of training: not known"
    if run and seconds:
        gpus = run.environment.get("gpus") or ()
        time += f" on {', '.join(gpus) or 'a CPU'}"
    if stated.power_watts is None or not seconds:
        return f"{time}. Energy and carbon: not measured."
    energy = seconds / 3600 * stated.power_watts / 1000
    line = f"{time}; {energy:.3g} kWh at {stated.power_watts:g} W, the mean power that the exporter stated"
    if stated.carbon_g_per_kwh is None:
        return f"{line}. Carbon: not measured."
    grams = energy * stated.carbon_g_per_kwh
    return f"{line}; {grams:.3g} g CO2 equivalent at {stated.carbon_g_per_kwh:g} g/kWh."
