"""What `predict.json` says of the predictions in its folder: which regions they hold, and who has seen their cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from segan_pl.data.labels import LabelScheme, meaning_line, scheme_with, told_apart
from segan_pl.data.layouts import DataSet
from segan_pl.errors import UsageError, nearest
from segan_pl.evaluation.statistics.scored_runs import seen_in_words, seen_parts


@dataclass(frozen=True)
class Predicted:
    """What is known of a folder of predictions.

    Attributes:
        target: Of the checkpoints' label scheme, e.g. "whole_tumour".
        convention: What the written labels mean.
        channels: That were predicted; None for all of the target's.
        parts: "train" and "val" to the names of cases that trained the network or chose it; None where nobody knows.
        cases: That were to be predicted, where these were a part of a split; else None.
        earlier: Whether an earlier version wrote it, which said none of channels, parts and cases.
        files: Channels whose probabilities are in files next to the labels.
    """

    target: str
    convention: str
    channels: tuple[str, ...] | None = None
    parts: Mapping[str, list[str]] | None = None
    cases: tuple[str, ...] | None = None
    earlier: bool = False
    files: tuple[str, ...] = ()

    def scheme(self, convention: str | None = None) -> LabelScheme:
        """What was predicted, as labels; in another convention's, where somebody says that the files are in it.

        Raises:
            CaseError: There is no such scheme.
        """
        return scheme_with(self.target, convention or self.convention, self.channels)


def predicted_by(record: Mapping[str, Any]) -> Predicted:
    """Out of predict.json's content."""
    about = record.get("predicted") or {}
    channels = about.get("channels")
    labels, convention = str(record["labels"]), str(record["native_labels"])
    cases = about.get("cases")
    return Predicted(
        target=labels,
        convention=convention,
        channels=tuple(channels) if channels else None,
        parts=about.get("parts"),
        cases=tuple(cases) if cases else None,
        earlier="predicted" not in record,
        files=tuple(channels) if channels and record.get("probabilities") else (),
    )


def predicted_part(source: DataSet, made: Predicted | None, folder: str) -> DataSet:
    """The references of what was predicted, with a note where others are left out; all where no part was picked.

    Args:
        source: The references.
        made: What is known of the predictions.
        folder: --pred, as typed.

    Raises:
        UsageError: None of the references was to be predicted.
    """
    if made is None or not made.cases:
        return source
    kept = tuple(case for case in source.cases if case.name in made.cases)
    if not kept:
        raise UsageError(
            f"none of the {len(source.cases)} references of {source.root} (e.g. {source.cases[0].name}) is among the "
            f"{len(made.cases)} that --pred {folder} was to hold (e.g. {made.cases[0]}; predict.json); give the "
            f"data set that was predicted"
        )
    if not (left := len(source.cases) - len(kept)):
        return source
    note = (
        f"{left} of {len(source.cases)} references are not in the part of the split that was predicted (predict.json); "
        f"not scored"
    )
    return replace(source, cases=kept, notes=(*source.notes, note))


def scored_regions(
    scheme: LabelScheme, theirs: LabelScheme, asked: str | None, made: Predicted | None
) -> tuple[str, ...]:
    """The channels to score: those asked for, else all that both conventions have and the predictions hold.

    Args:
        scheme: Of the references.
        theirs: The same target in the predictions' convention.
        asked: Names between commas.
        made: What is known of the predictions; without it all of the scheme's channels are taken for predicted.

    Raises:
        UsageError: One is unknown, or not in the predictions; or nothing is left to score.
    """
    known = scheme.foreground
    both = tuple(name for name in known if name in theirs.foreground)
    written = made.scheme(theirs.convention.name) if made else theirs
    there = tuple(name for name in told_apart(written, theirs) if name in both)
    names = (
        [name.strip().lower() for name in asked.split(",") if name.strip()] if asked else [*(there if made else known)]
    )
    for name in names:
        if name not in known:
            raise UsageError(f"--regions {name}: not in '{scheme.name}'; {nearest(name, known)}")
        if name not in both:
            raise UsageError(
                f"region {name} of '{scheme.name}' is not in the predictions' '{theirs.name}'; give --regions "
                f"{','.join(both)}"
            )
        if name not in there:
            raise UsageError(
                f"--regions {name}: the predictions do not hold it, in their files {meaning_line(written)} "
                f"(predict.json); known: {', '.join(there) or 'none'}"
            )
    if not names:
        what = "--regions is empty" if asked else f"the predictions hold no region of '{scheme.name}' (predict.json)"
        raise UsageError(f"{what}; known: {', '.join(there) or 'none'}")
    return tuple(dict.fromkeys(names))


def region_notes(
    made: Predicted | None,
    scored: Sequence[str],
    known: Sequence[str],
    *,
    chosen: bool,
    folder: str,
    convention: str | None,
) -> list[str]:
    """What a reader must know of the regions that were scored and of the labels that they were read by.

    Args:
        made: What is known of the predictions.
        scored: The regions.
        known: All that the references have.
        chosen: Whether a user named those to score.
        folder: --pred, as typed.
        convention: --pred_labels, as typed; it is followed, whatever predict.json says.
    """
    if made is None:
        unknown = (
            f"no predict.json in {folder} says which regions were predicted; {', '.join(scored)} are scored as if all "
            f"of them were, --regions names those that were"
        )
        return [] if chosen or len(scored) == 1 else [unknown]
    notes = []
    if convention not in (None, made.convention):
        text = f"predict.json says that the labels are '{made.convention}'; they are read as --pred_labels {convention}"
        notes.append(text)
    if lacking := [name for name in known if name not in scored and not chosen]:
        notes.append(
            f"the predictions hold {', '.join(scored)} alone, {', '.join(lacking)} cannot be scored: in their files "
            f"{meaning_line(made.scheme())} (predict.json)"
        )
    return notes


def seen_before(cases: Sequence[str], made: Predicted | None, table: Path) -> list[str]:
    """A note on how many cases trained the network or chose it, or that a network's are not known.

    Args:
        cases: That are scored.
        made: What is known of the predictions.
        table: Where the scores go: the run around them says what predict.json does not, as in `compare` and `report`.
    """
    parts = seen_parts(made.parts if made else None, table)
    if parts:
        seen = seen_in_words(cases, parts)
        return [seen] if seen else []
    if made is None:
        return []
    why = "an earlier version wrote it" if made.earlier else "its run kept no split"
    return [f"nothing says which cases trained the network: predict.json names none, since {why}"]
