"""Split files as lists of folds: our JSON (one split, or "folds") and nnU-Net's splits_final.json."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from segan_pl.data.case import CaseError
from segan_pl.errors import UsageError, closest

PARTS = ("train", "val", "test")
# The part of training cases whose labels are not used.
UNLABELLED = "unlabelled"
ALL_PARTS = (*PARTS, UNLABELLED)
# As other frameworks spell it.
_SPELT = {"unlabeled": UNLABELLED}
_FORMS = '{"train": [names], "val": [names]}, {"folds": [such, ...]} or nnU-Net\'s list [{"train": [], "val": []}, ...]'


def read_folds(path: Path | str) -> list[dict[str, Any]]:
    """Every split of a file, each with lists of names under "train", "val", "test" and "unlabelled".

    Args:
        path: One split, {"folds": [splits]}, or a list of splits as nnU-Net writes it.

    Raises:
        CaseError: The file is none of these forms.
        UsageError: The file is missing.
    """
    found = read_json(path, "a split file")
    folds = found.get("folds", [found]) if isinstance(found, dict) else found
    if not isinstance(folds, list) or not folds:
        raise CaseError(f"{path}: no split; expected {_FORMS}")
    return [_checked(fold, f"{path}" if len(folds) == 1 else f"{path}: fold {i}") for i, fold in enumerate(folds)]


def read_json(path: Path | str, what: str) -> Any:
    """The content of a JSON file.

    Raises:
        CaseError: It is no JSON; `what` says what was expected.
        UsageError: It is missing.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file; give {what}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise CaseError(f"{path}: cannot be read as JSON ({error}); give {what}") from error


def groups_of_same_content(path: str, known: Collection[str], used: Collection[str]) -> list[list[str]]:
    """The groups of case names with the same content that `segan_pl check --json` found.

    Args:
        path: Its file.
        known: Names of all cases of the data.
        used: Those that are wanted in the groups.

    Raises:
        CaseError: The file is no such JSON, or was made for other data.
    """
    found = read_json(path, "the file that `segan_pl check --json` wrote")
    groups = found.get("duplicates") if isinstance(found, dict) else None
    if not isinstance(groups, list) or not all(_are_texts(group) for group in groups):
        raise CaseError(
            f'{path}: no list of groups under "duplicates"; give the file that `segan_pl check --json` wrote'
        )
    if strange := sorted({name for group in groups for name in group} - set(known)):
        raise CaseError(f"{path}: names cases that the data lacks: {', '.join(strange)}; check this data again")
    return [[name for name in group if name in used] for group in groups]


def _checked(fold: Any, source: str) -> dict[str, Any]:
    """One split whose keys have the right types; of keys that we do not know a note is kept.

    Raises:
        CaseError: It is no split, or a value is of another type.
    """
    if not isinstance(fold, dict) or "train" not in fold:
        raise CaseError(f"{source}: no split; expected {_FORMS}")
    fold = {_SPELT.get(key, key): value for key, value in fold.items()}
    for key in ALL_PARTS:
        if not _are_texts(fold.get(key, [])):
            raise CaseError(f'{source}: "{key}" is not a list of case names; fix the file')
    for key, (is_right, expected) in _OTHERS.items():
        if key in fold and not is_right(fold[key]):
            raise CaseError(f'{source}: "{key}" is not {expected}; fix the file')
    known = {key: fold[key] for key in (*ALL_PARTS, *_OTHERS) if key in fold}
    unread = []
    for key in [key for key in fold if key not in known]:
        near = closest(key, ALL_PARTS)
        unread.append(f'"{key}"{f" (did you mean {near}?)" if near else ""}')
    if unread:
        known["notes"] = [*known.get("notes", []), f"{source}: not read: {', '.join(unread)}"]
    return known


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


_OTHERS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "seed": (lambda value: isinstance(value, int | None), "a whole number"),
    "notes": (_are_texts, "a list of texts"),
    "digest": (lambda value: isinstance(value, str | None), "a text"),
    "grouped": (lambda value: value in ("patient", "scan"), '"patient" or "scan"'),
    "name": (lambda value: isinstance(value, str | None), "a text"),
    "held_out": (lambda value: value is None or (isinstance(value, str) and "=" in value), "a text, COLUMN=VALUE"),
}


def json_text(content: Mapping[str, Any] | Sequence[Any], indent: int = 1) -> str:
    """A split file's text; the same content gives the same."""
    return json.dumps(content, indent=indent) + "\n"
