"""Which native labels a segmentation is written in: the data set's own, where they say what the checkpoint predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from segan_pl.data.labels import Convention, LabelScheme, label_convention, label_scheme
from segan_pl.data.volume import CaseError
from segan_pl.errors import UsageError
from segan_pl.inference.trained import TrainedSegmentor


def in_convention(scheme: LabelScheme, convention: str) -> LabelScheme:
    """A checkpoint's scheme with its channels, written in another convention's labels, matched by name.

    Raises:
        UsageError: The convention does not know one of the channels.
        CaseError: No convention of that name, or it cannot have this target.
    """
    other = label_scheme(scheme.target, convention)
    if lacking := [channel for channel in scheme.channels if channel not in other.channels]:
        raise UsageError(
            f"--native_labels {convention}: has channels {', '.join(other.channels)}, the checkpoint predicts "
            f"{', '.join(lacking)} too; leave it out or choose another"
        )
    rows = [other.channels.index(channel) for channel in scheme.channels]
    return replace(
        scheme,
        convention=other.convention,
        members=tuple(other.members[row] for row in rows),
        export=tuple(other.export[row] for row in rows),
    )


def one_scheme(segmentors: Sequence[TrainedSegmentor], convention: str | None) -> LabelScheme:
    """The label scheme that all segmentors share, in the native labels asked for.

    Raises:
        UsageError: There is no segmentor, they predict different channels, or as `in_convention`.
    """
    if not segmentors:
        raise UsageError("no checkpoint given; expected --ckpt_path")
    first = segmentors[0]
    for other in segmentors[1:]:
        if (other.scheme.target, other.scheme.channels) != (first.scheme.target, first.scheme.channels):
            raise UsageError(
                f"{other.source}: predicts {', '.join(other.scheme.channels)}, {first.source} predicts "
                f"{', '.join(first.scheme.channels)}; give checkpoints of one label scheme"
            )
    if convention is None or convention == first.scheme.convention.name:
        return first.scheme
    return in_convention(first.scheme, convention)


def convention_for(scheme: LabelScheme, theirs: str) -> str:
    """The data set's convention where it knows all channels, else the checkpoint's own.

    Args:
        scheme: Of the checkpoint.
        theirs: The data set's convention.

    Raises:
        UsageError: A value that the checkpoint's convention would write means something else in the data set.
    """
    try:
        return in_convention(scheme, theirs).convention.name
    except (UsageError, CaseError):
        own, other = _meanings(scheme.convention), _meanings(label_convention(theirs))
    for value in scheme.export:
        if value in other and other[value] != own.get(value):
            raise UsageError(
                f"the input's labels are '{theirs}', which does not know all of {', '.join(scheme.channels)}, and "
                f"{value} is {own[value]} in the checkpoint's '{scheme.convention.name}' but {other[value]} there; say "
                f"which to write: --native_labels {scheme.convention.name}"
            )
    return scheme.convention.name


def _meanings(convention: Convention) -> dict[int, str]:
    return {0: "background", **{label: tissue for tissue, label in convention.tissues}}
