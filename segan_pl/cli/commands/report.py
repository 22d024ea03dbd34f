"""`segan_pl report`: one self-contained HTML page about runs, from their saved files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonargparse.typing import NonNegativeInt, PositiveFloat

from segan_pl.cli.parsing import OneLineErrors
from segan_pl.data.outputs import Kind, Output, figure_of, page_of, require_free
from segan_pl.errors import UsageError
from segan_pl.files import require_writable

MAKER = "segan_pl report"
PAGE = Kind(MAKER, page_of("segan_pl report: "))
EARLIER = r"# [^\n]*\n\n(No run has scores of cases\.\n|(- [^\n]*\n)+\n\| run \| region \| metric \| mean \|)"
"""How the Markdown began before it had a mark."""


@dataclass(frozen=True)
class ReportOptions:
    """Where to write, and what to write next to the page.

    Attributes:
        output: The page; default report/index.html in the first run's folder.
        figures: Also write each figure as SVG, and each picture of a case as PNG, next to the page.
        pictures: Draw the worst, the median and the best case of a region, where images and predictions are on disk.
        viewer: So many cases, the worst first, can be looked through slice by slice; 0 for none.
        viewer_mb: At most so large may all of these together make the page.
        lesions: Give each lesion its row, and the share that was found by size; it reads every case's masks.
    """

    output: str | None = None
    figures: bool = True
    pictures: bool = True
    viewer: NonNegativeInt = 6
    viewer_mb: PositiveFloat = 20.0
    lesions: bool = True


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
    # these load SciPy, which --help and a wrong option need not wait for
    from segan_pl.report.run_files import read_files
    from segan_pl.report.run_report import MARK, markdown, whole_page

    files = [read_files(text) for text in runs]
    if double := [name for name, count in Counter(run.name for run in files).items() if count > 1]:
        raise UsageError(f"report: two runs are called {double[0]!r}; name them: a=FOLDER b=FOLDER")
    page = Path(options.output).expanduser() if options.output else files[0].folder / "report" / "index.html"
    given = f"--output {options.output or page}"
    if page.is_dir():
        raise UsageError(f"{given}: is a folder; give the page's file, e.g. --output {page / 'index.html'}")
    require_writable(page.parent, given)
    texts = (Output(page, PAGE, given), Output(page.with_suffix(".md"), Kind(MAKER, f"{MARK}|{EARLIER}"), given))
    require_free(texts)
    report = with_masks(files, options)
    drawn = report.files() if options.figures else {}
    figures = [Output(page.parent / "figures" / name, figure_of(MAKER, Path(name).suffix), given) for name in drawn]
    require_free(figures)  # before anything is written: a report is whole or not there
    texts[0].write(whole_page(report))
    texts[1].write(markdown(report))
    for output, content in zip(figures, drawn.values(), strict=True):
        output.write(content)
    for note in report.notes:
        print(f"note: {note}")
    print(f"report: {page} ({page.stat().st_size / 1e6:.1f} MB{images_in(report)})")
    return 0


def images_in(report: Any) -> str:
    """Whose images lie in the page: whole heads, with the face where it was not removed."""
    cases = {one.case for one in report.viewed} | {one.case for some in report.overlays.values() for one in some}
    if not cases:
        return ""
    who = f"{len(cases)} cases" if len(cases) > 1 else "1 case"
    return f"; holds the images of {who}: --viewer 0 --pictures false before you share it"


def with_masks(files: Sequence[Any], options: ReportOptions) -> Any:
    """The `Report` of some `RunFiles`, with what needs images and masks where an evaluation says where they are.

    Not annotated so: jsonargparse carries out what stands under TYPE_CHECKING, and `--help` would load SciPy.
    """
    from segan_pl.report.run_files import without_masks
    from segan_pl.report.run_report import Report

    if not (options.pictures or options.viewer or options.lesions):
        return Report(files, {})
    if not any({"reference", "prediction"} <= set(run.summary) for run in files):
        # of many runs the first one's commands are enough
        scored = [run for run in files if run.scored][:1]
        return Report(files, {}, viewer_notes=[f"{run.name}: {without_masks(run)}" for run in scored])
    # these load nibabel and Matplotlib
    from segan_pl.report.case_pictures import case_pictures, find_sources
    from segan_pl.report.lesion_rows import all_lesions
    from segan_pl.report.viewer import viewed

    found = {run.name: find_sources(run) for run in files}
    sources = {name: source for name, (source, _) in found.items() if source}
    notes = [f"{name}: {note}" for name, (_, some) in found.items() for note in some]
    overlays = {}
    for run in (run for run in files if options.pictures and run.name in sources):
        overlays[run.name], said = case_pictures(run, sources[run.name])
        notes += [f"{run.name}: {note}" for note in said]
    cases, viewer_notes = (
        viewed(files, sources, cases=options.viewer, limit_mb=options.viewer_mb) if options.viewer else ([], [])
    )
    lesions = all_lesions(files, sources) if options.lesions else None
    return Report(files, overlays, notes, cases, viewer_notes, lesions)
