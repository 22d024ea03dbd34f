"""What pyproject.toml declares and what the package imports are the same."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import segan_pl

PACKAGE = Path(segan_pl.__file__).parent
CHECKOUT = Path(__file__).parents[1]
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
IMPORTED_AS = {"pyyaml": "yaml"}
DOCUMENTED = {"_asdict", "_exit", "_fields", "_replace"}
"""Names of Python's own that begin with an underscore and are public."""
PRIVATE = {
    **dict.fromkeys(("_BatchNorm", "_ConvNd", "_SpectralNorm"), "torch.nn"),
    **dict.fromkeys(("_dynamo", "_foreach_lerp_", "_foreach_neg_"), "torch"),
    "_get_closed_form_lr": "torch.optim",
    **dict.fromkeys(("_accelerator_connector", "_get", "_signal_connector", "_trainer"), "lightning"),
    # submitit's hooks for executors of others; its script has no other name
    **dict.fromkeys(("_make_submission_file_text", "_submitit_command_str"), "submitit"),
}
"""Private names that have no public counterpart, with their library. jsonargparse has one for all that we need."""


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


def test_private_names_of_others_are_those_that_are_known() -> None:
    trees = [ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    ours = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    ours |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    ours |= {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    used = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            used |= {*(node.module or "").split("."), *(one.name for one in node.names)}
    assert {name for name in used - ours - DOCUMENTED if re.match("_[^_]", name)} == set(PRIVATE)


LOCKED = tomllib.loads((CHECKOUT / "uv.lock").read_text())["package"]


def test_uv_lock_has_the_versions_of_the_constraints_and_takes_all_from_pypi() -> None:
    lines = [line for line in (CHECKOUT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pinned = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}
    others = [package for package in LOCKED if package["name"] != "segan-pl"]
    # else `make lock`
    assert {(one["name"], one["version"]) for one in others if one["name"] in pinned} == {*pinned.items()}
    assert {str(package["source"]) for package in others} == {"{'registry': 'https://pypi.org/simple'}"}
    files = [file for one in others for file in (*one.get("wheels", ()), one.get("sdist")) if file]
    assert {file["url"].split("/")[2] for file in files} == {"files.pythonhosted.org"}


def test_uv_lock_answers_the_requirements_of_today() -> None:
    extras = PROJECT["optional-dependencies"]
    lines = [*PROJECT["dependencies"], *(line for extra in extras.values() for line in extra)]
    declared = [
        Requirement(line) for line in lines if not line.startswith("segan_pl[")
    ]  # extras that are others together
    (answered,) = [one["metadata"]["requires-dist"] for one in LOCKED if one["name"] == "segan-pl"]
    # else `make lock`
    assert {(one["name"], SpecifierSet(one.get("specifier", ""))) for one in answered} == {
        (canonicalize_name(one.name), one.specifier) for one in declared
    }
