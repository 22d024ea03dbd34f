"""`segan_pl check`: read every byte of a data set, table what is there, refuse what is wrong."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace
from jsonargparse.typing import PositiveInt

from segan_pl.cli.commands.options import DataSetOptions, parse
from segan_pl.cli.parsing import OneLineErrors
from segan_pl.data.check.case_table import case_table_csv
from segan_pl.data.cohort import asked_modalities, native_convention, scheme_of
from segan_pl.data.conventions import Convention
from segan_pl.data.labels import DEFAULT_TARGET, TISSUES, possible_target
from segan_pl.data.layouts import DataSet
from segan_pl.data.outputs import Kind, Output, page_of, require_free
from segan_pl.errors import UsageError

if TYPE_CHECKING:
    from segan_pl.data.check.cases import CheckReport

DESCRIPTION = "Read every byte of every file of a data set, table its cases, and refuse what cannot be used."
STANDARD_OUTPUT = "-"
KINDS = {
    "--json": Kind("segan_pl check --json", r'\{\s*"format": \d+,\s*"data_set": \{'),
    "--csv": Kind("segan_pl check --csv", "case,patient,grade,institution,status,[^\n]*,mask,shape,spacing_mm,"),
    "--html": Kind("segan_pl check --html", page_of("segan_pl check: ")),
}


def main(arguments: list[str]) -> int:
    """Check a data set.

    Args:
        arguments: "check" and its options.

    Returns:
        0, or 1 when a case is refused or none is used.
    """
    options, settings = parse(arguments, DESCRIPTION, _add_arguments, DataSetOptions)
    # these load nibabel, which --help and a wrong option need not wait for
    from segan_pl.data.check.cases import check_all
    from segan_pl.data.check.text import print_report

    outputs = _outputs(settings, Path(options.root).expanduser())
    source = options.source()
    convention = convention_of(source, options)
    report = check_all(
        source.cases,
        convention,
        modalities=asked_modalities(source, options.modalities),
        missing=options.missing,
        workers=settings.workers,
        notes=[*source.notes, *_hint(convention, options.labels)],
        names=source.names,
        settled=options.native_labels != "auto" or options.labels == "binary",
    )
    print_report(report, source, sys.stderr if None in outputs.values() else sys.stdout)
    if "--json" in outputs:
        _write(outputs["--json"], json_text(report, source))
    if "--csv" in outputs:
        _write(outputs["--csv"], case_table_csv(report.rows))
    if "--html" in outputs:
        from segan_pl.report.cohort_page import cohort_page  # matplotlib, which nothing else here needs

        _write(outputs["--html"], cohort_page(report, source.root))
        if page := outputs["--html"]:
            print(f"page: {page.path}", file=sys.stderr)
    return 1 if report.refused or not report.used else 0


def _add_arguments(parser: OneLineErrors) -> None:
    parser.add_argument("--workers", type=PositiveInt, default=None, help="processes; default all cores")
    parser.add_argument("--json", type=str | None, help="write everything that was found; - is standard output")
    parser.add_argument("--html", type=str | None, help="write a page of pictures: every case, intensities, volumes")
    parser.add_argument("--csv", type=str | None, help="write the table of cases; - is standard output")


def convention_of(source: DataSet, options: DataSetOptions) -> Convention | None:
    """What the masks' labels mean, as asked for or as the data set says; None where neither does.

    Of a healthy brain's tissues the default of --data.labels cannot be made; checking needs no target, so it may stand.

    Raises:
        UsageError: As `scheme_of`.
    """
    name = native_convention(source, options.native_labels, options.labels)
    scheme = scheme_of(source, possible_target(options.labels, name), options.native_labels)
    return scheme.convention if scheme else None


def _hint(convention: Convention | None, labels: str) -> list[str]:
    """What `fit` will need beyond what the check did, where the labels name no tumour."""
    if convention is None or convention.tumour or labels != DEFAULT_TARGET:
        return []
    return [f"'{convention.name}' names no tumour: fit needs --data.labels {TISSUES}, or only:NAME"]


def json_text(report: CheckReport, source: DataSet) -> str:
    """Valid JSON (no NaN); docs/check.md says what is in it."""
    return json.dumps(report.as_dict(source), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _outputs(settings: Namespace, root: Path) -> dict[str, Output | None]:
    """Option to its file, None for standard output; refused now, not after hours of reading.

    Raises:
        UsageError: Its folder does not exist, two would go to one place, or as `Output.require_free`.
    """
    found: dict[str, Output | None] = {}
    for option, kind in KINDS.items():
        target = getattr(settings, option.removeprefix("--"))
        if not target:
            continue
        path, given = Path(target).expanduser(), f"{option} {target}"
        if target == STANDARD_OUTPUT:
            if None in found.values():
                raise UsageError(f"{option} and another option write to standard output; give each its own file")
            found[option] = None
            continue
        if not os.access(path.parent, os.W_OK):
            raise UsageError(f"{given}: {path.parent} is no folder that may be written to; give one that exists")
        found[option] = Output(path, kind, given, inputs=(root, *settings.config))
    require_free(output for output in found.values() if output)
    return found


def _write(output: Output | None, text: str) -> None:
    """Onto standard output, or into a file, whole or not at all."""
    if output is None:
        sys.stdout.write(text)
    else:
        output.write(text)
