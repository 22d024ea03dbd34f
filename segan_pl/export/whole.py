"""A whole export: the files of a format and a model card, in a folder that is there when all of it is right."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from segan_pl.data.case import Case
from segan_pl.errors import UsageError
from segan_pl.export import bundle, card, formats
from segan_pl.files import made_writable, write_whole
from segan_pl.inference.chosen_steps import chosen_steps
from segan_pl.inference.exported import description, extra
from segan_pl.inference.postprocessing import Step
from segan_pl.inference.trained import TrainedSegmentor, load_segmentor

Format = Literal["onnx", "bundle", "torch", "safetensors"]
Writer = Callable[[TrainedSegmentor, Mapping[str, Any], Path, Case | None], str]
WRITERS: dict[Format, Writer] = {
    "onnx": formats.write_onnx,
    "bundle": bundle.write_bundle,
    "torch": formats.write_torch,
    "safetensors": formats.write_safetensors,
}
CARD = "README.md"


def export(
    checkpoint: Path,
    output: Path,
    form: Format,
    *,
    stated: card.Stated,
    case: Case | None = None,
    steps: Sequence[str] | None = None,
    scores: str | None = None,
    overwrite: bool = False,
) -> str:
    """Write a checkpoint's segmentor into a folder of its own.

    Args:
        checkpoint: Of a run.
        output: The folder; it is replaced only with `overwrite`, and only if it holds an export.
        form: One of `WRITERS`.
        stated: For the card.
        case: With all modalities, to compare on; None for generated input.
        steps: Post-processing; default what was chosen for the checkpoint.
        scores: A folder of an evaluation for the card; default the run's own scores.
        overwrite: Whether an earlier export may be replaced.

    Returns:
        What was compared, and by how much it differs.

    Raises:
        UsageError: The folder is taken, a package is missing, or the network cannot be written in this format.
        DiffersError: What was written computes something else; the folder is then as it was.
    """
    _require_free(output, overwrite)
    made_writable(output.expanduser().resolve().parent, f"--output {output}")
    segmentor = load_segmentor(checkpoint, device="cpu", precision="float32")
    parsed = tuple(Step.parse(text) for text in steps) if steps is not None else chosen_steps([checkpoint])
    for step in parsed:
        step.require_tissues(segmentor.scheme.convention)
    run, why = card.run_of(checkpoint, scores)
    content = description(segmentor, [str(step) for step in parsed])
    with tempfile.TemporaryDirectory(prefix=".export-", dir=output.expanduser().resolve().parent) as place:
        folder = Path(place) / "export"
        folder.mkdir()
        compared = WRITERS[form](segmentor, content, folder, case)
        write_whole(folder / CARD, card.card(segmentor, content, form, compared, stated, run, why))
        _require_free(output, overwrite)
        if output.exists():
            shutil.rmtree(output)
        folder.rename(output)
    return compared


def _require_free(output: Path, overwrite: bool) -> None:
    """Refuse a place where something is that is no export of ours, or that was not to be replaced."""
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    file = output / CARD
    ours = file.is_file() and card.MARK in file.read_text(encoding="utf-8", errors="replace")[:1000]
    if not ours:
        raise UsageError(f"--output {output}: is there and is no folder of `segan_pl export`; give another one")
    if not overwrite:
        raise UsageError(f"--output {output}: holds an export already; give another folder or --overwrite true")


def push(folder: Path, repository: str, *, private: bool) -> str:
    """Upload a folder of an export to the Hugging Face Hub; its address.

    Args:
        folder: Of `export`.
        repository: "owner/name".
        private: Whether a repository that is made is seen by its owner alone.

    Raises:
        UsageError: huggingface_hub is not installed, or the Hub refused.
    """
    hub = extra("huggingface_hub")
    api = hub.HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        found = api.upload_folder(repo_id=repository, folder_path=str(folder), commit_message="segan_pl export")
    except Exception as error:  # network, refused, a wrong name: the client and its HTTP library share no class
        line = " ".join(str(error).split())[:200]
        raise UsageError(f"--push_to_hub {repository}: {line}; the export is in {folder}") from error
    return str(getattr(found, "commit_url", repository))
