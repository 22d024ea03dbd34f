"""The formats that hold one network in a file: ONNX, torch.export's .pt2, and safetensors with a configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from segan_pl.data.case import Case
from segan_pl.errors import UsageError
from segan_pl.export.tracing import first_line, quiet, require_equal, traced
from segan_pl.files import write_whole
from segan_pl.inference.checkpoint_file import own_part, read_checkpoint, stored_settings
from segan_pl.inference.exported import IMAGE, KEY, LOGITS, OnnxNetwork, extra
from segan_pl.inference.trained import TrainedSegmentor

ONNX, PT2, SAFETENSORS, CONFIG = "model.onnx", "model.pt2", "model.safetensors", "config.json"


def write_onnx(segmentor: TrainedSegmentor, content: Mapping[str, Any], folder: Path, case: Case | None) -> str:
    """One ONNX file with free sizes, whose metadata hold the description.

    Args:
        segmentor: In float32 on the CPU.
        content: Of `inference.exported.description`.
        folder: Where `model.onnx` goes.
        case: To compare on, as `require_equal`.

    Returns:
        What was compared.

    Raises:
        UsageError: A package is missing, or an operator has no counterpart in ONNX.
        DiffersError: As `require_equal`.
    """
    runtime = extra("onnxruntime")
    extra("onnx"), extra("onnxscript")
    program = traced(segmentor)
    try:
        with quiet():
            # without the exporter's own passes a convolution in 3-D without bias has a wrong one in the graph
            made = torch.onnx.export(
                program, dynamo=True, optimize=True, verbose=False, input_names=[IMAGE], output_names=[LOGITS]
            )
    except Exception as error:  # of many kinds, most of them not public
        kind = type(segmentor.network).__name__
        raise UsageError(
            f"{segmentor.source}: its network {kind} cannot be written as ONNX ({first_line(error)}); take --format "
            f"torch, bundle or safetensors"
        ) from error
    assert made is not None
    made.model.metadata_props[KEY] = json.dumps(content)
    data = made.model_proto.SerializeToString()
    session = runtime.InferenceSession(data, providers=["CPUExecutionProvider"])
    depth = getattr(segmentor.network, "depth_divisor", None)
    said = require_equal(segmentor, OnnxNetwork(session, segmentor.divisor, depth), case, ONNX)
    write_whole(folder / ONNX, data)
    return said


def write_torch(segmentor: TrainedSegmentor, content: Mapping[str, Any], folder: Path, case: Case | None) -> str:
    """A .pt2 of torch.export, which `torch.export.load` runs without our code; the description is one of its files.

    Raises:
        UsageError: As `traced`.
        DiffersError: As `require_equal`.
    """
    program = traced(segmentor)
    said = require_equal(segmentor, program.module(), case, PT2)
    with quiet():
        torch.export.save(program, folder / PT2, extra_files={f"{KEY}.json": json.dumps(content)})
    return said


def write_safetensors(segmentor: TrainedSegmentor, content: Mapping[str, Any], folder: Path, case: Case | None) -> str:
    """The weights by name, and config.json with the network's class, its arguments and the description.

    Raises:
        UsageError: safetensors is not installed.
    """
    save = extra("safetensors.torch").save
    weights = {name: value.contiguous() for name, value in segmentor.network.state_dict().items()}
    # tied weights would be stored twice, which safetensors refuses
    weights = {name: value.clone() for name, value in weights.items()}
    write_whole(folder / SAFETENSORS, save(weights, {"format": "pt"}))
    config = {"network": network_of(segmentor.source), KEY: dict(content)}
    write_whole(folder / CONFIG, json.dumps(config, indent=1) + "\n")
    return f"{len(weights)} tensors, unchanged"


def network_of(checkpoint: Path) -> dict[str, Any]:
    """A checkpoint's segmentor as a configuration names it: class_path, init_args and channels.

    Raises:
        CheckpointError: It is none of ours.
    """
    ours = own_part(read_checkpoint(checkpoint), checkpoint)
    spec = stored_settings(ours, checkpoint)["model"]["networks"]["segmentor"]
    named: dict[str, Any] = {"class_path": spec} if isinstance(spec, str) else dict(spec)
    arguments = {**ours["channels"]["segmentor"], **(named.get("init_args") or {})}
    return {"class_path": named["class_path"], "init_args": arguments}
