"""`segan_pl clinical`: from a hospital's DICOM or NIfTI to cases, masks, and back to the series. Research use only."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from segan_pl.cli.commands.clinical.options import ClinicalOptions, Root, pipeline_of
from segan_pl.cli.commands.clinical.tables import earlier_rows, write_manifest
from segan_pl.cli.commands.options import PlaceOptions, parse
from segan_pl.clinical.back import bring_back
from segan_pl.clinical.modality import read_rules
from segan_pl.clinical.patient import Outcome, Pipeline
from segan_pl.clinical.pseudonyms import pseudonyms
from segan_pl.clinical.search import find_series
from segan_pl.clinical.series import without_paths
from segan_pl.clinical.visits import Found, find_visits, read_choices, table_of
from segan_pl.clinical.work import Visit
from segan_pl.data.case import CaseError
from segan_pl.data.case_pool import cores, over_cases, shown
from segan_pl.errors import UsageError
from segan_pl.files import write_whole
from segan_pl.inference.output import read_identity

DESCRIPTION = (
    "From DICOM series or NIfTI of a hospital to aligned, skull-stripped cases of 1 mm, and masks back onto the "
    "series. Research use only."
)


def main(arguments: list[str]) -> int:
    """Prepare all patients, and bring their masks back; 1 when one was refused."""
    place, settings = parse(arguments, DESCRIPTION, lambda parser: parser.add_class_arguments(ClinicalOptions), Root)
    options = ClinicalOptions(**{one.name: settings[one.name] for one in fields(ClinicalOptions)})
    start = time.monotonic()
    root, output = Path(place.root).expanduser(), Path(options.output).expanduser()
    pipeline = pipeline_of(options, root, output)
    found = _found(options, root, pipeline)
    if options.only_list:
        print(f"series: {output / 'series.csv'}")
        return 1 if found.doubts else 0
    outcomes = _prepared(pipeline, found.visits, options.workers or cores())
    refused = [*(why for one in outcomes.values() if (why := one.refused)), *_doubtful(found)]
    done = [visit for visit in found.visits if not outcomes[visit.case].refused]
    kept = sum(one.kept for one in outcomes.values())
    write_manifest(pipeline, done, outcomes)
    code, sent = 0, 0
    if done and (options.ckpt_path or options.segmentations):
        code, sent, more = _masks(options, pipeline, done)
        refused += more
    for line in refused:
        print(f"refused: {line}")
    if kept:
        print(f"{kept} were there already and are kept (--overwrite true replaces them)")
    if sent:
        print(f"masks on the original series: {sent} files in {output / 'native'}")
    given = len(found.visits) + len(found.doubts)
    print(f"cases: {output / 'manifest.csv'} ({time.monotonic() - start:.1f} s); look at {output / 'quality'}")
    print(f"{given} given, {len(done)} used, {given - len(done)} refused; research use only")
    return 1 if refused or code else 0


def _found(options: ClinicalOptions, root: Path, pipeline: Pipeline) -> Found:
    """The visits; series.csv is written."""
    output = pipeline.output
    rules = read_rules(Path(options.rules).expanduser()) if options.rules else []
    by_hand = read_choices(Path(options.series_file).expanduser()) if options.series_file else {}
    table = Path(options.pseudonyms).expanduser() if options.pseudonyms else None
    if table and table.resolve().is_relative_to(output.resolve()):
        raise UsageError(f"--pseudonyms {table}: lies in --output, which is to identify nobody; choose another place")
    series, notes = find_series(root)
    names = pseudonyms({one.patient for one in series}, table, identifying=options.identifying)
    masks = Path(options.masks).expanduser() if options.masks else None
    found = find_visits(series, names, rules=rules, by_hand=by_hand, masks=masks, identifying=options.identifying)
    now = {str(row["case"]) for row in found.rows}
    write_whole(output / "series.csv", table_of(found, earlier_rows(output / "series.csv", pipeline, now)))
    for note in [*notes, *(f"{visit.case}: {note}" for visit in found.visits for note in visit.notes)]:
        print(f"note: {note}")
    for case, questions in found.doubts.items():
        for question in questions:
            print(f"doubt: {case}: {question}")
    return found


def _doubtful(found: Found) -> list[str]:
    """A line for each case that a user must decide on."""
    return [
        f"{case}: {len(questions)} doubts; decide in a copy of series.csv (use_as) and give it as --series_file"
        for case, questions in found.doubts.items()
    ]


def _prepared(pipeline: Pipeline, visits: Sequence[Visit], workers: int) -> dict[str, Outcome]:
    """Case to what became of it."""
    outcomes = {}
    with shown(len(visits), label="preparing", done="prepared") as advance:
        for visit, outcome in over_cases(pipeline.prepare, visits, workers=workers):
            lost = Outcome(
                {}, 0.0, (), f"{visit.case}: its process was killed; is there enough memory? give fewer --workers"
            )
            outcomes[visit.case] = found = outcome or lost
            for warning in found.warnings:
                print(f"warning: {visit.case}: {warning}")
            if not found.kept and not found.refused:
                print(f"{visit.case}: {found.seconds:.1f} s")
            advance()
    return outcomes


def _masks(options: ClinicalOptions, pipeline: Pipeline, visits: Sequence[Visit]) -> tuple[int, int, list[str]]:
    """Predict where a checkpoint is given, and bring all masks back: predict's exit code, files written, refusals."""
    code = 0
    if options.ckpt_path:
        # these load PyTorch, which the help and a wrong option need not wait for
        from segan_pl.cli.predict_cases import predict_all
        from segan_pl.cli.predict_options import PredictOptions

        folder = pipeline.output / "segmentations"
        asked = PredictOptions([options.ckpt_path], str(folder), overwrite=options.overwrite)
        code = predict_all(asked, PlaceOptions(str(pipeline.output / "manifest.csv")))
    else:
        folder = Path(str(options.segmentations)).expanduser()
    if read_identity(folder) is None:  # predict refused every case
        return code, 0, [f"{visit.case}: was not predicted" for visit in visits]
    sent, refused = 0, []
    for visit in visits:
        try:
            sent += len(bring_back(pipeline, visit, folder, identifying=options.identifying))
        except CaseError as error:
            refused.append(" ".join(str(error).split()))
        except UsageError:
            raise
        except Exception as error:  # whatever it is, the other patients go on
            files = [path for one in visit.series.values() for path in one.files]
            refused.append(f"{visit.case}: no mask goes back ({type(error).__name__}: {without_paths(error, files)})")
    return code, sent, refused
