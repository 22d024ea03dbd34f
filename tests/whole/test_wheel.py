"""The built wheel, installed without its dependencies and used outside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

import segan_pl

CHECKOUT = Path(segan_pl.__file__).resolve().parents[1]
pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """A command's standard output; its standard error when it fails."""
    line, where = [str(part) for part in command], {**os.environ, **environment}
    done = subprocess.run(line, cwd=cwd, env=where, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment that holds the wheel, and sees this one's other packages."""
    if not (CHECKOUT / "pyproject.toml").exists():
        pytest.skip("the tests run without a checkout")
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", CHECKOUT, "--no-deps", "--no-build-isolation", "-w", folder, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", symlinks=True)
    python = folder / "env/bin/python"
    run(*pip, "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder))
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python.parent


def test_the_console_script_answers_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    assert run(installed / "segan_pl", "--version", cwd=tmp_path) == f"segan_pl {segan_pl.__version__}"
    assert run(installed / "python", "-m", "segan_pl", "--version", cwd=tmp_path).endswith(segan_pl.__version__)


def test_shipped_configurations_sweeps_and_types_lie_inside_the_package(installed: Path, tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; import segan_pl;"
        "from segan_pl.experiments.shipped import find_config, shipped_folder;"
        "home = Path(segan_pl.__file__).parent;"
        "print(home, find_config('segan_cat').relative_to(home), (home / 'py.typed').exists(),"
        " (shipped_folder('sweeps') / 'README.md').relative_to(home),"
        "len(list((home / 'report/templates').glob('*.html'))))"
    )
    home, config, typed, sweeps, templates = run(installed / "python", "-c", code, cwd=tmp_path).split()
    assert Path(home).is_relative_to(installed.parent)
    assert (config, typed, sweeps) == ("configs/systems/segan_cat.yaml", "True", "sweeps/README.md")
    assert int(templates) >= 4


def test_the_installed_command_line_finds_its_dependencies(installed: Path, tmp_path: Path) -> None:
    assert "--root" in run(installed / "segan_pl", "prepare", "--help", cwd=tmp_path)


def test_outside_the_checkout_it_demonstrates_trains_predicts_and_reports(installed: Path, tmp_path: Path) -> None:
    def segan_pl(*line: str) -> str:
        return run(installed / "segan_pl", *line, cwd=tmp_path, SEGAN_PL_CACHE=str(tmp_path / "cache"))

    short = ("--trainer.max_epochs=1", "--data.sampling.batches=2", "--data.workers=0")
    said = segan_pl("demo", "--output", "d", *short)
    assert "the best single threshold on FLAIR" in said
    own = ("--run.directory=own", "--data.patch=[96,96]", "--trainer.check_val_every_n_epoch=1")
    segan_pl("fit", "-c", "brats_quick", "d/cohort", *own, *short)
    (tmp_path / "two").mkdir()
    for case in sorted((tmp_path / "d/cohort").glob("*/*"))[:2]:
        (tmp_path / "two" / case.name).symlink_to(case)
    segan_pl("predict", "--ckpt_path", "own/checkpoints/last.ckpt", "--root", "two", "--output", "masks")
    assert len(list((tmp_path / "masks").glob("*.nii.gz"))) == 2
    segan_pl("report", "d/run", "own", "--output", "report.html")
    assert "<svg" in (tmp_path / "report.html").read_text(encoding="utf-8")
