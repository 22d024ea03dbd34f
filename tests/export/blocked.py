"""A module run in a process of its own in which some packages cannot be imported."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

CODE = """
import runpy, sys
blocked, module, arguments = {blocked!r}, {module!r}, {arguments!r}
class Refusing:
    def find_spec(self, name, path=None, target=None):
        if any(name == one or name.startswith(one + ".") for one in blocked):
            raise ImportError(f"{{name}} is blocked")
sys.meta_path.insert(0, Refusing())
sys.argv = [module, *arguments]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


def without(blocked: Sequence[str], module: str, arguments: Sequence[str], folder: Path) -> str:
    """Its standard output; the folder is where it runs, and on its path.

    Raises:
        AssertionError: It failed; with what it wrote on standard error.
    """
    code = CODE.format(blocked=list(blocked), module=module, arguments=list(arguments))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
