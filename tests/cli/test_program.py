from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

import pytest
from torch.utils.data import DataLoader, Dataset

import segan_pl.cli
from segan_pl.__main__ import COMMANDS, _report, main
from segan_pl.data.case import CaseError
from segan_pl.experiments.shipped import find_config
from segan_pl.training.run.signals import Stopped

pytest_plugins = ["tests.cohort_fixtures"]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[list[str]], int]], None]:
    """Put a function in the place of the command line behind `main`."""

    def put(run: Callable[[list[str]], int]) -> None:
        stub = types.ModuleType("segan_pl.cli.main")
        stub.main = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "segan_pl.cli.main", stub)
        monkeypatch.setattr(segan_pl.cli, "main", stub, raising=False)

    return put


def seconds(*arguments: str) -> float:
    """Best of three runs of the interpreter."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return min(times)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], []])
def test_help_and_version_import_neither_torch_nor_lightning(arguments: list[str]) -> None:
    code = (
        f"import sys; from segan_pl.__main__ import main; code = main({arguments!r});"
        "print(code, sorted({'torch', 'lightning', 'numpy', 'yaml', 'segan_pl.cli.main'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0 []"


@pytest.mark.parametrize("command", ["check", "compare", "evaluate", "predict", "prepare", "report", "split", "sweep"])
def test_help_of_a_command_loads_no_library_that_only_its_work_needs(command: str) -> None:
    code = (
        f"import runpy, sys; sys.argv = ['segan_pl', {command!r}, '--help']\n"
        "try:\n    runpy.run_module('segan_pl', run_name='__main__')\n"
        "finally:\n    print(sorted({'torch', 'lightning', 'scipy', 'nibabel', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert f"usage: segan_pl {command} " in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_version_takes_at_most_0_3_s_more_than_a_bare_interpreter() -> None:
    assert seconds("-m", "segan_pl", "--version") - seconds("-c", "pass") <= 0.3


def test_help_is_short_and_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in COMMANDS)
    assert len(text.splitlines()) <= 32


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"segan_pl {segan_pl.__version__}\n"


def test_an_unknown_command_exits_2_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vaildate"]) == 2
    assert "unknown command 'vaildate'; did you mean 'validate'?" in capsys.readouterr().err
    assert main(["train", "--root=D"]) == 2
    assert "unknown command 'train'; did you mean 'fit'? known: atlas, " in capsys.readouterr().err


def test_the_rest_of_the_line_reaches_the_command_without_debug(command) -> None:  # type: ignore[no-untyped-def]
    seen: list[list[str]] = []
    command(lambda arguments: seen.append(arguments) or 7)  # type: ignore[func-returns-value]
    assert main(["fit", "--debug", "-h", "all", "--x=1"]) == 7
    assert seen == [["fit", "-h", "--x=1"]]


def refuse_case(arguments: list[str]) -> int:
    raise CaseError("case_1: seg is missing;\n  drop the case")


def test_an_error_of_ours_is_one_line_and_exit_1(command, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    command(refuse_case)
    assert main(["fit"]) == 1
    assert capsys.readouterr().err == "segan_pl: error: case_1: seg is missing; drop the case\n"


def test_debug_shows_the_traceback_too(command, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    command(refuse_case)
    assert main(["fit", "--debug"]) == 1
    text = capsys.readouterr().err
    assert "Traceback" in text
    assert "in refuse_case" in text


class Refusing(Dataset[int]):
    """Every item is refused in the worker."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        raise self.error


def load(error: Exception) -> Callable[[list[str]], int]:
    return lambda arguments: len(list(DataLoader(Refusing(error), num_workers=1)))


def test_an_error_in_a_loaders_worker_is_the_line_that_was_raised_there(  # type: ignore[no-untyped-def]
    command, capsys: pytest.CaptureFixture[str]
) -> None:
    command(load(CaseError("case_1: seg is missing; drop the case")))
    assert main(["fit"]) == 1
    assert capsys.readouterr().err == "segan_pl: error: case_1: seg is missing; drop the case\n"
    command(load(CaseError("case_1: seg is missing; drop the case")))
    assert main(["fit", "--debug"]) == 1
    assert "in __getitem__" in capsys.readouterr().err


def test_an_unforeseen_error_in_a_worker_keeps_its_traceback_and_ends_with_its_reason(  # type: ignore[no-untyped-def]
    command, capsys: pytest.CaptureFixture[str]
) -> None:
    command(load(ZeroDivisionError("by zero")))
    assert main(["fit"]) == 1
    text = capsys.readouterr().err
    assert "in __getitem__" in text
    assert text.endswith("\nsegan_pl: error: unforeseen ZeroDivisionError: by zero\n")


def test_what_was_typed_wrongly_exits_2(command, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    command(lambda arguments: len(str(find_config("no_such_configuration"))))
    assert main(["fit"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_unforeseen_error_keeps_its_traceback_and_exits_1(command, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    command(lambda arguments: {}["lost"])
    assert main(["fit"]) == 1
    text = capsys.readouterr().err
    assert "Traceback" in text
    assert text.endswith("segan_pl: error: unforeseen KeyError: 'lost'\n")


def interrupt(arguments: list[str]) -> int:
    raise KeyboardInterrupt


def interrupt_as_lightning_does(arguments: list[str]) -> int:
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        sys.exit(1)


@pytest.mark.parametrize("run", [interrupt, interrupt_as_lightning_does])
def test_ctrl_c_exits_130(command, run: Callable[[list[str]], int]) -> None:  # type: ignore[no-untyped-def]
    command(run)
    assert main(["fit"]) == 130


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_signal_exits_with_its_code(command, number: int, code: int, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    def stop(arguments: list[str]) -> int:
        raise Stopped(number)

    command(stop)
    assert main(["fit"]) == code
    assert main(["--help"]) == 0
    assert f"{code} " in capsys.readouterr().out


LINES = ("--help", "split --help", "split --root={root} --by", "check --root={root} --workers=1")


@pytest.mark.parametrize("unbuffered", ["", "1"])  # met while it prints, and at its end
@pytest.mark.parametrize("line", LINES)
def test_a_reader_that_leaves_ends_a_command_without_a_word(line: str, unbuffered: str, cohort: Path) -> None:
    command = [sys.executable, "-m", "segan_pl", *line.format(root=cohort).split()]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    process.stdout.close()
    _, error = process.communicate(timeout=120)
    said = [text for text in error.decode().splitlines() if not text.startswith("checked 8 of 8")]  # its progress
    assert said == []
    # argparse takes a failed print for printed: met in it where the help is longer than the buffer
    assert process.returncode in ((0, 141) if line == "split --help" else (141,))


def test_a_broken_pipe_that_is_not_the_outputs_is_an_error(command, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    def broken(arguments: list[str]) -> int:
        raise BrokenPipeError(32, "Broken pipe")

    command(broken)
    assert main(["fit"]) == 1
    assert capsys.readouterr().err == "segan_pl: error: [Errno 32] Broken pipe\n"


def test_an_exit_of_the_parser_passes_through(command) -> None:  # type: ignore[no-untyped-def]
    command(lambda arguments: sys.exit(2))
    with pytest.raises(SystemExit) as end:
        main(["fit"])
    assert end.value.code == 2


# -- lines that a newcomer types ---------------------------------------------------------------------------------------

MARGIN = "--data.preparation: margin is (1, 0); expected voxels >= 0, with crop 'nonzero' or 'scaled' only"
MIXED = "(set by several --config files, each over the one before: reciprocal, {})"
ROOT = "--root is missing: give the folder of cases"
SYSTEM = "no system is given: --config segan_cat, for example, or the file of segan_pl plan"


@pytest.mark.usefixtures("isolated")
@pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")  # Lightning's calls
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("fit -c reciprocal -c mixed.yaml --root {}", f"{MARGIN} {MIXED.format('mixed')}"),
        ("prepare -c reciprocal -c mixed.yaml --root {}", f"{MARGIN} {MIXED.format('mixed')}"),
        ("fit -c reciprocal --root {} --data.preparation.crop [8,8,8]", MARGIN),
        (
            "fit -c unet3d --root {} --data.patch 64",
            "--data.patch 64: expected 2 or 3 whole numbers, e.g. [64,64]",
        ),
        (
            "fit -c unet3d --root {} --data.modalities flair",
            "--data.modalities flair: expected a list, e.g. [flair]",
        ),
        ("fit -c unet3d --root {} --finetuning.frozen s", "--finetuning.frozen s: expected a list, e.g. [s]"),
        (
            "fit -c unet3d --root {} --model.networks.segmentor.init_args.kind Unet",
            "--model.networks.segmentor.init_args.kind Unet: expected UNet, SegResNet or DynUNet; did you mean UNet?",
        ),
        (
            "fit -c unet3d --root {} --model.networks.segmentor.init_args.norm foo",
            "--model.networks.segmentor.init_args.norm foo: expected batch, instance or group",
        ),
        ("fit -c unet3d", ROOT),
        ("fit -c brats --root {}", SYSTEM),
        ("fit", f"{SYSTEM}; {ROOT}"),
        ("validate", f"no system is given: --ckpt_path of a run, or --config segan_cat, for example; {ROOT}"),
    ],
)
def test_a_newcomers_wrong_line_exits_2_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)  # where runs/ would be made
    (tmp_path / "mixed.yaml").write_text("data: {preparation: {crop: null}}")
    try:
        code = main(line.format(tmp_path).split())
    except SystemExit as end:
        code = int(str(end.code))
    lines = capsys.readouterr().err.splitlines()
    assert (code, lines) == (2, [f"segan_pl: error: {said}"])
    assert [path.name for path in tmp_path.rglob("*.yaml")] == ["mixed.yaml"]


OBJECTIVE = "--model.objective.init_args"
SECTION = "--config f.yaml: {}: expected 'key: value' lines below it, found "


@pytest.mark.usefixtures("isolated")
@pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")  # Lightning's calls
@pytest.mark.parametrize(
    ("line", "file", "said"),
    [
        (
            "fit --data {{a:",
            "",
            "--data {a:: not readable as YAML (while parsing a flow node",
        ),
        ("fit --model={{a:", "", "--model {a:: not readable as YAML ("),
        (
            "fit -c segan_cat --root {} --model.objective.init_args 5",
            "",
            f"{OBJECTIVE} 5: expected the arguments of",
        ),
        ("fit -c segan_cat --root {} --model.networks 5", "", "--model.networks 5: expected a mapping {NAME: VALUE}"),
        (
            "fit -c segan_cat --root {} --model.optimizers [1]",
            "",
            "--model.optimizers [1]: expected a mapping",
        ),
        (
            "fit -c segan_cat --root {} --model.networks.segmentor.init_args [1",
            "",
            "--model.networks.segmentor.init_args [",
        ),
        ("fit -c segan_cat --root {} --data 5", "", "--data 5: expected options below it, such as --data.root"),
        ("fit -c f.yaml --root {}", "model: {networks: {segmentor: 5}}", "--model.networks.segmentor 5: no such class"),
        ("fit -c f.yaml --root {}", "model: {networks: {1: 5}}", "--model.networks.1 5: no such class"),
        ("fit -c f.yaml --root {}", "model: {networks: {1: {a: 5}}}", "--model.networks.1: give its class first"),
        ("fit -c f.yaml --root {}", "model: {networks: [5]}", "--model.networks [5]: expected a mapping {NAME: VALUE}"),
        (
            "fit -c f.yaml --root {}",
            "model: {optimizers: {default: {class_path: torch.optim.Adam, init_args: {1: 2}}}}",
            "--model.optimizers.default.init_args.1: not accepted by torch.optim.Adam",
        ),
        ("fit -c segan_cat -c f.yaml --root {}", "data: 5", f"{SECTION.format('data')}5"),
        ("fit -c segan_cat -c f.yaml --root {}", "trainer: [1]", f"{SECTION.format('trainer')}[1]"),
        ("fit -c f.yaml --root {}", "model:", f"{SECTION.format('model')}null"),
        ("check -c f.yaml --root {}", "data: 5", f"{SECTION.format('data')}5"),
        ("check -c f.yaml", "data: {batch_size: 8}", "--root is missing"),
    ],
)
def test_a_malformed_value_exits_2_with_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    line: str,
    file: str,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f.yaml").write_text(file)
    assert main(line.format(tmp_path).split()) == 2
    lines = [text for text in capsys.readouterr().err.splitlines() if not text.startswith("note: ")]
    assert len(lines) == 1
    assert lines[0].startswith(f"segan_pl: error: {said}")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "DataLoader worker (pid 4711) is killed by signal: Killed. ",
            "process 4711, was ended by a signal (Killed): the system may be out of memory",
        ),
        (
            "DataLoader worker (pid 4711) is killed by signal: Bus error. It is possible that dataloader's workers are",
            "was ended by a signal (Bus error): /dev/shm is probably too small",
        ),
        ("DataLoader worker (pid(s) 7, 8) exited unexpectedly", "process 7, 8, ended without a word"),
    ],
)
def test_a_lost_worker_is_one_line_with_what_helps(text: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _report(RuntimeError(text), debug=False) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
    assert "fewer --data.workers" in line
    assert line.endswith("the same line again goes on from the run's last checkpoint")
