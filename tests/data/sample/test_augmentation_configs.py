"""The shipped augmentation, and what the command line says of a senseless one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from segan_pl.__main__ import main
from segan_pl.data.sample.options import Augmentation
from segan_pl.experiments.shipped import find_config, shipped_folder
from tests.cohort import QUIET
from tests.whole.test_three_dimensions import line

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [
    *QUIET,
    pytest.mark.usefixtures("isolated"),
]


SHIPPED = sorted(path.stem for path in (shipped_folder("configs") / "augmentation").glob("*.yaml"))


def data_of(name: str) -> dict[str, dict[str, object]]:
    return yaml.safe_load(find_config(name).read_text())["data"]


def tuples(options: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}


@pytest.mark.parametrize("system", ["albunet2d", "albunet3d"])
def test_the_shipped_augmentation_is_that_of_the_albunet_systems(system: str) -> None:
    shipped, its = (data_of(name)["augmentation"] for name in ("albunet_augmentation", system))
    assert {name: shipped[name] for name in its} == its
    assert Augmentation(**tuples(shipped)) == Augmentation(**tuples(its))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_augmentation_states_every_option_so_that_it_replaces_an_earlier_files(name: str) -> None:
    shipped = data_of(name)
    assert set(shipped) == {"augmentation"}
    assert set(shipped["augmentation"]) == set(Augmentation.__dataclass_fields__) - {"modality_dropout"}
    for patch in ((160, 160), (128, 128, 128)):
        Augmentation(**tuples(shipped["augmentation"])).require_sense(patch, ["t1"])


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_augmentation_goes_with_another_3d_system(
    cohort: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    fit = line("unet3d", cohort, prepared, tmp_path / "run")
    with pytest.raises(SystemExit, match="0"):
        main([*fit, "-c", name, "--print_config"])
    found = yaml.safe_load(capsys.readouterr().out)["data"]["augmentation"]
    assert found == {**data_of(name)["augmentation"], "modality_dropout": 0.0}


@pytest.mark.parametrize(
    ("option", "error"),
    [
        ("noise=1.5", "noise 1.5: expected a chance from 0 to 1"),
        ("mirror=[0.5,0.5,2]", "mirror [0.5, 0.5, 2.0]: expected three chances from 0 to 1 (z, y, x)"),
        ("rotation_deg=.nan", "rotation_deg nan: expected degrees, at least 0"),
        ("blur_range=[0,1]", "blur_range [0.0, 1.0]: expected voxels above 0"),
    ],
)
@pytest.mark.parametrize("system", ["unet3d", "albunet3d"])
def test_a_senseless_augmentation_is_refused_in_one_line_before_cases_are_prepared(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], system: str, option: str, error: str
) -> None:
    fit = line(system, cohort, tmp_path / "cache", tmp_path / "run")
    assert main([*fit, f"--data.augmentation.{option}"]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1] == f"segan_pl: error: --data.augmentation.{error}"
    assert not (tmp_path / "cache").exists()
