from __future__ import annotations

import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

import pytest
from torch.utils.data import DataLoader, Dataset

import segan_pl
from segan_pl.__main__ import COMMANDS, main
from segan_pl.data.volume import CaseError
from segan_pl.shipped import find_config

pytest_plugins = ["tests.cohort_fixtures"]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[list[str]], int]], None]:
    """Put a function in the place of the command line behind `main`."""

    def put(run: Callable[[list[str]], int]) -> None:
        stub = types.ModuleType("segan_pl.cli")
        stub.main = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "segan_pl.cli", stub)
        monkeypatch.setattr(segan_pl, "cli", stub, raising=False)

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
        "print(code, sorted({'torch', 'lightning', 'numpy', 'yaml', 'segan_pl.cli'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0 []"


def test_version_takes_at_most_0_3_s_more_than_a_bare_interpreter() -> None:
    assert seconds("-m", "segan_pl", "--version") - seconds("-c", "pass") <= 0.3


def test_help_is_short_and_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in COMMANDS)
    assert len(text.splitlines()) <= 30


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"segan_pl {segan_pl.__version__}\n"


def test_an_unknown_command_exits_2_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vaildate"]) == 2
    assert "unknown command 'vaildate'; did you mean 'validate'?" in capsys.readouterr().err


def test_the_rest_of_the_line_reaches_the_command_without_debug(command) -> None:  # type: ignore[no-untyped-def]
    seen: list[list[str]] = []
    command(lambda arguments: seen.append(arguments) or 7)  # type: ignore[func-returns-value]
    assert main(["fit", "--debug", "-h", "--x=1"]) == 7
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


class SIGTERMException(SystemExit):
    """As Lightning's: no code."""


def test_sigterm_exits_143_and_says_so(command, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    def stop(arguments: list[str]) -> int:
        raise SIGTERMException

    command(stop)
    assert main(["fit"]) == 143
    assert capsys.readouterr().err == "segan_pl: stopped by SIGTERM\n"
    assert main(["--help"]) == 0
    assert "143 stopped by SIGTERM" in capsys.readouterr().out


def test_lightnings_sigterm_is_called_as_we_look_for_it() -> None:
    from lightning.pytorch.utilities.exceptions import SIGTERMException as Lightnings

    assert issubclass(Lightnings, SystemExit)
    assert Lightnings.__name__ == SIGTERMException.__name__
    assert Lightnings().code is None


def test_an_exit_of_the_parser_passes_through(command) -> None:  # type: ignore[no-untyped-def]
    command(lambda arguments: sys.exit(2))
    with pytest.raises(SystemExit) as end:
        main(["fit"])
    assert end.value.code == 2


# -- lines that a newcomer types ---------------------------------------------------------------------------------------

MARGIN = "--data.preparation: margin is (1, 0); expected voxels >= 0, with crop 'nonzero' or 'scaled' only"
MIXED = "(set by several --config files, each over the one before: reciprocal, {})"
ROOT = "--data.root is missing: give the folder of cases"
SYSTEM = "no system is given: --config segan_cat, for example"


@pytest.mark.usefixtures("isolated")
@pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")  # Lightning's calls
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("fit -c reciprocal -c brats --data.root {}", f"{MARGIN} {MIXED.format('brats')}"),
        ("fit -c reciprocal -c lgg --data.root {}", f"{MARGIN} {MIXED.format('lgg')}"),
        ("prepare -c reciprocal -c lgg --data.root {}", MARGIN.removeprefix("--data.preparation: ")),
        ("fit -c reciprocal --data.root {} --data.preparation.crop [8,8,8]", MARGIN),
        (
            "fit -c unet3d --data.root {} --data.patch 64",
            "--data.patch 64: expected 2 or 3 whole numbers, e.g. [64,64]",
        ),
        (
            "fit -c unet3d --data.root {} --data.modalities flair",
            "--data.modalities flair: expected a list, e.g. [flair]",
        ),
        ("fit -c unet3d --data.root {} --frozen s", "--frozen s: expected a list, e.g. [s]"),
        (
            "fit -c unet3d --data.root {} --model.segmentor.init_args.kind Unet",
            "--model.segmentor.init_args.kind Unet: expected UNet, SegResNet or DynUNet; did you mean UNet?",
        ),
        (
            "fit -c unet3d --data.root {} --model.segmentor.init_args.norm foo",
            "--model.segmentor.init_args.norm foo: expected batch, instance or group",
        ),
        ("fit -c unet3d", ROOT),
        ("fit -c brats --data.root {}", SYSTEM),
        ("fit", f"{SYSTEM}; {ROOT}"),
        ("validate", f"no system is given: --ckpt_path of a run, or --config segan_cat, for example; {ROOT}"),
    ],
)
def test_a_newcomers_wrong_line_exits_2_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)  # where runs/ would be made
    try:
        code = main(line.format(tmp_path).split())
    except SystemExit as end:
        code = int(str(end.code))
    lines = [one for one in capsys.readouterr().err.splitlines() if not one.startswith("Seed set")]
    assert (code, lines) == (2, [f"segan_pl: error: {said}"])
    assert not list(tmp_path.rglob("*.yaml"))
