"""What a layout is, and how one of your own is found: the protocol, in one place.

A layout says where the cases of a folder are; it reads no voxel. It is a module, or a class without arguments, with the
names below, and is given by its import path: `--data.layout my_package.my_layout` or `my_package.layouts.MyLayout`
(docs/data.md has one in whole).
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any, Protocol

from segan_pl.data.case import Case, CaseError
from segan_pl.data.conventions import label_convention
from segan_pl.data.layouts.folders import Folder, Found
from segan_pl.errors import UsageError, not_allowed, own_packages

# A case's name becomes a file's name.
UNSAFE = re.compile(r"[/\\\x00-\x1f\x7f]|^\.")


class Layout(Protocol):
    """What each layout offers.

    A layout whose cases lie in folders of known names may have a CASE too, the regular expression of such a name: then
    cases of two layouts in one folder are refused, and what else lies in the folder is noted. One whose BY_NAME is true
    is taken where it is named, and never looked for.
    """

    NAME: str
    """In messages and in what a run records."""
    EXPECTS: str
    """Its form, for messages, e.g. "<case>/<case>_{t1,t1_ir,seg}.nii.gz"."""

    def recognises(self, here: Folder) -> bool:
        """Whether the folder looks like this layout; it looks at names alone."""

    def find(self, here: Folder) -> Found:
        """All cases in a folder that it recognises: names, patients, files by modality, masks, grades, sites.

        Raises:
            CaseError: The folder holds what cannot be, in one line that says what to do.
        """


def imported_layout(path: str) -> Layout:
    """A layout by its import path: a module, or a class (or an instance) in one.

    Raises:
        UsageError: Its package may not be imported (SEGAN_PL_ALLOW_IMPORTS), it is not there, or it is no layout.
    """
    if not any(path == name or path.startswith(f"{name}.") for name in ("segan_pl", *own_packages())):
        raise UsageError(f"--data.layout {not_allowed(path)}")
    found = _imported(path)
    try:
        layout = found() if isinstance(found, type) else found
    except TypeError as error:
        raise UsageError(f"--data.layout {path}: {error}; expected a class without arguments") from error
    if missing := [name for name in ("NAME", "EXPECTS", "recognises", "find") if not hasattr(layout, name)]:
        raise UsageError(
            f"--data.layout {path}: has no {', '.join(missing)}; expected a module or class with NAME, EXPECTS, "
            f"recognises and find (segan_pl/data/layouts/layout.py)"
        )
    return layout


def require_found(root: Path, layout: Layout, found: Found) -> None:
    """Refuse cases that are none, files that are no paths, names that no file can have, and labels of no convention.

    Raises:
        CaseError: With the layout and what it returned.
    """
    said = f"{root}: layout '{layout.NAME}' returns"
    for case in found.cases:
        if not isinstance(case, Case):
            raise CaseError(f"{said} a {type(case).__name__} as a case; expected segan_pl.data.case.Case")
        if not case.name or UNSAFE.search(case.name):
            raise CaseError(f"{said} a case {case.name!r}; expected a name that a file can have")
        for file in (*case.images.values(), case.mask):
            if not isinstance(file, Path | None):
                raise CaseError(f"{said} {file!r} as a file of case {case.name}; expected a pathlib.Path")
    try:
        label_convention(found.native_labels or "binary")
    except UsageError as error:
        raise CaseError(f"{said} labels of no convention ({error})") from error


def _imported(path: str) -> Any:
    """The module of that path, else the attribute of the module before the last dot."""
    module, _, name = path.rpartition(".")
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not (path == error.name or path.startswith(f"{error.name}.")):
            raise  # the layout's own module lacks something
        if error.name != path:
            raise UsageError(
                f"--data.layout {path}: no module {error.name!r}; check the name and PYTHONPATH"
            ) from error
    try:
        return getattr(importlib.import_module(module), name)
    except AttributeError as error:
        raise UsageError(f"--data.layout {path}: {module} has no {name!r}; check the name") from error
