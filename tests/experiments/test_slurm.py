"""Studies as job arrays, against stand-ins for Slurm's clients that run them at once."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from segan_pl.errors import UsageError
from segan_pl.experiments import standing
from segan_pl.experiments.cluster import Cluster
from segan_pl.experiments.local import LocalRunner, alone
from segan_pl.experiments.runs import Run, load_runs, run_state, write_state
from segan_pl.experiments.slurm import SlurmRunner, stages
from segan_pl.experiments.standing import standing_lines
from tests.experiments.stand_in_slurm import StandIn


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    return StandIn(tmp_path / "slurm", monkeypatch)


def test_stages_follow_the_needs() -> None:
    runs = [Run("a", ("x",)), Run("b", ("x", "{best:a}")), Run("c", ("x",)), Run("d", ("x",), ("b", "c"))]
    assert [[run.name for run in stage] for stage in stages(runs)] == [["a", "c"], ["b"], ["d"]]
    assert stages([]) == []


def states(study: Path, runs: list[Run]) -> list[str]:
    return [(run_state(study, run.name) or {}).get("state", "") for run in runs]


def test_each_stage_is_an_array_that_waits_for_the_one_before_and_its_jobs_run_the_runs(
    slurm: StandIn, tmp_path: Path
) -> None:
    study = tmp_path / "a study, 50% of it's"
    runs = [Run("a+b=c", ("--version",)), Run("c", ("--version",)), Run("b", ("--version",), ("c",))]
    lines: list[str] = []
    cluster = Cluster(partition="gpu", options=("--comment=two words", "--job-name=mine"), setup=("export X=1",))
    SlurmRunner(cluster, parallel=1, progress=lines.append).run_all(runs, study)
    assert lines == ["job 1: 2 runs (a+b=c, c)", "job 2: 1 runs (b)"]
    slurm.wait(2)
    first, second = slurm.script(1), slurm.script(2)
    assert "#SBATCH --array=0-1%1" in first
    assert "#SBATCH --dependency=afterany:1" in second
    assert not any("--array" in line for line in second)
    output = shlex.quote(f"{tmp_path}/a study, 50%% of it's/slurm/%A_%a.out")
    for line in (f"--output={output}", "--partition=gpu", "--comment='two words'", "--job-name=mine", "--requeue"):
        assert f"#SBATCH {line}" in first
    assert sum("--job-name" in line for line in first) == 1
    assert not any("--time" in line or "--wckey" in line or "USR2" in line for line in first)
    assert first.index("export X=1") < len(first) - 1
    assert first[-1].startswith("exec ")
    assert states(study, runs) == ["finished"] * 3
    SlurmRunner(cluster, progress=lines.append).run_all(runs, study)
    assert lines[2:] == ["every run has finished; nothing is submitted"]


def test_a_run_whose_job_is_under_way_is_not_submitted_again_and_what_needs_it_waits_for_that_job(
    slurm: StandIn, tmp_path: Path
) -> None:
    study = tmp_path / "study"
    a, b, c = Run("a", ("--nonsense",)), Run("b", ("--version",), ("a",)), Run("c", ("--version",))
    lines: list[str] = []
    runner = SlurmRunner(Cluster(), progress=lines.append)
    runner.run_all([a, c], study)
    slurm.wait(1)
    assert states(study, [a, b, c]) == ["failed", "", "finished"]
    (slurm.folder / "queue").write_text("1_0|PENDING|Priority\n1_1|COMPLETING|None\n9|RUNNING|None\n")
    assert standing_lines([a, b, c], study) == ["a: job 1_0: PENDING, Priority", "b: not submitted", "c: finished"]
    runner.run_all([a, b, c], study)
    assert lines[1:] == ["a: job 1_0 is under way (PENDING, Priority), not submitted again", "job 2: 1 runs (b)"]
    assert "#SBATCH --dependency=afterany:1_0" in slurm.script(2)
    slurm.wait(2)
    (slurm.folder / "queue").write_text("")
    assert standing_lines([a, b], study)[0].startswith("a: failed (unknown command '--nonsense'")
    assert standing_lines([a, b], study)[1] == "b: skipped (a)"
    (study / "logs" / "b.json").unlink()
    said = standing_lines([b], study)
    assert said == ["b: stopped; job 2 is no longer in the queue, the same command submits it again"]


@pytest.mark.parametrize("other", [Run("a", ("--help",)), Run("a", ("--version",), ("first",))])
def test_what_a_job_that_waits_is_to_carry_out_is_not_replaced(slurm: StandIn, tmp_path: Path, other: Run) -> None:
    study, runs = tmp_path / "study", [Run("first", ("--version",)), Run("a", ("--version",))]
    lines: list[str] = []
    runner = SlurmRunner(Cluster(), progress=lines.append)
    # neither begins: its program is none of ours
    slurm.replace("sbatch", "#!/bin/sh\necho Submitted batch job 7\n")
    runner.run_all(runs, study)
    (slurm.folder / "queue").write_text("7_1|PENDING|Priority\n")
    for one in (runner, LocalRunner()):
        with pytest.raises(UsageError, match=r"study: job 7_1 is to carry out a with other arguments, or after other"):
            one.run_all([other], study)
        assert load_runs(study) == runs
    runner.run_all(runs[1:], study)
    assert lines[1:] == ["a: job 7_1 is under way (PENDING, Priority), not submitted again"]
    (slurm.folder / "queue").write_text("")
    runner.run_all([other], study)  # it was cancelled
    assert load_runs(study)[1] == other


def test_a_completing_job_whose_run_was_stopped_is_queued_again_by_slurm_and_not_submitted_again(
    slurm: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, a, b = tmp_path / "study", Run("a", ("--version",)), Run("b", ("--version",), ("a",))
    lines: list[str] = []
    monkeypatch.setattr(standing, "PATIENCE", 0.0)
    runner = SlurmRunner(Cluster(), progress=lines.append)
    slurm.replace("sbatch", "#!/bin/sh\ncp $1 $(dirname $0)/7.sh\necho Submitted batch job 7\n")
    write_state(study, a, "failed", exit_code=1)  # by an earlier job, submitted again
    record = study / "logs" / "a.json"
    os.utime(record, (1, 1))
    runner.run_all([a], study)
    for _ in range(2):  # with the earlier record, and without one
        (slurm.folder / "queue").write_text("7|COMPLETING|None\n")
        assert standing_lines([a], study) == ["a: job 7: COMPLETING"]
        runner.run_all([a, b], study)
        later = "not submitted again; repeat this once it has left the queue"
        assert lines[1:] == [f"a: job 7 is under way (COMPLETING), {later}", "job 7: 1 runs (b)"]
        assert "#SBATCH --dependency=afterany:7" in slurm.script(7)
        record.unlink(missing_ok=True)
        (study / "slurm" / "jobs.json").write_text('{"a": "7"}')
        del lines[1:]
    write_state(study, a, "finished", exit_code=0)
    assert standing_lines([a], study) == ["a: finished"]


def test_a_job_that_is_being_cancelled_is_waited_for_and_then_submitted_again(slurm: StandIn, tmp_path: Path) -> None:
    study, run = tmp_path / "study", [Run("a", ("--version",))]
    lines: list[str] = []
    runner = SlurmRunner(Cluster(), progress=lines.append)
    slurm.replace("sbatch", "#!/bin/sh\necho Submitted batch job 7\n")
    runner.run_all(run, study)
    queue = slurm.folder / "queue"
    queue.write_text("7|COMPLETING|None\n")
    # gone when it is looked at for the second time
    slurm.replace("squeue", f"#!/bin/sh\ncat {queue}; : > {queue}\n")
    runner.run_all(run, study)
    assert lines[1:] == ["waiting up to 45 s for the end of job 7", "job 7: 1 runs (a)"]


def test_one_process_submits_at_a_time(slurm: StandIn, tmp_path: Path) -> None:
    study = tmp_path / "study"
    with alone(study), pytest.raises(UsageError, match="another process carries out or submits runs in this folder"):
        SlurmRunner(Cluster()).run_all([Run("a", ("--version",))], study)
    assert not (study / "study.json").exists()
    assert not (slurm.folder / "calls").exists()


def test_nothing_is_submitted_where_nobody_knows_whether_the_jobs_are_under_way(slurm: StandIn, tmp_path: Path) -> None:
    runs, study = [Run("a", ("--version",))], tmp_path / "study"
    SlurmRunner(Cluster()).run_all(runs, study)
    slurm.replace("squeue", "#!/bin/sh\necho 'slurm_load_jobs error: Unable to contact controller' >&2\nexit 1\n")
    with pytest.raises(UsageError, match=r"squeue does not say how the jobs of .*jobs\.json stand \(slurm_load_jobs"):
        SlurmRunner(Cluster()).run_all(runs, study)
    slurm.wait(1)


def test_a_job_whose_need_has_failed_says_so_and_ends_with_1(slurm: StandIn, tmp_path: Path) -> None:
    study = tmp_path / "study"
    runs = [Run("a", ("--nonsense",)), Run("b", ("--version",), ("a",))]
    SlurmRunner(Cluster()).run_all(runs, study)
    slurm.wait(2)
    assert states(study, runs) == ["failed", "skipped"]
    assert (run_state(study, "b") or {})["error"] == "a"


def test_no_slurm_a_refusal_and_a_folder_that_sbatch_would_rename_are_one_line(
    tmp_path: Path, slurm: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = [Run("a", ("--version",))]
    slurm.replace("sbatch", "#!/bin/bash\necho 'sbatch: error: invalid partition' >&2\nexit 1\n")
    with pytest.raises(UsageError, match=r"^Slurm refused the job: sbatch: error: invalid partition$"):
        SlurmRunner(Cluster()).run_all(run, tmp_path / "study")
    with pytest.raises(UsageError, match="sbatch takes %j"):
        SlurmRunner(Cluster()).run_all(run, tmp_path / "5%all")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="no sbatch, squeue, srun here; call this on a login node"):
        SlurmRunner(Cluster()).run_all(run, tmp_path / "study")
