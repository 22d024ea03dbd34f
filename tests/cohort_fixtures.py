"""A tiny generated cohort, made once a session; a test module asks for it by `pytest_plugins`."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from segan_pl.data.module import MRIDataModule
from segan_pl.data.synthetic.cohort import make_cohort
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


@pytest.fixture
def isolated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What main() sets for the whole process is put back."""
    for name in [name for name in os.environ if name.startswith(("WANDB_", "SEGAN_PL_RUN"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SEGAN_PL_RUN_DIRECTORY", "")  # so that what a run sets is undone
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    monkeypatch.setenv("PL_SEED_WORKERS", "0")
    root, lightning = logging.getLogger(), logging.getLogger("lightning.pytorch.utilities.rank_zero")
    kept = root.handlers[:], root.level, lightning.filters[:]
    with warnings.catch_warnings():
        yield
    root.handlers[:], level, lightning.filters[:] = kept
    root.setLevel(level)
