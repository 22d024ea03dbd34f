"""A MONAI bundle: the network, preparation, windows and post-processing, which run where segan_pl is not installed.

BUNDLE/configs/inference.json   what `python -m monai.bundle run` carries out
       configs/metadata.json    what the network takes and gives
       models/model.pt          weights of a MONAI network, which inference.json names
       models/model.pt2         any other network, as torch.export's graph
       scripts/                 transforms and inferer, for MONAI, nibabel and SciPy
"""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from torch import Tensor

from segan_pl.data.case import Case
from segan_pl.data.layouts.folders import ALIASES
from segan_pl.errors import UsageError
from segan_pl.export.formats import network_of
from segan_pl.export.tracing import TOLERANCE, DiffersError, labels_line, quiet, require_equal, traced, undecided
from segan_pl.files import write_whole
from segan_pl.inference.postprocessing import Step, postprocess
from segan_pl.inference.prediction import Settings
from segan_pl.inference.predictor import Predictor
from segan_pl.inference.trained import TrainedSegmentor
from segan_pl.nets.monai_nets import MonaiSegmentor
from segan_pl.nets.parts.neighbours import NeighbouringSlices
from segan_pl.nets.swin_unetr import SwinUNETRSegmentor

INFERENCE, METADATA, SCRIPTS = "configs/inference.json", "configs/metadata.json", "scripts"
WEIGHTS, GRAPH = "models/model.pt", "models/model.pt2"
MONAI_NETWORKS = "monai.networks.nets"
NAMES = {"small_components": "SmallComponentsd", "small_enhancing": "SmallEnhancingd", "fill_holes": "FillHolesd"}
"""A step of ours to the bundle's transform."""


def write_bundle(segmentor: TrainedSegmentor, content: Mapping[str, Any], folder: Path, case: Case | None) -> str:
    """The whole folder but its README.md.

    Args:
        segmentor: In float32 on the CPU.
        content: Of `inference.exported.description`.
        folder: That is empty or not there.
        case: On which the bundle's labels are compared with those of `segan_pl predict`; None for none.

    Returns:
        What was compared.

    Raises:
        UsageError: As `traced`, of a network that is none of MONAI's; or the case is not of 3-D NIfTI files.
        DiffersError: The bundle would compute something else.
    """
    if case is not None:
        files = [case.images[modality] for modality in segmentor.modalities]
        if case.channels or not all(file.name.lower().endswith((".nii", ".nii.gz")) for file in files):
            raise UsageError(
                f"--root: a bundle reads one 3-D NIfTI file for each modality, and {case.name} has others; give other "
                f"data, or leave it out"
            )
    steps = [Step.parse(text) for text in content["postprocess"]]
    definition = monai_definition(segmentor)
    network: Callable[[Tensor], Tensor]
    for name in ("configs", "models", SCRIPTS):
        (folder / name).mkdir(parents=True, exist_ok=True)
    if definition is None:
        program = traced(segmentor)
        network = program.module()
        said = require_equal(segmentor, network, None, GRAPH)
        with quiet():
            torch.export.save(program, folder / GRAPH)
    else:
        # what `monai.bundle run` will build from the written file
        parser = ConfigParser({"network_def": json.loads(json.dumps(definition))})
        built: torch.nn.Module = parser.get_parsed_content("network_def").eval()
        built.load_state_dict(getattr(segmentor.network, "network", segmentor.network).state_dict())
        said, network = require_equal(segmentor, built, None, WEIGHTS), built
        torch.save(built.state_dict(), folder / WEIGHTS)
    shipped = Path(__file__).with_name(SCRIPTS)
    for file in sorted(shipped.glob("*.py")):
        shutil.copyfile(file, folder / SCRIPTS / file.name)
    write_whole(folder / INFERENCE, json.dumps(inference_config(segmentor, steps, definition), indent=2) + "\n")
    write_whole(folder / METADATA, json.dumps(metadata(segmentor, content), indent=2) + "\n")
    if case is not None:
        said += f"; {_same_labels(segmentor, network, steps, case)}"
    return said


def monai_definition(segmentor: TrainedSegmentor) -> dict[str, Any] | None:
    """One of MONAI's networks as a bundle names it; None where the segmentor is something else."""
    if isinstance(segmentor.network, MonaiSegmentor | SwinUNETRSegmentor):
        sliced = isinstance(segmentor.network.network, NeighbouringSlices)
        return None if sliced else segmentor.network.definition
    spec = network_of(segmentor.source) if type(segmentor.network).__module__.startswith(MONAI_NETWORKS) else None
    return {"_target_": spec["class_path"].rpartition(".")[2], **spec["init_args"]} if spec else None


def inference_config(
    segmentor: TrainedSegmentor, steps: list[Step], definition: Mapping[str, Any] | None
) -> dict[str, Any]:
    """configs/inference.json."""
    names = {modality: list(ALIASES.get(modality, (modality,))) for modality in segmentor.modalities}
    if definition is None:
        network: dict[str, Any] = {"network": f"$torch.export.load(@bundle_root + '/{GRAPH}').module()"}
    else:
        loaded = f"torch.load(@bundle_root + '/{WEIGHTS}', weights_only=True)"
        network = {
            "network_def": dict(definition),
            "network": "$@network_def.eval()",
            "initialize": [f"$@network_def.load_state_dict({loaded})"],
        }
    return {
        "imports": [
            "$import torch",
            "$from scripts.inference import predict",
            "$from scripts.reading import find_cases",
        ],
        "bundle_root": ".",
        "dataset_dir": "data",
        "output_dir": "segmentations",
        "modalities": names,
        "cases": "$find_cases(@dataset_dir, @modalities)",
        **network,
        "preprocessing": {"_target_": "Compose", "transforms": preparation_transforms(segmentor)},
        "inferer": inferer(segmentor),
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                *label_transforms(segmentor, steps),
                {"_target_": f"{SCRIPTS}.postprocessing.SaveLabeld", "folder": "@output_dir"},
            ],
        },
        "run": [
            "$predict(@cases, @preprocessing, @network, @inferer, @postprocessing)",
        ],
    }


def preparation_transforms(segmentor: TrainedSegmentor) -> list[dict[str, Any]]:
    """From files to the network's input."""
    fields = segmentor.preparation.as_dict()
    nonfinite, _ = fields.pop("nonfinite"), fields.pop("version")
    place = f"{SCRIPTS}.preparation"
    read = {"_target_": "scripts.reading.ReadCased", "modalities": list(segmentor.modalities), "nonfinite": nonfinite}
    return [read, {"_target_": f"{place}.PrepareCased", **fields}]


def inferer(segmentor: TrainedSegmentor) -> dict[str, Any]:
    """From the network's input to probabilities."""
    windows, solid = segmentor.windows, len(segmentor.patch) == 3
    return {
        "_target_": f"{SCRIPTS}.inference.WholeVolume",
        "patch": list(segmentor.patch),
        "divisor": segmentor.divisor,
        "any_depth": getattr(segmentor.network, "depth_divisor", None) == 1,
        "slices": segmentor.slices,
        "windows": {
            "overlaps": list(windows.overlaps(segmentor.patch)) if solid else [],
            "blend": windows.blend,
            "batch": windows.batch,
            "average": windows.average,
            "whole": windows.whole,
            "skip_empty": windows.skip_empty,
        },
        "activation": segmentor.scheme.activation,
        "background": segmentor.preparation.background,
        "predict_in": segmentor.predict_in,
        "mask_channels": segmentor.modality_mask == "channels",
    }


def label_transforms(segmentor: TrainedSegmentor, steps: list[Step]) -> list[dict[str, Any]]:
    """From probabilities to labels on the file's grid."""
    scheme, place = segmentor.scheme, f"{SCRIPTS}.postprocessing"
    background = scheme.channels.index("background") if "background" in scheme.channels else None
    decided = {"activation": scheme.activation, "values": list(scheme.export), "background": background}
    found: list[dict[str, Any]] = [{"_target_": f"{place}.ToLabelsd", **decided}]
    tissues = dict(scheme.convention.tissues)
    for step in steps:
        made: dict[str, Any] = {"_target_": f"{place}.{NAMES[step.name]}"}
        if step.volume_ml:
            made["volume_ml"] = step.volume_ml
        if step.name == "small_enhancing":
            made |= {"enhancing": tissues["enhancing"], "necrosis": tissues["necrosis"]}
        found.append(made)
    return found


def metadata(segmentor: TrainedSegmentor, content: Mapping[str, Any]) -> dict[str, Any]:
    """configs/metadata.json, by MONAI's schema; "segan_pl" holds the description."""
    scheme, bounds = segmentor.scheme, segmentor.preparation.intensities
    of_network = ["einops"] if isinstance(segmentor.network, SwinUNETRSegmentor) else []
    sides = [f"{content['divisor']}*n"] * len(segmentor.patch)
    return {
        "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json",
        "version": "1.0.0",
        "changelog": {"1.0.0": f"exported by segan_pl {content['segan_pl']} from checkpoint {segmentor.digest}"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {name: version(name) for name in ("nibabel", "scipy", *of_network)},
        "supported_apps": {},
        "name": f"segan_pl {scheme.name}",
        "task": "segmentation of brain MRI; research use only",
        "description": f"{', '.join(scheme.foreground)} from {', '.join(segmentor.modalities)}",
        "authors": "see README.md",
        "copyright": "see README.md",
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "magnitude",
                    "modality": "MR",
                    "num_channels": len(segmentor.modalities),
                    "spatial_shape": sides,
                    "dtype": "float32",
                    "value_range": list(bounds) if bounds else [],
                    "is_patch_data": len(segmentor.patch) == 3,
                    "channel_def": dict(enumerate(segmentor.modalities)),
                }
            },
            "outputs": {
                "pred": {
                    "type": "image",
                    "format": "segmentation",
                    "num_channels": len(scheme.channels),
                    "spatial_shape": sides,
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": len(segmentor.patch) == 3,
                    "channel_def": dict(enumerate(scheme.channels)),
                }
            },
        },
        "python_version": platform.python_version(),
        "segan_pl": dict(content),
    }


def _same_labels(
    segmentor: TrainedSegmentor, network: Callable[[Tensor], Tensor], steps: list[Step], case: Case
) -> str:
    """Run the bundle's own transforms here on one case, and compare its labels with those of prediction.

    Before the steps, which may make a component of one voxel; these must then do to the bundle's labels what ours do.

    Raises:
        DiffersError: A probability differs, or a label that rounding does not decide.
    """
    from segan_pl.export.scripts import inference, postprocessing, preparation, reading

    places = {"preparation": preparation, "inference": inference, "postprocessing": postprocessing, "reading": reading}

    def built(spec: Mapping[str, Any]) -> Any:
        _, module, name = spec["_target_"].split(".")
        return getattr(places[module], name)(**{key: value for key, value in spec.items() if key != "_target_"})

    found: dict[str, Any] = {}
    to_labels, *corrections = [built(spec) for spec in label_transforms(segmentor, steps)]

    def prepared(data: Any) -> Any:
        for spec in preparation_transforms(segmentor):
            data = built(spec)(data)
        return data

    files = {modality: str(case.images[modality]) for modality in segmentor.modalities}
    inference.predict([{"case": case.name, **files}], prepared, network, built(inferer(segmentor)), found.update)
    wanted = Predictor([segmentor], Settings())(case, probability=True)
    assert wanted.probability is not None
    label, probability = to_labels(found)["label"], torch.from_numpy(wanted.probability)
    line = ""
    if not found["blank"]:
        worst = float((torch.from_numpy(to_labels.native(found)) - probability).abs().max())
        line = f"probabilities of a whole case differ from those of segan_pl predict by {worst:.1e}"
        if not worst <= TOLERANCE:
            raise DiffersError(f"the bundle: {line}, more than {TOLERANCE:g}; it is not left behind")
        line += ", "
    changed = torch.from_numpy(label != wanted.label)
    line += labels_line(changed, undecided(probability, segmentor.scheme.activation), "the bundle")
    corrected = {**found, "label": label}
    for correct in corrections:
        corrected = correct(corrected)
    voxel_ml = abs(float(np.linalg.det(wanted.affine[:3, :3]))) / 1000
    expected = postprocess(label, steps, convention=segmentor.scheme.convention, voxel_ml=voxel_ml)
    if differing := int(np.count_nonzero(corrected["label"] != expected)):
        raise DiffersError(
            f"the bundle's post-processing gives {differing} of {label.size} voxels of a whole case another label than "
            f"that of segan_pl predict; it is not left behind"
        )
    return line
