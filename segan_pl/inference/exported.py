"""What prediction must know of an exported network, and an ONNX file as a segmentor on the CPU (`segan_pl export`)."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segan_pl import __version__
from segan_pl.data.case import CaseError
from segan_pl.data.labels import label_meanings, label_scheme
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.errors import UsageError
from segan_pl.inference import Precision
from segan_pl.inference.checkpoint_file import CheckpointError, NoCheckpointError
from segan_pl.inference.inferer import Windows
from segan_pl.inference.trained import TrainedSegmentor, load_segmentor

FORMAT = 1
KEY = "segan_pl"
"""Under which the description lies in a file's metadata."""
ONNX = ".onnx"
IMAGE, LOGITS = "image", "logits"
"""Names of the network's input and output."""


def extra(module: str) -> Any:
    """A module that the extra "export" installs.

    Raises:
        UsageError: It cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(f"{module} cannot be imported ({error}); pip install 'segan_pl[export]'") from error


def description(segmentor: TrainedSegmentor, steps: Sequence[str] = ()) -> dict[str, Any]:
    """All that turns files into the network's input and its output into labels, as JSON holds it.

    Args:
        segmentor: As it was loaded.
        steps: Post-processing that prediction carries out by default.
    """
    scheme = segmentor.scheme
    content = {
        "format": FORMAT,
        "segan_pl": __version__,
        "checkpoint": segmentor.digest,
        "modalities": segmentor.modalities,
        "labels": scheme.target,
        "native_labels": scheme.convention.name,
        "channels": scheme.channels,
        "label_values": scheme.export,
        "label_meanings": {str(value): names for value, names in label_meanings(scheme).items()},
        "activation": scheme.activation,
        "preparation": segmentor.preparation.as_dict(),
        "patch": segmentor.patch,
        "divisor": segmentor.divisor,
        "depth_divisor": getattr(segmentor.network, "depth_divisor", None),
        "slices": segmentor.slices,
        "windows": asdict(segmentor.windows),
        "modality_mask": segmentor.modality_mask,
        "predict_in": segmentor.predict_in,
        "copes": segmentor.copes,
        "seen": segmentor.seen,
        "postprocess": list(steps),
    }
    plain: dict[str, Any] = json.loads(json.dumps(content))
    return plain


def described_segmentor(
    content: Mapping[str, Any], network: nn.Module, *, source: Path, digest: str
) -> TrainedSegmentor:
    """The inverse of `description`, in float32.

    Raises:
        CheckpointError: Another version wrote the description, or it is incomplete.
    """
    if content.get("format") != FORMAT:
        raise CheckpointError(
            f"{source}: export format {content.get('format')}, this version reads {FORMAT}; export it again"
        )
    try:
        windows: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in content["windows"].items()
        }
        return TrainedSegmentor(
            network=network.eval().requires_grad_(False),
            modalities=tuple(content["modalities"]),
            scheme=label_scheme(content["labels"], content["native_labels"]),
            preparation=Preparation.from_dict(content["preparation"]),
            patch=tuple(content["patch"]),
            slices=int(content["slices"]),
            channels_last=False,
            precision=torch.float32,
            source=source,
            digest=digest,
            modality_mask=content["modality_mask"],
            windows=Windows(**windows),
            copes=bool(content["copes"]),
            seen=content["seen"],
            predict_in=content["predict_in"],
        )
    except (KeyError, TypeError, ValueError, CaseError) as error:
        raise CheckpointError(f"{source}: its description cannot be used ({error}); export it again") from error


class OnnxNetwork(nn.Module):
    """A network that onnxruntime runs on the CPU; it has no parameters and no gradient.

    Args:
        session: An `onnxruntime.InferenceSession`.
        divisor: What the input's sides must be divisible by.
        depth_divisor: The same of the depth, where it differs.
    """

    def __init__(self, session: Any, divisor: int, depth_divisor: int | None) -> None:
        super().__init__()
        self.session, self.divisor, self.depth_divisor = session, divisor, depth_divisor

    def forward(self, image: Tensor) -> Tensor:
        """Image (B, M, *spatial) to float32 logits (B, C, *spatial)."""
        values = self.session.run([LOGITS], {IMAGE: image.float().contiguous().numpy()})[0]
        return torch.from_numpy(values)


def load_model(
    path: Path | str, *, device: str | torch.device = "auto", precision: Precision = "auto"
) -> TrainedSegmentor:
    """A run's checkpoint, or an ONNX file that `segan_pl export` wrote, told by its name.

    Args:
        path: The file.
        device: Of a checkpoint as `load_segmentor`; an ONNX file runs on the CPU.
        precision: The same; an ONNX file computes in float32.

    Raises:
        UsageError: A device or precision that onnxruntime does not have here, or it is not installed.
        CheckpointError: The file is damaged, or holds no description of ours; else as `load_segmentor`.
    """
    source = Path(path)
    if source.suffix.lower() != ONNX:
        return load_segmentor(source, device=device, precision=precision)
    if str(device) not in ("auto", "cpu"):
        raise UsageError(f"--device {device}: {source} runs on the CPU; use cpu or auto, or give the checkpoint")
    if precision not in ("auto", "float32"):
        raise UsageError(f"--precision {precision}: {source} computes in float32; leave it out, or give the checkpoint")
    session, content, digest = _opened(*_version(source))
    network = OnnxNetwork(session, int(content.get("divisor", 1)), content.get("depth_divisor"))
    return described_segmentor(content, network, source=source, digest=digest)


def exported_steps(path: Path) -> tuple[str, ...]:
    """The post-processing that an ONNX file names, in order.

    Raises:
        CheckpointError: As `load_model`.
    """
    return tuple(_opened(*_version(path))[1].get("postprocess", ()))


def _version(path: Path) -> tuple[Path, int, int]:
    """A file as it is now.

    Raises:
        NoCheckpointError: There is no such file.
    """
    if not path.is_file():
        raise NoCheckpointError(f"{path}: no such file; give one that `segan_pl export --format onnx` wrote")
    found = path.stat()
    return path, found.st_mtime_ns, found.st_size


# a command asks for the steps, and then for the network; large files take seconds
@lru_cache(maxsize=2)
def _opened(path: Path, _changed: int, _size: int) -> tuple[Any, dict[str, Any], str]:
    """A session, the description, and the digest of the bytes."""
    runtime = extra("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    data = path.read_bytes()
    try:
        session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes have no common base
        line = " ".join(str(error).split())[:160]
        raise CheckpointError(f"{path}: onnxruntime cannot read it ({line}); export it again") from error
    text = session.get_modelmeta().custom_metadata_map.get(KEY)
    try:
        content = json.loads(text or "")
    except ValueError as error:
        raise CheckpointError(
            f"{path}: no description of segan_pl in it; give one that `segan_pl export` wrote"
        ) from error
    return session, content, hashlib.blake2b(data, digest_size=16).hexdigest()
