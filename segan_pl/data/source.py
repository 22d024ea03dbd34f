"""What a model asks of its data: the protocol that `MRIDataModule` follows, and that a data module of your own can."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.case import Case, Geometry
from segan_pl.data.labels import LabelScheme
from segan_pl.errors import UsageError

Part = Literal["train", "val", "test", "unlabelled"]


class CaseSource(Protocol):
    """Cases by their row: how they are named, prepared and parted, and where each lies in its own files.

    A LightningDataModule that has all of it can train, score and predict with `AdversarialSegmentation`; its loaders
    yield `Batch`, whole cases in validation, test and prediction, whose `case` is a row. docs/python.md has one of 60
    lines. One with `require_batch(least, of_unlabelled)` too is told before a fit how many patches the networks need in
    a batch, and how many unlabelled ones.
    """

    @property
    def modalities(self) -> Sequence[str]:
        """The channels of `Batch.image`, in order."""

    @property
    def scheme(self) -> LabelScheme:
        """Native labels to the channels of `Batch.target`."""

    @property
    def patch(self) -> Sequence[int]:
        """(H, W) or (D, H, W) of training; three numbers mean a 3-D network."""

    @property
    def batch_size(self) -> int:
        """Patches in a batch of one rank."""

    @property
    def background(self) -> float:
        """The prepared value of padding."""

    @property
    def cases(self) -> Sequence[Case]:
        """All cases, by row."""

    def rows(self, part: Part) -> Sequence[int]:
        """The rows of a part of the split, in the order in which they are scored; may be empty."""

    @property
    def test_part(self) -> Part:
        """Which part `test` scores."""

    def geometry(self, row: int) -> Geometry:
        """The way from a prepared volume back to the grid of the case's files."""

    def outside(self, row: int) -> NDArray[np.int64]:
        """(C, 2), voxels of that grid that the prepared volume leaves out, in and not in each channel's reference."""

    def reference(self, row: int) -> NDArray[np.uint8]:
        """(D, H, W) native labels on that grid."""

    def describe(self) -> dict[str, Any]:
        """What a checkpoint remembers: modalities, labels, native_labels, preparation (as a dictionary), patch."""


MEMBERS = tuple(name for name in vars(CaseSource) if not name.startswith("_"))


def case_source(trainer: Any) -> CaseSource | None:
    """The data module of a trainer; None where it has none.

    Raises:
        UsageError: It lacks something of `CaseSource`.
    """
    data = getattr(trainer, "datamodule", None)
    if data is None:
        return None
    # of the class, so that no property is called: it may read files, or want the split first
    lacking = [name for name in MEMBERS if not (hasattr(type(data), name) or name in vars(data))]
    if lacking:
        raise UsageError(
            f"{type(data).__name__} lacks {', '.join(lacking)}; a data module of your own has all of "
            f"segan_pl.data.source.CaseSource (docs/python.md)"
        )
    return data


def require_alike(source: CaseSource, modalities: Sequence[str], labels: str) -> None:
    """Refuse data whose channels are others than those that a model was made for.

    Args:
        source: The data.
        modalities: Of the model.
        labels: Name of its label scheme.

    Raises:
        UsageError: They are.
    """
    pairs = (("modalities", list(modalities), list(source.modalities)), ("labels", labels, source.scheme.name))
    for name, of_model, of_data in pairs:
        if of_model != of_data:
            raise UsageError(f"the model was made with {name} {of_model}, its data have {of_data}; give both the same")


def case_names(source: CaseSource, rows: Iterable[Any]) -> list[str]:
    """The names of the cases of `Batch.case`, each once, in order."""
    return list(dict.fromkeys(source.cases[int(row)].name for row in rows))
