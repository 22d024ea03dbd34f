"""Fixtures of all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from jsonargparse import set_parsing_settings

from segan_pl.recipe import ALLOWED_IMPORTS, own_packages

settings.register_profile("fixed", derandomize=True, deadline=None, database=None)  # the same examples every time
settings.load_profile("fixed")

SURROUNDINGS = (
    *("SLURM_", "WANDB_", "MASTER_", "TORCHELASTIC_", "PL_", "SEGAN_PL_RUN", "SEGAN_PL_CACHE", "SEGAN_PL_ALLOW"),
    *("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "CUDA_VISIBLE_DEVICES"),
)
"""Beginnings of the environment variables that no test sees, whatever they are where the tests are called."""


def pytest_configure() -> None:
    """Clear the surroundings, in each process that runs tests.

    Not in a fixture: Lightning reads a process's rank when it is imported, which the test modules do.
    """
    for name in [name for name in os.environ if name.startswith(SURROUNDINGS)]:
        del os.environ[name]


@pytest.fixture(autouse=True, scope="session")
def writable_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A home of the tests' own where the user's is missing or may not be written to."""
    with pytest.MonkeyPatch.context() as patch:
        if not os.access(os.environ.get("HOME", ""), os.W_OK):
            patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(autouse=True)
def own_import_policy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test begins with a command's import policy, widened by the tests' own classes.

    What a test allows holds for the whole process; it is denied while the environment still names it.
    """
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=[*ALLOWED_IMPORTS, "tests"])
    yield
    set_parsing_settings(import_path_denylist=own_packages())


@pytest.fixture(scope="session")
def real_data_root() -> Path:
    """The folder of real MRI (brats2021, lgg, ...) that SEGAN_PL_TEST_DATA names."""
    named = os.environ.get("SEGAN_PL_TEST_DATA")
    if not named:
        pytest.skip("SEGAN_PL_TEST_DATA does not name a folder of real MRI")
    root = Path(named)
    if not root.is_dir():
        pytest.skip(f"SEGAN_PL_TEST_DATA names {root}, which is no folder")
    return root
