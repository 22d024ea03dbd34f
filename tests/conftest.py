"""Fixtures of all tests."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from jsonargparse import _common

settings.register_profile("fixed", derandomize=True, deadline=None, database=None)  # the same examples every time
settings.load_profile("fixed")


@pytest.fixture(autouse=True)
def own_import_policy() -> Iterator[None]:
    """What a command allows a configuration to import holds for the whole process; no test hands it to the next."""
    before = copy.deepcopy(_common.parsing_settings)
    yield
    _common.parsing_settings.update(before)


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
