"""`segan_pl export`: a checkpoint's segmentor for other programs, checked, with a model card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from segan_pl.cli.parsing import OneLineErrors
from segan_pl.errors import UsageError

if TYPE_CHECKING:
    from segan_pl.data.case import Case

DESCRIPTION = "Write a checkpoint's segmentor as ONNX, MONAI bundle, torch.export or safetensors, with a model card."


@dataclass(frozen=True)
class ExportOptions:
    """What to export, as what, and where to.

    Attributes:
        ckpt_path: A checkpoint of a run.
        output: Folder that is made, with the model and README.md, its card.
        format: "onnx" (`segan_pl predict` takes it), "bundle" (for MONAI, without segan_pl), "torch" (torch.export's
            .pt2) or "safetensors" (weights and config.json).
        root: A data set; its first case with all modalities is what the export is compared on. Without it generated
            input is.
        layout: Of that data set.
        postprocess: Steps that the export carries out, as in predict; default those that were chosen for the
            checkpoint.
        scores: Folder of an evaluation whose scores the card shows; default the run's own.
        name: Of the model, in its card; default the run's experiment.
        license: Of the weights, as the Hugging Face Hub calls it, e.g. "apache-2.0".
        power_watts: Mean electrical power of the machine while it trained, for the card.
        carbon_g_per_kwh: CO2 equivalent of the electricity, for the card.
        push_to_hub: Repository "owner/name" of the Hugging Face Hub that the folder is uploaded to afterwards.
        private: Whether a repository that is made for it is private.
        overwrite: Replace an earlier export in this folder.
    """

    ckpt_path: str
    output: str
    format: Literal["onnx", "bundle", "torch", "safetensors"]
    root: str | None = None
    layout: str = "auto"
    postprocess: list[str] | None = None
    scores: str | None = None
    name: str | None = None
    license: str = "other"
    power_watts: float | None = None
    carbon_g_per_kwh: float | None = None
    push_to_hub: str | None = None
    private: bool = True
    overwrite: bool = False


def main(arguments: list[str]) -> int:
    """Export one checkpoint; the exit code."""
    parser = OneLineErrors(prog="segan_pl export", description=DESCRIPTION)
    parser.add_class_arguments(ExportOptions)
    options = ExportOptions(**vars(parser.parse_args(arguments[1:])))
    if options.push_to_hub is not None and options.push_to_hub.count("/") != 1:
        raise UsageError(f"--push_to_hub {options.push_to_hub}: expected OWNER/NAME")
    if options.root and options.format == "safetensors":
        raise UsageError("--root: safetensors holds weights alone, nothing is compared; leave it out")
    # these load PyTorch, which --help and a wrong option need not wait for
    from segan_pl.export.card import Stated
    from segan_pl.export.whole import export, push

    checkpoint, output = Path(options.ckpt_path).expanduser(), Path(options.output).expanduser()
    run = checkpoint.resolve().parent.parent.name if checkpoint.parent.name == "checkpoints" else checkpoint.stem
    stated = Stated(options.name or run, options.license, options.power_watts, options.carbon_g_per_kwh)
    compared = export(
        checkpoint,
        output,
        options.format,
        stated=stated,
        case=_case(options, checkpoint) if options.root else None,
        steps=options.postprocess,
        scores=options.scores,
        overwrite=options.overwrite,
    )
    print(f"compared: {compared}")
    print(f"exported: {output}")
    if options.push_to_hub:
        print(f"uploaded: {push(output, options.push_to_hub, private=options.private)}")
    return 0


def _case(options: ExportOptions, checkpoint: Path) -> Case:
    """The first case that has all that the checkpoint takes."""
    from segan_pl.data.layouts import find_data_set
    from segan_pl.inference.checkpoint_file import described_data, own_part, read_checkpoint

    assert options.root is not None
    needed = described_data(own_part(read_checkpoint(checkpoint), checkpoint), checkpoint)["modalities"]
    for case in find_data_set(options.root, options.layout).cases:
        if set(needed) <= set(case.images):
            return case
    raise UsageError(f"--root {options.root}: no case has all of {', '.join(needed)}; give other data, or leave it out")
