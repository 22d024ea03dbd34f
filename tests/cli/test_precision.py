"""The precision of a run that names none: by its system, its hardware, and what it began with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from jsonargparse import Namespace

from segan_pl.__main__ import main
from segan_pl.cli.precision import has_bfloat16, settle_precision
from tests.cohort import QUIET, SYSTEM

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [*QUIET, pytest.mark.usefixtures("isolated")]


def settings(precision: str | None = None, *, safe: bool = True, accelerator: str = "cpu") -> Namespace:
    return Namespace(
        ckpt_path=None,
        trainer=Namespace(precision=precision, accelerator=accelerator),
        run=Namespace(precision_safe=safe),
    )


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Say whether the hardware has bfloat16."""
    return lambda native: monkeypatch.setattr("segan_pl.cli.precision.has_bfloat16", lambda accelerator: native)


@pytest.mark.parametrize(("native", "taken"), [(True, "bf16-mixed"), (False, "32-true")])
def test_a_safe_system_takes_what_the_hardware_is_fast_in(
    native: bool, taken: str, machine: Callable[[bool], None], tmp_path: Path
) -> None:
    machine(native)
    run = settings()
    assert settle_precision(run, tmp_path).startswith(f"precision: {taken} (this machine has ")
    assert run.trainer.precision == taken


def test_a_system_that_is_not_known_to_be_safe_stays_in_32_bits(
    machine: Callable[[bool], None], tmp_path: Path
) -> None:
    machine(True)
    run = settings(safe=False)
    assert settle_precision(run, tmp_path) == ""
    assert run.trainer.precision is None


@pytest.mark.parametrize(
    ("asked", "native", "says"), [("32", False, ""), ("bf16-mixed", True, ""), ("16-mixed", False, "")]
)
def test_what_is_asked_for_is_taken(
    asked: str, native: bool, says: str, machine: Callable[[bool], None], tmp_path: Path
) -> None:
    machine(native)
    run = settings(asked)
    assert settle_precision(run, tmp_path) == says
    assert run.trainer.precision == asked


def test_bfloat16_by_detours_is_told(machine: Callable[[bool], None], tmp_path: Path) -> None:
    machine(False)
    run = settings("bf16-mixed")
    assert "no bfloat16 instructions" in settle_precision(run, tmp_path)
    assert run.trainer.precision == "bf16-mixed"


@pytest.mark.parametrize("before", ["bf16-mixed", "32-true", None])
def test_a_run_keeps_the_precision_that_it_began_with(
    before: str | None, machine: Callable[[bool], None], tmp_path: Path
) -> None:
    machine(before != "bf16-mixed")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"trainer": {"precision": before}}))
    run = settings()
    assert settle_precision(run, tmp_path) == ""
    assert run.trainer.precision == before


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_bf16\n", True),
        ("processor : 0\nflags : fpu amx_bf16\n", True),
        ("Features : fp asimd bf16\n", True),
        ("flags : fpu avx2 avx512f\nbugs : avx512_bf16\n", False),
        ("", False),
    ],
)
def test_the_processors_flags_tell(text: str, found: bool, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert has_bfloat16("cpu", tmp_path / "cpuinfo") is found
    assert has_bfloat16("mps", tmp_path / "cpuinfo") is False
    assert has_bfloat16("cpu", tmp_path / "missing") is False


def test_a_run_says_its_precision_keeps_it_and_goes_on_with_it_elsewhere(
    cohort: Path,
    prepared: Path,
    tmp_path: Path,
    machine: Callable[[bool], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "tiny.yaml").write_text(SYSTEM % (cohort, prepared, tmp_path / "runs"))
    run = tmp_path / "run"
    line = ["fit", "-c", str(tmp_path / "tiny.yaml"), "--run.precision_safe=true", f"--run.directory={run}"]
    machine(False)
    assert main([*line, "--trainer.max_epochs=1"]) == 0
    assert "precision: 32-true (this machine has no bfloat16 instructions)" in caplog.text
    assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["precision"] == "32-true"
    machine(True)
    assert main([*line, "--trainer.max_epochs=2"]) == 0
    assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["precision"] == "32-true"
    assert (
        main(
            [
                *line[:-1],
                f"--run.directory={tmp_path / 'b'}",
                "--trainer.max_epochs=3",
                f"--ckpt_path={run / 'checkpoints' / 'last.ckpt'}",
            ]
        )
        == 0
    )
    assert yaml.safe_load((tmp_path / "b" / "config.yaml").read_text())["trainer"]["precision"] == "32-true"
