"""A tiny generated cohort, made once a session; a test module asks for it by `pytest_plugins`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from segan_pl.data.module import MRIDataModule
from segan_pl.data.synthetic import make_cohort
from tests.cohort import CASES, SHAPE, build_data


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the generated cases."""
    root = tmp_path_factory.mktemp("cohort")
    make_cohort(root, cases=CASES, shape=SHAPE)
    return root


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of all tests on the cohort."""
    return tmp_path_factory.mktemp("prepared")


@pytest.fixture(scope="session")
def make_data(cohort: Path, prepared: Path) -> Callable[..., MRIDataModule]:
    """Build the data module, with settings that suit the cohort."""
    return partial(build_data, cohort, prepared)
