"""What `import segan_pl` offers, and what it costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import segan_pl

HEAVY = ("torch", "lightning", "numpy", "nibabel", "monai", "yaml", "scipy")


def fresh(code: str) -> str:
    """What a new interpreter prints last."""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.splitlines()[-1]


def test_importing_the_package_imports_nothing_else() -> None:
    code = f"import sys, segan_pl; print(sorted({set(HEAVY)} & set(sys.modules)), len(dir(segan_pl)) > 8)"
    assert fresh(code) == "[] True"


def test_importing_the_package_loads_one_module_of_its_own() -> None:
    code = "import sys, segan_pl; print(sorted(name for name in sys.modules if name.startswith('segan_pl')))"
    assert fresh(code) == "['segan_pl']"  # counted and not timed: a busy machine is slow for any code


@pytest.mark.parametrize("name", segan_pl.__all__)
def test_each_public_name_is_there_and_is_documented(name: str) -> None:
    found = getattr(segan_pl, name)
    assert callable(found)
    assert found.__doc__
    assert getattr(segan_pl, name) == found
    assert name in dir(segan_pl)


def test_an_editor_sees_the_names_that_are_offered() -> None:
    tree = ast.parse(Path(segan_pl.__file__).read_text(encoding="utf-8"))
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name for node in guarded.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    seen |= {target.id for node in guarded.body if isinstance(node, ast.Assign) for target in node.targets}  # type: ignore[attr-defined]
    assert seen == set(segan_pl.__all__)


def test_an_unknown_name_is_an_attribute_error_as_of_any_module() -> None:
    with pytest.raises(AttributeError, match=r"module 'segan_pl' has no attribute 'predictor'"):
        _ = segan_pl.predictor  # type: ignore[attr-defined]
    assert not hasattr(segan_pl, "Trainer")
