"""`segan_pl plan`: look at a data set and this machine, and write a configuration for `fit` with its reasons."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any, Literal

from jsonargparse.typing import PositiveInt

from segan_pl.cli.commands.options import ReferenceOptions, parse
from segan_pl.cli.parsing import OneLineErrors
from segan_pl.data.cohort import native_convention, unknown_labels
from segan_pl.data.labels import label_scheme
from segan_pl.data.outputs import Kind, Output
from segan_pl.errors import UsageError

DESCRIPTION = "Look at every case of a data set and at this machine; write a configuration for fit, with reasons."
PLAN = Kind("segan_pl plan", "# segan_pl plan: ")


def main(arguments: list[str]) -> int:
    """Check a data set, choose, and write or print the plan.

    Args:
        arguments: "plan" and its options.

    Returns:
        0, or 1 where the check refuses a case; nothing is written then.
    """
    options, settings = parse(arguments, DESCRIPTION, _add_arguments, ReferenceOptions)
    output = _output(settings.output, settings.overwrite, Path(options.root).expanduser())
    if settings.gpu_gb is not None and not 0 <= settings.gpu_gb < 10_000:
        raise UsageError(f"--gpu_gb {settings.gpu_gb:g}: expected the memory of one GPU in GB, 0 for none")
    source = options.source()
    convention = native_convention(source, options.native_labels, options.labels)
    if convention is None:
        raise unknown_labels(source)
    # these load nibabel and PyTorch, which --help and a wrong option need not wait for
    from segan_pl.cli.commands.plan.choices import choices
    from segan_pl.cli.commands.plan.fingerprint import common_modalities, fingerprint, this_machine
    from segan_pl.cli.commands.plan.text import plan_text
    from segan_pl.data.check.cases import check_all
    from segan_pl.data.check.text import grouped_faults
    from segan_pl.evaluation.references import target_for

    scheme = label_scheme(target_for(convention) if options.labels == "auto" else options.labels, convention)
    modalities = common_modalities(source.cases)
    report = check_all(
        source.cases, scheme.convention, modalities=modalities, missing="drop", workers=settings.workers, settled=True
    )
    if report.refused:
        for line in grouped_faults(report.rows):
            print(f"refused: {line}", file=sys.stderr)
        raise CheckRefusedError(
            f"{len(report.refused)} of {len(report.rows)} cases are refused, and fit would refuse them too; correct or "
            f"remove them, and look at `segan_pl check --root {shlex.quote(options.root)}`; no plan was written"
        )
    data, machine = fingerprint(report, source), this_machine(settings.gpu_gb)
    usual = ReferenceOptions("")
    typed = {name: getattr(options, name) for name in ("layout", "native_labels", "origin_tolerance_mm")}
    stated = {name: value for name, value in typed.items() if value != getattr(usual, name)}
    plan = choices(
        data,
        machine,
        scheme,
        stated=stated,
        dimensions=settings.dimensions,
        experiment=output.path.stem if output else "plan",
    )
    x, y, z = data.size
    u, v, w = data.spacing_mm
    head = [
        f"{data.cases} cases of {data.patients} patients to train and validate on, layout {source.layout}",
        f"The median case has {x} x {y} x {z} voxels of {u:.3g} x {v:.3g} x {w:.3g} mm (left to right, front to back, "
        f"feet to head); {data.empty:.0%} of them are empty. What has no reason is the recipe's (docs/recipe.md).",
        f"Train with: segan_pl fit -c {output.path if output else 'FILE'}",
    ]
    text = plan_text(head, plan)
    if output is None:
        sys.stdout.write(text)
        return 0
    output.write(text)
    print(f"{summary(plan)}\nplan: {output.path}\nnext: segan_pl fit -c {shlex.quote(str(output.path))}")
    return 0


class CheckRefusedError(ValueError):
    """Cases that no plan is made for; the message says how many."""


def summary(plan: dict[str, Any]) -> str:
    """The choices in one line."""
    segmentor = plan["model"]["networks"]["segmentor"]["init_args"]
    patch = " x ".join(map(str, plan["data"]["patch"].value))
    trainer, batches = plan["trainer"], plan["data"]["sampling"]["batches"].value
    return (
        f"{segmentor['spatial_dims'].value}-D {segmentor['kind'].value} of width {segmentor['width'].value}, patches "
        f"of {patch}, batches of {plan['data']['batch_size'].value}, {trainer['max_epochs'].value} epochs of "
        f"{batches} batches"
    )


def _add_arguments(parser: OneLineErrors) -> None:
    add = parser.add_argument
    add("-o", "--output", type=str | None, help="the YAML file; default standard output")
    add("--overwrite", type=bool, default=False, help="replace a plan that is there")
    add("--dimensions", type=Literal[2, 3] | None, help="slices or volumes; default by spacing and GPU")
    add("--gpu_gb", type=float | None, help="memory of the GPU that will train, 0 for none; default this machine's")
    add("--workers", type=PositiveInt | None, help="processes that read; default all cores")


def _output(given: str | None, overwrite: bool, root: Path) -> Output | None:
    """The file, refused now and not after hours of reading."""
    if given is None:
        return None
    path = Path(given).expanduser()
    if path.suffix not in (".yaml", ".yml"):
        raise UsageError(f"--output {given}: expected a name that ends in .yaml, as fit -c takes it")
    if not path.parent.is_dir():
        raise UsageError(f"--output {given}: {path.parent} is no folder; give one that exists")
    output = Output(path, PLAN, f"--output {given}", inputs=(root,), overwrite=overwrite)
    output.require_free()
    return output
