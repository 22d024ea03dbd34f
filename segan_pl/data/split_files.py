"""Split files as lists of folds: our JSON (one split, or "folds") and nnU-Net's splits_final.json."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from segan_pl.data.volume import CaseError
from segan_pl.files import write_whole

PARTS = ("train", "val", "test")
_FORMS = '{"train": [names], "val": [names]}, {"folds": [such, ...]} or nnU-Net\'s list [{"train": [], "val": []}, ...]'


def read_folds(path: Path | str) -> list[dict[str, Any]]:
    """Every split of a file, each with lists of names under "train", "val" and "test".

    Args:
        path: One split, {"folds": [splits]}, or a list of splits as nnU-Net writes it.

    Raises:
        CaseError: The file is missing or is none of these forms.
    """
    found = read_json(path, "a split file")
    folds = found.get("folds", [found]) if isinstance(found, dict) else found
    if not isinstance(folds, list) or not folds:
        raise CaseError(f"{path}: no split; expected {_FORMS}")
    return [_checked(fold, f"{path}" if len(folds) == 1 else f"{path}: fold {i}") for i, fold in enumerate(folds)]


def read_json(path: Path | str, what: str) -> Any:
    """The content of a JSON file.

    Raises:
        CaseError: It is missing or no JSON; `what` says what was expected.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CaseError(f"{path}: no such file; give {what}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise CaseError(f"{path}: cannot be read as JSON ({error}); give {what}") from error


def _checked(fold: Any, source: str) -> dict[str, Any]:
    """One split whose keys have the right types; keys that we do not know are left out."""
    if not isinstance(fold, dict) or not {"train", "val"} <= set(fold):
        raise CaseError(f"{source}: no split; expected {_FORMS}")
    for key in PARTS:
        if not _are_texts(fold.get(key, [])):
            raise CaseError(f'{source}: "{key}" is not a list of case names; mend the file')
    for key, (is_right, expected) in _OTHERS.items():
        if key in fold and not is_right(fold[key]):
            raise CaseError(f'{source}: "{key}" is not {expected}; mend the file')
    return {key: fold[key] for key in (*PARTS, *_OTHERS) if key in fold}


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str | None)


_OTHERS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "seed": (lambda value: isinstance(value, int | None), "a whole number"),
    "notes": (_are_texts, "a list of texts"),
    "digest": (_is_text, "a text"),
    "grouped": (lambda value: value in ("patient", "scan"), '"patient" or "scan"'),
    "name": (_is_text, "a text"),
}


def write_json(path: Path | str, content: Mapping[str, Any] | Sequence[Any], indent: int = 1) -> None:
    """Write a file whole or not at all; the same content gives the same bytes."""
    write_whole(path, json.dumps(content, indent=indent) + "\n")
