"""The direction of imports that ARCHITECTURE.md draws, read from the sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import segan_pl

PACKAGE = Path(segan_pl.__file__).parent
MODEL = ("segan_pl.nets", "segan_pl.objectives", "segan_pl.system", "segan_pl.players", "segan_pl.callbacks")
TOP = ("segan_pl.callbacks", "segan_pl.cli")
FILES = ("nibabel", "SimpleITK", "h5py", "pydicom", "PIL")

FORBIDDEN = {
    "batch.py": ("segan_pl", "lightning"),
    "data": (*MODEL, "segan_pl.losses", "segan_pl.inference", *TOP),
    "nets": ("lightning", *FILES, "segan_pl.data", "segan_pl.objectives", "segan_pl.losses", "segan_pl.system", *TOP),
    "losses": ("lightning", *FILES, "segan_pl.data", "segan_pl.nets", "segan_pl.objectives", "segan_pl.system", *TOP),
    "objectives": ("lightning", *FILES, "segan_pl.nets", "segan_pl.system", "segan_pl.data", *TOP),
    "inference": ("lightning", "segan_pl.nets", "segan_pl.objectives", "segan_pl.system", *TOP),
    "evaluation": ("lightning", *MODEL, "segan_pl.losses", *TOP),
    "system.py": (*TOP, *FILES, "segan_pl.nets"),
    "callbacks": ("segan_pl.cli", "segan_pl.nets", *FILES),
}
"""Room to what no file in it imports, by first names."""


def imports(source: str, module: str) -> Iterator[str]:
    """Every module that a source imports, relative ones resolved, names from packages joined on."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def module_name(path: Path) -> str:
    return ".".join(["segan_pl", *path.relative_to(PACKAGE).with_suffix("").parts])


def breaches(source: str, module: str, forbidden: tuple[str, ...]) -> list[str]:
    """The imports that start with a forbidden name."""
    found = imports(source, module)
    return [name for name in found if any(name == bad or name.startswith(f"{bad}.") for bad in forbidden)]


def sources(room: str) -> list[Path]:
    path = PACKAGE / room
    return [path] if path.suffix == ".py" else sorted(path.rglob("*.py"))


@pytest.mark.parametrize("room", FORBIDDEN)
def test_no_file_imports_against_the_direction(room: str) -> None:
    files = sources(room)
    assert files, f"{room} has no source"
    for path in files:
        found = breaches(path.read_text(encoding="utf-8"), module_name(path), FORBIDDEN[room])
        assert not found, f"{path.relative_to(PACKAGE)} imports {found}"


def test_only_data_io_reads_image_files() -> None:
    readers = {
        path.relative_to(PACKAGE).as_posix()
        for path in sorted(PACKAGE.rglob("*.py"))
        if breaches(path.read_text(encoding="utf-8"), module_name(path), ("nibabel", "SimpleITK"))
    }
    assert readers == {"data/io/nifti.py", "data/io/reading.py", "data/io/writing.py"}


@pytest.mark.parametrize(
    ("line", "module"),
    [
        ("import segan_pl.nets.segan", "segan_pl.evaluation.a"),
        ("from segan_pl.nets import segan", "segan_pl.evaluation.a"),
        ("from segan_pl import nets", "segan_pl.evaluation.a"),
        ("from ..nets.segan import Segmentor", "segan_pl.evaluation.a"),
        ("from .. import nets", "segan_pl.evaluation.a"),
        ("def f():\n    import segan_pl.nets as n", "segan_pl.evaluation.a"),
    ],
)
def test_every_form_of_an_import_is_noticed(line: str, module: str) -> None:
    assert breaches(line, module, ("segan_pl.nets",))


def test_a_name_that_only_begins_alike_is_no_breach() -> None:
    assert not breaches(
        "import segan_pl.netsuite\nimport lightning_utilities", "segan_pl.a", ("segan_pl.nets", "lightning")
    )
