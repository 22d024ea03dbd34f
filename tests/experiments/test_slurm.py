"""Studies as job arrays, against a stand-in for sbatch that runs them at once."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from segan_pl.errors import UsageError
from segan_pl.experiments.runs import Run, run_state
from segan_pl.experiments.slurm import SlurmRunner, stages

SBATCH = """#!/bin/bash
echo "$@" >> {folder}/calls
script="${{@: -1}}"
last=$(grep -oP '(?<=--array=0-)\\d+' "$script")
for task in $(seq 0 "$last"); do SLURM_ARRAY_TASK_ID=$task bash "$script" > /dev/null; done
wc -l < {folder}/calls
"""


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "sbatch").write_text(SBATCH.format(folder=folder))
    (folder / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def test_stages_follow_the_needs() -> None:
    runs = [Run("a", ("x",)), Run("b", ("x", "{best:a}")), Run("c", ("x",)), Run("d", ("x",), ("b", "c"))]
    assert [[run.name for run in stage] for stage in stages(runs)] == [["a", "c"], ["b"], ["d"]]
    assert stages([]) == []


def test_each_stage_is_an_array_that_waits_for_the_one_before_and_its_jobs_run_the_runs(
    sbatch: Path, tmp_path: Path
) -> None:
    study = tmp_path / "a study"
    runs = [Run("a", ("--version",)), Run("c", ("--version",)), Run("b", ("--version",), ("a",))]
    lines: list[str] = []
    SlurmRunner(("--partition=gpu", "--comment=two words"), parallel=1, progress=lines.append).run_all(runs, study)
    assert lines == ["job 1: 2 runs (a, c)", "job 2: 1 runs (b)"]
    calls = (sbatch / "calls").read_text().splitlines()
    assert calls == [
        f"--parsable {study}/slurm/stage0.sh",
        f"--parsable --dependency=afterany:1 {study}/slurm/stage1.sh",
    ]
    script = (study / "slurm" / "stage0.sh").read_text().splitlines()
    assert script[:2] == ["#!/bin/bash", "#SBATCH --job-name=a_study"]
    assert script[2:4] == ["#SBATCH --array=0-1%1", f'#SBATCH --output="{study}/slurm/%A_%a.out"']
    assert script[4:6] == ["#SBATCH --partition=gpu", '#SBATCH --comment="two words"']
    assert [(run_state(study, run.name) or {})["state"] for run in runs] == ["finished"] * 3
    SlurmRunner(progress=lines.append).run_all(runs, study)
    assert lines[2:] == ["every run has finished; nothing is submitted"]


def test_a_job_whose_need_has_failed_says_so_and_ends_with_1(sbatch: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    SlurmRunner().run_all([Run("a", ("nonsense",)), Run("b", ("--version",), ("a",))], study)
    assert (run_state(study, "a") or {})["error"].startswith("unknown command 'nonsense'")
    assert (run_state(study, "b") or {})["state"] == "skipped"


def test_no_sbatch_and_a_refusal_are_one_line(tmp_path: Path, sbatch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (sbatch / "sbatch").write_text("#!/bin/bash\necho 'sbatch: error: invalid partition' >&2\nexit 1\n")
    with pytest.raises(UsageError, match="refused: sbatch: error: invalid partition"):
        SlurmRunner().run_all([Run("a", ("--version",))], tmp_path / "study")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"no sbatch here; submit .*stage0.sh"):
        SlurmRunner().run_all([Run("a", ("--version",))], tmp_path / "study")


def test_the_script_is_sound_bash(tmp_path: Path, sbatch: Path) -> None:
    study = tmp_path / "it's"
    SlurmRunner().run_all([Run("a+b=c", ("--version",))], study)
    assert subprocess.run(["bash", "-n", str(study / "slurm" / "stage0.sh")]).returncode == 0
    assert (run_state(study, "a+b=c") or {})["state"] == "finished"
