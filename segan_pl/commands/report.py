"""`segan_pl report`: one self-contained HTML page about runs, from their saved files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segan_pl.errors import UsageError
from segan_pl.files import require_writable, write_whole
from segan_pl.parsing import OneLineErrors
from segan_pl.report.content import Report, whole_page
from segan_pl.report.markdown import markdown
from segan_pl.report.pictures import case_pictures
from segan_pl.report.run_files import RunFiles, read_files


@dataclass(frozen=True)
class ReportOptions:
    """Where to, and what beside the page.

    Attributes:
        output: The page; default report/index.html in the first run's folder.
        figures: Also write each figure as SVG, and each picture of a case as PNG, beside the page.
        pictures: Draw the best, the median and the worst case a region, where images and predictions are on disk.
    """

    output: str | None = None
    figures: bool = True
    pictures: bool = True


def main(arguments: list[str]) -> int:
    """Write the page, and its tables as Markdown."""
    parser = OneLineErrors(prog="segan_pl report", description="One page about RUN..., from their saved files.")
    parser.add_class_arguments(ReportOptions)
    parser.add_argument("runs", nargs="*", help="folders of runs or of evaluations, or name=folder")
    settings = parser.parse_args(arguments[1:])
    runs = settings.pop("runs")
    options = ReportOptions(**vars(settings))
    if not runs:
        raise UsageError(
            "report: no run given; expected a run's folder, e.g. segan_pl report runs/segan_cat/20261121_a"
        )
    files = [read_files(text) for text in runs]
    _require_different_names(files)
    page = Path(options.output).expanduser() if options.output else files[0].folder / "report" / "index.html"
    require_writable(page.parent, f"--output {page}")
    report = _report(files, pictures=options.pictures)
    write_whole(page, whole_page(report).encode())
    write_whole(page.with_suffix(".md"), markdown(report).encode())
    if options.figures:
        for name, content in report.files().items():
            write_whole(page.parent / "figures" / name, content)
    for note in report.notes:
        print(f"note: {note}")
    print(f"report: {page} ({page.stat().st_size / 1e6:.1f} MB)")
    return 0


def _require_different_names(files: Sequence[RunFiles]) -> None:
    """Refuse two runs that the page could not tell apart."""
    if double := [name for name, count in Counter(run.name for run in files).items() if count > 1]:
        raise UsageError(f"report: two runs are called {double[0]!r}; name them: a=FOLDER b=FOLDER")


def _report(files: Sequence[RunFiles], *, pictures: bool) -> Report:
    drawn = {run.name: case_pictures(run) for run in files} if pictures else {}
    notes = [f"{name}: {note}" for name, (_, found) in drawn.items() for note in found]
    return Report(files, {name: one for name, (one, _) in drawn.items()}, notes)
