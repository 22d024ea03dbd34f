"""What pyproject.toml declares and what the package imports are the same."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import segan_pl

PACKAGE = Path(segan_pl.__file__).parent
PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
IMPORTED_AS = {"pyyaml": "yaml"}


def modules(requirements: list[str]) -> set[str]:
    """The modules of requirements such as "jsonargparse[signatures]>=4.49"."""
    names = [re.match(r"[\w.-]+", requirement)[0].lower() for requirement in requirements]  # type: ignore[index]
    return {IMPORTED_AS.get(name, name) for name in names}


def imported() -> set[str]:
    """The modules of others that the package imports anywhere, in lower case."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {name.name for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module)
    tops = {name.partition(".")[0] for name in found}
    return {name.lower() for name in tops if name not in sys.stdlib_module_names and name != "segan_pl"}


def test_every_core_dependency_is_imported() -> None:
    assert modules(PROJECT["dependencies"]) <= imported()


def test_every_import_of_others_is_declared() -> None:
    extras = PROJECT["optional-dependencies"]
    # an extra that the package asks for by name when it is used; dev is for the tests
    optional = modules([one for name, extra in extras.items() if name != "dev" for one in extra])
    assert imported() <= modules(PROJECT["dependencies"]) | optional
