"""The direction of imports that ARCHITECTURE.md draws, read from the sources."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import segan_pl

PACKAGE = Path(segan_pl.__file__).parent
BUNDLE = PACKAGE / "export" / "scripts"  # the code of another program, which has none of ours
FILES = ("nibabel", "SimpleITK", "h5py", "pydicom", "PIL")
ROOT = ("batch", "errors", "files", "recipe")
ORDER = (  # each imports from those before it, and from the modules at the package's root
    ("data", "losses", "nets"),
    ("objectives",),
    ("evaluation",),
    ("inference",),
    ("training",),
    ("report",),
    ("clinical", "export"),
    ("experiments",),
    ("cli",),
)
ROOMS = [room for rooms in ORDER for room in rooms]


def later(room: str) -> tuple[str, ...]:
    """The packages that a room may not import: those beside it in the order, and those after it."""
    here = next(index for index, rooms in enumerate(ORDER) if room in rooms)
    return tuple(f"segan_pl.{other}" for rooms in ORDER[here:] for other in rooms if other != room)


FORBIDDEN = {
    **{f"{name}.py": ("lightning", "monai", *(f"segan_pl.{room}" for room in ROOMS)) for name in ROOT},
    **{room: later(room) for room in ROOMS},
}
NO_LIGHTNING = ("nets", "losses", "objectives", "evaluation", "inference")
NO_FILES = ("nets", "losses", "objectives", "training")
for room in NO_LIGHTNING:
    FORBIDDEN[room] += ("lightning",)
for room in NO_FILES:
    FORBIDDEN[room] += FILES
FORBIDDEN["objectives"] += ("segan_pl.nets.segan", "segan_pl.nets.reciprocal")  # an objective is given its networks
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
        and BUNDLE not in path.parents
    }
    assert readers == {"data/io/nifti.py", "data/io/reading.py", "data/io/writing.py"}


def test_simpleitk_registers_and_reads_no_file() -> None:
    users = [path for path in sorted(PACKAGE.rglob("*.py")) if '"SimpleITK")' in path.read_text(encoding="utf-8")]
    assert [path.name for path in users] == ["registration.py"]
    assert not re.search(r"sitk\.(Read|Write|ImageFile|ImageSeries)", users[0].read_text(encoding="utf-8"))


def imported_modules(path: Path, modules: set[str]) -> set[str]:
    """The package's modules that a file imports, wherever in it and for whatever reason, but itself."""
    module = module_name(path).removesuffix(".__init__")
    found = set()
    for name in imports(path.read_text(encoding="utf-8"), module_name(path)):
        # `from a.b import c` imports a.b.c where that is a module, else a.b.
        found |= {next((one for one in (name, name.rpartition(".")[0]) if one in modules), module)}
    # The package itself offers names of all its rooms, on first use; from it modules take the version alone.
    return found - {module, "segan_pl"}


def loops(graph: dict[str, set[str]]) -> set[frozenset[str]]:
    """Groups of modules each of which imports every other one, directly or through others."""

    def reached(start: str) -> set[str]:
        found: set[str] = set()
        following = [start]
        while following:
            new = graph[following.pop()] - found
            found |= new
            following += new
        return found

    reach = {module: reached(module) for module in graph}
    return {frozenset(other for other in reach[one] if one in reach[other]) for one in graph if one in reach[one]}


def test_no_modules_import_each_other_in_a_loop() -> None:
    files = {module_name(path).removesuffix(".__init__"): path for path in sorted(PACKAGE.rglob("*.py"))}
    found = loops({module: imported_modules(path, set(files)) for module, path in files.items()})
    assert not found, f"import loops: {sorted(map(sorted, found))}"


def test_a_loop_is_noticed_through_any_number_of_modules() -> None:
    assert loops({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": set()}) == {frozenset("abc")}


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
