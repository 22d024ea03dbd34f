"""`segan_pl submit`: what it refuses before anything is submitted, the script, and jobs of stand-in clients."""

from __future__ import annotations

from pathlib import Path

import pytest

from segan_pl.__main__ import main
from segan_pl.experiments.runs import load_runs, run_state
from tests.experiments.stand_in_slurm import StandIn

FIT = ("--", "fit", "-c", "segan_cat", "--root", "/d")


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    return StandIn(tmp_path / "slurm", monkeypatch)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (
            "-c four_gpus -- fit -c segan_cat --trainer.devices 2",
            "the job would refuse this: srun started 4 tasks, and ",
        ),
        (
            "-c two_nodes -- fit -c segan_cat --trainer.num_nodes 1",
            "the job would refuse this: srun started 4 tasks on ",
        ),
        (
            "--gpus_per_node 2 --tasks_per_node 1 -- fit -c segan_cat",
            "the job would refuse this: --trainer.devices 1: 2 ",
        ),
        ("-- fit -c segan_cat", "this job asks for no GPU; give --gpus_per_node N, or --trainer.accelerator cpu"),
        ("-c one_gpu -- fit -c segan_cat --trainer.accelerator=cpu", "--trainer.accelerator cpu: uses no GPU, and "),
        ("-c four_gpus -- predict --root d", "predict is one process, and this job asks for 1 x 4 tasks and 1 x 4 "),
        ("-c one_gpu -- evaluate", "evaluate uses no GPU, and this job asks for 1; give --gpus_per_node 0"),
        ("--array 2 -- evaluate", "--array 2: expected 1, or with predict the number of jobs that share the cases"),
        ("--array 2 -- predict --share=1/2", "--share and --array exclude each other"),
        ("--nodez 2 -- fit", "--nodez: no such option; did you mean --nodes?"),
        ("--time=soon -- fit", "--time soon: expected a time as Slurm has it"),
        ("-- fitt", "'fitt' after --: expected a command; did you mean 'fit'?"),
        ("-- sweep seeds", "sweep submits its runs itself: segan_pl sweep ... --slurm --cluster NAME"),
        ("", "nothing to submit; give a command after --"),
        ("--report -- fit", "--report submits nothing; leave out --dry_run and what follows --"),
    ],
)
def test_what_does_not_fit_is_one_line_and_nothing_is_written(
    line: str, says: str, slurm: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", "--output", str(tmp_path / "job"), *line.split()]) == 2
    assert capsys.readouterr().err.startswith(f"segan_pl: error: {says}")
    assert not (tmp_path / "job").exists()
    assert not (slurm.folder / "calls").exists()


def test_a_dry_run_prints_the_script_without_slurm_and_the_ranks_of_the_job_are_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    options = ("-c", "two_nodes", "--partition", "gpu", "--account=me", "--mem", "64G", "--setup", "[module load cuda]")
    assert main(["submit", "--output", str(tmp_path / "job"), *options, "--dry_run", *FIT]) == 0
    lines = capsys.readouterr().out.splitlines()
    for line in ("nodes=2", "ntasks-per-node=4", "gpus-per-node=4", "partition=gpu", "account=me", "mem=64G"):
        assert f"#SBATCH --{line}" in lines
    assert "module load cuda" in lines
    assert lines[-1] == "# fit: segan_pl fit -c segan_cat --root /d --trainer.devices=4 --trainer.num_nodes=2"
    assert not (tmp_path / "job").exists()


def test_devices_that_are_stated_stay_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["submit", "--output", str(tmp_path / "job"), "-c", "four_gpus", "--dry_run", *FIT]
    assert main([*line, "--trainer.devices", "4"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "# fit: segan_pl fit -c segan_cat --root /d --trainer.devices 4 --trainer.num_nodes=1"


def test_a_line_that_its_command_would_refuse_is_not_submitted(
    slurm: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["submit", "--output", str(tmp_path / "job"), "--", "predict", "--root", "d", "--ckpt_pth", "x"]
    assert main(given) == 2
    assert "predict would refuse this: --ckpt_pth: no such option" in capsys.readouterr().err
    assert not (slurm.folder / "calls").exists()


def test_jobs_that_share_the_cases_are_an_array_and_their_folder_says_how_they_stand(
    slurm: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "job"
    slurm.replace("srun", f'#!/bin/sh\necho "$@" >> {slurm.folder}/srun.calls\nexit 3\n')
    line = ["submit", "--output", str(folder), "--array", "2", "--", "predict"]
    line += ["--root", str(tmp_path), "--ckpt_path", "[none.ckpt]", "--output", str(tmp_path / "masks")]
    assert main(line) == 0
    assert capsys.readouterr().out.splitlines() == ["job 1: 2 runs (predict_1of2, predict_2of2)"]
    slurm.wait(1)
    assert [run.arguments[-2:] for run in load_runs(folder)] == [("--share", "1/2"), ("--share", "2/2")]
    assert main(["submit", "--output", str(folder), "--report"]) == 0
    failed = [f"predict_{number}of2: failed (exit code 3)" for number in (1, 2)]
    assert capsys.readouterr().out.splitlines() == failed
    assert (slurm.folder / "srun.calls").read_text().count("--nodes=1 --ntasks=1 ") == 2


def test_a_run_after_another_is_submitted_to_the_same_folder(
    slurm: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "job"
    compare = ["--", "compare", "--help"]
    assert main(["submit", "--output", str(folder), "--name", "first", *compare]) == 0
    assert main(["submit", "--output", str(folder), "--name", "second", "--after", "[first]", *compare]) == 0
    slurm.wait(2)
    assert [(run_state(folder, name) or {})["state"] for name in ("first", "second")] == ["finished"] * 2
    capsys.readouterr()
    assert main(["submit", "--output", str(folder), "--name", "third", "--after", "[fist]", *compare]) == 2
    assert "run third: needs fist, which no run before it is" in capsys.readouterr().err


def test_after_an_array_by_its_name_is_after_all_its_runs(
    slurm: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "job"
    line = ["submit", "--output", str(folder)]
    predict = ["predict", "--root", str(tmp_path), "--ckpt_path", "[none.ckpt]", "--output", str(tmp_path / "masks")]
    slurm.replace("sbatch", "#!/bin/sh\ncp $1 $(dirname $0)/7.sh\necho Submitted batch job 7\n")
    assert main([*line, "--array", "2", "--", *predict]) == 0
    (slurm.folder / "queue").write_text("7_0|PENDING|Priority\n7_1|PENDING|Priority\n")
    assert main([*line, "--name", "one", "--after", "[predict_1of2]", "--", "compare", "--help"]) == 0
    assert main([*line, "--name", "all", "--after", "[predict]", "--", "compare", "--help"]) == 0
    assert "#SBATCH --dependency=afterany:7_0:7_1" in slurm.script(7)
    after = {run.name: run.after for run in load_runs(folder)}
    assert (after["one"], after["all"]) == (("predict_1of2",), ("predict_1of2", "predict_2of2"))
    assert main([*line, "--name", "none", "--after", "[predic]", "--", "compare", "--help"]) == 2
    assert "run none: needs predic, which no run before it is" in capsys.readouterr().err


def test_the_commands_of_a_dry_run_are_as_a_shell_takes_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["submit", "--output", str(tmp_path / "job"), "--dry_run", "--", "predict", "--root", "/my data"]
    assert main([*line, "--ckpt_path", "{best:fit}"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "# predict: segan_pl predict --root '/my data' --ckpt_path '{best:fit}'"
