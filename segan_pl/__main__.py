"""The command `segan_pl`: help and version at once; PyTorch is loaded when a command asks for it."""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import select
import sys
import traceback
from collections.abc import Sequence
from typing import TextIO

from segan_pl import __version__
from segan_pl.cli.short_help import short_help, without_all
from segan_pl.errors import UsageError, lost_worker, nearest, raised_here
from segan_pl.training.run.signals import Stopped, watching

COMMANDS = {
    "fit": "train from MRI files to the best checkpoint",
    "validate": "score a checkpoint on the validation cases",
    "test": "score a checkpoint on the test cases, one row for each case",
    "check": "read every byte of a data set, table and refuse what is wrong",
    "plan": "from a data set to a configuration for fit, with reasons",
    "split": "part a data set into train, validation, test or folds",
    "prepare": "check and preprocess a data set into the cache",
    "predict": "segment the cases of a folder, each on its own grid",
    "clinical": "from a hospital's DICOM to cases, and masks back",
    "atlas": "segment cases by labelled ones registered to them, no network",
    "export": "a checkpoint for other programs: ONNX, MONAI bundle, .pt2",
    "postprocess": "choose post-processing on a run's validation cases",
    "evaluate": "score segmentation files against masks, case by case",
    "compare": "compare two runs or more over the same cases",
    "report": "one page about runs, from their saved files",
    "sweep": "run a W&B sweep file here: grid, random or bayes",
    "experiment": "a paper's tables or a cross-validation, from one command",
    "submit": "hand one command to Slurm, with what its job asks for",
    "demo": "generate a small cohort, train on it, show the scores",
}

MEANT = {"train": "fit", "eval": "evaluate", "score": "evaluate", "infer": "predict", "preprocess": "prepare"}
"""What other programs call a command."""
OF_ONE_FOLDER = ("fit", "check", "plan", "split", "prepare", "atlas", "predict")
"""Commands that take the data set's folder without --root, too."""

NO_READER = 141  # 128 + SIGPIPE, with which other tools end

TRAINING = ("fit", "validate", "test", "demo")  # which take signals in from their first moment

HELP = f"""usage: segan_pl [--version] [--help] [--debug] [--completion bash|zsh] COMMAND [options]

Train, ablate and compare adversarial brain-MRI segmentation.

commands:
{chr(10).join(f"  {name:12}{line}" for name, line in COMMANDS.items())}

  --root FOLDER         the data set; a folder that stands alone is it, too (check FOLDER); --output is the result
  -c, --config NAME     a YAML file, or a shipped one by name (segan_cat); several are read from left to right
  --KEY.KEY VALUE       overrides one value, e.g. --data.batch_size 8 --trainer.max_epochs 50
  -h, --help            its options, --help all every one of fit; --print_config, --debug (an error's traceback)

exit codes: 0 all went well, 1 something failed, 2 something was typed wrongly, 75 the folder is in use;
141 nobody reads the output; stopped: 130 by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP; a second one ends fit at once
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (by default this process's own).

    Returns:
        The exit code; errors are one line on stderr, with the traceback when `--debug` is given. 141 where
        the reader of the output has left, as `head` does; nothing is said of that.
    """
    try:
        try:
            return _run(argv)
        finally:
            if sys.stdout is not None and not sys.stdout.closed:
                sys.stdout.flush()  # not at the interpreter's end, where nothing could be caught
    except BrokenPipeError:
        for stream in filter(_has_no_reader, (sys.stdout, sys.stderr)):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # else the interpreter complains at its end
        return NO_READER


def _has_no_reader(stream: TextIO | None) -> bool:
    """Whether a stream is a pipe that nobody reads any more; other broken pipes, of workers say, are errors."""
    try:
        poll = select.poll()
        poll.register(stream.fileno(), select.POLLOUT)  # type: ignore[union-attr]
    except (AttributeError, OSError, ValueError):  # no file of the system's
        return False
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _run(argv: Sequence[str] | None) -> int:
    """The command line's exit code.

    Raises:
        BrokenPipeError: Nobody reads the output any more.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP, end="")
        return 0
    if arguments[0] == "--version":
        print(f"segan_pl {__version__}")
        return 0
    try:
        if arguments[0].partition("=")[0] == "--completion":
            return int(importlib.import_module("segan_pl.cli.completion.script").main(arguments))
        if arguments[0] not in COMMANDS:
            meant = MEANT.get(arguments[0], arguments[0])
            raise UsageError(f"unknown command {arguments[0]!r}; {nearest(meant, COMMANDS)}")
        if arguments[0] in OF_ONE_FOLDER and {"-h", "--help"}.isdisjoint(arguments):
            arguments = importlib.import_module("segan_pl.experiments.shipped").with_folder_as_root(arguments)
        lightning = arguments[0] in ("fit", "validate", "test")
        if lightning:
            if text := short_help(arguments):
                print(text, end="")
                return 0
            arguments = without_all(arguments)
        module = "segan_pl.cli.main" if lightning else f"segan_pl.cli.commands.{arguments[0]}"
        if arguments[0] not in TRAINING:
            return int(importlib.import_module(module).main(arguments))
        atexit.register(gc.freeze)  # or Python's last look for garbage takes longer than the rest of a stop
        with watching(arguments[0]):  # already while PyTorch is imported
            if lightning and not {"-h", "--help"} & {*arguments}:
                importlib.import_module("segan_pl.cli.ranks").require_ranks_of_line(arguments)
            return int(importlib.import_module(module).main(arguments))
    except KeyboardInterrupt:
        return 130
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):  # Lightning turns Ctrl-C into exit 1
            return 130
        if isinstance(end, Stopped):
            return int(end.code or 0)
        if isinstance(end.__context__, BrokenPipeError):  # Rich's way out, which has closed the pipe
            raise BrokenPipeError from end
        raise
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _has_no_reader(sys.stdout):
            raise
        return _report(error, debug)


def _report(error: Exception, debug: bool) -> int:
    """Print an error; one that nobody foresaw keeps its traceback, because a long run cannot be repeated for it."""
    foreseen = _is_foreseen(error)
    if debug or not foreseen:
        traceback.print_exception(error)
    text = " ".join(_reason(error).split()) or type(error).__name__
    print(f"segan_pl: error: {text if foreseen else f'unforeseen {type(error).__name__}: {text}'}", file=sys.stderr)
    return int(getattr(error, "exit_code", 1))


def _reason(error: Exception) -> str:
    """The error's text; of one that a loader's worker sent with its traceback, the text that was raised there."""
    text = str(error)
    if (lost := lost_worker(text)) is not None:
        return lost
    if not (text.startswith("Caught ") and " in DataLoader worker process" in text):
        return text
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return text.strip().splitlines()[-1].removeprefix(f"{name}: ")


def _is_foreseen(error: Exception) -> bool:
    """Whether the message was written for the user: by the operating system, Lightning's checks or this package."""
    kind = type(error)
    ours = kind.__module__.startswith("segan_pl.") or raised_here(error) or lost_worker(str(error)) is not None
    return ours or isinstance(error, OSError) or kind.__name__ == "MisconfigurationException"


if __name__ == "__main__":
    sys.exit(main())
