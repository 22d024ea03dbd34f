"""Fixtures of all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("fixed", derandomize=True, deadline=None, database=None)  # the same examples every time
settings.load_profile("fixed")


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
