"""The shipped augmentation, and what the command line says of a senseless one."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from segan_pl.__main__ import main
from segan_pl.data.sample.options import Augmentation
from segan_pl.experiments.shipped import find_config
from tests.cohort import QUIET
from tests.whole.test_three_dimensions import line

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [
    *QUIET,
    pytest.mark.usefixtures("isolated"),
]


def data_of(name: str) -> dict[str, dict[str, object]]:
    return yaml.safe_load(find_config(name).read_text())["data"]


@pytest.mark.parametrize("system", ["albunet2d", "albunet3d"])
def test_the_shipped_augmentation_is_that_of_the_albunet_systems(system: str) -> None:
    shipped = data_of("albunet_augmentation")
    assert set(shipped) == {"augmentation"}
    assert shipped["augmentation"] == data_of(system)["augmentation"]
    assert set(shipped["augmentation"]) == set(Augmentation.__dataclass_fields__) - {"modality_dropout"}


def test_the_shipped_augmentation_goes_with_another_3d_system(
    cohort: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = line("unet3d", cohort, prepared, tmp_path / "run")
    with pytest.raises(SystemExit, match="0"):
        main([*fit, "-c", "albunet_augmentation", "--print_config"])
    found = yaml.safe_load(capsys.readouterr().out)["data"]["augmentation"]
    assert found == {**data_of("albunet_augmentation")["augmentation"], "modality_dropout": 0.0}


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
