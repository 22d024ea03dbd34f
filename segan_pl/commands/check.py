"""`segan_pl check`: read every byte of a data set, table what is there, refuse what is wrong."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from jsonargparse.typing import PositiveInt

from segan_pl.commands.options import DataSetOptions, parse
from segan_pl.data.case_table import case_table_csv
from segan_pl.data.checking import CheckReport, check_all
from segan_pl.data.checking_text import print_report
from segan_pl.data.cohort import asked_modalities, native_convention
from segan_pl.data.labels import Convention, label_scheme
from segan_pl.data.layouts import DataSet, find_data_set
from segan_pl.errors import UsageError
from segan_pl.files import write_whole
from segan_pl.parsing import OneLineErrors

DESCRIPTION = "Read every byte of every file of a data set, table its cases, and refuse what cannot be used."
STANDARD_OUTPUT = "-"


def main(arguments: list[str]) -> int:
    """Check a data set.

    Args:
        arguments: "check" and its options.

    Returns:
        0, or 1 when a case is refused or none is used.
    """
    options, settings = parse(arguments, DESCRIPTION, _add_arguments)
    targets = [target for target in (settings.json, settings.csv, settings.html) if target]
    require_writable(targets)
    source = find_data_set(options.root, options.layout)
    report = check_all(
        source.cases,
        convention_of(source, options),
        modalities=asked_modalities(source, options.modalities),
        missing=options.missing,
        workers=settings.workers,
        notes=getattr(source, "notes", ()),
    )
    print_report(report, source, sys.stderr if STANDARD_OUTPUT in targets else sys.stdout)
    if settings.json:
        _write(settings.json, json_text(report, source))
    if settings.csv:
        _write(settings.csv, case_table_csv(report.rows))
    if settings.html:
        from segan_pl.report.cohort_page import cohort_page  # matplotlib, which nothing else here needs

        _write(settings.html, cohort_page(report, source.root))
    return 1 if report.refused or not report.used else 0


def _add_arguments(parser: OneLineErrors) -> None:
    parser.add_argument("--workers", type=PositiveInt, default=None, help="processes; default all cores")
    parser.add_argument("--json", type=str | None, help="write everything that was found; - is standard output")
    parser.add_argument("--html", type=str | None, help="write a page of pictures: every case, intensities, volumes")
    parser.add_argument("--csv", type=str | None, help="write the table of cases; - is standard output")


def convention_of(source: DataSet, options: DataSetOptions) -> Convention | None:
    """What the masks' labels mean, as asked for or as the data set says; None where neither does.

    Raises:
        CaseError: No such convention, or it cannot make the target `--data.labels`.
    """
    name = "binary" if options.labels == "binary" else native_convention(source, options.native_labels)
    return label_scheme(options.labels, name).convention if name else None


def json_text(report: CheckReport, source: DataSet) -> str:
    """Valid JSON (no NaN); docs/check.md says what is in it."""
    return json.dumps(report.as_dict(source), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def require_writable(targets: list[str]) -> None:
    """Refuse a file that could not be written, before hours of reading.

    Raises:
        UsageError: Its folder does not exist, it is a folder, or both outputs would go to one place.
    """
    for target in targets:
        path = Path(target)
        if targets.count(target) > 1:
            raise UsageError(f"--json, --csv or --html: two say {target}; give each its own file")
        if target != STANDARD_OUTPUT and (path.is_dir() or not os.access(path.parent, os.W_OK)):
            why = "it is a folder" if path.is_dir() else f"{path.parent} is no folder that may be written to"
            raise UsageError(f"{target} cannot be written, {why}; give a file in a folder that exists")


def _write(target: str, text: str) -> None:
    """Onto standard output, or into a file, whole or not at all."""
    if target == STANDARD_OUTPUT:
        sys.stdout.write(text)
        return
    write_whole(target, text)
